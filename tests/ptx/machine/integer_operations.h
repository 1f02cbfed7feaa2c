#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

/// Operations on integers that several families of instructions have.
namespace weft::ptx::integers {

/// What arithmetic modulo 2^n is done in: unsigned and not promoted to a signed type.
template <class T>
using Wrap = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;

struct Add {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(static_cast<Wrap<T>>(a) + static_cast<Wrap<T>>(b));
  }
};
struct Minimum {
  template <class T>
  static T apply(T a, T b) {
    return std::min(a, b);
  }
};
struct Maximum {
  template <class T>
  static T apply(T a, T b) {
    return std::max(a, b);
  }
};
struct And {
  template <class T>
  static T apply(T a, T b) {
    return a & b;
  }
};
struct Or {
  template <class T>
  static T apply(T a, T b) {
    return a | b;
  }
};
struct ExclusiveOr {
  template <class T>
  static T apply(T a, T b) {
    return a ^ b;
  }
};

}  // namespace weft::ptx::integers
