#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <thread>
#include <vector>

#include "runtime/float_mode.h"
#include "runtime/thread_pool.h"

namespace weft::runtime {
namespace {

/// Counts how often each block runs.
void count_blocks(void* const* arguments, void*, std::int64_t begin, std::int64_t end) {
  auto* counts = static_cast<std::int32_t*>(arguments[0]);
  for (std::int64_t i = begin; i < end; ++i) ++counts[i];
}

class Pool : public ::testing::TestWithParam<int> {};

TEST_P(Pool, EveryBlockRunsOnce) {
  ThreadPool pool(GetParam(), 0);
  EXPECT_EQ(pool.threads(), GetParam());
  for (const std::int64_t grid : {0, 1, 2, 3, 7, 64, 1000, 4097}) {
    std::vector<std::int32_t> counts(static_cast<std::size_t>(grid) + 1);
    void* arguments[] = {counts.data()};
    pool.run(count_blocks, arguments, grid);
    EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}), grid);
    for (std::size_t i = 0; i < static_cast<std::size_t>(grid); ++i) ASSERT_EQ(counts[i], 1);
  }
}

// Plain (not atomic) memory written by one phase and read by the next: a lost or early return of
// run() shows as a wrong sum, and as a race under the thread sanitizer.
void shift_right(void* const* arguments, void*, std::int64_t begin, std::int64_t end) {
  const auto* from = static_cast<const std::int64_t*>(arguments[0]);
  auto* to = static_cast<std::int64_t*>(arguments[1]);
  const std::int64_t n = *static_cast<const std::int64_t*>(arguments[2]);
  for (std::int64_t i = begin; i < end; ++i) to[(i + 1) % n] = from[i] + 1;
}

TEST_P(Pool, PhasesFollowEachOther) {
  ThreadPool pool(GetParam(), 0);
  std::int64_t n = 37;
  std::vector<std::int64_t> a(static_cast<std::size_t>(n)), b(a.size());
  std::iota(a.begin(), a.end(), 0);
  const std::int64_t rounds = 4000;
  for (std::int64_t round = 0; round < rounds; ++round) {
    // Now and then the workers get time to fall asleep, or nearly.
    if (round % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (round % 97 == 0) std::this_thread::sleep_for(std::chrono::microseconds(20));
    void* arguments[] = {a.data(), b.data(), &n};
    pool.run(shift_right, arguments, n);
    std::swap(a, b);
  }
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t origin = ((i - rounds) % n + n) % n;
    ASSERT_EQ(a[static_cast<std::size_t>(i)], origin + rounds);
  }
}

TEST_P(Pool, ManyPoolsComeAndGo) {
  for (int i = 0; i < 50; ++i) {
    ThreadPool pool(GetParam(), 64);
    std::vector<std::int32_t> counts(10);
    void* arguments[] = {counts.data()};
    if (i % 2 == 0) pool.run(count_blocks, arguments, 10);
    EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), 0), i % 2 == 0 ? 10 : 0);
  }
}

/// Writes its own number over all of the scratch, waits, and looks whether it is still there.
void use_scratch(void* const* arguments, void* scratch, std::int64_t begin, std::int64_t end) {
  auto* bad = static_cast<std::atomic<int>*>(arguments[0]);
  auto* words = static_cast<std::int64_t*>(scratch);
  if (reinterpret_cast<std::uintptr_t>(scratch) % 64 != 0) ++*bad;
  for (std::int64_t block = begin; block < end; ++block) {
    for (int i = 0; i < 16; ++i) words[i] = block;
    for (int i = 0; i < 100; ++i) std::this_thread::yield();
    for (int i = 0; i < 16; ++i) {
      if (words[i] != block) ++*bad;
    }
  }
}

TEST_P(Pool, ScratchIsPrivateAndAligned) {
  ThreadPool pool(GetParam(), 16 * 8);
  std::atomic<int> bad{0};
  void* arguments[] = {&bad};
  for (int i = 0; i < 20; ++i) pool.run(use_scratch, arguments, 64);
  EXPECT_EQ(bad.load(), 0);
}

void note_thread(void* const* arguments, void*, std::int64_t begin, std::int64_t end) {
  auto* ids = static_cast<std::thread::id*>(arguments[0]);
  for (std::int64_t i = begin; i < end; ++i) ids[i] = std::this_thread::get_id();
}

TEST_P(Pool, ASingleBlockStaysWithTheCaller) {
  ThreadPool pool(GetParam(), 0);
  std::vector<std::thread::id> ids(8);
  void* arguments[] = {ids.data()};
  pool.run(note_thread, arguments, 1);
  EXPECT_EQ(ids[0], std::this_thread::get_id());
  pool.run_alone(note_thread, arguments, 8);
  for (const std::thread::id id : ids) EXPECT_EQ(id, std::this_thread::get_id());
}

/// Returns only when two workers are inside at once, or after ten seconds.
void meet(void* const* arguments, void*, std::int64_t, std::int64_t) {
  auto* inside = static_cast<std::atomic<int>*>(arguments[0]);
  ++*inside;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (inside->load() < 2 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
}

TEST(PoolOfTwo, TheOtherWorkerWakesAndHelps) {
  ThreadPool pool(2, 0);
  for (int i = 0; i < 5; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // it is asleep by now
    std::atomic<int> inside{0};
    void* arguments[] = {&inside};
    pool.run(meet, arguments, 2);
    EXPECT_EQ(inside.load(), 2);
  }
}

TEST_P(Pool, CopiesSmallLargeAndOverlapping) {
  ThreadPool pool(GetParam(), 0);
  std::vector<std::uint32_t> from(3 << 20);
  std::iota(from.begin(), from.end(), 1U);
  for (const std::size_t n : {std::size_t{0}, std::size_t{5}, from.size() - 3, from.size()}) {
    std::vector<std::uint32_t> to(from.size() + 1, 0);
    pool.copy(to.data(), from.data(), static_cast<std::int64_t>(n * sizeof(std::uint32_t)));
    EXPECT_EQ(std::memcmp(to.data(), from.data(), n * sizeof(std::uint32_t)), 0);
    EXPECT_EQ(to[n], 0U);
  }
  const std::vector<std::uint32_t> before = from;
  const std::size_t shift = 1000;
  pool.copy(from.data() + shift, from.data(),
            static_cast<std::int64_t>((from.size() - shift) * sizeof(std::uint32_t)));
  EXPECT_TRUE(std::equal(from.begin() + shift, from.end(), before.begin()));
}

#if defined(__x86_64__)
void halve(void* const* arguments, void*, std::int64_t begin, std::int64_t end) {
  auto* values = static_cast<volatile float*>(arguments[0]);
  for (std::int64_t i = begin; i < end; ++i) values[i] = values[i] * 0.5F;
}

TEST(PoolOfTwo, WorkersFlushDenormals) {
  ThreadPool pool(2, 0);
  for (int round = 0; round < 20; ++round) {
    std::vector<float> values(64, std::numeric_limits<float>::min());
    void* arguments[] = {values.data()};
    {
      const FloatMode mode(FloatMode::flushing(FloatMode::current()));
      pool.run(halve, arguments, 64);
    }
    for (const float value : values) ASSERT_EQ(value, 0.0F);
  }
  volatile float value = std::numeric_limits<float>::min();
  value = value * 0.5F;
  EXPECT_GT(value, 0.0F);  // the caller's mode is back
}
#endif

INSTANTIATE_TEST_SUITE_P(Threads, Pool, ::testing::Values(1, 2, 5));

}  // namespace
}  // namespace weft::runtime
