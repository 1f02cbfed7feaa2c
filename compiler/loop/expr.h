#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "runtime/plan/type.h"

/// The loop language: what stands between graph and machine code, for every target.
/// This file: expressions, an immutable and hash-consed DAG of scalars.
namespace weft::loop {

/// What a register holds. Memory holds DTypes: a load of f16 or bf16 gives f32, a store rounds to
/// nearest even; boolean is a byte in memory; c64 is two f32 elements.
enum class Scalar : std::uint8_t { boolean, u8, i32, i64, f32, f64 };
std::string_view name(Scalar scalar);
inline bool is_float(Scalar s) { return s == Scalar::f32 || s == Scalar::f64; }
/// The register type of an element of memory (c64 gives f32).
Scalar register_type(DType dtype);

enum class ExprKind : std::uint8_t {
  constant,
  variable,
  load,
  unary,
  binary,
  select,
  fma,
  dot_pair,
  cast
};

enum class Unary : std::uint8_t {
  negate,
  absolute,
  square_root,
  floor,
  round_even,   ///< to the nearest integer, ties to even
  logical_not,  ///< boolean
  bitwise_not,  ///< integers
  // Library calls of the target; f64 only: f32 goes through loop/math.h.
  call_exp2,
  call_log2,
  call_exp,
  call_log,
  call_sin,
  call_cos,
  call_tanh,
  call_erf,
  // f32 rounded to what a store of that type keeps, and back: a cast inside a fused chain.
  round_f16,
  round_bf16
};

enum class Binary : std::uint8_t {
  add,
  subtract,
  multiply,
  divide,        ///< floats; integers truncate toward zero, x / 0 = 0
  remainder,     ///< integers, sign of the dividend, x % 0 = 0
  floor_divide,  ///< index arithmetic on i64; divisor > 0
  floor_modulo,  ///< index arithmetic on i64; divisor > 0
  minimum,
  maximum,  ///< as minimum: NaN where either is NaN
  bitwise_and,
  bitwise_or,
  bitwise_xor,  ///< these three on integers and boolean
  shift_left,
  shift_right,             ///< arithmetic for signed types, logical for u8
  shift_right_logical,     ///< logical on the bit pattern
  multiply_high_unsigned,  ///< i32: upper half of the unsigned 32x32 product
  equal,
  not_equal,
  less,
  less_equal,  ///< comparisons give boolean; unordered ones are false (not_equal true)
  call_pow,    ///< f64 only
};

enum class Cast : std::uint8_t {
  convert,  ///< C semantics, saturating from float to integer (NaN gives 0); to boolean: != 0
  bits      ///< same bits, same size: i32 <-> f32, i64 <-> f64
};

struct Buffer;

/// Ranges are inclusive and known for i64 expressions, used to simplify index arithmetic.
struct Expr {
  ExprKind kind;
  Scalar type;
  std::uint8_t code = 0;       ///< Unary, Binary or Cast
  bool reads_mutable = false;  ///< depends on a load from memory that the kernel also writes
  std::array<const Expr*, 3> arguments{};  ///< load: {index, predicate or null}
  std::int64_t integer = 0;        ///< constant of an integer type or boolean; variable: its id
  double real = 0;                 ///< constant of a float type
  const Buffer* buffer = nullptr;  ///< load
  std::int64_t minimum = std::numeric_limits<std::int64_t>::min();
  std::int64_t maximum = std::numeric_limits<std::int64_t>::max();
  std::int64_t innermost = -1;  ///< the largest id among the variables it depends on, or -1
  std::uint32_t serial = 0;  ///< position in its arena: an order that does not depend on addresses
};
using Ex = const Expr*;

enum class Space : std::uint8_t {
  argument,   ///< in device memory, an argument of the kernel
  local,      ///< scratch of one block; in a phase of a GPU, of one thread
  shared,     ///< memory of one block of a GPU, which all of its threads see
  table,      ///< constant data inside the code
  tensor_map  ///< how tensor copies see an argument, a parameter of the kernel: see TensorView
};

struct Buffer {
  std::string name;
  DType dtype;  ///< never c64: a complex tensor is twice as many f32
  std::int64_t elements;
  Space space;
  bool writable;
  int index;                   ///< argument, tensor map: position among the kernel's
  std::vector<double> values;  ///< table
};

/// Makes expressions; equal ones are the same pointer. Folds constants, applies identities
/// (x + 0, x * 1, x * 0 for integers, select of a constant, ...), and simplifies floor_divide and
/// floor_modulo by the ranges of their operands, so that the index arithmetic of a reshape vanishes
/// where extents allow.
class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  Ex constant(Scalar type, double value);
  Ex integer(std::int64_t value);  ///< i64
  Ex integer(Scalar type, std::int64_t value);
  Ex boolean(bool value);
  /// A fresh variable; minimum and maximum matter for i64.
  Ex variable(Scalar type, std::int64_t minimum = std::numeric_limits<std::int64_t>::min(),
              std::int64_t maximum = std::numeric_limits<std::int64_t>::max());
  /// `predicate` (boolean, may be null): where false nothing is read and the value is 0.
  Ex load(const Buffer* buffer, Ex index, Ex predicate = nullptr);
  Ex unary(Unary op, Ex a);
  Ex binary(Binary op, Ex a, Ex b);  ///< both of one type; throws std::logic_error otherwise
  Ex select(Ex condition, Ex a, Ex b);
  Ex fma(Ex a, Ex b, Ex c);  ///< a * b + c, rounded once where the target can
  /// c + a0 * b0 + a1 * b1 in f32, where a and b are i32 that hold two bf16 each, the first in the
  /// lower half. In which order and how often the sum is rounded is left to the target.
  Ex dot_pair(Ex a, Ex b, Ex c);
  Ex cast(Ex a, Scalar to);
  Ex bits(Ex a, Scalar to);

