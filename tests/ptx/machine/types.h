#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace weft::ptx {

/// The types that instructions and variables of PTX name.
enum class Type : std::uint8_t {
  pred,
  b8,
  b16,
  b32,
  b64,
  u8,
  u16,
  u32,
  u64,
  s8,
  s16,
  s32,
  s64,
  f16,
  f16x2,
  bf16,
  bf16x2,
  tf32,
  f32,
  f64,
};

/// Of "f32" and the like; nullopt: no such type.
std::optional<Type> parse_type(std::string_view name);
std::string_view name(Type type);

/// 0 for predicates.
int bits(Type type);
inline int bytes(Type type) { return bits(type) / 8; }
bool is_signed(Type type);    ///< s8, s16, s32, s64
bool is_unsigned(Type type);  ///< u8, u16, u32, u64
bool is_untyped(Type type);   ///< b8, b16, b32, b64
bool is_float(Type type);
inline bool is_integer(Type type) { return is_signed(type) || is_unsigned(type); }

}  // namespace weft::ptx
