#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "compiler/loop/expr.h"
#include "compiler/loop/intrinsic.h"
#include "compiler/loop/tensor_view.h"
#include "runtime/plan/transform.h"

/// The loop language: statements and kernels.
namespace weft::loop {

/// How a loop is laid on the machine. A vector loop runs its iterations `width` at a time as lanes;
/// the last, partial group is masked. An unrolled loop is expanded when code is generated.
enum class Role : std::uint8_t { serial, vector, unrolled };

enum class Combine : std::uint8_t { add, multiply, minimum, maximum };

/// A mutable scalar. Inside a vector loop that does not enclose its declaration, accumulate() keeps
/// partial results in lanes, which are combined in a fixed order when the accumulator is read.
struct Accumulator {
  Scalar type;
  Combine combine;
  Ex initial;
  int id;
};

struct Statement;
using Block = std::vector<Statement*>;

enum class StatementKind : std::uint8_t {
  loop,
  store,
  let,
  declare,
  accumulate,
  assign,
  condition,
  prefetch,
  barrier,      ///< GPU: all threads of the block meet; what they wrote before is seen after it
  intrinsic,    ///< GPU: a row of compiler/loop/intrinsic.h
  tile_product  ///< host: see TileProduct
};

/// An element of a buffer.
struct Address {
  const Buffer* buffer = nullptr;
  Ex index = nullptr;
};

/// Rows of a matrix inside a buffer: element (r, c) is at index + r * stride + c.
struct MatrixView {
  const Buffer* buffer = nullptr;
  Ex index = nullptr;
  std::int64_t stride = 0;
};

/// The product of a tile of rows and a tile of columns of bf16, which goes through a target's tile
/// registers where it has them: sums (r, c) are, or with `accumulate` grow by, the dot_pair()s of
/// left (r, s) and right (s, c) over s in [0, steps).
struct TileProduct {
  MatrixView sums;     ///< f32, `rows` by `columns`; no part of it is in left or right
  MatrixView left;     ///< i32 pairs, `rows` by steps
  MatrixView right;    ///< i32 pairs, steps by `columns`
  int rows = 0;        ///< 16 or 32
  int columns = 0;     ///< 16 or 32
  Ex steps = nullptr;  ///< i64: a multiple of 16, at least 16
  bool accumulate = false;

  static constexpr int granule = 16;  ///< rows, columns and steps of one tile register
};

struct Statement {
  StatementKind kind;
  // loop
  Role role = Role::serial;
  int width = 1;
  Ex extent = nullptr;  ///< i64; a vector or unrolled loop needs a constant
  Block body;
  // loop, let: the variable that is bound
  Ex variable = nullptr;
  // store, let, accumulate, assign: the value; condition: the boolean
  Ex value = nullptr;
  Ex predicate = nullptr;  ///< store: may be null
  bool streaming = false;  ///< store: what is written is not read again soon
  // store, prefetch
  const Buffer* buffer = nullptr;
  Ex index = nullptr;
  Accumulator* accumulator = nullptr;  ///< declare, accumulate, assign; let: its value
  // intrinsic
  const Intrinsic* intrinsic = nullptr;
  std::vector<Ex> operands;
  std::vector<Ex> results;  ///< variables that are bound
  std::vector<Address> addresses;
  TileProduct tile;  ///< tile_product
};

/// One parallel sweep: `body` runs for each block in [0, grid), in any order and on any worker.
/// Blocks of one phase must not depend on each other; a phase starts when the one before has ended.
/// On a GPU a phase is a launch, and `body` is what one thread of a block does. Accumulators and
/// lets are its registers, a vector loop (of 2, 4 or 8 lanes) is its vector accesses.
struct Phase {
  Ex block = nullptr;  ///< variable, i64
  std::int64_t grid = 1;
  std::int64_t threads = 0;  ///< of a block; 0: a phase of the host
  Ex thread = nullptr;       ///< variable, i64, in [0, threads); null on the host
  Block body;
  /// GPU: what a library does in place of a body. Its buffers are arguments of the kernel.
  std::optional<plan::Transform> transform = std::nullopt;
};

struct Kernel {
  std::string name;
  Arena arena;
  std::deque<Buffer> buffers;
  std::vector<const Buffer*> arguments;
  std::vector<TensorView> tensor_maps;
  std::vector<Phase> phases;
  std::deque<Statement> statements;
  std::deque<Accumulator> accumulators;

