#include "tools/selftest/intrinsics.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <utility>

#include "compiler/loop/interpret.h"
#include "compiler/loop/interpret_value.h"
#include "runtime/plan/error.h"
#include "tools/selftest/case_kernel.h"
#include "tools/selftest/operands.h"

namespace weft::selftest {
namespace {

using Packing = IntrinsicCase::Packing;

/// A row without addresses, called by every lane with `operands` (32-bit words, one vector an
/// operand; immediates have one word).
IntrinsicCase plain(const Intrinsic& row, const std::string& name,
                    const std::vector<std::vector<std::uint32_t>>& operands) {
  CaseKernel one(name, row.capability);
  one.one().specific = row.specific;
  std::vector<const Buffer*> in, out;
  std::int64_t count = threads;
  for (std::size_t i = 0; i < row.operands.size(); ++i) {
    if (row.operands[i].immediate) {
      in.push_back(nullptr);
      continue;
    }
    in.push_back(one.input(memory_type(row.operands[i].type), bytes_of(operands[i])));
    count = static_cast<std::int64_t>(operands[i].size());
  }
  for (const Scalar type : row.results) out.push_back(one.output(memory_type(type), count));
  one.phase(count, [&](loop::Builder& b, Ex position, Ex) {
    loop::Arena& a = one.arena();
    std::vector<Ex> values;
    for (std::size_t i = 0; i < in.size(); ++i) {
      values.push_back(in[i] == nullptr ? a.integer(row.operands[i].type, operands[i][0])
                                        : taken(a, in[i], position, row.operands[i].type));
    }
    const std::vector<Ex> results = b.call(row, values);
    for (std::size_t i = 0; i < out.size(); ++i) {
      b.store(out[i], position, stored(a, results[i]));
    }
  });
  return one.take();
}

// ---- rows ---------------------------------------------------------------------------------------

void add_warp_rows(std::vector<IntrinsicCase>& cases, const Intrinsic& row) {
  Operands random(row.name);
  const std::string name(row.name);
  if (name.starts_with("shuffle")) {
    const auto values = row.operands[0].type == Scalar::f32 ? random.floats() : random.integers();
    cases.push_back(plain(row, name, {values, random.below(64, values.size())}));
    return;
  }
  if (row.operands[0].type == Scalar::boolean) {
    // Some lanes; all; none; one.
    std::vector<std::uint32_t> votes = random.below(2, 4 * static_cast<std::size_t>(warp));
    for (std::size_t l = 0; l < static_cast<std::size_t>(warp); ++l) {
      votes[32 + l] = 1;
      votes[64 + l] = 0;
      votes[96 + l] = l == 13 ? 1 : 0;
    }
    cases.push_back(plain(row, name, {votes}));
    return;
  }
  std::vector<std::uint32_t> values = random.integers();
  // Few bits that are one, or zero, in any lane: neither all nor none of the result.
  const bool all = name == "reduce_and.i32";
  if (all || name == "reduce_or.i32") {
    for (std::uint32_t& value : values) {
      value = 1U << static_cast<unsigned>(random.integer(0, 31));
      if (all) value = ~value;
    }
  }
  cases.push_back(plain(row, name, {values}));
}

/// Errors that approximations may have, as the table of rows states them.
struct Approximation {
  std::string_view name;
  double relative, absolute;
  double low, high;  ///< of ordinary operands
};
constexpr double ulp = 0x1p-23;
constexpr double half_ulp = 0x1p-24;  ///< of the interpreter's own rounding
constexpr double pi = 3.14159265358979;
constexpr std::array approximations = {
    Approximation{"fast_exp2", 2 * ulp, 0x1p-126, -140, 140},
    Approximation{"fast_log2", 2 * ulp, 0x1p-22, 1e-30, 1e30},
    Approximation{"fast_reciprocal", ulp, 0x1p-126, -1e30, 1e30},
    Approximation{"fast_rsqrt", 2 * ulp, 0, 1e-30, 1e30},
    Approximation{"fast_tanh", 0x1p-11, 0, -12, 12},
    Approximation{"fast_sin", 0, 0x1p-20, -pi, pi},
    Approximation{"fast_cos", 0, 0x1p-20, -pi, pi},
};

void add_approximation(std::vector<IntrinsicCase>& cases, const Intrinsic& row,
                       const Approximation& approximation) {
  Operands random(row.name);
  std::vector<std::uint32_t> values = random.between(approximation.low, approximation.high, 448);
  // Trigonometry of large numbers has no bound; its other special operands have.
  const bool trigonometric = approximation.high == pi;
  for (const std::uint32_t special : random.special_floats()) {
    const float value = std::bit_cast<float>(special);
    if (trigonometric && std::isfinite(value) && std::abs(value) > 3) continue;
    values.push_back(special);
  }
  values.resize(512, values.back());
  IntrinsicCase one = plain(row, std::string(row.name), {values});
  const std::vector<Bytes> expected = expected_results(one);
  one.tolerances.resize(2);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto value = static_cast<double>(element<float>(expected[1], i));
    const double magnitude = std::isfinite(value) ? std::abs(value) : 0;
    one.tolerances[1].push_back((approximation.relative + half_ulp) * magnitude +
                                approximation.absolute);
  }
  cases.push_back(std::move(one));
}

/// mma: products are exact and sums of `depth` of them and C are rounded, or cut, in some order.
void add_product(std::vector<IntrinsicCase>& cases, const Intrinsic& row) {
  const std::string name(row.name);
  const bool f16 = name.ends_with(".f16"), tf32 = name.ends_with(".tf32");
  const int depth = tf32 ? 8 : 16;
  const auto word = [&](float low, float high) -> std::uint32_t {
    if (tf32) return std::bit_cast<std::uint32_t>(low);
    const auto half = [&](float value) {
      return std::uint32_t{f16 ? loop::interpreter::to_f16(value)
                               : loop::interpreter::to_bf16(value)};
    };
    return half(low) | half(high) << 16U;
  };
  const auto operands = [&](const std::function<float()>& factor,
                            const std::function<float()>& term) {
    std::vector<std::vector<std::uint32_t>> all;
    for (std::size_t i = 0; i < row.operands.size(); ++i) {
      std::vector<std::uint32_t>& values = all.emplace_back();
      for (std::int64_t l = 0; l < 2 * threads; ++l) {
        values.push_back(row.operands[i].type == Scalar::f32 ? std::bit_cast<std::uint32_t>(term())
                                                             : word(factor(), factor()));
      }
    }
    return all;
  };
  Operands random(row.name);
  const auto whole = [&] { return static_cast<float>(random.integer(-8, 8)); };
  cases.push_back(plain(row, name + "/whole", operands(whole, whole)));
  const auto add_rounded = [&](const std::string& kind, const std::function<float()>& factor,
                               const std::function<float()>& term) {
    const auto values = operands(factor, term);
    IntrinsicCase one = plain(row, name + kind, values);
    // Sums of magnitudes: the same kernel on absolute values.
    auto magnitudes = values;
    for (std::size_t i = 0; i < magnitudes.size(); ++i) {
      const bool pairs = !tf32 && row.operands[i].type != Scalar::f32;
      for (std::uint32_t& value : magnitudes[i]) value &= pairs ? 0x7fff7fffU : 0x7fffffffU;
    }
    const std::vector<Bytes> sums = expected_results(plain(row, name + kind, magnitudes));
    one.tolerances.resize(sums.size());
    for (std::size_t i = row.operands.size(); i < sums.size(); ++i) {
      for (std::size_t e = 0; e < static_cast<std::size_t>(2 * threads); ++e) {
        const auto sum = static_cast<double>(element<float>(sums[i], e));
        one.tolerances[i].push_back((depth + 2) * 2 * ulp * sum);
      }
    }
    cases.push_back(std::move(one));
  };
  const auto uniform = [&] { return static_cast<float>(random.real(-1, 1)); };
  const auto spread = [&] {
    return static_cast<float>(std::ldexp(random.real(-1, 1), random.integer(-9, 9)));
  };
  add_rounded("/random", uniform, uniform);
  add_rounded("/spread", spread, spread);
}

/// Products of four warps from shared memory: two steps of 16, the first on given sums or on none.
/// The tiles are full of numbers, wherever the row's layout looks for them; A may be in registers.
void add_group_product(std::vector<IntrinsicCase>& cases, const Intrinsic& row) {
  constexpr std::int64_t group = 128, row_words = 32, side = 64, steps = 32;
  const std::string name(row.name);
  const auto sums = static_cast<std::int64_t>(row.results.size());
  const bool f16 = name.find(".f16.") != std::string::npos;
  const std::string_view layout = std::string_view(name).substr(name.size() - 2);
  // The next 16 steps of the contracted axis: 32 bytes on in each row, or 16 rows on.
  const bool registers = name.starts_with("group_product_registers.");
  const std::int64_t a_step = layout[0] == 'k' ? 8 : 16 * row_words;
  const std::int64_t b_step = layout[1] == 'k' ? 8 : 16 * row_words;
  const auto values = [&](Operands& random, std::int64_t words) {
    std::vector<std::uint32_t> all;
    for (std::int64_t i = 0; i < words; ++i) {
      const auto half = [&] {
        const auto value = static_cast<float>(random.real(-1, 1));
        return std::uint32_t{f16 ? loop::interpreter::to_f16(value)
                                 : loop::interpreter::to_bf16(value)};
      };
      const std::uint32_t low = half();
      all.push_back(low | half() << 16U);
    }
    return all;
  };
  const auto build = [&](bool accumulate, std::uint32_t kept_bits) {
    Operands random(row.name);
    CaseKernel one(fmt::format("{}/{}", name, accumulate ? "sums" : "fresh"), row.capability);
    one.one().specific = row.specific;
    struct Tile {
      const Buffer* from;
      const Buffer* to;
    };
    std::vector<Tile> tiles;
    for (const std::int64_t rows : {side, 2 * sums}) {
      std::vector<std::uint32_t> words = values(random, rows * row_words);
      for (std::uint32_t& word : words) word &= kept_bits;
      const Buffer* from = one.words(words);
      tiles.push_back({from, one.kernel().shared("tile", DType::i32, rows * row_words)});
    }
    std::vector<std::uint32_t> before =
        random.between(-1, 1, static_cast<std::size_t>(sums * group));
    for (std::uint32_t& word : before) word &= kept_bits | 0x7fffU;
    constexpr std::int64_t fragment = 4;
    std::vector<std::uint32_t> fragments = values(random, 2 * fragment * group);
    for (std::uint32_t& word : fragments) word &= kept_bits;
    const Buffer* in = one.input(DType::f32, bytes_of(before));
    const Buffer* in_registers = one.words(fragments);
    const Buffer* out = one.output(DType::f32, sums * group);
    one.phase(
        group,
        [&](loop::Builder& b, Ex, Ex thread) {
          loop::Arena& a = one.arena();
          for (const Tile& tile : tiles) {
            b.loop(a.integer(tile.to->elements / group), [&](Ex i) {
              const Ex word = b.let(a.add(a.mul(i, a.integer(group)), thread));
              b.store(tile.to, word, a.load(tile.from, word));
            });
          }
          b.call(loop::intrinsic("fence_async_shared"), {});
          b.barrier();
          const auto place = [&](std::int64_t i) {
            return a.add(a.mul(thread, a.integer(sums)), a.integer(i));
          };
          std::vector<Ex> values_now;
          for (std::int64_t i = 0; i < sums; ++i) values_now.push_back(b.let(a.load(in, place(i))));
          // Registers of A too are to be there before the fence.
          std::vector<Ex> fragments_now;
          for (std::int64_t i = 0; registers && i < 2 * fragment; ++i) {
            const Ex at = a.add(a.mul(thread, a.integer(2 * fragment)), a.integer(i));
            fragments_now.push_back(b.let(a.load(in_registers, at)));
          }
          b.call(loop::intrinsic("group_product_fence"), {});
          for (std::int64_t step = 0; step < 2; ++step) {
            std::vector<Ex> operands = {a.boolean(accumulate || step > 0)};
            std::vector<loop::Address> addresses = {{tiles[1].to, a.integer(step * b_step)}};
            if (registers) {
              const auto first = fragments_now.begin() + step * fragment;
              operands.insert(operands.end(), first, first + fragment);
            } else {
              addresses.insert(addresses.begin(), {tiles[0].to, a.integer(step * a_step)});
            }
            operands.insert(operands.end(), values_now.begin(), values_now.end());
            values_now = b.call(row, operands, addresses);
          }
          b.call(loop::intrinsic("group_product_commit"), {});
          std::vector<Ex> operands = {a.integer(Scalar::i32, 0)};
          operands.insert(operands.end(), values_now.begin(), values_now.end());
          const std::vector<Ex> results =
              b.call(loop::intrinsic(fmt::format("group_product_wait.n{}", 2 * sums)), operands);
          for (std::int64_t i = 0; i < sums; ++i) {
            b.store(out, place(i), results[static_cast<std::size_t>(i)]);
          }
        },
        group);
    return one.take();
  };
  for (const bool accumulate : {false, true}) {
    IntrinsicCase one = build(accumulate, 0xffffffffU);
    const std::vector<Bytes> magnitudes = expected_results(build(accumulate, 0x7fff7fffU));
    one.tolerances.resize(one.arguments.size());
    for (std::int64_t e = 0; e < sums * group; ++e) {
      const auto sum =
          static_cast<double>(element<float>(magnitudes.back(), static_cast<std::size_t>(e)));
      one.tolerances.back().push_back((steps + 2) * 2 * ulp * std::abs(sum));
    }
    cases.push_back(std::move(one));
  }
}

/// load_matrix: rows of eight 16-bit elements at addresses of the lanes' choice.
void add_load(std::vector<IntrinsicCase>& cases, const Intrinsic& row) {
  constexpr std::int64_t row_words = 4, stride = 12, words = threads * stride;
  Operands random(row.name);
  CaseKernel one(std::string(row.name), row.capability);
  const Buffer* in = one.words(random.bits(static_cast<std::size_t>(words)));
  std::vector<std::uint32_t> places = random.permutation(threads);
  for (std::uint32_t& place : places) place *= stride;
  const Buffer* at = one.words(places);
  std::vector<const Buffer*> out;
  for (std::size_t i = 0; i < row.results.size(); ++i) {
    out.push_back(one.output(DType::i32, threads));
  }
  const Buffer* tile = one.kernel().shared("tile", DType::i32, words);
  one.phase(threads, [&](loop::Builder& b, Ex, Ex thread) {
    loop::Arena& a = one.arena();
    b.loop(a.integer(words / threads), [&](Ex i) {
      const Ex word = b.let(a.add(a.mul(i, a.integer(threads)), thread));
      b.store(tile, word, a.load(in, word));
    });
    b.barrier();
    const Ex from = b.let_within(a.cast(a.load(at, thread), Scalar::i64), 0, words - row_words);
    const std::vector<Ex> results = b.call(row, {}, {{tile, from}});
    for (std::size_t i = 0; i < out.size(); ++i) b.store(out[i], thread, results[i]);
  });
  cases.push_back(one.take());
}

/// Lanes hand each other values through shared memory, over and over.
void add_sync_warp(std::vector<IntrinsicCase>& cases, const Intrinsic& row) {
  constexpr std::int64_t rounds = 32;
  Operands random(row.name);
  CaseKernel one(std::string(row.name), row.capability);
  const Buffer* in = one.words(random.bits(static_cast<std::size_t>(threads)));
  // Of each round: whose value a lane takes.
  std::vector<std::uint32_t> lanes;
  for (std::int64_t i = 0; i < rounds * threads / warp; ++i) {
    const std::vector<std::uint32_t> order = random.permutation(warp);
    lanes.insert(lanes.end(), order.begin(), order.end());
  }
  const Buffer* sources = one.words(lanes);
  const Buffer* out = one.output(DType::i32, threads);
  const Buffer* tile = one.kernel().shared("tile", DType::i32, threads);
  one.phase(threads, [&](loop::Builder& b, Ex, Ex thread) {
    loop::Arena& a = one.arena();
    const Ex first = b.let(a.sub(thread, a.floor_mod(thread, warp)));
    loop::Accumulator* value = b.declare(Scalar::i32, loop::Combine::add, a.load(in, thread));
    b.loop(a.integer(rounds), [&](Ex i) {
      b.store(tile, thread, b.read(value));
      b.call(row, {});
      const Ex source = a.load(sources, a.add(a.mul(i, a.integer(threads)), thread));
      const Ex lane = b.let_within(a.cast(source, Scalar::i64), 0, warp - 1);
      const Ex taken = b.let(a.load(tile, a.add(first, lane)));
      // So that a round that is skipped or done twice shows.
      const Ex factor = a.integer(Scalar::i32, 0x01000193);
      b.assign(value, a.add(a.mul(taken, factor), a.cast(i, Scalar::i32)));
      b.call(row, {});
    });
    b.store(out, thread, b.read(value));
  });
  cases.push_back(one.take());
}

/// copy_async: three groups, of which all but the last `left` are waited for and read, by others
/// than those that copied.
void add_copies(std::vector<IntrinsicCase>& cases, const Intrinsic& row) {
  constexpr std::int64_t groups = 3;
  const std::int64_t words = row.addresses[0].bytes / 4;
  for (std::int64_t left = 0; left < groups; ++left) {
    Operands random(row.name);
    CaseKernel one(fmt::format("{}/wait{}", row.name, left), row.capability);
    const std::int64_t pieces = groups * threads;
    const Buffer* in = one.words(random.bits(static_cast<std::size_t>(pieces * words)));
    const Buffer* from = one.words(random.permutation(pieces));
    const Buffer* predicate = one.words(random.below(2, static_cast<std::size_t>(pieces)));
    const Buffer* out = one.output(DType::i32, (groups - left) * threads * words);
    const Buffer* tile = one.kernel().shared("tile", DType::i32, pieces * words);
    one.phase(threads, [&](loop::Builder& b, Ex, Ex thread) {
      loop::Arena& a = one.arena();
      for (std::int64_t g = 0; g < groups; ++g) {
        const Ex piece = b.let(a.add(a.integer(g * threads), thread));
        const Ex source = b.let_within(a.cast(a.load(from, piece), Scalar::i64), 0, pieces - 1);
        const Ex copies = b.let(a.cast(a.load(predicate, piece), Scalar::boolean));
        b.call(row, {copies},
               {{tile, a.mul(piece, a.integer(words))}, {in, a.mul(source, a.integer(words))}});
        b.call(loop::intrinsic("copy_commit"), {});
      }
      b.call(loop::intrinsic("copy_wait"), {a.integer(Scalar::i32, left)});
      b.barrier();
      const Ex other = b.let(a.sub(a.integer(threads - 1), thread));
      for (std::int64_t w = 0; w < (groups - left) * words; ++w) {
        const std::int64_t group = w / words;
        const Ex piece = a.add(a.integer(group * threads), other);
        const Ex word = a.add(a.mul(piece, a.integer(words)), a.integer(w % words));
        b.store(out, a.add(a.integer(w * threads), thread), a.load(tile, word));
      }
      b.call(loop::intrinsic("copy_wait"), {a.integer(Scalar::i32, 0)});
    });
    cases.push_back(one.take());
  }
}

/// Sums of whole numbers, which are exact in any order.
void add_atomics(std::vector<IntrinsicCase>& cases, const Intrinsic& row) {
  constexpr std::int64_t sums = 8;
  Operands random(row.name);
  CaseKernel one(std::string(row.name), row.capability);
  std::vector<std::uint32_t> values;
  for (std::int64_t i = 0; i < 4 * threads; ++i) {
    values.push_back(std::bit_cast<std::uint32_t>(static_cast<float>(random.integer(-99, 99))));
  }
  const bool shared = row.addresses[0].space == Space::shared;
  const auto count = static_cast<std::int64_t>(values.size());
  const Buffer* in = one.input(DType::f32, bytes_of(values));
  const std::vector<float> before(static_cast<std::size_t>(sums), 1.5F);
  const Buffer* out = one.output(DType::f32, shared ? Bytes(4 * sums * 4) : bytes_of(before));
  const Buffer* own = shared ? one.kernel().shared("sums", DType::f32, sums) : nullptr;
  one.phase(count, [&](loop::Builder& b, Ex position, Ex thread) {
    loop::Arena& a = one.arena();
    const Ex first = b.let(a.less(thread, a.integer(sums)));
    const Ex which = b.let(a.floor_mod(thread, sums));
    const Ex value = b.let(a.load(in, position));
    if (!shared) {
      b.call(row, {value}, {{out, which}});
      return;
    }
    b.condition(first, [&] { b.store(own, which, a.constant(Scalar::f32, 0)); });
    b.barrier();
    b.call(row, {value}, {{own, which}});
    b.barrier();
    const Ex block = a.floor_div(position, threads);
    const Ex to = a.add(a.mul(block, a.integer(sums)), which);
    b.condition(first, [&] { b.store(out, to, a.load(own, which)); });
  });
  cases.push_back(one.take());
}

void add_row(std::vector<IntrinsicCase>& cases, const Intrinsic& row) {
  const std::string_view name = row.name;
  if (name.starts_with("mma.")) return add_product(cases, row);
  if (name.starts_with("load_matrix")) return add_load(cases, row);
  if (name.starts_with("atomic_add")) return add_atomics(cases, row);
  if (name == "sync_warp") return add_sync_warp(cases, row);
  // With their commits and waits.
  if (name.starts_with("copy_async.")) return add_copies(cases, row);
  if (name == "copy_commit" || name == "copy_wait") return;
  if (name.starts_with("copy_tensor.")) return add_tensor_copy(cases, row);
  if (name.starts_with("mbarrier_")) return;
  if (name.starts_with("registers_")) return add_registers(cases, row);
  if (name.starts_with("group_product.") || name.starts_with("group_product_registers.")) {
    return add_group_product(cases, row);
  }
  if (name.starts_with("group_product_") || name == "fence_async_shared") return;
  if (row.whole_warp) return add_warp_rows(cases, row);
  for (const Approximation& approximation : approximations) {
    if (approximation.name == name) return add_approximation(cases, row, approximation);
  }
  Operands random(name);
  std::vector<std::vector<std::uint32_t>> operands;
  for (const Intrinsic::Operand& operand : row.operands) {
    operands.push_back(operand.type == Scalar::f32 ? random.floats() : random.integers());
  }
  IntrinsicCase one = plain(row, std::string(name), operands);
  one.packing = name == "pack.f16"     ? Packing::f16
                : name == "pack.bf16"  ? Packing::bf16
                : name == "round_tf32" ? Packing::tf32
                                       : Packing::none;
  cases.push_back(std::move(one));
}

// ---- comparison ---------------------------------------------------------------------------------

/// An element as numbers (one or two), and as text.
struct Shown {
  std::vector<double> numbers;
  std::uint64_t bits = 0;
};

Shown shown(DType dtype, Packing packing, const Bytes& bytes, std::size_t index) {
  const std::size_t size = size_of(dtype);
  Shown result;
  std::memcpy(&result.bits, bytes.data() + index * size, size);
  const auto low = static_cast<std::uint16_t>(result.bits);
  const auto high = static_cast<std::uint16_t>(result.bits >> 16U);
  const auto number = [&](float value) { result.numbers.push_back(static_cast<double>(value)); };
  switch (packing) {
    case Packing::f16:
      number(loop::interpreter::from_f16(low));
      number(loop::interpreter::from_f16(high));
      return result;
    case Packing::bf16:
      number(loop::interpreter::from_bf16(low));
      number(loop::interpreter::from_bf16(high));
      return result;
    case Packing::tf32:
      number(std::bit_cast<float>(static_cast<std::uint32_t>(result.bits)));
      return result;
    case Packing::none:
      break;
  }
  const loop::Word word = loop::interpreter::from_memory(dtype, bytes.data() + index * size);
  const Scalar type = loop::register_type(dtype);
  if (type == Scalar::f32) number(loop::interpreter::f32_of(word));
  if (type == Scalar::f64) result.numbers.push_back(loop::interpreter::f64_of(word));
  return result;
}

/// `denormals_vanish`: whether a result is zero or denormal is left to the target.
bool agree(const Shown& expected, const Shown& found, double tolerance, bool denormals_vanish) {
  if (expected.numbers.empty()) return expected.bits == found.bits;
  for (std::size_t i = 0; i < expected.numbers.size(); ++i) {
    const double a = expected.numbers[i], b = found.numbers[i];
    if (std::isnan(a) != std::isnan(b)) return false;
    if (std::isnan(a) || a == b) continue;
    if (denormals_vanish && std::max(std::abs(a), std::abs(b)) < 0x1p-126) continue;
    // Where the interpreter's result is infinite the largest numbers may still be in reach.
    if (tolerance > 0 && std::abs(a - b) <= tolerance) continue;
    return false;
  }
  return true;
}

}  // namespace

