#include "compiler/schedules/schedule.h"

#include <fmt/format.h>

#include <stdexcept>

#include "compiler/schedules/expand_calls.h"
#include "compiler/schedules/hoist.h"
#include "runtime/plan/error.h"

namespace weft::compiler {

void for_chunk(GroupEmitter& emitter, loop::Ex block, std::int64_t total, std::int64_t chunk,
               const std::function<void(loop::Ex first, std::int64_t extent)>& body) {
  loop::Arena& a = emitter.arena();
  const std::int64_t full = total / chunk;
  const std::int64_t rest = total % chunk;
  if (full > 0) {
    const auto whole = [&] { body(a.mul(block, a.integer(chunk)), chunk); };
    if (rest == 0) {
      whole();
    } else {
      emitter.builder().condition(a.less(block, a.integer(full)), whole);
    }
  }
  if (rest == 0) return;
  const auto last = [&] { body(a.integer(full * chunk), rest); };
  if (full == 0) {
    last();
  } else {
    emitter.builder().condition(a.equal(block, a.integer(full)), last);
  }
}

bool exceeds_caches(const Group& group) {
  constexpr std::int64_t share_bytes = std::int64_t{8} << 20;
  std::int64_t bytes = 0;
  for (const std::vector<ir::Value>* values : {&group.inputs, &group.outputs}) {
    for (const ir::Value value : *values) bytes += value.type().bytes();
  }
  return bytes > share_bytes;
}

bool has_host_schedule(const ir::Node& node) {
  if (node.op->pattern == ir::Pattern::tno) return has_tno_schedule(node);
  return node.op->pattern == ir::Pattern::attention && has_attention_schedule(node);
}

bool has_device_schedule(const ir::Node& node) {
  if (node.op->pattern == ir::Pattern::tno) return has_tno_device_schedule(node);
  return node.op->pattern == ir::Pattern::attention && has_attention_device_schedule(node);
}

std::int64_t DeviceOptions::shared_bytes() const {
  constexpr std::int64_t kibibyte = 1024;
  if (shared_limit > 0) return shared_limit;
  switch (target.capability) {
    case 80:
    case 87:
      return 163 * kibibyte;
    case 90:
    case 100:
    case 101:
    case 103:
      return 227 * kibibyte;
    default:
      return 99 * kibibyte;
  }
}

ScheduledKernel schedule_device(const Group& group, const DeviceOptions& options) {
  ScheduledKernel result;
  result.kernel = std::make_unique<loop::Kernel>();
  result.kernel->name = group.name;
  GroupEmitter emitter(*result.kernel, group, options.strict);
  const ir::Node* anchor = group.anchor;
  if (group.rows) {
    schedule_rows_device(emitter, options);
  } else if (anchor == nullptr) {
    schedule_elementwise_device(emitter);
  } else if (anchor->op->pattern == ir::Pattern::dot && !is_complex(anchor->results[0].dtype)) {
    schedule_dot_device(emitter, options);
  } else if (anchor->op->pattern == ir::Pattern::fft && options.library_transform &&
             options.library_transform(*anchor)) {
    schedule_fft_library(emitter);
  } else if (anchor->is("attention")) {
    schedule_attention_device(emitter, options);
  } else if (anchor->is("attention_backward")) {
    schedule_attention_backward_device(emitter, options);
  } else if (anchor->op->pattern == ir::Pattern::dot && group.anchors.size() == 1 &&
             group.operand_sum == nullptr) {
    schedule_dot_complex_device(emitter);
  } else if (anchor->is("argmax")) {
    schedule_argmax_device(emitter);
  } else if (anchor->op->pattern == ir::Pattern::reduction) {
    schedule_reduction_device(emitter);
  } else if (anchor->op->pattern == ir::Pattern::scan) {
    schedule_cumulative_device(emitter);
  } else if (anchor->op->pattern == ir::Pattern::fft) {
    schedule_fft_device(emitter, options);
  } else if (anchor->op->pattern == ir::Pattern::tno) {
    schedule_tno_device(emitter, options);
  } else if (anchor->op->pattern == ir::Pattern::scatter) {
    schedule_scatter_device(emitter);
  } else {
    throw Error(fmt::format("{}: there is no schedule of {} for a GPU yet",
                            anchor->location.text().empty() ? group.name : anchor->location.text(),
                            anchor->op->name));
  }
  expand_library_calls(*result.kernel);
  hoist_invariants(*result.kernel);
  result.workspace_bytes = emitter.workspace_bytes();
  return result;
}

ScheduledKernel schedule_host(const Group& group, const HostTarget& target, bool strict) {
  ScheduledKernel result;
  result.kernel = std::make_unique<loop::Kernel>();
  result.kernel->name = group.name;
  GroupEmitter emitter(*result.kernel, group, strict);
  if (group.rows) {
    schedule_rows(emitter, target);
  } else if (group.anchor == nullptr) {
    schedule_elementwise(emitter, target);
  } else {
    switch (group.anchor->op->pattern) {
      case ir::Pattern::reduction:
        if (group.anchor->is("argmax")) {
          schedule_argmax(emitter, target);
        } else {
          schedule_reduction(emitter, target);
        }
        break;
      case ir::Pattern::scan:
        schedule_cumulative(emitter, target);
        break;
      case ir::Pattern::dot:
        schedule_dot(emitter, target);
        break;
      case ir::Pattern::fft:
        schedule_fft(emitter, target);
        break;
      case ir::Pattern::tno:
        schedule_tno(emitter, target);
        break;
      case ir::Pattern::attention:
        if (group.anchor->is("attention")) {
          schedule_attention(emitter, target);
        } else {
          schedule_attention_backward(emitter, target);
        }
        break;
      case ir::Pattern::scatter:
        schedule_scatter(emitter, target);
        break;
      default:
        throw std::logic_error("no schedule for " + std::string(group.anchor->op->name));
    }
  }
  hoist_invariants(*result.kernel);
  result.workspace_bytes = emitter.workspace_bytes();
  return result;
}

}  // namespace weft::compiler
