#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "compiler/ir/graph.h"
#include "device.h"
#include "kernel_cache.h"

namespace weft::detail {

/// Which Fourier transforms a GPU's library computes faster than weft's own kernels: both are run
/// once on the device for each shape, and the answer is kept on disk.
class TransformChoice {
 public:
  /// `cache`: null: nothing is kept.
  TransformChoice(const Device& device, std::shared_ptr<KernelCache> cache);

  /// Of an fft, ifft, rfft or irfft. Where the library is missing or cannot do it, weft's own;
  /// logged (WEFT_LOG=transforms). Any thread may ask.
  bool prefers_library(const ir::Node& node);

 private:
  bool measure(const ir::Node& node) const;
  /// Seconds of one execution; infinity where it fails.
  double time(const ir::Node& node, bool library) const;

  Device device_;
  std::shared_ptr<KernelCache> cache_;
  std::string conditions_;
  std::mutex mutex_;
  std::map<std::string, bool> known_;
};

}  // namespace weft::detail
