#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "compiler/object_cache.h"
#include "runtime/disk_cache.h"

namespace weft::detail {

/// Machine code of this process's compilations, in memory, and of all processes', on disk. What is
/// looked for and not there is logged (WEFT_LOG=cache), with what is there instead.
class KernelCache final : public compiler::ObjectCache {
 public:
  /// `memory`: bytes that may be kept in this process.
  explicit KernelCache(runtime::DiskCacheOptions options,
                       std::size_t memory = std::size_t{64} << 20);

  std::optional<std::string> find(std::string_view kernel, std::string_view conditions) override;
  void store(std::string_view kernel, std::string_view conditions, std::string_view code) override;

  runtime::DiskCache& disk() { return disk_; }

 private:
  struct Entry {
    std::string key;
    std::string code;
  };
  void remember(std::string key, std::string_view code);

  runtime::DiskCache disk_;
  std::size_t memory_;
  std::mutex mutex_;          ///< guards what follows
  std::list<Entry> entries_;  ///< the last used first
  std::unordered_map<std::string_view, std::list<Entry>::iterator> by_key_;
  std::size_t bytes_ = 0;
};

/// The cache that the environment asks for (see runtime::disk_cache_options()); nullptr: none.
std::shared_ptr<KernelCache> kernel_cache();

}  // namespace weft::detail
