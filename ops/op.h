#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/ir/graph.h"
#include "compiler/loop/expr.h"

/// The op table: one row an operation, in its family's file. A row holds everything that weft knows
/// of an op but for how an anchor is computed on a target (compiler/schedules).
namespace weft::ops {

using ir::Attributes;
using ir::Node;
using ir::Pattern;
using ir::Value;

struct Op;
class Builder;

// ---- reference evaluation -----------------------------------------------------------------------

/// A tensor of the reference evaluation: floats in double precision (`re`), complex in `re` and
/// `im`, integers and booleans exactly in `integers`. Row-major.
struct Array {
  Type type;
  std::vector<double> re;
  std::vector<double> im;
  std::vector<std::int64_t> integers;

  Array() = default;
  explicit Array(Type array_type);  ///< zeros
  std::int64_t elements() const { return type.elements(); }
  /// The element as a double, whatever the type (re of a complex).
  double at(std::int64_t position) const;
  void set(std::int64_t position, double value);
};

/// Computes `results` (already of the inferred types, zeroed) as plainly as the definition.
using ReferenceFunction = void (*)(const Node& node, std::span<const Array* const> operands,
                                   std::span<Array> results);

// ---- derivative ---------------------------------------------------------------------------------

/// What a derivative rule works with. Gradients of complex values are dL/dRe + i dL/dIm.
class Backward {
 public:
  virtual ~Backward() = default;
  virtual Builder& build() = 0;
  virtual const Node& node() const = 0;
  Value operand(std::size_t index) const { return node().operands[index]; }
  virtual Value result(std::uint32_t index = 0) const = 0;
  /// Gradient of a result; null where nothing flows into it.
  virtual Value gradient(std::uint32_t index = 0) const = 0;
  /// Whether a gradient for this operand is wanted (it is differentiable and reaches a source).
  virtual bool wanted(std::size_t operand) const = 0;
  /// Adds to the operand's gradient; `value` has the operand's type.
  virtual void add(std::size_t operand, Value value) = 0;
};
using DerivativeFunction = void (*)(Backward& backward);

// ---- scalar lowering ----------------------------------------------------------------------------

/// An element in registers; `im` only for complex values.
struct Element {
  loop::Ex re = nullptr;
  loop::Ex im = nullptr;
};

/// What a pointwise op's lowering works with: it asks for operands at indices of its choice.
class Lowering {
 public:
  virtual ~Lowering() = default;
  virtual loop::Arena& arena() = 0;
  /// Operand `operand` of `node` at `index` (i64 expressions, one for each axis).
  virtual Element operand(const Node& node, std::size_t operand,
                          std::span<const loop::Ex> index) = 0;
  /// As operand(), but nothing is read (and the value is unspecified) where `predicate` is false:
  /// for pad, concat and other reads that may be out of range.
  virtual Element operand_if(const Node& node, std::size_t operand, std::span<const loop::Ex> index,
                             loop::Ex predicate) = 0;
};
/// The result of a pointwise op (elementwise, movement, random) at `index`.
using LowerFunction = Element (*)(Lowering& lowering, const Node& node,
                                  std::span<const loop::Ex> index);

// ---- decomposition and test generation ----------------------------------------------------------

/// Emits the op as other ops; returns one value for each result.
using DecomposeFunction = std::vector<Value> (*)(Builder& build, const Node& node);

/// One random valid use of an op. Values of operand i are drawn from [low, high] (integers
/// inclusive); `smooth` false where finite differences make no sense at some of those points.
struct Sample {
  struct Operand {
    Type type;
    double low = -2;
    double high = 2;
  };
  std::vector<Operand> operands;
  Attributes attributes;
  bool smooth = true;
};
using Random = std::mt19937_64;
using GenerateFunction = Sample (*)(Random& random, DType dtype);

// ---- columns ------------------------------------------------------------------------------------

/// A column is a function, or a stated reason why there is none: a row without either does not
/// compile.
template <typename Function>
struct Column {
  Function function = nullptr;
  const char* absent = nullptr;  ///< the reason

  Column(Function f) : function(f) {}  // NOLINT(google-explicit-constructor)
  static Column none(const char* reason) { return Column(nullptr, reason); }
  explicit operator bool() const { return function != nullptr; }

 private:
  Column(Function f, const char* reason) : function(f), absent(reason) {}
};
using Derivative = Column<DerivativeFunction>;
using Reference = Column<ReferenceFunction>;
using Lower = Column<LowerFunction>;
using Decompose = Column<DecomposeFunction>;
using Generate = Column<GenerateFunction>;

/// Which types the first floating/integer operand may have; used by the generated tests.
using DTypes = std::vector<DType>;

struct Op : ir::OpInfo {
  Op(ir::OpInfo info, DTypes types, Derivative derivative_rule, Reference reference_rule,
     Lower lower_rule, Decompose decompose_rule, Generate generate_rule, int operations,
     const char* documentation)
      : ir::OpInfo(std::move(info)),
        dtypes(std::move(types)),
        derivative(derivative_rule),
        reference(reference_rule),
        lower(lower_rule),
        decompose(decompose_rule),
        generate(generate_rule),
        cost(operations),
        description(documentation) {}

  DTypes dtypes;
  Derivative derivative;
  Reference reference;
  Lower lower;
  Decompose decompose;
  Generate generate;
  int cost;  ///< arithmetic operations an element of the result, for keep-or-recompute
  const char* description;  ///< one line, for the documentation
};

/// All rows, by family, in the order of the documentation.
std::span<const Op* const> all_ops();
/// The row of that name, or nullptr.
const Op* find_op(std::string_view name);
/// The row of that name; throws std::logic_error where there is none: for names in weft's own code.
const Op& op(std::string_view name);
/// The row of a node.
inline const Op& row(const Node& node) { return static_cast<const Op&>(*node.op); }
/// The table for ir::parse.
const ir::OpTable& table();

inline bool is_pointwise(const Node& node) { return static_cast<bool>(row(node).lower); }

// Families: each in the file of that name.
std::span<const Op> elementwise_unary_ops();
std::span<const Op> activation_ops();
std::span<const Op> elementwise_binary_ops();
std::span<const Op> comparison_ops();
std::span<const Op> integer_ops();
std::span<const Op> complex_ops();
std::span<const Op> cast_ops();
std::span<const Op> constant_ops();
std::span<const Op> movement_ops();
std::span<const Op> indexing_ops();
std::span<const Op> reduction_ops();
std::span<const Op> cumulative_ops();
std::span<const Op> dot_ops();
std::span<const Op> fft_ops();
std::span<const Op> tno_ops();
std::span<const Op> softmax_ops();
std::span<const Op> norm_ops();
std::span<const Op> attention_ops();
std::span<const Op> random_ops();
std::span<const Op> transfer_ops();
std::span<const Op> control_ops();

}  // namespace weft::ops
