#include "ops/random.h"

#include <cmath>
#include <numbers>

#include "compiler/loop/math.h"
#include "ops/support.h"

namespace weft::ops {

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter,
                                    std::array<std::uint32_t, 2> key) {
  constexpr int rounds = 10;
  for (int round = 0; round < rounds; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xd2511f53U} * counter[0];
    const std::uint64_t product1 = std::uint64_t{0xcd9e8d57U} * counter[2];
    const auto high0 = static_cast<std::uint32_t>(product0 >> 32);
    const auto high1 = static_cast<std::uint32_t>(product1 >> 32);
    counter = {high1 ^ counter[1] ^ key[0], static_cast<std::uint32_t>(product1),
               high0 ^ counter[3] ^ key[1], static_cast<std::uint32_t>(product0)};
    key[0] += 0x9e3779b9U;
    key[1] += 0xbb67ae85U;
  }
  return counter;
}

std::uint32_t hash32(std::string_view text) {
  std::uint32_t hash = 0x811c9dc5U;
  for (const char character : text) {
    hash = (hash ^ static_cast<unsigned char>(character)) * 0x01000193U;
  }
  return hash;
}

namespace {

std::uint32_t low_word(std::int64_t value) { return static_cast<std::uint32_t>(value); }
std::uint32_t high_word(std::int64_t value) {
  return static_cast<std::uint32_t>(static_cast<std::uint64_t>(value) >> 32);
}

}  // namespace

std::array<std::uint32_t, 4> random_words(std::int64_t seed, std::string_view stream,
                                          std::int64_t iteration, std::int64_t group) {
  return philox({low_word(group), high_word(group), low_word(iteration), hash32(stream)},
                {low_word(seed), high_word(seed)});
}

namespace {

using ir::AttributeSpec;
using loop::Arena;
using loop::Binary;
using loop::Ex;
using loop::Scalar;

std::vector<Type> infer_random(const Node& node) {
  const Type& iteration = node.operand_type(0);
  require(iteration == Type{DType::i64, {}}, "the iteration has type {}; expected an i64 scalar",
          iteration.text());
  const DType dtype = node.attributes.dtype("dtype");
  require(is_floating(dtype), "{} is not a floating type", name(dtype));
  return {{dtype, shape_attribute(node, "shape", dtype)}};
}

/// The bits of a word that make a uniform number. 16-bit types take what they hold, so that
/// rounding cannot give 1.
int uniform_bits(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return 11;
    case DType::bf16:
      return 8;
    default:
      return 24;
  }
}

// ---- reference ----------------------------------------------------------------------------------

/// Sets each element to value(words of its block, its number in the block).
template <typename Function>
void for_each_word(const Node& node, const Array& iteration, Array& y, Function&& value) {
  const std::int64_t seed = node.attributes.integer("seed");
  const std::string& stream = node.attributes.text("stream");
  std::array<std::uint32_t, 4> words{};
  for (std::int64_t i = 0; i < y.elements(); ++i) {
    const auto lane = static_cast<std::size_t>(i % 4);
    if (lane == 0) words = random_words(seed, stream, iteration.integers[0], i / 4);
    y.re[static_cast<std::size_t>(i)] = value(words, lane);
  }
}

double unit(std::uint32_t word, int bits) { return std::ldexp(word >> (32 - bits), -bits); }

void reference_uniform(const Node& node, std::span<const Array* const> operands,
                       std::span<Array> results) {
  const int bits = uniform_bits(results[0].type.dtype);
  for_each_word(node, *operands[0], results[0],
                [bits](const auto& words, std::size_t lane) { return unit(words[lane], bits); });
}

/// Box and Muller: two words u, v give sqrt(-2 ln u) times cos(2 pi v) and sin(2 pi v). u is in
/// (0, 1], so that the largest is finite.
void reference_normal(const Node& node, std::span<const Array* const> operands,
                      std::span<Array> results) {
  const DType dtype = results[0].type.dtype;
  const bool narrow = dtype == DType::f16 || dtype == DType::bf16;
  for_each_word(node, *operands[0], results[0], [=](const auto& words, std::size_t lane) {
    const std::size_t pair = lane & ~std::size_t{1};
    const double radius = std::sqrt(-2 * std::log(unit(words[pair], 24) + 0x1p-24));
    // A quarter of a turn less makes a sine of the cosine, which is taken as
    // cos(2 pi t) = sin(2 pi (1/4 - |t|)), |t| <= 1/2: differences are exact, also next to zeros.
    const double turns = unit(words[pair + 1], 24) - (lane % 2 == 0 ? 0.0 : 0.25);
    const double from_zero = 0.25 - std::abs(turns - std::nearbyint(turns));
    const double normal = radius * std::sin(2 * std::numbers::pi * from_zero);
    return narrow ? round_to(dtype, normal) : normal;
  });
}

// ---- lowering -----------------------------------------------------------------------------------

/// A lane of the block to which an element belongs, and the block's words.
struct Draw {
  Ex lane;  ///< i64, 0 .. 3
  std::array<Ex, 4> words;
};

