#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "compiler/ir/graph.h"
#include "ops/build.h"
#include "weft/program.h"

/// What stands behind the handles while a trace runs. Not for users.
namespace weft::detail {

using ir::Value;

/// What a cell stands for at one level of loop nesting.
struct Entry {
  std::uint64_t frame = 0;  ///< serial of the frame
  std::uint32_t depth = 0;
  bool assigned = false;
  bool carried = false;  ///< by a loop in this frame
  bool pinned = false;   ///< a gradient relies on its not changing in this frame
  Value value;           ///< null: no gradient (gradient cells only)
  Value leaf;            ///< parameters: what reads give; gradients end there
  Value placeholder;     ///< the region argument that stands for the value at the frame's start
  Location pinned_at;
};

enum class CellKind : std::uint8_t { value, state, parameter, gradient };

/// What copies of a handle share.
struct Cell {
  std::uint64_t trace = 0;  ///< serial of the trace
  CellKind kind = CellKind::value;
  Type type;
  Entry home;                ///< where it was made
  std::vector<Entry> inner;  ///< frames inside that have touched it, by depth
  std::string name;          ///< of a state or parameter
  std::shared_ptr<Cell> gradient;
  /// Parameters: every value that reads have given, with the serial of its frame.
  std::vector<std::pair<std::uint64_t, Value>> leaves;

  Entry& top() { return inner.empty() ? home : inner.back(); }
};

/// A region that is being recorded: the top level, or a loop's body.
struct Frame {
  std::uint64_t serial = 0;
  ir::Region* region = nullptr;
  std::vector<std::shared_ptr<Cell>> touched;  ///< cells from outside with an entry here
  std::unordered_map<const ir::Node*, Cell*> placeholders;
  Value iteration;  ///< the number of this execution, once it is used
  Location opened;
};

/// A recording in progress.
struct Trace {
  Trace(State state_handle, std::string name);

  std::uint64_t serial;
  ir::Graph graph;
  ops::Builder builder;
  State state;
  std::vector<Frame> frames;
  std::vector<std::shared_ptr<Cell>> states;  ///< parameters too, in order of creation
  std::unordered_map<std::string, std::shared_ptr<Cell>> state_by_name;
  std::vector<std::string> created;  ///< states that this trace has added to State
  std::map<std::string, std::pair<std::shared_ptr<Cell>, double>> scalars;
  std::map<std::string, std::pair<Type, Fill::Raw>> feeders;
  std::map<std::string, ReceiveCallback> receivers;
  std::string prefix;
  std::uint64_t seed = 0;
  bool training = true;
  std::uint32_t unnamed_streams = 0;

  std::size_t depth() const { return frames.size() - 1; }
  Frame& frame() { return frames.back(); }

  /// A handle to a value of the innermost frame.
  Tensor handle(Value value);
  /// A new cell of the frame at `depth`.
  std::shared_ptr<Cell> cell(Value value, CellKind kind, std::size_t depth);
  /// Throws where the cell may not be used now.
  void check(const Cell& cell, std::string_view what) const;
  /// The entry at `depth` (of a checked cell), made with a placeholder where there is none.
  Entry& entry(const std::shared_ptr<Cell>& cell, std::size_t depth);
  /// What reads at `depth` give.
  Value read(const std::shared_ptr<Cell>& cell, std::size_t depth);
  Value read(const Tensor& tensor, std::string_view what);
  /// The cell's value at `depth` as it is written on: not a leaf; a missing gradient becomes zeros.
  Value raw(const std::shared_ptr<Cell>& cell, std::size_t depth);
  /// Null `value`: clears a gradient.
  void write(const std::shared_ptr<Cell>& cell, Value value, std::size_t depth,
             std::string_view what);
  /// Whether a gradient cell has a value now.
  bool has_value(const Cell& cell) const;

