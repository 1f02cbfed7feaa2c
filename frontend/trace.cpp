#include "trace.h"

#include <algorithm>
#include <atomic>
#include <chrono>

#include "compiler/ir/text.h"
#include "compiler/passes/dead_code.h"

namespace weft::detail {

namespace {

thread_local std::shared_ptr<Trace> current_trace;

std::uint64_t next_serial() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

std::string described(const Cell& cell) {
  return cell.name.empty() ? cell.type.text() : fmt::format("'{}' {}", cell.name, cell.type.text());
}

}  // namespace

Trace::Trace(State state_handle, std::string name)
    : serial(next_serial()),
      graph(std::move(name)),
      builder(graph, graph.body()),
      state(std::move(state_handle)) {
  frames.push_back({next_serial(), &graph.body(), {}, {}, {}, {}});
}

Trace* running() { return current_trace.get(); }

Trace& current(std::string_view what, const Source& at) {
  Trace* trace = current_trace.get();
  if (trace == nullptr) fail(at, "{}: no trace is running on this thread", what);
  trace->builder.set_location(at);
  return *trace;
}

// ---- cells --------------------------------------------------------------------------------------

std::shared_ptr<Cell> Trace::cell(Value value, CellKind kind, std::size_t at_depth) {
  auto made = std::make_shared<Cell>();
  made->trace = serial;
  made->kind = kind;
  if (value) made->type = value.type();
  made->home.frame = frames[at_depth].serial;
  made->home.depth = static_cast<std::uint32_t>(at_depth);
  made->home.value = value;
  return made;
}

Tensor Trace::handle(Value value) { return Access::handle(cell(value, CellKind::value, depth())); }

void Trace::check(const Cell& cell, std::string_view what) const {
  if (cell.trace != serial) {
    fail(builder.location(), "{}: {} belongs to another trace", what, described(cell));
  }
  const Entry& home = cell.home;
  if (home.depth >= frames.size() || frames[home.depth].serial != home.frame) {
    fail(builder.location(),
         "{}: {} was made in the body of a loop and is used outside of it; assign() (or +=) to a "
         "tensor from outside carries a value out of a loop",
         what, described(cell));
  }
}

Entry& Trace::entry(const std::shared_ptr<Cell>& cell, std::size_t at_depth) {
  if (cell->home.depth == at_depth) return cell->home;
  auto& inner = cell->inner;
  auto found = inner.begin();
  while (found != inner.end() && found->depth < at_depth) ++found;
  if (found != inner.end() && found->depth == at_depth) return *found;
  // First touched in this frame. Whether it is carried is known when the body ends: until then a
  // region argument of its own stands for it, which makes reads before and after an assignment, and
  // other handles of the same value, come out right.
  Frame& frame = frames[at_depth];
  Entry made;
  made.frame = frame.serial;
  made.depth = static_cast<std::uint32_t>(at_depth);
  made.placeholder = builder.argument(*frame.region, cell->type);
  made.value = made.placeholder;
  if (cell->kind == CellKind::parameter) {
    made.leaf = made.placeholder;
    cell->leaves.emplace_back(frame.serial, made.placeholder);
  }
  frame.placeholders.emplace(made.placeholder.node, cell.get());
  frame.touched.push_back(cell);
  return *inner.insert(found, made);
}

Value Trace::read(const std::shared_ptr<Cell>& cell, std::size_t at_depth) {
  Entry& at = entry(cell, at_depth);
  if (cell->kind != CellKind::parameter) return at.value;
  if (!at.leaf) {
    // A value that was assigned to a parameter: gradients with respect to it end here, though it
    // was computed from other values.
    at.leaf = at.value;
    if (!at.value.node->is("state")) {
      ir::Region& region = builder.region();
      builder.set_region(*frames[at_depth].region);
      at.leaf = ops::unary(builder, "stop_gradient", at.value);
      builder.set_region(region);
    }
    cell->leaves.emplace_back(frames[at_depth].serial, at.leaf);
  }
  return at.leaf;
}

Value Trace::read(const Tensor& tensor, std::string_view what) {
  const std::shared_ptr<Cell>& cell = Access::cell(tensor);
  if (cell == nullptr) fail(builder.location(), "{}: an undefined tensor", what);
  check(*cell, what);
  const Value value = read(cell, depth());
  if (!value) fail(builder.location(), "{}: this gradient was cleared by zero_grad()", what);
  return value;
}

Value Trace::raw(const std::shared_ptr<Cell>& cell, std::size_t at_depth) {
  Entry& at = entry(cell, at_depth);
  if (at.value) return at.value;
  ir::Region& region = builder.region();
  builder.set_region(*frames[at_depth].region);
  const Value zeros = ops::constant(builder, cell->type.dtype, 0, cell->type.shape);
  builder.set_region(region);
  return zeros;
}

bool Trace::has_value(const Cell& cell) const {
  return static_cast<bool>(const_cast<Cell&>(cell).top().value);
}

void Trace::write(const std::shared_ptr<Cell>& cell, Value value, std::size_t at_depth,
                  std::string_view what) {
  if (value && value.type() != cell->type) {
    fail(builder.location(), "{}: {} cannot stand for a value of type {}", what, described(*cell),
         value.type().text());
  }
  Entry& at = entry(cell, at_depth);
  if (at.pinned) {
    fail(builder.location(),
         "{}: {} cannot change in this loop: a gradient taken at {} goes through a value that was "
         "computed from it outside of the loop; compute that value inside",
         what, described(*cell), at.pinned_at.text());
  }
  at.value = value;
  at.leaf = {};
  at.assigned = true;
}

// ---- frames -------------------------------------------------------------------------------------

void Trace::open(ir::Region* region, const Location& at) {
  frames.push_back({next_serial(), region, {}, {}, {}, at});
  builder.set_region(*region);
}

void Trace::abandon() {
  Frame ended = std::move(frames.back());
  frames.pop_back();
  builder.set_region(*frames.back().region);
  const auto depth = static_cast<std::uint32_t>(frames.size());
  for (const auto& cell : ended.touched) {
    std::erase_if(cell->inner, [depth](const Entry& entry) { return entry.depth == depth; });
    std::erase_if(cell->leaves, [&](const auto& leaf) { return leaf.first == ended.serial; });
  }
}

Trace::Carried Trace::close(std::string_view what) {
  Carried carried;
  std::vector<Value> results;
  std::vector<std::pair<Value, std::string>> carried_states;
  ir::ValueMap resolved;
  const std::size_t inside = depth();
  const std::size_t outside = inside - 1;
  ir::Region& region = *frame().region;
  const auto zeros = [&](const Cell& cell, ir::Region& at) {
    ir::Region& before = builder.region();
    builder.set_region(at);
    const Value made = ops::constant(builder, cell.type.dtype, 0, cell.type.shape);
    builder.set_region(before);
    return made;
  };
  // By index: nothing below touches further cells at this depth, but copies keep it evident.
  const std::vector<std::shared_ptr<Cell>> touched = frame().touched;
  for (const auto& cell : touched) {
    const Entry at = entry(cell, inside);
    const bool is_state = cell->kind == CellKind::state || cell->kind == CellKind::parameter;
    // A state that an inner loop changes and this body puts back is another one in between.
    if (!at.assigned || (at.value == at.placeholder && !(is_state && at.carried))) {
      const Value outer = read(cell, outside);
      resolved.set(at.placeholder, outer ? outer : raw(cell, outside));
      continue;
    }
    const bool absent_before = cell->kind == CellKind::gradient && !entry(cell, outside).value;
    if (!at.value && absent_before) {
      resolved.set(at.placeholder, zeros(*cell, *frames[outside].region));
      continue;
    }
    carried.cells.push_back(cell);
    carried.inits.push_back(raw(cell, outside));
    carried.arguments.push_back(at.placeholder.node);
    results.push_back(at.value ? at.value : zeros(*cell, region));
    if (is_state) carried_states.emplace_back(at.placeholder, cell->name);
  }
  // They hold as an iteration begins.
  const std::size_t own = region.nodes.size();
  for (const auto& [argument, name] : carried_states) {
    builder.emit(ops::op("state_carry"), {argument}, {{"name", name}});
  }
  std::rotate(region.nodes.begin(), region.nodes.begin() + static_cast<std::ptrdiff_t>(own),
              region.nodes.end());
  region.yields.insert(region.yields.end(), results.begin(), results.end());
  ir::replace_uses(region, resolved);
  log("trace", "{}: carries {} tensors from outside, captures {}", what, carried.cells.size(),
      touched.size() - carried.cells.size());
  abandon();
  return carried;
}

Value Trace::iteration() {
  Frame& at = frame();
  if (at.iteration) return at.iteration;
  const auto counter = state_cell("weft.iteration", {DType::i64, {}}, CellKind::state, {});
  const Value number = read(counter, depth());
  const Value one = ops::constant(builder, DType::i64, 1);
  // Counted at the first use: a loop inside of this body, or the rest of the program around it,
  // sees another number.
  write(counter, ops::add(builder, number, one), depth(), "iteration");
  return frame().iteration = number;
}

void Trace::finish() {
  for (const auto& cell : states) {
    const Entry& home = cell->home;
    if (!home.assigned || (home.value == home.placeholder && !home.carried)) continue;
    builder.emit(ops::op("state_write"), {home.value}, {{"name", cell->name}});
  }
  compiler::dead_code(graph);
}

// ---- recording ----------------------------------------------------------------------------------

std::vector<Value> Recorder::values(const std::vector<Tensor>& tensors) {
  std::vector<Value> result;
  result.reserve(tensors.size());
  for (const Tensor& tensor : tensors) result.push_back((*this)(tensor));
  return result;
}

int Recorder::axis(int axis, int rank) {
  if (axis < -rank || axis >= rank) error("there is no axis {} in a tensor of rank {}", axis, rank);
  return axis < 0 ? axis + rank : axis;
}

std::vector<std::int64_t> Recorder::ordered_axes(const std::vector<int>& axes, const Value& x) {
  std::vector<std::int64_t> result;
  result.reserve(axes.size());
  for (const int given : axes) {
    const int rank = x.type().rank();
    if (given < -rank || given >= rank) error("there is no axis {} in {}", given, x.type().text());
    const std::int64_t checked = given < 0 ? given + rank : given;
    if (std::find(result.begin(), result.end(), checked) != result.end()) {
      error("axis {} of {} is given twice", checked, x.type().text());
    }
    result.push_back(checked);
  }
  return result;
}

std::vector<std::int64_t> Recorder::axes(const Axes& axes, const Value& x) {
  std::vector<std::int64_t> result;
  if (axes.all()) {
    for (int axis = 0; axis < x.type().rank(); ++axis) result.push_back(axis);
    return result;
  }
  result = ordered_axes(axes.list(), x);
  std::sort(result.begin(), result.end());
  return result;
}

Shape Recorder::common_shape(const Shape& x, const Shape& y) {
  Shape result = x.rank() >= y.rank() ? x : y;
  const Shape& shorter = x.rank() >= y.rank() ? y : x;
  const int shift = result.rank() - shorter.rank();
  for (int axis = 0; axis < shorter.rank(); ++axis) {
    std::int64_t& extent = result[axis + shift];
    if (extent == shorter[axis] || shorter[axis] == 1) continue;
    if (extent != 1) error("shapes {} and {} do not broadcast", x.text(), y.text());
    extent = shorter[axis];
  }
  return result;
}

}  // namespace weft::detail

