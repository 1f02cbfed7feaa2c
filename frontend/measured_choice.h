#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "compiler/compile.h"
#include "device.h"
#include "kernel_cache.h"

namespace weft::detail {

/// Of an operation that a GPU may compute in two ways, the faster one: both are run once on the
/// device for each shape, and the answer is kept on disk. Logged (WEFT_LOG=choices).
class MeasuredChoice {
 public:
  /// `cache`: null: nothing is kept.
  MeasuredChoice(const Device& device, std::shared_ptr<KernelCache> cache);

  /// Has the compiler ask for what the options leave open.
  static void answer(compiler::CompileOptions& options, const Device& device,
                     const std::shared_ptr<KernelCache>& cache);

  /// Whether the GPU's library computes an fft, ifft, rfft or irfft faster than weft's own kernel.
  /// Where the library is missing or cannot do it, weft's own. Any thread may ask.
  bool prefers_library(const ir::Node& node);
  /// Whether products compute a Toeplitz operator, or its gradients, faster than transforms: one
  /// that matrix units may multiply. Any thread may ask.
  bool prefers_products(const ir::Node& node);

 private:
  /// Two ways, of which the compiler's option says which one is taken.
  struct Ways {
    std::function<bool(const ir::Node& node)> compiler::CompileOptions::* option;
    const char* first;  ///< its name, where the option says true
    const char* second;
  };

  bool prefers_first(const ir::Node& node, const Ways& ways);
  bool measure(const ir::Node& node, const Ways& ways) const;
  /// Seconds of one execution; infinity where it fails. Ends early where `other` seconds, of the
  /// other way, cannot be reached.
  double time(const ir::Node& node, const Ways& ways, bool first, double other) const;

  Device device_;
  std::shared_ptr<KernelCache> cache_;
  std::string conditions_;
  std::mutex mutex_;
  std::map<std::string, bool> known_;
};

}  // namespace weft::detail
