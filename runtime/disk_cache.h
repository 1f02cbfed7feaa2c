#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weft::runtime {

/// Where the cache is and how large it may become.
struct DiskCacheOptions {
  std::filesystem::path folder = {};
  std::int64_t capacity = std::int64_t{1} << 30;  ///< bytes of all entries
  /// Told what goes wrong with the disk, once each, and what is evicted. May be empty.
  std::function<void(const std::string& message)> log = {};
};
/// From WEFT_CACHE ("off": none), WEFT_CACHE_DIR, else $XDG_CACHE_HOME/weft, else ~/.cache/weft,
/// and WEFT_CACHE_BYTES. nullopt where it is off, or where there is no such folder to be had. A
/// WEFT_CACHE_BYTES that is no number counts as not set.
std::optional<DiskCacheOptions> disk_cache_options();

/// Texts kept in a folder, a file each. The key is two texts, a subject and the conditions that it
/// was made under; a file holds both in full, so that what hashes alike is not mistaken.
///
/// Several threads and processes may use a folder at once: a file is written beside its place and
/// then moved there. What is damaged (length, checksum), or what another user may have written, is
/// not there. No member throws: where the disk is full or read-only nothing is kept.
class DiskCache {
 public:
  explicit DiskCache(DiskCacheOptions options);

  std::optional<std::string> find(std::string_view subject, std::string_view conditions);
  void store(std::string_view subject, std::string_view conditions, std::string_view value);
  /// The conditions of all entries with that subject: where find() gives nothing, what differs.
  std::vector<std::string> conditions_of(std::string_view subject) const;

  const std::filesystem::path& folder() const { return options_.folder; }

 private:
  std::filesystem::path file(std::string_view subject, std::string_view conditions) const;
  void note_growth(std::int64_t bytes);
  std::int64_t evict();
  void give_up(const std::string& message);
  void say(const std::string& message) const;

  DiskCacheOptions options_;
  std::atomic<bool> writable_{true};
  std::mutex growth_mutex_;
  std::optional<std::int64_t> bytes_;  ///< of all entries, as far as this process knows
  std::int64_t written_ = 0;           ///< since the folder was looked through
};

}  // namespace weft::runtime
