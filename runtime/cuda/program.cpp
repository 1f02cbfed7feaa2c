#include "runtime/cuda/program.h"

#include <algorithm>

namespace weft::runtime::cuda {
namespace {

/// A loop of up to so many nodes is unrolled in the graph around it: instantiating a node takes
/// about a microsecond, launching it once it is there less than a launch from the host.
constexpr std::int64_t unrolled_nodes = 1024;
/// An iteration of fewer nodes shares its graph with others: the host's part of a launch takes as
/// long as some small kernels.
constexpr std::int64_t worthwhile_nodes = 64;
constexpr std::int64_t most_iterations = 32;

bool overlap(const plan::Buffer& a, const plan::Buffer& b) {
  if (a.kind != plan::BufferKind::arena || b.kind != plan::BufferKind::arena) return false;
  return a.offset < b.offset + b.type.bytes() && b.offset < a.offset + a.type.bytes();
}

class Compiler {
 public:
  Compiler(const plan::Plan& plan, const PlanInfo& info, Program& program)
      : plan_(plan), info_(info), program_(program) {}

  Body body(const std::vector<plan::Step>& steps, const Loop* counts, bool top) {
    Body made;
    if (counts != nullptr) segment(made).counts = counts;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const plan::Step& step = steps[i];
      if (step.kind == plan::StepKind::loop) {
        const bool only = top && info_.only_loop == i;
        if (!only && step.count == 0) continue;
        if (!only && !transfers(step.body) && nodes(step) <= unrolled_nodes) {
          segment(made).steps.push_back(&step);
          continue;
        }
        auto inner = loop(step, only);
        made.receivers.insert(made.receivers.end(), inner->body.receivers.begin(),
                              inner->body.receivers.end());
        made.parts.emplace_back(std::move(inner));
        continue;
      }
      Segment& into = segment(made);
      into.steps.push_back(&step);
      if (step.kind == plan::StepKind::feed) {
        into.feeders.push_back(step.index);
        made.feeders.push_back(step.index);
      } else if (step.kind == plan::StepKind::receive) {
        into.receivers.push_back(step.index);
        made.receivers.push_back(step.index);
      }
    }
    if (top) {
      // What fails outside of all loops stops the outermost ones.
      for (auto& part : made.parts) {
        if (auto* inner = std::get_if<std::unique_ptr<Loop>>(&part)) {
          (*inner)->body.receivers = made.receivers;
        }
      }
    }
    return made;
  }

 private:
  /// The segment that the next step goes to.
  static Segment& segment(Body& made) {
    if (made.parts.empty() || !std::holds_alternative<Segment>(made.parts.back())) {
      made.parts.emplace_back(Segment{});
    }
    return std::get<Segment>(made.parts.back());
  }

  std::unique_ptr<Loop> loop(const plan::Step& step, bool only) {
    auto made = std::make_unique<Loop>();
    made->index = step.buffers[0];
    made->count = step.count;
    made->bounded_by_run = only;
    made->reads_index = use_buffer(plan_, step.body, made->index);
    if (made->reads_index) made->counter = program_.counters++;
    made->body = body(step.body, made->reads_index ? made.get() : nullptr, false);
    const bool alone =
        made->body.parts.size() == 1 && std::holds_alternative<Segment>(made->body.parts.front());
    if (alone && !transfers(step.body)) {
      const std::int64_t once = nodes(step.body) + (made->reads_index ? 1 : 0);
      made->iterations = std::clamp<std::int64_t>(
          worthwhile_nodes / std::max<std::int64_t>(once, 1), 1, most_iterations);
    }
    return made;
  }

  static bool transfers(const std::vector<plan::Step>& steps) {
    return std::any_of(steps.begin(), steps.end(), [](const plan::Step& step) {
      return step.kind == plan::StepKind::feed || step.kind == plan::StepKind::receive ||
             transfers(step.body);
    });
  }

  std::int64_t nodes(const std::vector<plan::Step>& steps) const {
    std::int64_t total = 0;
    for (const plan::Step& step : steps) total = std::min(total + nodes(step), many);
    return total;
  }

  std::int64_t nodes(const plan::Step& step) const {
    switch (step.kind) {
      case plan::StepKind::launch:
        return static_cast<std::int64_t>(plan_.kernels[step.index].phases.size());
      case plan::StepKind::together:
        return nodes(step.body);
      case plan::StepKind::copy:
      case plan::StepKind::feed:
        return 1;
      case plan::StepKind::receive:
        return static_cast<std::int64_t>(step.buffers.size());
      case plan::StepKind::loop: {
        const std::int64_t once = nodes(step.body) + 1;
        return step.count > many / once ? many : step.count * once;
      }
    }
    return 0;
  }

  static constexpr std::int64_t many = std::int64_t{1} << 40;

  const plan::Plan& plan_;
  const PlanInfo& info_;
  Program& program_;
};

void forget(Body& body) {
  for (auto& part : body.parts) {
    if (auto* segment = std::get_if<Segment>(&part)) {
      segment->graphs.clear();
    } else {
      forget(std::get<std::unique_ptr<Loop>>(part)->body);
    }
  }
}

}  // namespace

bool use_buffer(const plan::Plan& plan, const std::vector<plan::Step>& steps,
                std::uint32_t buffer) {
  // What is not in the arena may be looked at from elsewhere.
  if (plan.buffers[buffer].kind != plan::BufferKind::arena) return true;
  return std::any_of(steps.begin(), steps.end(), [&](const plan::Step& step) {
    return std::any_of(step.buffers.begin(), step.buffers.end(),
                       [&](std::uint32_t used) {
                         return used == buffer || overlap(plan.buffers[used], plan.buffers[buffer]);
                       }) ||
           use_buffer(plan, step.body, buffer);
  });
}

Program::Program(const plan::Plan& plan, const PlanInfo& info) {
  top = Compiler(plan, info, *this).body(plan.steps, nullptr, true);
}

void Program::forget_graphs() { forget(top); }

}  // namespace weft::runtime::cuda
