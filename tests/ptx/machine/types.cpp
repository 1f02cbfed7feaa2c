#include "tests/ptx/machine/types.h"

#include <array>

namespace weft::ptx {
namespace {

enum class Kind : std::uint8_t { predicate, untyped, unsigned_integer, signed_integer, floating };

struct Description {
  std::string_view name;
  int bits;
  Kind kind;
};

// In the order of Type.
constexpr std::array<Description, 20> kTypes = {{
    {"pred", 0, Kind::predicate},        {"b8", 8, Kind::untyped},
    {"b16", 16, Kind::untyped},          {"b32", 32, Kind::untyped},
    {"b64", 64, Kind::untyped},          {"u8", 8, Kind::unsigned_integer},
    {"u16", 16, Kind::unsigned_integer}, {"u32", 32, Kind::unsigned_integer},
    {"u64", 64, Kind::unsigned_integer}, {"s8", 8, Kind::signed_integer},
    {"s16", 16, Kind::signed_integer},   {"s32", 32, Kind::signed_integer},
    {"s64", 64, Kind::signed_integer},   {"f16", 16, Kind::floating},
    {"f16x2", 32, Kind::floating},       {"bf16", 16, Kind::floating},
    {"bf16x2", 32, Kind::floating},      {"tf32", 32, Kind::floating},
    {"f32", 32, Kind::floating},         {"f64", 64, Kind::floating},
}};

const Description& of(Type type) { return kTypes[static_cast<std::size_t>(type)]; }

}  // namespace

std::optional<Type> parse_type(std::string_view name) {
  for (std::size_t i = 0; i < kTypes.size(); ++i) {
    if (kTypes[i].name == name) return static_cast<Type>(i);
  }
  return std::nullopt;
}

std::string_view name(Type type) { return of(type).name; }
int bits(Type type) { return of(type).bits; }
bool is_signed(Type type) { return of(type).kind == Kind::signed_integer; }
bool is_unsigned(Type type) { return of(type).kind == Kind::unsigned_integer; }
bool is_untyped(Type type) { return of(type).kind == Kind::untyped; }
bool is_float(Type type) { return of(type).kind == Kind::floating; }

}  // namespace weft::ptx
