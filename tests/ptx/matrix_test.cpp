#include "tests/ptx/machine/matrix.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <stdexcept>

#include "tests/ptx/machine/fragments.h"
#include "tests/ptx/operands.h"

namespace weft::ptx {
namespace {

// The PTX ISA's formulas, as it writes them: of each fragment the row and the column of element i.
Position isa_a(Element element, int k, int lane, int i) {
  const int group_id = lane >> 2;
  const int thread_id_in_group = lane % 4;
  if (element == Element::tf32 && k == 4) {
    return {i == 0 ? group_id : group_id + 8, thread_id_in_group};
  }
  if (element == Element::tf32) {
    return {i == 0 || i == 2 ? group_id : group_id + 8,
            i == 0 || i == 1 ? thread_id_in_group : thread_id_in_group + 4};
  }
  if (k == 8) {
    return {i == 0 || i == 1 ? group_id : group_id + 8, thread_id_in_group * 2 + (i & 0x1)};
  }
  const bool upper = (0 <= i && i < 2) || (4 <= i && i < 6);
  return {upper ? group_id : group_id + 8,
          i < 4 ? thread_id_in_group * 2 + (i & 0x1) : thread_id_in_group * 2 + (i & 0x1) + 8};
}

Position isa_b(Element element, int lane, int i) {
  const int group_id = lane >> 2;
  const int thread_id_in_group = lane % 4;
  if (element == Element::tf32) {
    return {i == 0 ? thread_id_in_group : thread_id_in_group + 4, group_id};
  }
  return {i < 2 ? thread_id_in_group * 2 + (i & 0x1) : thread_id_in_group * 2 + (i & 0x1) + 8,
          group_id};
}

Position isa_c(int lane, int i) {
  return {i == 0 || i == 1 ? lane >> 2 : (lane >> 2) + 8, lane % 4 * 2 + (i & 0x1)};
}

struct Shape {
  Element element;
  int k;
};

constexpr Shape kShapes[] = {{Element::f16, 8},   {Element::f16, 16}, {Element::bf16, 8},
                             {Element::bf16, 16}, {Element::tf32, 4}, {Element::tf32, 8}};

TEST(Fragments, AreTheOnesOfTheIsa) {
  for (const auto& [element, k] : kShapes) {
    std::set<std::pair<int, int>> a;
    std::set<std::pair<int, int>> b;
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 16 * k / 32; ++i) {
        const Position position = fragment_a(element, lane, i);
        EXPECT_EQ(position, isa_a(element, k, lane, i))
            << "k " << k << " lane " << lane << " a" << i;
        a.emplace(position.row, position.column);
      }
      for (int i = 0; i < 8 * k / 32; ++i) {
        const Position position = fragment_b(element, lane, i);
        EXPECT_EQ(position, isa_b(element, lane, i)) << "k " << k << " lane " << lane << " b" << i;
        b.emplace(position.row, position.column);
      }
      for (int i = 0; i < 4; ++i) EXPECT_EQ(fragment_sum(lane, i), isa_c(lane, i));
    }
    // Every element is in one place.
    EXPECT_EQ(a.size(), static_cast<std::size_t>(16 * k));
    EXPECT_EQ(b.size(), static_cast<std::size_t>(8 * k));
    EXPECT_EQ(*a.rbegin(), std::pair(15, k - 1));
    EXPECT_EQ(*b.rbegin(), std::pair(k - 1, 7));
  }
}

// Some corners of the ISA's figures of m16n8k16 (T: thread, a: element).
TEST(Fragments, CornersOfTheFigures) {
  EXPECT_EQ(fragment_a(Element::f16, 1, 0), (Position{0, 2}));
  EXPECT_EQ(fragment_a(Element::f16, 0, 2), (Position{8, 0}));
  EXPECT_EQ(fragment_a(Element::f16, 0, 4), (Position{0, 8}));
  EXPECT_EQ(fragment_a(Element::f16, 31, 7), (Position{15, 15}));
  EXPECT_EQ(fragment_b(Element::f16, 4, 0), (Position{0, 1}));
  EXPECT_EQ(fragment_b(Element::f16, 31, 3), (Position{15, 7}));
  // wgmma's D: column octet q is in registers 4 q to 4 q + 3.
  EXPECT_EQ(fragment_sum(0, 4), (Position{0, 8}));
  EXPECT_EQ(fragment_sum(31, 127), (Position{15, 255}));
}

