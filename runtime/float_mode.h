#pragma once

#if defined(__SSE__) || defined(__x86_64__)
#include <immintrin.h>
#endif

namespace weft::runtime {

/// The calling thread's treatment of denormals, restored when the object dies. Elsewhere than on
/// x86 it does nothing.
class FloatMode {
 public:
#if defined(__SSE__) || defined(__x86_64__)
  using Word = unsigned int;
  static Word current() { return _mm_getcsr(); }
  /// Denormal results become 0, denormal operands count as 0 (FTZ and DAZ).
  static Word flushing(Word mode) { return mode | 0x8040U; }
  explicit FloatMode(Word mode) : saved_(_mm_getcsr()) { _mm_setcsr(mode); }
  ~FloatMode() { _mm_setcsr(saved_); }

 private:
  Word saved_;

 public:
#else
  using Word = unsigned int;
  static Word current() { return 0; }
  static Word flushing(Word mode) { return mode; }
  explicit FloatMode(Word) {}
  ~FloatMode() {}
#endif
  FloatMode(const FloatMode&) = delete;
  FloatMode& operator=(const FloatMode&) = delete;
};

}  // namespace weft::runtime
