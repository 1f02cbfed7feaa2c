#include "kernel_cache.h"

#include <utility>

#include "trace.h"

namespace weft::detail {

namespace {

std::string key_of(std::string_view kernel, std::string_view conditions) {
  std::string key(conditions);
  key += '\0';
  key += kernel;
  return key;
}

/// The lines of `there` that `wanted` lacks.
std::string differing_lines(std::string_view wanted, std::string_view there) {
  std::set<std::string_view> lines;
  const auto each = [](std::string_view text, const auto& visit) {
    while (!text.empty()) {
      const std::size_t end = std::min(text.find('\n'), text.size() - 1);
      visit(text.substr(0, end));
      text.remove_prefix(end + 1);
    }
  };
  each(wanted, [&](std::string_view line) { lines.insert(line); });
  std::string result;
  each(there, [&](std::string_view line) {
    if (lines.contains(line)) return;
    if (!result.empty()) result += ", ";
    result += line;
  });
  return result;
}

void log_miss(const runtime::DiskCache& disk, std::string_view kernel,
              std::string_view conditions) {
  const std::string_view symbol =
      conditions.substr(std::min(conditions.rfind("symbol"), conditions.size()));
  std::string there;
  for (const std::string& other : disk.conditions_of(kernel)) {
    there += fmt::format("{}{}", there.empty() ? "there for " : "; for ",
                         other == conditions ? "the same conditions, but unusable"
                                             : differing_lines(conditions, other));
  }
  log("cache", "miss, {}: {}", symbol.substr(0, symbol.find('\n')),
      there.empty() ? "no such kernel" : there);
}

}  // namespace

KernelCache::KernelCache(runtime::DiskCacheOptions options, std::size_t memory)
    : disk_(std::move(options)), memory_(memory) {}

std::optional<std::string> KernelCache::find(std::string_view kernel, std::string_view conditions) {
  std::string key = key_of(kernel, conditions);
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = by_key_.find(key); found != by_key_.end()) {
      entries_.splice(entries_.begin(), entries_, found->second);
      return found->second->code;
    }
  }
  std::optional<std::string> code = disk_.find(kernel, conditions);
  if (code) {
    remember(std::move(key), *code);
  } else if (log_enabled("cache")) {
    log_miss(disk_, kernel, conditions);
  }
  return code;
}

void KernelCache::store(std::string_view kernel, std::string_view conditions,
                        std::string_view code) {
  remember(key_of(kernel, conditions), code);
  disk_.store(kernel, conditions, code);
}

void KernelCache::remember(std::string key, std::string_view code) {
  const auto size = [](const Entry& entry) { return entry.key.size() + entry.code.size(); };
  const std::lock_guard lock(mutex_);
  if (const auto found = by_key_.find(key); found != by_key_.end()) {
    bytes_ -= size(*found->second);
    found->second->code = code;
    bytes_ += size(*found->second);
    entries_.splice(entries_.begin(), entries_, found->second);
  } else {
    entries_.push_front({std::move(key), std::string(code)});
    by_key_[entries_.front().key] = entries_.begin();
    bytes_ += size(entries_.front());
  }
  while (bytes_ > memory_) {
    bytes_ -= size(entries_.back());
    by_key_.erase(entries_.back().key);
    entries_.pop_back();
  }
}

std::shared_ptr<KernelCache> kernel_cache() {
  struct Current {
    std::filesystem::path folder;
    std::int64_t capacity = 0;
    std::shared_ptr<KernelCache> cache;
  };
  static std::mutex mutex;
  static Current current;
  std::optional<runtime::DiskCacheOptions> options = runtime::disk_cache_options();
  if (!options) return nullptr;
  const std::lock_guard lock(mutex);
  const bool same = current.folder == options->folder && current.capacity == options->capacity;
  if (current.cache == nullptr || !same) {
    options->log = [](const std::string& message) { log("cache", "{}", message); };
    current = {options->folder, options->capacity, nullptr};
    current.cache = std::make_shared<KernelCache>(std::move(*options));
  }
  return current.cache;
}

}  // namespace weft::detail
