#include "runtime/plan_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <string_view>

#include "runtime/memory.h"
#include "runtime/plan/error.h"

namespace weft::runtime {
namespace {

/// Checking recurses; no program nests loops this deep.
constexpr std::size_t deepest_nest = 64;

std::string_view name(plan::BufferKind kind) {
  switch (kind) {
    case plan::BufferKind::arena:
      return "arena";
    case plan::BufferKind::state:
      return "state";
    case plan::BufferKind::constant:
      return "constant";
    case plan::BufferKind::scalar:
      return "scalar";
  }
  return "unknown";
}

class Checker {
 public:
  Checker(const plan::Plan& plan, bool loads_code) : plan_(plan), loads_code_(loads_code) {}

  PlanInfo run() {
    if (plan_.arena_bytes < 0) fail("arena of {} bytes", plan_.arena_bytes);
    check_kernels();
    for (std::size_t i = 0; i < plan_.buffers.size(); ++i) check_buffer(i);
    check_transfers();
    info_.feeders.resize(plan_.feeders.size());
    info_.receivers.resize(plan_.receivers.size());
    find_only_loop();
    check_steps(plan_.steps, "", !info_.only_loop, 1, 0);
    return std::move(info_);
  }

 private:
  template <typename... Arguments>
  [[noreturn]] void fail(fmt::format_string<Arguments...> text, Arguments&&... arguments) const {
    throw Error(fmt::format("plan \"{}\": {}", plan_.name,
                            fmt::format(text, std::forward<Arguments>(arguments)...)));
  }

  void check_kernels() const {
    for (const plan::Kernel& kernel : plan_.kernels) {
      const bool any_object = plan_.objects.empty() && !loads_code_;
      if (!any_object && kernel.object >= plan_.objects.size()) {
        fail("kernel {}: object {} of {}", kernel.name, kernel.object, plan_.objects.size());
      }
      if (kernel.scratch_bytes < 0) {
        fail("kernel {}: scratch of {} bytes", kernel.name, kernel.scratch_bytes);
      }
      for (const plan::Phase& phase : kernel.phases) {
        if (phase.transform) {
          check_transform(kernel, *phase.transform);
          continue;
        }
        if (phase.symbol.empty()) fail("kernel {}: a phase without a symbol", kernel.name);
        if (phase.grid < 0) {
          fail("kernel {}: phase {} has a grid of {}", kernel.name, phase.symbol, phase.grid);
        }
      }
      check_tensor_maps(kernel);
      check_batch(kernel);
    }
  }

  void check_batch(const plan::Kernel& kernel) const {
    if (kernel.batch == 1) return;
    if (kernel.batch < 1) fail("kernel {}: {} executions a launch", kernel.name, kernel.batch);
    const bool transforms =
        std::any_of(kernel.phases.begin(), kernel.phases.end(),
                    [](const plan::Phase& phase) { return phase.transform.has_value(); });
    if (!plan_.target.starts_with("nvptx64/") || !kernel.tensor_maps.empty() || transforms) {
      fail("kernel {}: {} executions a launch, {}", kernel.name, kernel.batch,
           transforms                    ? "and a transform by a library"
           : !kernel.tensor_maps.empty() ? "and tensor maps"
                                         : "in a plan for \"" + plan_.target + "\"");
    }
    const auto other =
        std::find_if(plan_.kernels.begin(), plan_.kernels.end(), [&](const plan::Kernel& one) {
          return one.object == kernel.object && one.batch != kernel.batch;
        });
    if (other != plan_.kernels.end()) {
      fail("kernels {} and {} are of one object and have {} and {} executions a launch",
           kernel.name, other->name, kernel.batch, other->batch);
    }
  }