  Ex add(Ex a, Ex b) { return binary(Binary::add, a, b); }
  Ex sub(Ex a, Ex b) { return binary(Binary::subtract, a, b); }
  Ex mul(Ex a, Ex b) { return binary(Binary::multiply, a, b); }
  Ex div(Ex a, Ex b) { return binary(Binary::divide, a, b); }
  Ex neg(Ex a) { return unary(Unary::negate, a); }
  Ex floor_div(Ex a, std::int64_t b) { return binary(Binary::floor_divide, a, integer(b)); }
  Ex floor_mod(Ex a, std::int64_t b) { return binary(Binary::floor_modulo, a, integer(b)); }
  Ex less(Ex a, Ex b) { return binary(Binary::less, a, b); }
  Ex less_equal(Ex a, Ex b) { return binary(Binary::less_equal, a, b); }
  Ex equal(Ex a, Ex b) { return binary(Binary::equal, a, b); }
  Ex logical_and(Ex a, Ex b) { return binary(Binary::bitwise_and, a, b); }
  Ex logical_or(Ex a, Ex b) { return binary(Binary::bitwise_or, a, b); }
  Ex logical_not(Ex a) { return unary(Unary::logical_not, a); }

  /// Row-major position of `index` in `shape`, i64.
  Ex linearize(std::span<const Ex> index, const Shape& shape);
  /// The inverse: the index in `shape` of a row-major position.
  std::vector<Ex> delinearize(Ex position, const Shape& shape);

 private:
  struct Linear;
  struct Interval;

  Ex intern(const Expr& expr);
  Ex make(Scalar type, Binary op, Ex a, Ex b);
  Ex fold(Binary op, Ex a, Ex b);
  Ex simplify_float(Binary op, Ex a, Ex b);
  Ex simplify_integer(Binary op, Ex a, Ex b);
  Ex simplify_boolean(Binary op, Ex a, Ex b);
  Ex compare(Binary op, Ex a, Ex b);
  Ex simplify_order(Binary op, Ex a, Ex b);
  Ex floor_divide(Ex a, std::int64_t divisor);
  Ex floor_modulo(Ex a, std::int64_t divisor);
  Ex from_linear(Linear linear);
  void recombine(Linear& linear);

  struct Hash {
    std::size_t operator()(const Expr* e) const;
  };
  struct Same {
    bool operator()(const Expr* a, const Expr* b) const;
  };
  std::deque<Expr> storage_;
  std::unordered_set<const Expr*, Hash, Same> table_;
  std::int64_t variables_ = 0;
};

/// Readable form, for dumps and tests: "(x0 * 255 + x1)".
std::string print(Ex expr);

}  // namespace weft::loop
