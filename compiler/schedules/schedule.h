#pragma once

#include <cstdint>

#include "compiler/codegen/codegen.h"
#include "compiler/fusion/fuse.h"
#include "compiler/loop/kernel.h"
#include "compiler/schedules/emitter.h"

namespace weft::compiler {

struct ScheduledKernel {
  std::unique_ptr<loop::Kernel> kernel;
  std::int64_t workspace_bytes = 0;  ///< 0: none; else one more argument, after the outputs
};

/// Lays a group on the host's cores and vector lanes. Grids depend on shapes only.
/// `strict`: every 16-bit value is rounded where it is computed.
ScheduledKernel schedule_host(const Group& group, const HostTarget& target, bool strict = false);

/// What a schedule for a GPU depends on beside the group.
struct DeviceOptions {
  DeviceTarget target = {};
  bool strict = false;            ///< every 16-bit value is rounded where it is computed
  bool tf32 = false;              ///< products of f32 round their operands to tf32
  bool tensor_copies = true;      ///< products have their operands by them where they may
  std::int64_t processors = 132;  ///< multiprocessors: grids are made for as many
  std::int64_t shared_limit = 0;  ///< of a block, below the target's; 0: the target's
  /// Which Fourier transforms the GPU's library computes; null: none.
  std::function<bool(const ir::Node& node)> library_transform = {};
  /// Whether a Toeplitz operator that matrix units may multiply goes there; null: where that is
  /// counted to be faster than transforms.
  std::function<bool(const ir::Node& node)> tno_by_products = {};

  /// Shared memory that a block may have.
  std::int64_t shared_bytes() const;
};

/// Lays a group on a GPU. Throws Error, with the user's line, where there is no schedule for its
/// anchor there.
ScheduledKernel schedule_device(const Group& group, const DeviceOptions& options = {});

/// Whether a composite node has a schedule: the others are to be decomposed.
bool has_host_schedule(const ir::Node& node);
bool has_device_schedule(const ir::Node& node);
/// The same for the Toeplitz operator and its gradients.
bool has_tno_schedule(const ir::Node& node);
bool has_tno_device_schedule(const ir::Node& node);
/// The same for attention and its gradients.
bool has_attention_schedule(const ir::Node& node);
bool has_attention_device_schedule(const ir::Node& node);

// One for each kind of anchor, each in the file of its name.
void schedule_elementwise(GroupEmitter& emitter, const HostTarget& target);
void schedule_reduction(GroupEmitter& emitter, const HostTarget& target);
void schedule_rows(GroupEmitter& emitter, const HostTarget& target);
void schedule_argmax(GroupEmitter& emitter, const HostTarget& target);
void schedule_cumulative(GroupEmitter& emitter, const HostTarget& target);
void schedule_dot(GroupEmitter& emitter, const HostTarget& target);
void schedule_fft(GroupEmitter& emitter, const HostTarget& target);
void schedule_tno(GroupEmitter& emitter, const HostTarget& target);
void schedule_attention(GroupEmitter& emitter, const HostTarget& target);
void schedule_attention_backward(GroupEmitter& emitter, const HostTarget& target);
void schedule_scatter(GroupEmitter& emitter, const HostTarget& target);

// On a GPU.
void schedule_elementwise_device(GroupEmitter& emitter);
void schedule_rows_device(GroupEmitter& emitter, const DeviceOptions& options);
void schedule_dot_device(GroupEmitter& emitter, const DeviceOptions& options);
void schedule_reduction_device(GroupEmitter& emitter);
/// A Fourier transform by the GPU's library.
void schedule_fft_library(GroupEmitter& emitter);
void schedule_attention_device(GroupEmitter& emitter, const DeviceOptions& options);
void schedule_attention_backward_device(GroupEmitter& emitter, const DeviceOptions& options);
void schedule_cumulative_device(GroupEmitter& emitter);
void schedule_fft_device(GroupEmitter& emitter, const DeviceOptions& options);
void schedule_tno_device(GroupEmitter& emitter, const DeviceOptions& options);
void schedule_dot_complex_device(GroupEmitter& emitter);
void schedule_argmax_device(GroupEmitter& emitter);
void schedule_scatter_device(GroupEmitter& emitter);

/// Elements that a block of a pointwise kernel should compute: enough to be worth a hand-over
/// between threads, few enough to balance.
inline constexpr std::int64_t block_elements = 16384;

/// Whether a kernel moves more than a core's share of the outermost cache: what it writes is not
/// there any more when it is read again.
bool exceeds_caches(const Group& group);

/// Runs `body(first, extent)` for the part of [0, total) that belongs to block `block` of `grid`,
/// each of `chunk` elements but the last: code for both extents where they differ.
void for_chunk(GroupEmitter& emitter, loop::Ex block, std::int64_t total, std::int64_t chunk,
               const std::function<void(loop::Ex first, std::int64_t extent)>& body);

}  // namespace weft::compiler
