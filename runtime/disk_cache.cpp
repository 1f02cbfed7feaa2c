#include "runtime/disk_cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <utility>

namespace weft::runtime {

namespace fs = std::filesystem;

namespace {

// A file: the magic text, the lengths of subject, conditions and value, the checksum of the four of
// them, then the three texts. Numbers are those of this machine: a cache does not travel.
constexpr std::string_view magic = "weft cache 1\n";
using Lengths = std::array<std::uint64_t, 3>;
constexpr std::size_t header_bytes = magic.size() + sizeof(Lengths) + sizeof(std::uint64_t);
/// A larger file is not one of ours.
constexpr std::int64_t most_file_bytes = std::int64_t{1} << 28;
/// Where the cache is full, entries go until this much of it is left.
constexpr double kept_share = 0.9;
constexpr std::string_view temporary_prefix = "new-";
constexpr auto temporary_life = std::chrono::hours(1);
/// Entries are marked as used this often.
constexpr std::int64_t mark_seconds = 600;

std::uint64_t hash(std::string_view text) { return std::hash<std::string_view>{}(text); }

std::uint64_t checksum_of(const Lengths& lengths, std::string_view content) {
  const std::string_view numbers(reinterpret_cast<const char*>(lengths.data()), sizeof lengths);
  return hash(content) ^ (hash(numbers) << 1);
}

class File {
 public:
  explicit File(int descriptor) : descriptor_(descriptor) {}
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int get() const { return descriptor_; }
  bool is_open() const { return descriptor_ >= 0; }
  /// 0, or what went wrong.
  int close() { return ::close(std::exchange(descriptor_, -1)) == 0 ? 0 : errno; }

 private:
  int descriptor_;
};

/// 0, or what went wrong.
int write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    if (written == 0) return ENOSPC;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

struct Entry {
  std::string content;  ///< the three texts
  Lengths lengths{};

  std::string_view part(std::size_t which) const {
    std::size_t begin = 0;
    for (std::size_t i = 0; i < which; ++i) begin += lengths[i];
    return std::string_view(content).substr(begin, lengths[which]);
  }
};

/// nullopt where there is none, or none to be trusted.
std::optional<Entry> read_entry(const fs::path& path) {
  const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file.is_open()) return std::nullopt;
  struct stat status{};
  if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  // Machine code that somebody else could have put there is not run.
  const bool ours = status.st_uid == ::geteuid() || status.st_uid == 0;
  if (!ours || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0) return std::nullopt;
  if (status.st_size < static_cast<off_t>(header_bytes) || status.st_size > most_file_bytes) {
    return std::nullopt;
  }
  std::string bytes(static_cast<std::size_t>(status.st_size), '\0');
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t got = ::read(file.get(), bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return std::nullopt;
    done += static_cast<std::size_t>(got);
  }
  if (!bytes.starts_with(magic)) return std::nullopt;
  Entry entry;
  std::uint64_t checksum = 0;
  std::memcpy(entry.lengths.data(), bytes.data() + magic.size(), sizeof entry.lengths);
  std::memcpy(&checksum, bytes.data() + magic.size() + sizeof entry.lengths, sizeof checksum);
  std::uint64_t left = bytes.size() - header_bytes;
  for (const std::uint64_t length : entry.lengths) {
    if (length > left) return std::nullopt;
    left -= length;
  }
  if (left != 0) return std::nullopt;
  entry.content = bytes.substr(header_bytes);
  if (checksum != checksum_of(entry.lengths, entry.content)) return std::nullopt;
  // A time of modification is a time of use here. It need not be exact, so mostly nothing is done.
  if (::time(nullptr) - status.st_mtime > mark_seconds) ::futimens(file.get(), nullptr);
  return entry;
}

std::optional<fs::path> environment_folder() {
  const auto value = [](const char* name) -> std::string_view {
    const char* text = std::getenv(name);
    return text == nullptr ? "" : text;
  };
  if (const auto own = value("WEFT_CACHE_DIR"); !own.empty()) return fs::path(own);
  // The XDG specification: a relative path counts as none.
  if (const auto caches = value("XDG_CACHE_HOME"); caches.starts_with('/')) {
    return fs::path(caches) / "weft";
  }
  if (const auto home = value("HOME"); home.starts_with('/')) {
    return fs::path(home) / ".cache" / "weft";
  }
  return std::nullopt;
}

std::string reason(int error) { return std::generic_category().message(error); }

}  // namespace

std::optional<DiskCacheOptions> disk_cache_options() {
  if (const char* text = std::getenv("WEFT_CACHE");
      text != nullptr && std::string_view(text) == "off") {
    return std::nullopt;
  }
  const std::optional<fs::path> folder = environment_folder();
  if (!folder) return std::nullopt;
  DiskCacheOptions options;
  options.folder = *folder;
  if (const char* text = std::getenv("WEFT_CACHE_BYTES"); text != nullptr) {
    const std::string_view view(text);
    std::int64_t bytes = 0;
    const auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), bytes);
    if (error == std::errc() && end == view.data() + view.size() && bytes >= 0) {
      options.capacity = bytes;
    }
  }
  return options;
}

DiskCache::DiskCache(DiskCacheOptions options) : options_(std::move(options)) {}

