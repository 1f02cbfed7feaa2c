#include "compiler/loop/intrinsic_meaning.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "compiler/loop/interpret_value.h"

/// Layouts of fragments are those of the PTX ISA's tables. With g = lane / 4 ("groupID") and
/// t = lane % 4 ("threadID_in_group"), element i of a lane's registers is, of
///   m16n8k16, 16-bit   A (16 x 16), i in 0..7: row g + 8 * (i / 2 % 2),
///                                              column 2 t + i % 2 + 8 * (i / 4)
///                      B (16 x 8),  i in 0..3: row 2 t + i % 2 + 8 * (i / 2), column g
///   m16n8k8, tf32      A (16 x 8),  i in 0..3: row g + 8 * (i % 2), column t + 4 * (i / 2)
///                      B (8 x 8),   i in 0..1: row t + 4 i, column g
///   both               C, D (16 x 8), i in 0..3: row g + 8 * (i / 2), column 2 t + i % 2
/// where two 16-bit elements share a register, the even one in its lower half.
namespace weft::loop::meaning {
namespace {

using interpreter::f32_of;
using interpreter::integer_of;
using interpreter::word_of;

bool is_active(const IntrinsicCall& call, int lane) {
  return ((call.active >> static_cast<unsigned>(lane)) & 1U) != 0;
}

template <typename Function>
void each_lane(IntrinsicCall& call, const Function& function) {
  for (int lane = 0; lane < warp_lanes; ++lane) {
    if (is_active(call, lane)) function(lane, static_cast<std::size_t>(lane));
  }
}

Word signed_word(std::uint32_t bits) {
  return word_of(std::int64_t{static_cast<std::int32_t>(bits)});
}

/// The value of lane source(lane, operand), or the lane's own where that is no lane.
template <typename Source>
void shuffle(IntrinsicCall& call, const Source& source) {
  each_lane(call, [&](int lane, std::size_t l) {
    const std::int64_t from = source(lane, integer_of(call.operands[1][l]) & 31);
    call.results[0][l] = call.operands[0][from < warp_lanes ? static_cast<std::size_t>(from) : l];
  });
}

std::uint32_t votes(const IntrinsicCall& call) {
  std::uint32_t bits = 0;
  for (std::size_t lane = 0; lane < warp_lanes; ++lane) {
    if (is_active(call, static_cast<int>(lane)) && call.operands[0][lane] != 0) {
      bits |= std::uint32_t{1} << lane;
    }
  }
  return bits;
}

void set_all(IntrinsicCall& call, Word value) {
  each_lane(call, [&](int, std::size_t l) { call.results[0][l] = value; });
}

template <typename Combine>
void reduce(IntrinsicCall& call, const Combine& combine) {
  bool first = true;
  std::int64_t total = 0;
  each_lane(call, [&](int, std::size_t l) {
    const std::int64_t value = integer_of(call.operands[0][l]);
    total = first ? value : combine(total, value);
    first = false;
  });
  set_all(call, signed_word(static_cast<std::uint32_t>(total)));
}

/// Register m of a lane holds two elements of matrix m: of row lane / 4, columns 2 (lane % 4) and
/// one further; transposed, of those rows and that column.
void load_matrices(IntrinsicCall& call, bool transposed) {
  for (std::size_t m = 0; m < call.results.size(); ++m) {
    std::array<std::array<std::uint16_t, 8>, 8> matrix{};
    for (std::size_t row = 0; row < 8; ++row) {
      const auto lane = static_cast<int>(8 * m + row);
      if (is_active(call, lane)) call.read(lane, 0, std::as_writable_bytes(std::span(matrix[row])));
    }
    each_lane(call, [&](int, std::size_t l) {
      const std::size_t major = l / 4, minor = 2 * (l % 4);
      const std::uint32_t low = transposed ? matrix[minor][major] : matrix[major][minor];
      const std::uint32_t high = transposed ? matrix[minor + 1][major] : matrix[major][minor + 1];
      call.results[m][l] = signed_word(low | high << 16U);
    });
  }
}

constexpr std::size_t rows = 16, columns = 8;

/// D = A B + C in double precision, rounded once: how the machine rounds on the way is its own
/// affair. `depth` is the length of the contracted axis, `element(word, half)` a value of A or B.
template <std::size_t depth, typename Element>
void product(IntrinsicCall& call, const Element& element) {
  constexpr std::size_t halves = depth / 8;  // elements in a register: 2, tf32: 1
  std::array<std::array<double, depth>, rows> a{};
  std::array<std::array<double, columns>, depth> b{};
  for (std::size_t lane = 0; lane < warp_lanes; ++lane) {
    const std::size_t g = lane / 4, t = lane % 4;
    for (std::size_t half = 0; half < halves; ++half) {
      for (std::size_t r = 0; r < 4; ++r) {
        // i = 2 r + half, or r: both give these rows and columns.
        a[g + 8 * (r % 2)][halves * t + half + depth / 2 * (r / 2)] =
            element(call.operands[r][lane], half);
      }
      for (std::size_t r = 0; r < 2; ++r) {
        b[halves * t + half + depth / 2 * r][g] = element(call.operands[4 + r][lane], half);
      }
    }
  }
  each_lane(call, [&](int, std::size_t lane) {
    const std::size_t g = lane / 4, t = lane % 4;
    for (std::size_t i = 0; i < 4; ++i) {
      const std::size_t row = g + 8 * (i / 2), column = 2 * t + i % 2;
      double sum = static_cast<double>(f32_of(call.operands[6 + i][lane]));
      for (std::size_t k = 0; k < depth; ++k) sum += a[row][k] * b[k][column];
      call.results[i][lane] = word_of(static_cast<float>(sum));
    }
  });
}

std::uint16_t half_of(Word word, std::size_t half) {
  return static_cast<std::uint16_t>(word >> (16 * half));
}

template <typename Round>
void pack(IntrinsicCall& call, const Round& round) {
  each_lane(call, [&](int, std::size_t l) {
    const std::uint32_t low = round(f32_of(call.operands[0][l]));
    const std::uint32_t high = round(f32_of(call.operands[1][l]));
    call.results[0][l] = signed_word(low | high << 16U);
  });
}

/// The function of a double, rounded to f32: within any bound that the machine keeps.
template <typename Function>
void approximate(IntrinsicCall& call, const Function& function, bool flush = true) {
  const interpreter::Arithmetic arithmetic{.flush = flush};
  each_lane(call, [&](int, std::size_t l) {
    const auto x = static_cast<double>(arithmetic.flushed(f32_of(call.operands[0][l])));
    call.results[0][l] = word_of(arithmetic.flushed(static_cast<float>(function(x))));
  });
}

}  // namespace

void shuffle_xor(IntrinsicCall& call) {
  shuffle(call, [](std::int64_t lane, std::int64_t which) { return lane ^ which; });
}
void shuffle_down(IntrinsicCall& call) {
  shuffle(call, [](std::int64_t lane, std::int64_t which) { return lane + which; });
}
void shuffle_index(IntrinsicCall& call) {
  shuffle(call, [](std::int64_t, std::int64_t which) { return which; });
}

void ballot(IntrinsicCall& call) { set_all(call, signed_word(votes(call))); }
void any(IntrinsicCall& call) { set_all(call, votes(call) != 0 ? 1 : 0); }
void all(IntrinsicCall& call) { set_all(call, votes(call) == call.active ? 1 : 0); }

void reduce_add(IntrinsicCall& call) {
  reduce(call, [](std::int64_t a, std::int64_t b) { return a + b; });
}
void reduce_min(IntrinsicCall& call) {
  reduce(call, [](std::int64_t a, std::int64_t b) { return std::min(a, b); });
}
void reduce_max(IntrinsicCall& call) {
  reduce(call, [](std::int64_t a, std::int64_t b) { return std::max(a, b); });
}
void reduce_and(IntrinsicCall& call) {
  reduce(call, [](std::int64_t a, std::int64_t b) { return a & b; });
}
void reduce_or(IntrinsicCall& call) {
  reduce(call, [](std::int64_t a, std::int64_t b) { return a | b; });
}
void reduce_xor(IntrinsicCall& call) {
  reduce(call, [](std::int64_t a, std::int64_t b) { return a ^ b; });
}

void load_matrix(IntrinsicCall& call) { load_matrices(call, false); }
void load_matrix_transposed(IntrinsicCall& call) { load_matrices(call, true); }

void mma_f16(IntrinsicCall& call) {
  product<16>(call, [](Word word, std::size_t half) {
    return static_cast<double>(interpreter::from_f16(half_of(word, half)));
  });
}
void mma_bf16(IntrinsicCall& call) {
  product<16>(call, [](Word word, std::size_t half) {
    return static_cast<double>(interpreter::from_bf16(half_of(word, half)));
  });
}
void mma_tf32(IntrinsicCall& call) {
  product<8>(
      call, [](Word word, std::size_t) { return static_cast<double>(f32_of(word & 0xffffe000U)); });
}

void round_tf32(IntrinsicCall& call) {
  each_lane(call, [&](int, std::size_t l) {
    auto bits = static_cast<std::uint32_t>(call.operands[0][l]);
    const bool is_nan = std::isnan(f32_of(bits));
    const bool finite = (bits & 0x7f800000U) != 0x7f800000U;
    // A carry out of the fraction raises the exponent, at the top to infinity.
    if (finite) bits += 0x1000U;
    call.results[0][l] = signed_word(is_nan ? 0x7fffffffU : bits & 0xffffe000U);
  });
}
void pack_f16(IntrinsicCall& call) { pack(call, interpreter::to_f16); }
void pack_bf16(IntrinsicCall& call) { pack(call, interpreter::to_bf16); }

void copy_async(IntrinsicCall& call) {
  each_lane(call, [&](int lane, std::size_t l) {
    call.copy_async(lane, 0, 1, call.operands[0][l] != 0);
  });
}
void copy_commit(IntrinsicCall& call) {
  each_lane(call, [&](int lane, std::size_t) { call.copy_commit(lane); });
}
void copy_wait(IntrinsicCall& call) {
  each_lane(call, [&](int lane, std::size_t l) {
    call.copy_wait(lane, integer_of(call.operands[0][l]));
  });
}
void atomic_add(IntrinsicCall& call) {
  each_lane(call, [&](int lane, std::size_t l) {
    call.atomic_add(lane, 0, f32_of(call.operands[0][l]));
  });
}

void sync_warp(IntrinsicCall& call) { call.sync_warp(); }
void fence_async(IntrinsicCall& call) {
  each_lane(call, [&](int lane, std::size_t) { call.fence_async(lane); });
}

void mbarrier_initialise(IntrinsicCall& call) {
  each_lane(call, [&](int lane, std::size_t l) {
    call.mbarrier_initialise(lane, 0, integer_of(call.operands[0][l]));
  });
}
void mbarrier_fence(IntrinsicCall& call) {
  each_lane(call, [&](int lane, std::size_t) {
    call.mbarrier_fence(lane);
    call.fence_async(lane);
  });
}
void mbarrier_arrive(IntrinsicCall& call) {
  each_lane(call, [&](int lane, std::size_t) { call.mbarrier_arrive(lane, 0, 0); });
}
void mbarrier_arrive_expect(IntrinsicCall& call) {
  each_lane(call, [&](int lane, std::size_t l) {
    call.mbarrier_arrive(lane, 0, integer_of(call.operands[0][l]));
  });
}
void mbarrier_wait(IntrinsicCall& call) {
  each_lane(call, [&](int lane, std::size_t l) {
    call.mbarrier_wait(lane, 0, integer_of(call.operands[0][l]));
  });
}
void copy_tensor(IntrinsicCall& call) {
  each_lane(call, [&](int lane, std::size_t l) {
    std::vector<std::int64_t> coordinates;
    for (const Lanes& axis : call.operands) coordinates.push_back(integer_of(axis[l]));
    call.copy_tensor(lane, 0, 1, 2, std::move(coordinates));
  });
}
void registers(IntrinsicCall& call) { call.registers(integer_of(call.operands[0][0])); }

void exp2(IntrinsicCall& call) {
  approximate(call, [](double x) { return std::exp2(x); });
}
void log2(IntrinsicCall& call) {
  approximate(call, [](double x) { return std::log2(x); });
}
void reciprocal(IntrinsicCall& call) {
  approximate(call, [](double x) { return 1 / x; });
}
void rsqrt(IntrinsicCall& call) {
  approximate(call, [](double x) { return 1 / std::sqrt(x); });
}
void tanh(IntrinsicCall& call) {
  approximate(call, [](double x) { return std::tanh(x); }, false);
}
void sin(IntrinsicCall& call) {
  approximate(call, [](double x) { return std::sin(x); });
}
void cos(IntrinsicCall& call) {
  approximate(call, [](double x) { return std::cos(x); });
}

void nothing(IntrinsicCall&) {}

namespace {

/// Eight elements of 16 bits from the operand's place on: of row `row` of the contracted axis' rows
/// or, across, of step `row`; `piece`: which eight of the row.
std::array<std::uint16_t, 8> piece_of(const IntrinsicCall::Reader& reader, std::int64_t within,
                                      std::int64_t row, std::int64_t piece, std::int64_t block) {
  // The exchange is of bits of the address, which `within` are: buffers of such tiles lie at
  // multiples of their period.
  std::int64_t to = within + block * 64 * 128 + row * 128 + piece * 16;
  to ^= ((to >> 7) & 7) << 4;
  std::array<std::uint16_t, 8> elements{};
  reader(to - within, std::as_writable_bytes(std::span(elements)));
  return elements;
}

template <DType dtype>
double element(std::uint16_t bits) {
  return static_cast<double>(dtype == DType::f16 ? interpreter::from_f16(bits)
                                                 : interpreter::from_bf16(bits));
}

/// `count` rows or columns from `first` on by 16 steps.
template <DType dtype>
std::vector<std::array<double, 16>> operand_of(const IntrinsicCall::Reader& reader,
                                               std::int64_t within, bool across, std::int64_t first,
                                               std::int64_t count) {
  std::vector<std::array<double, 16>> all(static_cast<std::size_t>(count));
  if (!across) {
    for (std::int64_t i = 0; i < count; ++i) {
      for (std::int64_t piece = 0; piece < 2; ++piece) {
        const auto eight = piece_of(reader, within, first + i, piece, 0);
        for (std::size_t j = 0; j < 8; ++j) {
          all[static_cast<std::size_t>(i)][8 * static_cast<std::size_t>(piece) + j] =
              element<dtype>(eight[j]);
        }
      }
    }
    return all;
  }
  for (std::int64_t step = 0; step < 16; ++step) {
    for (std::int64_t i = 0; i < count; i += 8) {
      const std::int64_t at = first + i;
      const auto eight = piece_of(reader, within, step, at % 64 / 8, at / 64);
      for (std::size_t j = 0; j < 8; ++j) {
        all[static_cast<std::size_t>(i) + j][static_cast<std::size_t>(step)] =
            element<dtype>(eight[j]);
      }
    }
  }
  return all;
}

using Rows = std::vector<std::array<double, 16>>;

/// Adds the products of 16 rows and the columns to a warp's sums.
void add_products(const Rows& a, const Rows& b, bool adds, std::vector<Lanes>& totals) {
  for (std::size_t lane = 0; lane < warp_lanes; ++lane) {
    for (std::size_t i = 0; i < totals.size(); ++i) {
      const auto& x = a[lane / 4 + 8 * (i / 2 % 2)];
      const auto& y = b[8 * (i / 4) + 2 * (lane % 4) + i % 2];
      double sum = adds ? static_cast<double>(f32_of(totals[i][lane])) : 0;
      for (std::size_t k = 0; k < 16; ++k) sum += x[k] * y[k];
      totals[i][lane] = word_of(static_cast<float>(sum));
    }
  }
}

}  // namespace

template <DType dtype, bool a_across, bool b_across>
void group_product(IntrinsicCall& call) {
  const IntrinsicCall::Reader a = call.reader(0, 0), b = call.reader(0, 1);
  const std::int64_t a_within = call.place(0, 0), b_within = call.place(0, 1);
  const auto count = static_cast<std::int64_t>(2 * call.results.size());
  const bool adds = call.operands[0][0] != 0;
  const int first_row = 16 * (call.warp() % 4);
  IntrinsicCall::Deferred deferred;
  deferred.operands.assign(call.operands.begin() + 1, call.operands.end());
  deferred.work = [=](std::vector<Lanes>& totals) {
    add_products(operand_of<dtype>(a, a_within, a_across, first_row, 16),
                 operand_of<dtype>(b, b_within, b_across, 0, count), adds, totals);
  };
  call.defer(std::move(deferred));
}

template <DType dtype, bool b_across>
void group_product_registers(IntrinsicCall& call) {
  const IntrinsicCall::Reader b = call.reader(0, 0);
  const std::int64_t within = call.place(0, 0);
  const auto count = static_cast<std::int64_t>(2 * call.results.size());
  const bool adds = call.operands[0][0] != 0;
  Rows a(16);
  for (std::size_t lane = 0; lane < warp_lanes; ++lane) {
    for (std::size_t i = 0; i < 8; ++i) {
      const auto bits =
          static_cast<std::uint16_t>(call.operands[1 + i / 2][lane] >> (16 * (i % 2)));
      a[lane / 4 + 8 * (i / 2 % 2)][2 * (lane % 4) + i % 2 + 8 * (i / 4)] = element<dtype>(bits);
    }
  }
  IntrinsicCall::Deferred deferred;
  deferred.operands.assign(call.operands.begin() + 5, call.operands.end());
  deferred.work = [=](std::vector<Lanes>& totals) {
    add_products(a, operand_of<dtype>(b, within, b_across, 0, count), adds, totals);
  };
  call.defer(std::move(deferred));
}

template void group_product<DType::f16, false, false>(IntrinsicCall&);
template void group_product<DType::f16, false, true>(IntrinsicCall&);
template void group_product<DType::f16, true, false>(IntrinsicCall&);
template void group_product<DType::f16, true, true>(IntrinsicCall&);
template void group_product<DType::bf16, false, false>(IntrinsicCall&);
template void group_product<DType::bf16, false, true>(IntrinsicCall&);
template void group_product<DType::bf16, true, false>(IntrinsicCall&);
template void group_product<DType::bf16, true, true>(IntrinsicCall&);
template void group_product_registers<DType::f16, false>(IntrinsicCall&);
template void group_product_registers<DType::f16, true>(IntrinsicCall&);
template void group_product_registers<DType::bf16, false>(IntrinsicCall&);
template void group_product_registers<DType::bf16, true>(IntrinsicCall&);

void group_product_commit(IntrinsicCall& call) { call.defer_commit(); }

void group_product_wait(IntrinsicCall& call) {
  call.defer_wait(integer_of(call.operands[0][0]), std::span(call.operands).subspan(1));
}

}  // namespace weft::loop::meaning