Draw draw(Lowering& lowering, const Node& node, std::span<const Ex> index) {
  Arena& arena = lowering.arena();
  const auto word = [&](std::uint32_t value) {
    return arena.integer(Scalar::i32, static_cast<std::int32_t>(value));
  };
  const Ex position = arena.linearize(index, node.results[0].shape);
  const Ex group = arena.floor_div(position, 4);
  const Ex group_high =
      node.results[0].elements() / 4 < (std::int64_t{1} << 32)
          ? word(0)
          : arena.cast(arena.binary(Binary::shift_right_logical, group, arena.integer(32)),
                       Scalar::i32);
  const Ex iteration = arena.cast(lowering.operand(node, 0, {}).re, Scalar::i32);
  const std::int64_t seed = node.attributes.integer("seed");
  const std::array<Ex, 4> counter = {arena.cast(group, Scalar::i32), group_high, iteration,
                                     word(hash32(node.attributes.text("stream")))};
  return {arena.floor_mod(position, 4),
          loop::philox(arena, counter, {word(low_word(seed)), word(high_word(seed))})};
}

/// The upper `bits` of a word times 2^-bits: exact in either float type.
Ex lower_unit(Arena& arena, Scalar type, Ex word, int bits, std::int64_t plus = 0) {
  const Ex shifted =
      arena.binary(Binary::shift_right_logical, word, arena.integer(Scalar::i32, 32 - bits));
  const Ex count = arena.cast(arena.add(shifted, arena.integer(Scalar::i32, plus)), type);
  return arena.mul(count, arena.constant(type, std::ldexp(1.0, -bits)));
}

Element lower_uniform(Lowering& lowering, const Node& node, std::span<const Ex> index) {
  Arena& arena = lowering.arena();
  const DType dtype = node.results[0].dtype;
  const auto [lane, words] = draw(lowering, node, index);
  const Ex first = arena.select(arena.equal(lane, arena.integer(0)), words[0], words[1]);
  const Ex second = arena.select(arena.equal(lane, arena.integer(2)), words[2], words[3]);
  const Ex word = arena.select(arena.less(lane, arena.integer(2)), first, second);
  return {lower_unit(arena, loop::register_type(dtype), word, uniform_bits(dtype))};
}

Element lower_normal(Lowering& lowering, const Node& node, std::span<const Ex> index) {
  Arena& arena = lowering.arena();
  const DType dtype = node.results[0].dtype;
  const Scalar type = loop::register_type(dtype);
  const auto [lane, words] = draw(lowering, node, index);
  const Ex first_pair = arena.less(lane, arena.integer(2));
  const Ex u = lower_unit(arena, type, arena.select(first_pair, words[0], words[2]), 24, 1);
  const Ex v = lower_unit(arena, type, arena.select(first_pair, words[1], words[3]), 24);
  const Ex logarithm = loop::log(arena, u);
  const Ex radius =
      arena.unary(loop::Unary::square_root, arena.mul(logarithm, arena.constant(type, -2)));
  const Ex even = arena.equal(arena.floor_mod(lane, 2), arena.integer(0));
  const Ex turns =
      arena.sub(v, arena.select(even, arena.constant(type, 0), arena.constant(type, 0.25)));
  return {lower_rounding(arena, dtype, arena.mul(radius, loop::cos_turns(arena, turns)))};
}

Sample sample_random(Random& random, DType dtype) {
  Sample sample;
  sample.operands.push_back({{DType::i64, {}}, 0, 1000});
  const Shape shape = random_shape(random);
  static constexpr std::array streams = {"dropout", "initial values", ""};
  sample.attributes = {
      {"dtype", dtype},
      {"shape", std::vector<std::int64_t>(shape.begin(), shape.end())},
      {"seed", random_integer(random, 0, std::int64_t{1} << 40)},
      {"stream", std::string(streams[static_cast<std::size_t>(random_integer(random, 0, 2))])}};
  return sample;
}

}  // namespace

std::span<const Op> random_ops() {
  const Derivative constant = Derivative::none("has no differentiable operand");
  const Decompose primitive = Decompose::none("is primitive");
  const std::vector<AttributeSpec> attributes = {{"dtype", AttributeSpec::dtype},
                                                 {"shape", AttributeSpec::integers},
                                                 {"seed", AttributeSpec::integer},
                                                 {"stream", AttributeSpec::text}};
  static const Op rows[] = {
      Op({"random_uniform", Pattern::random, 1, 1, 0, attributes, infer_random}, floating_types(),
         constant, reference_uniform, lower_uniform, primitive, sample_random, 100,
         "uniform in [0, 1): the top 24 bits (f16: 11, bf16: 8) of a Philox word"),
      Op({"random_normal", Pattern::random, 1, 1, 0, attributes, infer_random}, floating_types(),
         constant, reference_normal, lower_normal, primitive, sample_random, 150,
         "standard normal numbers, Box-Muller of pairs of Philox words"),
  };
  return rows;
}

}  // namespace weft::ops