  /// What the driver takes of a map, but for the address.
  void check_tensor_maps(const plan::Kernel& kernel) const {
    constexpr std::size_t most_axes = 5;
    constexpr std::int64_t most_extent = std::int64_t{1} << 32;
    constexpr std::int64_t most_stride = (std::int64_t{1} << 40) - 1;
    constexpr std::int64_t most_box = 256;
    constexpr std::int64_t granule = 16;         // bytes
    constexpr std::int64_t exchanged_row = 128;  // bytes
    if (!kernel.tensor_maps.empty() && !plan_.target.starts_with("nvptx64/")) {
      fail("kernel {}: tensor maps in a plan for \"{}\"", kernel.name, plan_.target);
    }
    for (std::size_t i = 0; i < kernel.tensor_maps.size(); ++i) {
      const plan::TensorMap& map = kernel.tensor_maps[i];
      const std::string what = fmt::format("kernel {}: tensor map {}", kernel.name, i);
      const auto dtype = static_cast<std::size_t>(map.dtype);
      if (dtype >= all_dtypes.size()) fail("{}: no element type has the number {}", what, dtype);
      const auto size = static_cast<std::int64_t>(size_of(map.dtype));
      const std::size_t axes = map.extents.size();
      if (axes < 1 || axes > most_axes || map.strides.size() != axes - 1 ||
          map.box.size() != axes) {
        fail("{}: {} extents, {} strides and a box of {} axes", what, axes, map.strides.size(),
             map.box.size());
      }
      if (map.offset < 0 || map.offset % granule != 0) {
        fail("{}: the offset {} is no multiple of {}", what, map.offset, granule);
      }
      for (std::size_t axis = 0; axis < axes; ++axis) {
        const std::int64_t extent = map.extents[axis];
        if (extent < 1 || extent > most_extent) {
          fail("{}: axis {} has an extent of {}; 1 to 2^32 may be", what, axis, extent);
        }
        if (map.box[axis] < 1 || map.box[axis] > most_box) {
          fail("{}: axis {} has {} elements of a box; 1 to {} may be", what, axis, map.box[axis],
               most_box);
        }
        if (axis == 0) continue;
        const std::int64_t stride = map.strides[axis - 1];
        if (stride < granule || stride % granule != 0 || stride > most_stride) {
          fail("{}: axis {} has a stride of {} bytes; multiples of {} below 2^40 may be", what,
               axis, stride, granule);
        }
      }
      const std::int64_t row = map.box[0] * size;
      if (row % granule != 0) {
        fail("{}: a box has rows of {} bytes, which is no multiple of {}", what, row, granule);
      }
      if (map.exchanged && row > exchanged_row) {
        fail("{}: a box has rows of {} bytes; pieces are exchanged in rows of up to {}", what, row,
             exchanged_row);
      }
    }
  }

  /// A launch's buffers hold what its kernel's tensor maps reach.
  void check_reach(const plan::Step& step, const std::string& where) const {
    const plan::Kernel& kernel = plan_.kernels[step.index];
    for (std::size_t i = 0; i < kernel.tensor_maps.size(); ++i) {
      const plan::TensorMap& map = kernel.tensor_maps[i];
      if (map.argument >= step.buffers.size()) {
        fail("{}: tensor map {} of kernel {} is of argument {} of {}", where, i, kernel.name,
             map.argument, step.buffers.size());
      }
      const std::int64_t bytes = plan_.buffers[step.buffers[map.argument]].type.bytes();
      // Checked before: neither the size nor a stride is 0, and no product here overflows.
      std::int64_t left =
          bytes - map.offset - map.extents[0] * static_cast<std::int64_t>(size_of(map.dtype));
      for (std::size_t axis = 1; axis < map.extents.size() && left >= 0; ++axis) {
        const std::int64_t steps = map.extents[axis] - 1;
        const std::int64_t stride = map.strides[axis - 1];
        left = steps > left / stride ? -1 : left - steps * stride;
      }
      if (left < 0) {
        fail("{}: tensor map {} of kernel {} goes beyond the {} bytes of argument {}", where, i,
             kernel.name, bytes, map.argument);
      }
    }
  }

  void check_transform(const plan::Kernel& kernel, const plan::Transform& transform) const {
    if (!plan_.target.starts_with("nvptx64/")) {
      fail("kernel {}: a transform by a GPU's library in a plan for {}", kernel.name, plan_.target);
    }
    const auto sound = [](const plan::Transform::Side& side) {
      return side.offset >= 0 && side.offset % 8 == 0 && side.stride > 0 && side.distance >= 0 &&
             side.repeat >= 0;
    };
    if (transform.length < 1 || transform.lines < 1 || transform.repetitions < 1 ||
        !sound(transform.from) || !sound(transform.to)) {
      fail("kernel {}: a transform of {} points of {} lines, {} times, is none", kernel.name,
           transform.length, transform.lines, transform.repetitions);
    }
  }