namespace weft {

Program trace(State& state, const std::function<void()>& body, const std::string& name, Source at) {
  using namespace detail;
  if (current_trace != nullptr) {
    fail(at, "trace: a trace is already running on this thread: '{}'", current_trace->graph.name);
  }
  struct Guard {
    ~Guard() { current_trace.reset(); }
  } guard;
  const auto start = std::chrono::steady_clock::now();
  const auto recording = std::make_shared<Trace>(state, name);
  current_trace = recording;
  recording->builder.set_location(at);
  try {
    body();
    recording->builder.set_location(at);
    recording->finish();
#ifndef NDEBUG
    ir::verify(recording->graph, "trace");
#endif
  } catch (...) {
    for (const std::string& created : recording->created) state.remove(created);
    throw;
  }
  if (log_enabled("trace")) {
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    log("trace", "'{}': {} nodes, {} states, {:.3f} ms", name, recording->graph.node_count(),
        recording->states.size(), seconds.count() * 1e3);
  }
  Program program;
  program.impl_ = std::make_shared<Program::Impl>(std::move(recording->graph), state);
  program.impl_->feeders = std::move(recording->feeders);
  program.impl_->receivers = std::move(recording->receivers);
  for (const auto& scalar : recording->scalars) program.impl_->scalars.insert(scalar.first);
  return program;
}

}  // namespace weft
