#include "tests/ptx/machine/tile_product.h"

#include <bit>
#include <cmath>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace weft::ptx {

namespace {

/// Through integers only, so that it is exact whatever the mode of subnormals.
inline float widen_f16(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000) << 16;
  const std::uint32_t magnitude = bits & 0x7fff;
  const std::uint32_t exponent = magnitude >= 0x7c00 ? 0x7f800000 - (0x7c00 << 13) : 112U << 23;
  const std::uint32_t normal = (magnitude << 13) + exponent;
  const float small = static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24F;
  return std::bit_cast<float>(sign |
                              (magnitude < 0x0400 ? std::bit_cast<std::uint32_t>(small) : normal));
}

inline float widen_bf16(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

void multiply_portable(int extent, const float* a, const float* b, TileSums sums) {
  for (int index = 0; index < 4; ++index) {
    const float* rows = a + (index >> 1) * extent * 32;
    const float* columns = b + (index & 1) * extent * 4;
    for (int k = 0; k < extent; ++k) {
      for (int lane = 0; lane < 32; ++lane) {
        std::uint32_t& sum = (*sums[index])[static_cast<std::size_t>(lane)];
        sum = std::bit_cast<std::uint32_t>(
            std::fma(rows[k * 32 + lane], columns[k * 4 + lane % 4], std::bit_cast<float>(sum)));
      }
    }
  }
}

void widen_portable(Element element, int count, const std::uint16_t* from, float* to) {
  if (element == Element::bf16) {
    for (int i = 0; i < count; ++i) to[i] = widen_bf16(from[i]);
  } else {
    for (int i = 0; i < count; ++i) to[i] = widen_f16(from[i]);
  }
}

#if defined(__x86_64__)

/// Eight sums of eight lanes: two columns by 32 lanes, enough chains to keep two units busy.
__attribute__((target("avx2,fma"))) void multiply_avx2(int extent, const float* a, const float* b,
                                                       TileSums sums) {
  for (int half = 0; half < 2; ++half) {
    // Vectors may look at any type.
    auto* even = reinterpret_cast<float*>(sums[2 * half]->data());
    auto* odd = reinterpret_cast<float*>(sums[2 * half + 1]->data());
    __m256 e0 = _mm256_loadu_ps(even);
    __m256 e1 = _mm256_loadu_ps(even + 8);
    __m256 e2 = _mm256_loadu_ps(even + 16);
    __m256 e3 = _mm256_loadu_ps(even + 24);
    __m256 o0 = _mm256_loadu_ps(odd);
    __m256 o1 = _mm256_loadu_ps(odd + 8);
    __m256 o2 = _mm256_loadu_ps(odd + 16);
    __m256 o3 = _mm256_loadu_ps(odd + 24);
    const float* rows = a + half * extent * 32;
    for (int k = 0; k < extent; ++k) {
      // The four threads of each group of four lanes hold the same columns.
      const __m256 b0 = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(b + k * 4));
      const __m256 b1 = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(b + (extent + k) * 4));
      const __m256 a0 = _mm256_loadu_ps(rows + k * 32);
      const __m256 a1 = _mm256_loadu_ps(rows + k * 32 + 8);
      const __m256 a2 = _mm256_loadu_ps(rows + k * 32 + 16);
      const __m256 a3 = _mm256_loadu_ps(rows + k * 32 + 24);
      e0 = _mm256_fmadd_ps(a0, b0, e0);
      e1 = _mm256_fmadd_ps(a1, b0, e1);
      e2 = _mm256_fmadd_ps(a2, b0, e2);
      e3 = _mm256_fmadd_ps(a3, b0, e3);
      o0 = _mm256_fmadd_ps(a0, b1, o0);
      o1 = _mm256_fmadd_ps(a1, b1, o1);
      o2 = _mm256_fmadd_ps(a2, b1, o2);
      o3 = _mm256_fmadd_ps(a3, b1, o3);
    }
    _mm256_storeu_ps(even, e0);
    _mm256_storeu_ps(even + 8, e1);
    _mm256_storeu_ps(even + 16, e2);
    _mm256_storeu_ps(even + 24, e3);
    _mm256_storeu_ps(odd, o0);
    _mm256_storeu_ps(odd + 8, o1);
    _mm256_storeu_ps(odd + 16, o2);
    _mm256_storeu_ps(odd + 24, o3);
  }
}

/// The conversion of f16 is exact whatever the mode of subnormals.
__attribute__((target("avx2,f16c"))) void widen_avx2(Element element, int count,
                                                     const std::uint16_t* from, float* to) {
  int i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
    const __m256 values =
        element == Element::bf16
            ? _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16))
            : _mm256_cvtph_ps(halves);
    _mm256_storeu_ps(to + i, values);
  }
  widen_portable(element, count - i, from + i, to + i);
}

bool has_avx2() {
  static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                          __builtin_cpu_supports("f16c");
  return has;
}

#endif

}  // namespace

void multiply_tile(int extent, const float* a, const float* b, TileSums sums) {
#if defined(__x86_64__)
  if (has_avx2()) return multiply_avx2(extent, a, b, sums);
#endif
  multiply_portable(extent, a, b, sums);
}

void widen(Element element, int count, const std::uint16_t* from, float* to) {
#if defined(__x86_64__)
  if (has_avx2()) return widen_avx2(element, count, from, to);
#endif
  widen_portable(element, count, from, to);
}

}  // namespace weft::ptx