  /// A launch's buffers hold what its kernel's transforms read and write.
  void check_transforms(const plan::Step& step, const std::string& where) const {
    for (const plan::Phase& phase : plan_.kernels[step.index].phases) {
      if (!phase.transform) continue;
      const auto check = [&](const plan::Transform::Side& side, std::int64_t end) {
        const bool there = side.argument < step.buffers.size();
        if (!there || end > plan_.buffers[step.buffers[side.argument]].type.bytes()) {
          fail("{}: a transform goes to byte {} of argument {}", where, end, side.argument);
        }
      };
      check(phase.transform->from, phase.transform->from_end());
      check(phase.transform->to, phase.transform->to_end());
      check_written(step.buffers[phase.transform->to.argument], where);
    }
  }

  void check_accesses(const plan::Step& step, const std::string& where) const {
    for (const plan::Phase& phase : plan_.kernels[step.index].phases) {
      if (phase.accesses.size() > step.buffers.size()) {
        fail("{}: phase {} says how it uses {} arguments; it has {}", where, phase.symbol,
             phase.accesses.size(), step.buffers.size());
      }
      for (std::size_t i = 0; i < phase.accesses.size(); ++i) {
        if (phase.accesses[i].writes) check_written(step.buffers[i], where);
      }
    }
  }

  /// Bytes of a tensor, with all that Type takes for granted checked.
  std::int64_t checked_bytes(const Type& type, const std::string& what) const {
    const auto dtype = static_cast<std::size_t>(type.dtype);
    if (dtype >= all_dtypes.size()) fail("{}: no element type has the number {}", what, dtype);
    if (type.rank() < 0 || type.rank() > Shape::max_rank) fail("{}: rank {}", what, type.rank());
    auto bytes = static_cast<std::int64_t>(size_of(type.dtype));
    bool empty = false;
    for (const std::int64_t extent : type.shape) {
      if (extent < 0) fail("{}: negative extent in {}", what, type.text());
      empty = empty || extent == 0;
      // An extent of 0 must not hide that the others overflow: strides are made of them.
      if (__builtin_mul_overflow(bytes, std::max<std::int64_t>(extent, 1), &bytes)) {
        fail("{}: {} is too large", what, type.text());
      }
    }
    return empty ? 0 : bytes;
  }

  void check_buffer(std::size_t index) {
    const plan::Buffer& buffer = plan_.buffers[index];
    const std::string what = fmt::format("buffer {} ({}{}{})", index, name(buffer.kind),
                                         buffer.name.empty() ? "" : " ", buffer.name);
    const std::int64_t bytes = checked_bytes(buffer.type, what);
    const std::string type = buffer.type.text();
    switch (buffer.kind) {
      case plan::BufferKind::arena:
        if (buffer.offset < 0 || buffer.offset > plan_.arena_bytes ||
            bytes > plan_.arena_bytes - buffer.offset) {
          fail("{}: {} at offset {} does not fit in the arena of {} bytes", what, type,
               buffer.offset, plan_.arena_bytes);
        }
        if (buffer.offset % tensor_alignment != 0) {
          fail("{}: offset {} is not a multiple of {}", what, buffer.offset, tensor_alignment);
        }
        return;
      case plan::BufferKind::state:
        return check_named(buffer, what, states_);
      case plan::BufferKind::constant:
        return check_data(buffer, what, bytes);
      case plan::BufferKind::scalar:
        check_named(buffer, what, scalars_);
        if (buffer.type.elements() != 1) fail("{}: {} is no scalar", what, type);
        return check_data(buffer, what, bytes);
    }
    fail("{}: no kind of buffer has the number {}", what, static_cast<int>(buffer.kind));
  }

  void check_named(const plan::Buffer& buffer, const std::string& what,
                   std::map<std::string, Type>& known) const {
    if (buffer.name.empty()) fail("{}: has no name", what);
    const auto [found, added] = known.emplace(buffer.name, buffer.type);
    if (!added && !(found->second == buffer.type)) {
      fail("{}: is {} here and {} elsewhere", what, buffer.type.text(), found->second.text());
    }
  }

  void check_data(const plan::Buffer& buffer, const std::string& what, std::int64_t bytes) const {
    if (buffer.data.size() != static_cast<std::uint64_t>(bytes)) {
      fail("{}: {} needs {} bytes of data, not {}", what, buffer.type.text(), bytes,
           buffer.data.size());
    }
  }