  /// Opens a frame for a body; close() or abandon() ends it.
  void open(ir::Region* region, const Location& at);
  void abandon();
  /// Ends the innermost frame: resolves what it has captured. Fills `inits`, `arguments` and
  /// `cells` for the captured values that are carried and appends to the region's yields.
  struct Carried {
    std::vector<std::shared_ptr<Cell>> cells;
    std::vector<Value> inits;
    std::vector<ir::Node*> arguments;
  };
  Carried close(std::string_view what);

  /// A state's tensor by its full name, made where it is missing.
  std::shared_ptr<Cell> state_cell(const std::string& full_name, const Type& type, CellKind kind,
                                   const Initializer& initializer);
  /// The number of the innermost frame's execution.
  Value iteration();

  /// Appends the writes of states and drops carried values that nothing needs.
  void finish();
};

/// Access to the private parts of Tensor.
struct Access {
  static const std::shared_ptr<Cell>& cell(const Tensor& tensor) { return tensor.cell_; }
  static Tensor handle(std::shared_ptr<Cell> cell) { return Tensor(std::move(cell)); }
};

/// The trace that runs on this thread; throws Error where there is none. Sets the location of what
/// is recorded from now on.
Trace& current(std::string_view what, const Source& at);
/// As above, nullptr where there is none; the location is left.
Trace* running();

template <typename... Arguments>
[[noreturn]] void fail(const Location& at, fmt::format_string<Arguments...> format,
                       Arguments&&... arguments) {
  throw Error(fmt::format(format, std::forward<Arguments>(arguments)...), at);
}

/// One operation's recording: checks operands, emits nodes at the caller's line.
class Recorder {
 public:
  Recorder(std::string_view what, const Source& at)
      : what_(what), trace_(current(what, at)), build(trace_.builder) {}

  Value operator()(const Tensor& tensor) { return trace_.read(tensor, what_); }
  Tensor operator()(Value value) { return trace_.handle(value); }
  std::vector<Value> values(const std::vector<Tensor>& tensors);
  Trace& trace() { return trace_; }
  std::string_view what() const { return what_; }
  const Location& at() const { return build.location(); }

  template <typename... Arguments>
  [[noreturn]] void error(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    throw Error(
        fmt::format("{}: {}", what_, fmt::format(format, std::forward<Arguments>(arguments)...)),
        at());
  }
  template <typename... Arguments>
  void require(bool condition, fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    if (!condition) error(format, std::forward<Arguments>(arguments)...);
  }

  /// A possibly negative axis of a tensor of `rank` axes.
  int axis(int axis, int rank);
  /// Axes of x: checked, not negative, ascending; all of them where `axes` is all().
  std::vector<std::int64_t> axes(const Axes& axes, const Value& x);
  /// As axes(), in the order given.
  std::vector<std::int64_t> ordered_axes(const std::vector<int>& axes, const Value& x);
  /// NumPy's common shape.
  Shape common_shape(const Shape& x, const Shape& y);

 private:
  std::string_view what_;
  Trace& trace_;

 public:
  ops::Builder& build;
};

/// A binary operation of tensors and literals with broadcasting.
Tensor binary(std::string_view op_name, const Operand& x, const Operand& y);
/// The literal as a constant of a type.
Value literal(Recorder& record, const Operand& operand, const Type& type);

/// Values of a new state.
void initialise(State& state, const std::string& name, const Initializer& initializer,
                std::uint64_t seed);

/// Writes to stderr where the environment's WEFT_LOG lists the topic.
bool log_enabled(std::string_view topic);
void log_line(std::string_view topic, std::string_view text);
template <typename... Arguments>
void log(std::string_view topic, fmt::format_string<Arguments...> format,
         Arguments&&... arguments) {
  if (log_enabled(topic))
    log_line(topic, fmt::format(format, std::forward<Arguments>(arguments)...));
}

}  // namespace weft::detail

namespace weft {

struct Program::Impl {
  Impl(ir::Graph traced, State bound) : graph(std::move(traced)), state(std::move(bound)) {}
  ir::Graph graph;
  State state;
  std::map<std::string, std::pair<Type, Fill::Raw>> feeders;
  std::map<std::string, ReceiveCallback> receivers;
  std::set<std::string> scalars;
};

}  // namespace weft
