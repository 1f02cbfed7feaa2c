#include "runtime/disk_cache.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <iterator>
#include <vector>

#include "tests/temporary_folder.h"

namespace weft::runtime {
namespace {

namespace fs = std::filesystem;
using test::Environment;
using test::TemporaryFolder;

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  return files;
}

std::string read(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

void write(const fs::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

TEST(DiskCache, FindsWhatWasStored) {
  const TemporaryFolder folder;
  DiskCache cache({.folder = folder.path() / "not" / "there"});
  EXPECT_EQ(cache.find("kernel", "here"), std::nullopt);
  const std::string value("bytes\0and more", 14);
  cache.store("kernel", "here", value);
  cache.store("kernel", "there", "");
  EXPECT_EQ(cache.find("kernel", "here"), value);
  EXPECT_EQ(cache.find("kernel", "there"), "");
  EXPECT_EQ(cache.find("kerne", "lhere"), std::nullopt);
  EXPECT_EQ(cache.find("other", "here"), std::nullopt);
  EXPECT_EQ(cache.conditions_of("kernel"), (std::vector<std::string>{"here", "there"}));
  EXPECT_TRUE(cache.conditions_of("other").empty());
  cache.store("kernel", "here", "another");
  EXPECT_EQ(cache.find("kernel", "here"), "another");
  // Another process's view.
  DiskCache later({.folder = folder.path() / "not" / "there"});
  EXPECT_EQ(later.find("kernel", "here"), "another");
}

TEST(DiskCache, DamagedEntriesAreNotThere) {
  const TemporaryFolder folder;
  DiskCache cache({.folder = folder.path()});
  cache.store("kernel", "conditions", "the value");
  const fs::path path = files_in(folder.path()).at(0);
  const std::string whole = read(path);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    write(path, damaged);
    EXPECT_EQ(cache.find("kernel", "conditions"), std::nullopt) << "byte " << i;
    write(path, whole.substr(0, i));
    EXPECT_EQ(cache.find("kernel", "conditions"), std::nullopt) << "cut at " << i;
  }
  write(path, whole + "x");
  EXPECT_EQ(cache.find("kernel", "conditions"), std::nullopt);
  cache.store("kernel", "conditions", "the value");
  EXPECT_EQ(cache.find("kernel", "conditions"), "the value");
  EXPECT_EQ(read(path), whole);
}

TEST(DiskCache, OneEntryInAnothersPlaceIsNotMistakenForIt) {
  // As if the two keys' hashes were equal.
  const TemporaryFolder folder;
  DiskCache cache({.folder = folder.path()});
  cache.store("a", "conditions", "of a");
  const fs::path first = files_in(folder.path()).at(0);
  const std::string content = read(first);
  fs::remove(first);
  cache.store("b", "conditions", "of b");
  write(files_in(folder.path()).at(0), content);
  EXPECT_EQ(cache.find("b", "conditions"), std::nullopt);
  EXPECT_TRUE(cache.conditions_of("b").empty());
}

TEST(DiskCache, FilesThatOthersCouldHaveWrittenAreNotThere) {
  const TemporaryFolder folder;
  DiskCache cache({.folder = folder.path()});
  cache.store("kernel", "conditions", "value");
  const fs::path path = files_in(folder.path()).at(0);
  EXPECT_EQ(fs::status(path).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  fs::permissions(path, fs::perms::others_write, fs::perm_options::add);
  EXPECT_EQ(cache.find("kernel", "conditions"), std::nullopt);
  fs::permissions(path, fs::perms::others_write, fs::perm_options::remove);
  EXPECT_EQ(cache.find("kernel", "conditions"), "value");
  fs::rename(path, folder.path() / "elsewhere");
  fs::create_symlink(folder.path() / "elsewhere", path);
  EXPECT_EQ(cache.find("kernel", "conditions"), std::nullopt);
  fs::remove(path);
  fs::create_directory(path);
  EXPECT_EQ(cache.find("kernel", "conditions"), std::nullopt);
}

TEST(DiskCache, TheLeastRecentlyUsedGo) {
  const TemporaryFolder folder;
  DiskCache cache({.folder = folder.path(), .capacity = 20'000});
  const std::string value(1000, 'v');
  const auto now = fs::file_time_type::clock::now();
  for (int i = 0; i < 15; ++i) cache.store(fmt::format("kernel {}", i), "conditions", value);
  // All were used a day ago, number 3 is used now.
  for (const fs::path& path : files_in(folder.path())) {
    fs::last_write_time(path, now - std::chrono::hours(24));
  }
  EXPECT_EQ(cache.find("kernel 3", "conditions"), value);
  for (int i = 15; i < 30; ++i) cache.store(fmt::format("kernel {}", i), "conditions", value);
  std::uintmax_t bytes = 0;
  for (const fs::path& path : files_in(folder.path())) bytes += fs::file_size(path);
  EXPECT_LE(bytes, 20'000U);
  EXPECT_GE(bytes, 15'000U);
  EXPECT_EQ(cache.find("kernel 3", "conditions"), value);
  EXPECT_EQ(cache.find("kernel 29", "conditions"), value);
  int old = 0;
  for (int i = 0; i < 15; ++i) old += cache.find(fmt::format("kernel {}", i), "conditions") ? 1 : 0;
  EXPECT_LT(old, 10);
  // What is larger than the whole cache is not kept, and pushes nothing out.
  cache.store("large", "conditions", std::string(30'000, 'x'));
  EXPECT_EQ(cache.find("large", "conditions"), std::nullopt);
  EXPECT_EQ(cache.find("kernel 29", "conditions"), value);
}

TEST(DiskCache, WhatACrashLeftIsRemoved) {
  const TemporaryFolder folder;
  fs::create_directory(folder.path() / "00");
  const fs::path old = folder.path() / "00" / "new-1-1";
  const fs::path fresh = folder.path() / "00" / "new-1-2";
  write(old, "half");
  write(fresh, "half");
  fs::last_write_time(old, fs::file_time_type::clock::now() - std::chrono::hours(2));
  DiskCache cache({.folder = folder.path()});
  cache.store("kernel", "conditions", "value");
  EXPECT_FALSE(fs::exists(old));
  EXPECT_TRUE(fs::exists(fresh));
}

TEST(DiskCache, WithoutAFolderNothingIsKept) {
  const TemporaryFolder folder;
  write(folder.path() / "file", "");
  // A folder beneath a file, and one where not even root can make any.
  for (const fs::path& place : {folder.path() / "file" / "cache", fs::path("/proc/weft-cache")}) {
    std::vector<std::string> messages;
    DiskCache cache(
        {.folder = place, .log = [&](const std::string& text) { messages.push_back(text); }});
    cache.store("kernel", "conditions", "value");
    cache.store("kernel", "conditions", "value");
    EXPECT_EQ(cache.find("kernel", "conditions"), std::nullopt);
    ASSERT_EQ(messages.size(), 1U);
    EXPECT_NE(messages[0].find(place.string()), std::string::npos) << messages[0];
  }
}

/// Root may write to read-only folders: while this lives the process is somebody else.
class NotRoot {
 public:
  NotRoot() : root_(::geteuid() == 0) {
    constexpr uid_t nobody = 65534;
    if (root_) {
      EXPECT_EQ(::seteuid(nobody), 0);
    }
  }
  ~NotRoot() {
    if (root_) {
      EXPECT_EQ(::seteuid(0), 0);
    }
  }
  NotRoot(const NotRoot&) = delete;
  NotRoot& operator=(const NotRoot&) = delete;

 private:
  bool root_;
};

TEST(DiskCache, AReadOnlyFolderStillGivesWhatItHas) {
  const TemporaryFolder folder;
  DiskCache({.folder = folder.path()}).store("kernel", "conditions", "value");
  const fs::path inner = files_in(folder.path()).at(0).parent_path();
  constexpr auto writing = fs::perms::owner_write;
  constexpr auto reading = fs::perms::group_read | fs::perms::others_read;
  constexpr auto entering = fs::perms::group_exec | fs::perms::others_exec;
  fs::permissions(files_in(inner).at(0), reading, fs::perm_options::add);
  for (fs::path at = inner; at != folder.path().parent_path(); at = at.parent_path()) {
    fs::permissions(at, reading | entering, fs::perm_options::add);
    fs::permissions(at, writing, fs::perm_options::remove);
  }
  {
    const NotRoot user;
    DiskCache cache({.folder = folder.path()});
    EXPECT_EQ(cache.find("kernel", "conditions"), "value");
    for (int i = 0; i < 20; ++i) cache.store(fmt::format("kernel {}", i), "conditions", "value");
    EXPECT_EQ(cache.find("kernel", "conditions"), "value");
  }
  for (fs::path at = inner; at != folder.path().parent_path(); at = at.parent_path()) {
    fs::permissions(at, writing, fs::perm_options::add);
  }
  EXPECT_EQ(files_in(folder.path()).size(), 1U);
}

TEST(DiskCache, AFullDiskLeavesNothingBehind) {
  const TemporaryFolder folder;
  std::vector<std::string> messages;
  DiskCache cache(
      {.folder = folder.path(), .log = [&](const std::string& text) { messages.push_back(text); }});
  cache.store("small", "conditions", "value");
  // A limit on the size of files fails in the middle of a write, as a full disk does.
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 4096;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  cache.store("large", "conditions", std::string(10'000, 'x'));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(cache.find("large", "conditions"), std::nullopt);
  EXPECT_EQ(cache.find("small", "conditions"), "value");
  EXPECT_EQ(messages.size(), 1U);
  EXPECT_EQ(files_in(folder.path()).size(), 1U);
}

TEST(DiskCache, ProcessesShareAFolder) {
  const TemporaryFolder folder;
  constexpr int processes = 4;
  constexpr int rounds = 300;
  const auto value = [](int key, int process) {
    return fmt::format("{} ", key) + std::string(static_cast<std::size_t>(100 + 300 * process),
                                                 static_cast<char>('a' + process));
  };
  // Small enough that they evict each other's entries all the while.
  const auto work = [&](int process) {
    DiskCache cache({.folder = folder.path(), .capacity = 10'000});
    for (int i = 0; i < rounds; ++i) {
      const int key = (i * 7 + process) % 20;
      const auto subject = fmt::format("kernel {}", key);
      if (const auto found = cache.find(subject, "conditions")) {
        bool whole = false;
        for (int writer = 0; writer < processes; ++writer) {
          whole = whole || *found == value(key, writer);
        }
        if (!whole) return 1;
      }
      cache.store(subject, "conditions", value(key, process));
    }
    return 0;
  };
  std::vector<pid_t> children;
  for (int process = 0; process < processes; ++process) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) ::_exit(work(process));
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  for (const fs::path& path : files_in(folder.path())) {
    EXPECT_FALSE(path.filename().string().starts_with("new-")) << path;
  }
}

TEST(DiskCache, TheEnvironmentSaysWhere) {
  const Environment none("WEFT_CACHE", nullptr);
  const Environment own("WEFT_CACHE_DIR", "/a/b");
  const Environment xdg("XDG_CACHE_HOME", "/c");
  const Environment home("HOME", "/d");
  const Environment bytes("WEFT_CACHE_BYTES", "12345");
  EXPECT_EQ(disk_cache_options()->folder, "/a/b");
  EXPECT_EQ(disk_cache_options()->capacity, 12345);
  const Environment no_own("WEFT_CACHE_DIR", nullptr);
  EXPECT_EQ(disk_cache_options()->folder, "/c/weft");
  {
    const Environment relative("XDG_CACHE_HOME", "c");
    EXPECT_EQ(disk_cache_options()->folder, "/d/.cache/weft");
    const Environment no_home("HOME", nullptr);
    EXPECT_EQ(disk_cache_options(), std::nullopt);
  }
  for (const char* text : {"", "-1", "12x", "99999999999999999999"}) {
    const Environment wrong("WEFT_CACHE_BYTES", text);
    EXPECT_EQ(disk_cache_options()->capacity, std::int64_t{1} << 30) << text;
  }
  const Environment off("WEFT_CACHE", "off");
  EXPECT_EQ(disk_cache_options(), std::nullopt);
}

}  // namespace
}  // namespace weft::runtime
