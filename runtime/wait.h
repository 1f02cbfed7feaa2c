#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace weft::runtime {

/// How long a thread looks before it sleeps: about what waking it again would cost.
inline constexpr std::chrono::microseconds spin_time{20};

/// Tells the core that this is a spinning loop.
inline void pause_core() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Spins until ready() or for `limit`; says whether it is ready.
template <typename Ready>
bool spin_until(const Ready& ready, std::chrono::nanoseconds limit = spin_time) {
  if (ready()) return true;
  if (limit.count() == 0) return false;
  const auto end = std::chrono::steady_clock::now() + limit;
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      pause_core();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

/// Wakes those who wait for a condition over atomics. Whoever changes such an atomic posts after.
class Signal {
 public:
  void post() {
    word_.fetch_add(1);
    word_.notify_all();
  }
  template <typename Ready>
  void wait(const Ready& ready) const {
    if (spin_until(ready)) return;
    for (;;) {
      // Read before ready() is asked: a change in between has a post that moves the word on.
      const std::uint32_t seen = word_.load();
      if (ready()) return;
      word_.wait(seen);
    }
  }

 private:
  std::atomic<std::uint32_t> word_{0};
};

}  // namespace weft::runtime