  const Buffer* argument(std::string name, DType dtype, std::int64_t elements, bool writable);
  const Buffer* local(std::string name, DType dtype, std::int64_t elements);
  /// Uninitialised where a block starts; lies at a multiple of 128 bytes, of 1024 where it is as
  /// large.
  const Buffer* shared(std::string name, DType dtype, std::int64_t elements);
  const Buffer* table(std::string name, DType dtype, std::vector<double> values);
  /// A view for tensor copies, whose addresses name it with index 0. Throws std::logic_error where
  /// there is a refusal() of it.
  const Buffer* tensor_map(std::string name, TensorView view);
};

/// Appends statements to a kernel; loops nest by callbacks.
class Builder {
 public:
  explicit Builder(Kernel& kernel) : kernel_(kernel) {}
  Kernel& kernel() { return kernel_; }
  Arena& arena() { return kernel_.arena; }

  void phase(std::int64_t grid, const std::function<void(Ex block)>& body);
  /// A phase of a GPU: `body` is one of `threads` threads of a block; 32 neighbours are a warp.
  void phase(std::int64_t grid, std::int64_t threads,
             const std::function<void(Ex block, Ex thread)>& body);
  /// A phase of a GPU's library. Throws std::logic_error where an argument is not there, too short
  /// for it, or not writable.
  void phase(const plan::Transform& transform);
  void loop(std::int64_t extent, Role role, int width, const std::function<void(Ex index)>& body);
  void loop(Ex extent, const std::function<void(Ex index)>& body);  ///< serial
  void condition(Ex condition, const std::function<void()>& body);
  void store(const Buffer* buffer, Ex index, Ex value, Ex predicate = nullptr);
  /// A store of what is not read again soon: whole cache lines go past the caches where the machine
  /// can. Other threads see them once the phase has ended.
  void stream(const Buffer* buffer, Ex index, Ex value, Ex predicate = nullptr);
  /// Asks for the memory of an element, or of all lanes' neighbouring ones, ahead of its use; of a
  /// writable buffer in order to write it. `index` may be out of range. Changes no value.
  void prefetch(const Buffer* buffer, Ex index);
  void tile_product(const TileProduct& product);  ///< not in a vector loop
  /// Evaluates `value` here and now; the result may be used in the rest of the enclosing block.
  Ex let(Ex value);
  /// The same for an i64 that is known to lie between two bounds, where its expression's range says
  /// less: what is computed from it simplifies further.
  Ex let_within(Ex value, std::int64_t minimum, std::int64_t maximum);
  Accumulator* declare(Scalar type, Combine combine, Ex initial);
  /// A float product that is added is contracted: accumulator = fma(a, b, accumulator).
  void accumulate(Accumulator* accumulator, Ex value);
  void assign(Accumulator* accumulator, Ex value);
  Ex read(Accumulator* accumulator);
  /// GPU: must be reached by all threads of the block or by none.
  void barrier();
  /// GPU: the results, as variables. Inside of a vector loop only where the row is pure().
  std::vector<Ex> call(const Intrinsic& intrinsic, std::vector<Ex> operands,
                       std::vector<Address> addresses = {});

 private:
  Statement* append(StatementKind kind);
  void nested(Block& block, const std::function<void()>& body);

  Kernel& kernel_;
  Block* block_ = nullptr;
  bool threads_ = false;  ///< inside of a phase of a GPU
  bool vector_ = false;   ///< inside of a vector loop
};

/// Readable form, for dumps and tests.
std::string print(const Kernel& kernel);
/// One statement of it, without its body.
std::string print(const Kernel& kernel, const Statement& statement);
/// The same text for kernels that differ only in names: the key under which code is shared.
std::string canonical(const Kernel& kernel);

}  // namespace weft::loop