  void check_transfers() const {
    std::set<std::string> names;
    for (const plan::Feeder& feeder : plan_.feeders) {
      if (!names.insert(feeder.name).second) fail("two feeders named \"{}\"", feeder.name);
      checked_bytes(feeder.type, fmt::format("feeder \"{}\"", feeder.name));
    }
    names.clear();
    for (const plan::Receiver& receiver : plan_.receivers) {
      if (!names.insert(receiver.name).second) fail("two receivers named \"{}\"", receiver.name);
      if (receiver.every < 1) fail("receiver \"{}\": every {}", receiver.name, receiver.every);
      std::int64_t total = 0;
      for (const Type& type : receiver.types) {
        const auto what = fmt::format("receiver \"{}\"", receiver.name);
        const std::int64_t bytes = checked_bytes(type, what);
        if (__builtin_add_overflow(total, bytes, &total)) fail("{}: too large", what);
      }
    }
  }

  void find_only_loop() {
    std::size_t loops = 0;
    for (std::size_t i = 0; i < plan_.steps.size(); ++i) {
      if (plan_.steps[i].kind != plan::StepKind::loop) continue;
      info_.only_loop = i;
      ++loops;
    }
    if (loops != 1) info_.only_loop.reset();
  }

  /// `executions`: of these steps in each iteration of a run; `repeated`: they are in its reach.
  void check_steps(const std::vector<plan::Step>& steps, const std::string& path, bool repeated,
                   std::int64_t executions, std::size_t depth) {
    if (depth > deepest_nest) fail("loops nest deeper than {}", deepest_nest);
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const plan::Step& step = steps[i];
      const std::string where = fmt::format("step {}{}", path, i);
      for (const std::uint32_t buffer : step.buffers) {
        if (buffer >= plan_.buffers.size()) {
          fail("{}: buffer {} of {}", where, buffer, plan_.buffers.size());
        }
      }
      const bool nests = step.kind == plan::StepKind::loop || step.kind == plan::StepKind::together;
      if (!nests && !step.body.empty()) fail("{}: has a body", where);
      switch (step.kind) {
        case plan::StepKind::launch:
          if (step.index >= plan_.kernels.size()) {
            fail("{}: kernel {} of {}", where, step.index, plan_.kernels.size());
          }
          check_transforms(step, where);
          check_reach(step, where);
          check_accesses(step, where);
          continue;
        case plan::StepKind::copy:
          check_copy(step, where);
          continue;
        case plan::StepKind::feed:
          check_feed(step, where, repeated, executions);
          continue;
        case plan::StepKind::receive:
          check_receive(step, where, repeated, executions);
          continue;
        case plan::StepKind::together:
          for (const plan::Step& part : step.body) {
            if (part.kind != plan::StepKind::launch) fail("{}: not all of it are launches", where);
          }
          check_steps(step.body, where.substr(5) + ".", repeated, executions, depth);
          continue;
        case plan::StepKind::loop: {
          check_loop(step, where);
          const bool only = depth == 0 && info_.only_loop.has_value();
          std::int64_t inner = executions;
          // A loop that never runs still counts as one, so that no step's number overflows.
          const std::int64_t count = std::max<std::int64_t>(step.count, 1);
          if (!only && __builtin_mul_overflow(inner, count, &inner)) {
            fail("{}: the loops around run more often than can be counted", where);
          }
          info_.deepest = std::max(info_.deepest, inner);
          if (!only && step.count == 0) inner = 0;
          check_steps(step.body, where.substr(5) + ".", true, inner, depth + 1);
          continue;
        }
      }
      fail("{}: no kind of step has the number {}", where, static_cast<int>(step.kind));
    }
  }

  void check_written(std::uint32_t index, const std::string& where) const {
    const plan::Buffer& buffer = plan_.buffers[index];
    if (buffer.kind == plan::BufferKind::constant || buffer.kind == plan::BufferKind::scalar) {
      fail("{}: writes to buffer {}, which is a {}", where, index, name(buffer.kind));
    }
  }

  void check_copy(const plan::Step& step, const std::string& where) const {
    if (step.buffers.size() != 2) {
      fail("{}: a copy takes 2 buffers, not {}", where, step.buffers.size());
    }
    const Type& from = plan_.buffers[step.buffers[0]].type;
    const Type& to = plan_.buffers[step.buffers[1]].type;
    if (from.dtype != to.dtype || from.elements() != to.elements()) {
      fail("{}: copies {} to {}", where, from.text(), to.text());
    }
    check_written(step.buffers[1], where);
  }