std::vector<IntrinsicCase> intrinsic_cases() {
  std::vector<IntrinsicCase> cases;
  const auto skipped = rows_without_case();
  for (const Intrinsic& row : loop::intrinsics()) {
    if (std::find(skipped.begin(), skipped.end(), row.name) == skipped.end()) add_row(cases, row);
  }
  add_operations(cases);
  add_narrow_operations(cases);
  add_casts(cases);
  return cases;
}

std::span<const std::string_view> rows_without_case() { return {}; }

std::vector<Bytes> expected_results(const IntrinsicCase& one) {
  std::vector<Bytes> memory = one.arguments;
  std::vector<std::span<std::byte>> spans(memory.begin(), memory.end());
  std::string text;
  for (const loop::Report& report : loop::interpret(*one.kernel, spans, {.seed = 1})) {
    text += "\n" + loop::print(report);
  }
  if (!text.empty()) throw Error(one.name + ":" + text);
  return memory;
}

std::vector<std::string> compare_results(const IntrinsicCase& one, std::span<const Bytes> expected,
                                         std::span<const Bytes> found) {
  constexpr std::size_t most_lines = 4;
  std::vector<std::string> lines;
  std::size_t different = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const Buffer& buffer = *one.kernel->arguments[i];
    const bool exact = i >= one.tolerances.size() || one.tolerances[i].empty();
    for (std::int64_t e = 0; e < buffer.elements; ++e) {
      const auto at = static_cast<std::size_t>(e);
      const Packing packing = buffer.writable ? one.packing : Packing::none;
      const Shown a = shown(buffer.dtype, packing, expected[i], at);
      const Shown b = shown(buffer.dtype, packing, found[i], at);
      if (agree(a, b, exact ? 0 : one.tolerances[i][at], buffer.dtype == DType::f32)) continue;
      if (++different > most_lines) continue;
      lines.push_back(fmt::format("{}: {}[{}] is {:#x} ({}), not {:#x} ({}), allowed {}", one.name,
                                  buffer.name, e, b.bits, fmt::join(b.numbers, ", "), a.bits,
                                  fmt::join(a.numbers, ", "), exact ? 0.0 : one.tolerances[i][at]));
    }
  }
  if (different > most_lines) {
    lines.push_back(fmt::format("{}: and {} more", one.name, different - most_lines));
  }
  return lines;
}

}  // namespace weft::selftest