TEST(Mma, MultipliesExactly) {
  unsigned seed = 1;
  for (const auto& [element, k] : kShapes) {
    const int each = element == Element::tf32 ? 1 : 2;
    const Integers a(16, k, seed++);
    const Integers b(k, 8, seed++);
    const Integers c(16, 8, seed++);
    std::vector<Lanes> ra(static_cast<std::size_t>(16 * k / 32 / each));
    std::vector<Lanes> rb(ra.size() / 2);
    std::vector<Lanes> rc(4);
    for (std::size_t lane = 0; lane < 32; ++lane) {
      const int thread = static_cast<int>(lane);
      for (int i = 0; i < 16 * k / 32; ++i) {
        const auto [row, column] = isa_a(element, k, thread, i);
        ra[static_cast<std::size_t>(i / each)][lane] |= element_bits(element, a(row, column))
                                                        << i % each * 16;
      }
      for (int i = 0; i < 8 * k / 32; ++i) {
        const auto [row, column] = isa_b(element, thread, i);
        rb[static_cast<std::size_t>(i / each)][lane] |= element_bits(element, b(row, column))
                                                        << i % each * 16;
      }
      for (int i = 0; i < 4; ++i) {
        const auto [row, column] = isa_c(thread, i);
        rc[static_cast<std::size_t>(i)][lane] =
            std::bit_cast<std::uint32_t>(static_cast<float>(c(row, column)));
      }
    }
    // The sums in place.
    mma(element, k, pointers<const Lanes*>(ra), pointers<const Lanes*>(rb),
        pointers<const Lanes*>(rc), pointers<Lanes*>(rc));
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const auto [row, column] = isa_c(lane, i);
        int sum = c(row, column);
        for (int x = 0; x < k; ++x) sum += a(row, x) * b(x, column);
        EXPECT_EQ(as_float(rc[static_cast<std::size_t>(i)], lane), static_cast<float>(sum))
            << "k " << k << " row " << row << " column " << column;
      }
    }
  }
}

/// One product a(0, 0) * b(0, 0) + c(0, 0) of m16n8k8.
float one_product(Element element, std::uint32_t a, std::uint32_t b, float c) {
  const std::size_t registers = element == Element::tf32 ? 4 : 2;
  std::vector<Lanes> ra(registers);
  std::vector<Lanes> rb(registers / 2);
  std::vector<Lanes> rc(4);
  ra[0][0] = a;
  rb[0][0] = b;
  rc[0][0] = std::bit_cast<std::uint32_t>(c);
  mma(element, 8, pointers<const Lanes*>(ra), pointers<const Lanes*>(rb),
      pointers<const Lanes*>(rc), pointers<Lanes*>(rc));
  return as_float(rc[0], 0);
}

TEST(Mma, ElementsMeanWhatTheirTypesSay) {
  const std::uint32_t one = 0x3c00;
  EXPECT_EQ(one_product(Element::f16, 0x0001, one, 0), 0x1p-24F);
  EXPECT_EQ(one_product(Element::f16, 0x83ff, one, 0), -0x3ffp-24F);
  EXPECT_EQ(one_product(Element::f16, 0x0400, one, 0), 0x1p-14F);
  EXPECT_EQ(one_product(Element::f16, 0x7bff, one, 0), 65504.0F);
  EXPECT_EQ(one_product(Element::f16, 0xfc00, one, 0), -INFINITY);
  EXPECT_TRUE(std::isnan(one_product(Element::f16, 0x7e00, one, 0)));
  EXPECT_TRUE(std::isnan(one_product(Element::f16, 0x7c01, one, 0)));
  EXPECT_EQ(one_product(Element::bf16, 0x3f81, 0x3f81, 0), 1.0078125F * 1.0078125F);
  // The products are not rounded before they are added.
  EXPECT_EQ(one_product(Element::bf16, 0x7f7f, 0x4000, -std::numeric_limits<float>::max()),
            0x1.fep127F - (std::numeric_limits<float>::max() - 0x1.fep127F));
  // Of tf32 the low 13 bits are ignored: truncated, not rounded.
  const auto almost_two = std::bit_cast<std::uint32_t>(0x1.fffffep0F);
  EXPECT_EQ(one_product(Element::tf32, almost_two, 0x3f800000, 0), 0x1.ffcp0F);
  EXPECT_EQ(one_product(Element::tf32, 0x3f801fff, 0x3f801fff, 0), 1.0F);
}