  void check_loop(const plan::Step& step, const std::string& where) const {
    if (step.count < 0) fail("{}: a loop of {} iterations", where, step.count);
    if (step.buffers.size() != 1) {
      fail("{}: a loop takes an index buffer, not {} buffers", where, step.buffers.size());
    }
    const Type& type = plan_.buffers[step.buffers[0]].type;
    if (type.dtype != DType::i64 || type.rank() != 0) {
      fail("{}: the loop's index is {}, not i64[]", where, type.text());
    }
    check_written(step.buffers[0], where);
  }

  void use(TransferUse& use, const std::string& what, const std::string& where, bool repeated,
           std::int64_t executions) const {
    if (use.used) fail("{}: {} has a step already", where, what);
    use = {true, repeated, executions};
  }

  void check_feed(const plan::Step& step, const std::string& where, bool repeated,
                  std::int64_t executions) {
    if (step.index >= plan_.feeders.size()) {
      fail("{}: feeder {} of {}", where, step.index, plan_.feeders.size());
    }
    const plan::Feeder& feeder = plan_.feeders[step.index];
    const std::string what = fmt::format("feeder \"{}\"", feeder.name);
    use(info_.feeders[step.index], what, where, repeated, executions);
    if (step.buffers.size() != 1) {
      fail("{}: {} fills 1 buffer, not {}", where, what, step.buffers.size());
    }
    const Type& type = plan_.buffers[step.buffers[0]].type;
    if (!(type == feeder.type)) {
      fail("{}: {} is {}, its buffer {}", where, what, feeder.type.text(), type.text());
    }
    check_written(step.buffers[0], where);
  }

  void check_receive(const plan::Step& step, const std::string& where, bool repeated,
                     std::int64_t executions) {
    if (step.index >= plan_.receivers.size()) {
      fail("{}: receiver {} of {}", where, step.index, plan_.receivers.size());
    }
    const plan::Receiver& receiver = plan_.receivers[step.index];
    const std::string what = fmt::format("receiver \"{}\"", receiver.name);
    use(info_.receivers[step.index], what, where, repeated, executions);
    if (step.buffers.size() != receiver.types.size()) {
      fail("{}: {} takes {} tensors, not {}", where, what, receiver.types.size(),
           step.buffers.size());
    }
    for (std::size_t i = 0; i < step.buffers.size(); ++i) {
      const Type& type = plan_.buffers[step.buffers[i]].type;
      if (!(type == receiver.types[i])) {
        fail("{}: {}: tensor {} is {}, its buffer {}", where, what, i, receiver.types[i].text(),
             type.text());
      }
    }
  }

  const plan::Plan& plan_;
  bool loads_code_;
  PlanInfo info_;
  std::map<std::string, Type> states_;
  std::map<std::string, Type> scalars_;
};

constexpr std::string_view architecture =
#if defined(__x86_64__) || defined(_M_X64)
    "x86-64";
#elif defined(__aarch64__)
    "aarch64";
#elif defined(__riscv) && __riscv_xlen == 64
    "riscv64";
#else
    "unknown";
#endif

}  // namespace

TransferUse::Range TransferUse::range(std::int64_t from, std::int64_t to) const {
  if (!used) return {0, 0};
  if (!repeated) return {0, 1};
  return {from * per_iteration, to * per_iteration};
}

PlanInfo check_plan(const plan::Plan& plan, bool loads_code) {
  return Checker(plan, loads_code).run();
}

void check_target(const plan::Plan& plan, const std::string& machine) {
  if (plan.target.empty() && plan.objects.empty()) return;  // nothing that is bound to a machine
  const std::string_view target = plan.target;
  if (target.substr(0, target.find('/')) != architecture) {
    throw Error(fmt::format("plan \"{}\" is for the architecture of \"{}\"; this machine is {}",
                            plan.name, target, machine.empty() ? architecture : machine));
  }
  if (!machine.empty() && target != machine) {
    throw Error(
        fmt::format("plan \"{}\" is for \"{}\"; this machine is \"{}\": compile it again here",
                    plan.name, target, machine));
  }
}

}  // namespace weft::runtime