void DiskCache::say(const std::string& message) const {
  if (options_.log) options_.log(message);
}

void DiskCache::give_up(const std::string& message) {
  if (writable_.exchange(false)) {
    say(fmt::format("{}; nothing more is kept by this process", message));
  }
}

fs::path DiskCache::file(std::string_view subject, std::string_view conditions) const {
  const std::string name = fmt::format("{:016x}-{:016x}", hash(subject), hash(conditions));
  return options_.folder / name.substr(0, 2) / name;
}

std::optional<std::string> DiskCache::find(std::string_view subject, std::string_view conditions) {
  const std::optional<Entry> entry = read_entry(file(subject, conditions));
  if (!entry || entry->part(0) != subject || entry->part(1) != conditions) return std::nullopt;
  return std::string(entry->part(2));
}

void DiskCache::store(std::string_view subject, std::string_view conditions,
                      std::string_view value) {
  const Lengths lengths{subject.size(), conditions.size(), value.size()};
  const auto bytes =
      static_cast<std::int64_t>(header_bytes + subject.size() + conditions.size() + value.size());
  if (!writable_.load() || bytes > std::min(most_file_bytes, options_.capacity)) return;
  std::string content(subject);
  content += conditions;
  content += value;
  const std::uint64_t checksum = checksum_of(lengths, content);

  const fs::path path = file(subject, conditions);
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  if (error) {
    return give_up(fmt::format("{}: {}", path.parent_path().string(), error.message()));
  }
  static std::atomic<std::uint64_t> number{0};
  const fs::path temporary =
      path.parent_path() / fmt::format("{}{}-{}", temporary_prefix, ::getpid(), number++);
  File out(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!out.is_open()) return give_up(fmt::format("{}: {}", temporary.string(), reason(errno)));
  std::string head(magic);
  head.append(reinterpret_cast<const char*>(lengths.data()), sizeof lengths);
  head.append(reinterpret_cast<const char*>(&checksum), sizeof checksum);
  int failure = write_all(out.get(), head);
  if (failure == 0) failure = write_all(out.get(), content);
  if (const int closing = out.close(); failure == 0) failure = closing;
  if (failure == 0 && ::rename(temporary.c_str(), path.c_str()) != 0) failure = errno;
  if (failure != 0) {
    ::unlink(temporary.c_str());
    return give_up(fmt::format("{}: {}", path.string(), reason(failure)));
  }
  note_growth(bytes);
}

std::vector<std::string> DiskCache::conditions_of(std::string_view subject) const {
  const std::string prefix = fmt::format("{:016x}-", hash(subject));
  std::vector<std::string> found;
  std::error_code error;
  for (fs::directory_iterator at(options_.folder / prefix.substr(0, 2), error), end;
       !error && at != end; at.increment(error)) {
    if (!at->path().filename().string().starts_with(prefix)) continue;
    const std::optional<Entry> entry = read_entry(at->path());
    if (entry && entry->part(0) == subject) found.emplace_back(entry->part(1));
  }
  std::sort(found.begin(), found.end());
  return found;
}

void DiskCache::note_growth(std::int64_t bytes) {
  const std::lock_guard lock(growth_mutex_);
  written_ += bytes;
  // Other processes write as well: now and then the folder itself is asked.
  if (!bytes_ || written_ > options_.capacity / 16) {
    bytes_ = evict();
    written_ = 0;
  } else {
    *bytes_ += bytes;
    if (*bytes_ > options_.capacity) bytes_ = evict();
  }
}

/// Removes the entries that were not used for longest where there are too many; returns the bytes
/// that are left. Another process may remove the same ones.
std::int64_t DiskCache::evict() {
  struct Candidate {
    fs::file_time_type used;
    std::int64_t bytes;
    fs::path path;
  };
  std::vector<Candidate> entries;
  std::int64_t total = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator at(options_.folder, error), end; !error && at != end;
       at.increment(error)) {
    std::error_code gone;
    if (at.depth() != 1 || !at->is_regular_file(gone)) continue;
    const std::string name = at->path().filename().string();
    const fs::file_time_type used = at->last_write_time(gone);
    if (gone) continue;
    const auto bytes = static_cast<std::int64_t>(at->file_size(gone));
    if (gone) continue;
    if (name.starts_with(temporary_prefix)) {
      // Left by a process that ended in the middle of a write.
      if (fs::file_time_type::clock::now() - used > temporary_life) fs::remove(at->path(), gone);
      continue;
    }
    entries.push_back({used, bytes, at->path()});
    total += bytes;
  }
  if (total <= options_.capacity) return total;
  std::sort(entries.begin(), entries.end(),
            [](const Candidate& a, const Candidate& b) { return a.used < b.used; });
  const auto kept = static_cast<std::int64_t>(kept_share * static_cast<double>(options_.capacity));
  std::size_t removed = 0;
  for (; removed < entries.size() && total > kept; ++removed) {
    std::error_code gone;
    fs::remove(entries[removed].path, gone);
    total -= entries[removed].bytes;
  }
  say(fmt::format("{} entries evicted, {} bytes are left", removed, total));
  return total;
}

}  // namespace weft::runtime