TEST(Mma, RefusesOtherShapes) {
  std::vector<Lanes> registers(4);
  const auto four = pointers<const Lanes*>(registers);
  const auto two = std::span(four).first(2);
  const auto d = pointers<Lanes*>(registers);
  EXPECT_THROW(mma(Element::f16, 4, four, two, four, d), std::invalid_argument);
  EXPECT_THROW(mma(Element::tf32, 16, four, two, four, d), std::invalid_argument);
  EXPECT_THROW(mma(Element::f16, 8, four, two, four, d), std::invalid_argument);
}

/// A row-major matrix of 16-bit elements in shared memory, at `address`.
std::vector<std::byte> row_major(const Integers& matrix, Element element, std::size_t address) {
  std::vector<std::byte> shared(address + matrix.values.size() * 2);
  for (std::size_t i = 0; i < matrix.values.size(); ++i) {
    store_element(shared, address + 2 * i, element, matrix.values[i]);
  }
  return shared;
}

// What it is made for: a row-major A becomes the fragment of m16n8k16, a row-major B with .trans.
TEST(LoadMatrix, MakesFragments) {
  const Element element = Element::bf16;
  const Integers a(16, 16, 7);
  const Integers b(16, 8, 8);
  Lanes addresses{};
  std::vector<Lanes> ra(4);
  for (std::uint32_t lane = 0; lane < 32; ++lane) {
    addresses[lane] = 64 + (lane % 16) * 32 + lane / 16 * 16;
  }
  ldmatrix(4, false, row_major(a, element, 64), addresses, pointers<Lanes*>(ra));
  std::vector<Lanes> rb(2);
  for (std::uint32_t lane = 0; lane < 32; ++lane) addresses[lane] = lane % 16 * 16;
  ldmatrix(2, true, row_major(b, element, 0), addresses, pointers<Lanes*>(rb));
  for (std::size_t lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 8; ++i) {
      const auto [row, column] = isa_a(element, 16, static_cast<int>(lane), i);
      EXPECT_EQ(ra[static_cast<std::size_t>(i / 2)][lane] >> i % 2 * 16 & 0xffff,
                element_bits(element, a(row, column)));
    }
    for (int i = 0; i < 4; ++i) {
      const auto [row, column] = isa_b(element, static_cast<int>(lane), i);
      EXPECT_EQ(rb[static_cast<std::size_t>(i / 2)][lane] >> i % 2 * 16 & 0xffff,
                element_bits(element, b(row, column)));
    }
  }
}

TEST(LoadMatrix, RowsAreWhereTheLanesSay) {
  const Integers matrix(8, 8, 9);
  std::vector<std::byte> shared(4096);
  Lanes addresses;
  addresses.fill(0xffffffff);  // of the lanes that are not asked
  for (std::uint32_t row = 0; row < 8; ++row) {
    addresses[row] = 16 * (row * 37 % 251);
    for (int column = 0; column < 8; ++column) {
      store_element(shared, addresses[row] + static_cast<std::size_t>(2 * column), Element::f16,
                    matrix(static_cast<int>(row), column));
    }
  }
  std::vector<Lanes> d(1);
  for (const bool transposed : {false, true}) {
    ldmatrix(1, transposed, shared, addresses, pointers<Lanes*>(d));
    for (int lane = 0; lane < 32; ++lane) {
      for (int half = 0; half < 2; ++half) {
        const int row = lane / 4;
        const int column = lane % 4 * 2 + half;
        EXPECT_EQ(
            d[0][static_cast<std::size_t>(lane)] >> half * 16 & 0xffff,
            element_bits(Element::f16, transposed ? matrix(column, row) : matrix(row, column)));
      }
    }
  }
}

TEST(LoadMatrix, RefusesBadAddresses) {
  const std::vector<std::byte> shared(256);
  std::vector<Lanes> d(2);
  Lanes addresses{};
  addresses[15] = 8;
  EXPECT_THROW(ldmatrix(2, false, shared, addresses, pointers<Lanes*>(d)), std::invalid_argument);
  addresses[15] = 256;
  EXPECT_THROW(ldmatrix(2, false, shared, addresses, pointers<Lanes*>(d)), std::out_of_range);
  addresses[15] = 240;
  EXPECT_NO_THROW(ldmatrix(2, false, shared, addresses, pointers<Lanes*>(d)));
  EXPECT_THROW(ldmatrix(1, false, shared, addresses, pointers<Lanes*>(d)), std::invalid_argument);
}

}  // namespace
}  // namespace weft::ptx
