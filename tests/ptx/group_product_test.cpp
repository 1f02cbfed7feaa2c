#include <gtest/gtest.h>

#include <functional>
#include <numeric>
#include <set>
#include <stdexcept>

#include "tests/ptx/machine/matrix.h"
#include "tests/ptx/machine/matrix_descriptor.h"
#include "tests/ptx/operands.h"

namespace weft::ptx {
namespace {

/// A layout as CuTe and the PTX ISA write it, (modes of an axis):(strides), evaluated by itself:
/// the coordinate of an axis counts through its modes, the first one fastest.
struct Layout {
  std::vector<int> row_shape, column_shape, row_strides, column_strides;

  static int offset(const std::vector<int>& shape, const std::vector<int>& strides,
                    int coordinate) {
    int sum = 0;
    for (std::size_t mode = 0; mode < shape.size(); ++mode) {
      sum += coordinate % shape[mode] * strides[mode];
      coordinate /= shape[mode];
    }
    return sum;
  }
  int operator()(int row, int column) const {
    return offset(row_shape, row_strides, row) + offset(column_shape, column_strides, column);
  }
};

/// CuTe's Swizzle<bits, 4, 3> of an address in bytes.
std::uint32_t swizzle(int bits, std::uint32_t address) {
  const std::uint32_t mask = ((1U << bits) - 1) << 7;
  return address ^ (address & mask) >> 3;
}

/// An example of the ISA's section "Canonical Layouts".
struct Example {
  const char* name;
  int bits;  // of the swizzle
  bool mn_major;
  int bytes;
  Layout layout;
  int leading, stride;  // elements
};

// The "exact layouts" of figures 166 to 170. Of K only two chunks of 16 bytes are looked at (what
// an instruction reads): where chunks swizzled lie side by side, four would run into the next row.
TEST(MatrixDescriptor, ExamplesOfTheIsa) {
  const Example examples[] = {
      {"K-major, no swizzle, tf32", 0, false, 4, {{8, 2}, {4, 4}, {4, 32}, {1, 64}}, 64, 32},
      {"K-major, 32B, tf32", 1, false, 4, {{8, 2}, {4, 4}, {8, 64}, {1, 4}}, 1, 64},
      {"MN-major, no swizzle, bf16",
       0,
       true,
       2,
       {{8, 1, 2}, {8, 2}, {1, 8, 64}, {8, 128}},
       128,
       64},
      {"MN-major, 32B, bf16", 1, true, 2, {{8, 2, 2}, {8, 2}, {1, 8, 128}, {16, 256}}, 128, 256},
      {"MN-major, 64B, bf16", 2, true, 2, {{8, 4, 2}, {8, 2}, {1, 8, 256}, {32, 512}}, 256, 512},
  };
  for (const Example& example : examples) {
    MatrixDescriptor descriptor;
    descriptor.start = 4096;
    descriptor.leading = static_cast<std::uint32_t>(example.leading * example.bytes);
    descriptor.stride = static_cast<std::uint32_t>(example.stride * example.bytes);
    descriptor.width = 1U << example.bits;
    const std::vector<int>& shape = example.layout.row_shape;
    const int rows = std::accumulate(shape.begin(), shape.end(), 1, std::multiplies<>());
    std::set<std::uint32_t> used;
    for (int mn = 0; mn < rows; ++mn) {
      for (int k = 0; k < 32 / example.bytes; ++k) {
        const std::uint32_t address =
            element_address(descriptor, example.bytes, example.mn_major, mn, k);
        const int offset = example.layout(mn, k) * example.bytes;
        EXPECT_EQ(address, swizzle(example.bits, 4096 + static_cast<std::uint32_t>(offset)))
            << example.name << ", element " << mn << ", " << k;
        used.insert(address);
      }
    }
    EXPECT_EQ(used.size(), static_cast<std::size_t>(rows * 32 / example.bytes)) << example.name;
  }
}

TEST(MatrixDescriptor, Fields) {
  // The encodings that the examples give: (LBO) >> 4 = 16, (SBO) >> 4 = 8; 1 is a 128-byte swizzle.
  const std::uint64_t bits = 0x123 | 16ULL << 16 | 8ULL << 32 | 5ULL << 49 | 1ULL << 62;
  const MatrixDescriptor descriptor = decode_descriptor(bits);
  EXPECT_EQ(descriptor.start, 0x1230U);
  EXPECT_EQ(descriptor.leading, 256U);
  EXPECT_EQ(descriptor.stride, 128U);
  EXPECT_EQ(descriptor.base_offset, 5U);
  EXPECT_EQ(descriptor.width, 8U);
  EXPECT_EQ(encode_descriptor(descriptor), bits);
  EXPECT_EQ(decode_descriptor(0).width, 1U);
  EXPECT_EQ(decode_descriptor(2ULL << 62).width, 4U);
  EXPECT_EQ(decode_descriptor(3ULL << 62).width, 2U);
  // Bits 14, 15, 30, 31, 46 to 48, 52 to 61 say nothing.
  EXPECT_EQ(encode_descriptor(decode_descriptor(~std::uint64_t{0})), 0xc00e3fff3fff3fffULL);
}

// Figure 157: the chunks of 128 bytes of row r are exchanged by r.
TEST(MatrixDescriptor, SwizzleOf128Bytes) {
  for (std::uint32_t row = 0; row < 8; ++row) {
    for (std::uint32_t chunk = 0; chunk < 8; ++chunk) {
      EXPECT_EQ(swizzled(2048 + row * 128 + chunk * 16, 8), 2048 + row * 128 + (chunk ^ row) * 16);
      // A pattern that begins at address 0x2180 has base offset (0x2180 >> 7) & 7 = 3.
      EXPECT_EQ(swizzled(0x2180 + row * 128 + chunk * 16, 8, 3),
                0x2180 + row * 128 + (chunk ^ row) * 16);
    }
  }
}

/// How an operand is laid out: the canonical layouts' table, with LBO and SBO in bytes.
struct Operand {
  int bits;
  bool mn_major;
  int start;
};

/// Puts an operand of `extent` rows or columns into shared memory and gives its descriptor.
std::uint64_t place(std::vector<std::byte>& shared, const Operand& operand, Element element,
                    int extent, int depth, const std::function<int(int mn, int k)>& value) {
  const int bytes = element_bytes(element);
  const int t = 16 / bytes;
  const int w = 1 << operand.bits;
  Layout layout;
  int leading = 0;
  int stride = 0;
  // Distances are chosen with gaps, so that one taken for the other shows.
  if (!operand.mn_major && operand.bits == 0) {
    stride = 8 * t * 3;  // next to both chunks, and a gap
    leading = 8 * t;
    layout = {{8, extent / 8}, {t, 2}, {t, stride}, {1, leading}};
  } else if (!operand.mn_major) {
    stride = 8 * w * t;
    leading = t;
    layout = {{8, extent / 8}, {t, 2}, {w * t, stride}, {1, t}};
  } else if (operand.bits == 0) {
    stride = 8 * t;
    leading = 8 * t * (extent / t) + 64;
    layout = {{t, 1, extent / t}, {8, depth / 8}, {1, t, stride}, {t, leading}};
  } else {
    // Between two groups of 8 k there is room, and the next columns are behind.
    stride = 8 * w * t * 2;
    leading = stride * (depth / 8);
    const int repeats = (extent + t * w - 1) / (t * w);
    layout = {{t, w, repeats}, {8, depth / 8}, {1, t, leading}, {w * t, stride}};
  }
  for (int mn = 0; mn < extent; ++mn) {
    for (int k = 0; k < depth; ++k) {
      const auto address = static_cast<std::uint32_t>(operand.start + layout(mn, k) * bytes);
      store_element(shared, swizzle(operand.bits, address), element, value(mn, k));
    }
  }
  MatrixDescriptor descriptor;
  descriptor.start = static_cast<std::uint32_t>(operand.start);
  descriptor.leading = static_cast<std::uint32_t>(leading * bytes);
  descriptor.stride = static_cast<std::uint32_t>(stride * bytes);
  descriptor.width = static_cast<std::uint32_t>(w);
  return encode_descriptor(descriptor);
}

std::string description(const GroupProduct& what, const Operand& a, const Operand& b) {
  return "element " + std::to_string(static_cast<int>(what.element)) + ", columns " +
         std::to_string(what.columns) + ", swizzles " + std::to_string(a.bits) + " and " +
         std::to_string(b.bits) + ", transposed " + std::to_string(a.mn_major) + " and " +
         std::to_string(b.mn_major);
}

/// The sums' element of register `index` of a lane, as figure 149 has it.
void check_sums(const GroupProduct& what, const std::vector<Lanes>& sums, int depth,
                const Integers& a, const Integers& b, int before) {
  const int registers = what.columns / 2;
  for (int warp = 0; warp < 4; ++warp) {
    for (int index = 0; index < registers; ++index) {
      for (int lane = 0; lane < 32; ++lane) {
        const int row = 16 * warp + lane / 4 + (index % 4 < 2 ? 0 : 8);
        const int column = index / 4 * 8 + lane % 4 * 2 + index % 2;
        int sum = 0;
        for (int k = 0; k < depth; ++k) sum += a(row, k) * b(k, column);
        sum = sum * what.scale_a * what.scale_b + before;
        ASSERT_EQ(as_float(sums[static_cast<std::size_t>(warp * registers + index)], lane),
                  static_cast<float>(sum))
            << "row " << row << ", column " << column;
      }
    }
  }
}

void multiply_and_check(GroupProduct what, const Operand& of_a, const Operand& of_b) {
  SCOPED_TRACE(description(what, of_a, of_b));
  what.a_transposed = of_a.mn_major;
  what.b_transposed = of_b.mn_major;
  const int depth = what.element == Element::tf32 ? 8 : 16;
  const Integers a(64, depth, 11);
  const Integers b(depth, what.columns, 12);
  std::vector<std::byte> shared(128 * 1024, std::byte{0xff});
  const std::uint64_t descriptor_a =
      place(shared, of_a, what.element, 64, depth, [&](int m, int k) { return a(m, k); });
  const std::uint64_t descriptor_b =
      place(shared, of_b, what.element, what.columns, depth, [&](int n, int k) { return b(k, n); });
  // Without scale_d, the sums' old values do not count, not even if they are no numbers.
  std::vector<Lanes> sums(static_cast<std::size_t>(2 * what.columns),
                          what.scale_d ? filled(3) : filled(NAN));
  group_product(what, shared, descriptor_a, descriptor_b, pointers<Lanes*>(sums));
  check_sums(what, sums, depth, a, b, what.scale_d ? 3 : 0);
}

TEST(GroupProduct, EveryLayoutOf16Bits) {
  for (const Element element : {Element::f16, Element::bf16}) {
    for (int bits = 0; bits < 4; ++bits) {
      for (const bool a_transposed : {false, true}) {
        for (const bool b_transposed : {false, true}) {
          GroupProduct what;
          what.element = element;
          what.columns = 128;
          multiply_and_check(what, {bits, a_transposed, 2048}, {3 - bits, b_transposed, 65536});
        }
      }
    }
  }
}

TEST(GroupProduct, EveryLayoutOfTf32) {
  for (int bits = 0; bits < 4; ++bits) {
    GroupProduct what;
    what.element = Element::tf32;
    what.columns = 64;
    multiply_and_check(what, {bits, false, 1024}, {3 - bits, false, 65536});
  }
}

TEST(GroupProduct, EveryWidth) {
  for (int columns = 8; columns <= 256; columns += 8) {
    GroupProduct what;
    what.columns = columns;
    multiply_and_check(what, {3, false, 1024}, {3, columns % 64 == 0, 65536});
  }
}

TEST(GroupProduct, Scales) {
  for (const bool scale_d : {false, true}) {
    for (const int scale_a : {1, -1}) {
      for (const int scale_b : {1, -1}) {
        GroupProduct what;
        what.columns = 24;
        what.scale_d = scale_d;
        what.scale_a = scale_a;
        what.scale_b = scale_b;
        multiply_and_check(what, {3, false, 1024}, {3, false, 32768});
      }
    }
  }
}

// A tile of 64 elements of k under one swizzle of 128 bytes, read in four steps: the start address
// moves by 32 bytes within the pattern, which stays where it is.
TEST(GroupProduct, StepsWithinTheSwizzle) {
  const Integers a(64, 64, 21);
  const Integers b(64, 64, 22);
  std::vector<std::byte> shared(16384);
  for (int i = 0; i < 64; ++i) {
    for (int k = 0; k < 64; ++k) {
      const auto offset = static_cast<std::uint32_t>(i * 128 + k * 2);
      store_element(shared, swizzle(3, offset), Element::bf16, a(i, k));
      store_element(shared, swizzle(3, 8192 + offset), Element::bf16, b(k, i));
    }
  }
  GroupProduct what;
  what.element = Element::bf16;
  what.columns = 64;
  std::vector<Lanes> sums(128, filled(0));
  for (std::uint32_t step = 0; step < 4; ++step) {
    MatrixDescriptor descriptor;
    descriptor.stride = 1024;
    descriptor.width = 8;
    descriptor.start = 32 * step;
    const std::uint64_t descriptor_a = encode_descriptor(descriptor);
    descriptor.start += 8192;
    group_product(what, shared, descriptor_a, encode_descriptor(descriptor),
                  pointers<Lanes*>(sums));
  }
  check_sums(what, sums, 64, a, b, 0);
}

// A pattern that does not begin at a multiple of 1024 bytes, and says so.
TEST(GroupProduct, BaseOffset) {
  const Integers a(64, 16, 23);
  const Integers b(16, 8, 24);
  std::vector<std::byte> shared(16384);
  const auto store = [&](std::uint32_t start, int row, int k, int value) {
    const auto chunk = static_cast<std::uint32_t>(k / 8 ^ row % 8);
    store_element(shared, start + static_cast<std::uint32_t>(row * 128 + k % 8 * 2) + chunk * 16,
                  Element::f16, value);
  };
  for (int k = 0; k < 16; ++k) {
    for (int row = 0; row < 64; ++row) store(0x280, row, k, a(row, k));
    for (int column = 0; column < 8; ++column) store(0x3080, column, k, b(k, column));
  }
  GroupProduct what;
  what.columns = 8;
  std::vector<Lanes> sums(16, filled(1));
  group_product(what, shared, encode_descriptor({0x280, 16, 1024, 5, 8}),
                encode_descriptor({0x3080, 16, 1024, 1, 8}), pointers<Lanes*>(sums));
  check_sums(what, sums, 16, a, b, 1);
}

TEST(GroupProduct, RowsInRegisters) {
  for (const Element element : {Element::f16, Element::bf16, Element::tf32}) {
    const int depth = element == Element::tf32 ? 8 : 16;
    GroupProduct what;
    what.element = element;
    what.columns = 48;
    what.scale_a = -1;
    const Integers a(64, depth, 31);
    const Integers b(depth, 48, 32);
    std::vector<std::byte> shared(32768);
    const std::uint64_t descriptor =
        place(shared, {3, false, 1024}, element, 48, depth, [&](int n, int k) { return b(k, n); });
    // Figures 148 and 150: of warp w rows 16 w to 16 w + 15, as a fragment of mma.
    std::vector<Lanes> registers(16);
    for (int warp = 0; warp < 4; ++warp) {
      for (int r = 0; r < 4; ++r) {
        for (int lane = 0; lane < 32; ++lane) {
          const int row = 16 * warp + lane / 4 + r % 2 * 8;
          const auto bits = [&](int k) { return element_bits(element, a(row, k)); };
          const int low = r / 2 * 8 + lane % 4 * 2;
          const int to = 4 * warp + r;
          registers[static_cast<std::size_t>(to)][static_cast<std::size_t>(lane)] =
              element == Element::tf32 ? bits(r / 2 * 4 + lane % 4)
                                       : bits(low) | bits(low + 1) << 16;
        }
      }
    }
    std::vector<Lanes> sums(96, filled(2));
    group_product_registers(what, shared, pointers<const Lanes*>(registers), descriptor,
                            pointers<Lanes*>(sums));
    check_sums(what, sums, depth, a, b, 2);
  }
}

TEST(GroupProduct, RefusesWhatThereIsNot) {
  const std::vector<std::byte> shared(4096);
  std::vector<Lanes> sums(16);
  const auto to = pointers<Lanes*>(sums);
  GroupProduct what;
  const std::uint64_t inside = encode_descriptor({0, 128, 256, 0, 1});
  EXPECT_NO_THROW(group_product(what, shared, inside, inside, to));
  // Row 56 and after are beyond the end.
  const std::uint64_t outside = encode_descriptor({2304, 128, 256, 0, 1});
  EXPECT_THROW(group_product(what, shared, outside, inside, to), std::out_of_range);
  EXPECT_NO_THROW(group_product(what, shared, inside, outside, to));
  what.columns = 12;
  EXPECT_THROW(group_product(what, shared, inside, inside, to), std::invalid_argument);
  what.columns = 16;
  EXPECT_THROW(group_product(what, shared, inside, inside, to), std::invalid_argument);
  what.columns = 8;
  what.scale_a = 2;
  EXPECT_THROW(group_product(what, shared, inside, inside, to), std::invalid_argument);
  what.scale_a = 1;
  what.element = Element::tf32;
  what.b_transposed = true;
  EXPECT_THROW(group_product(what, shared, inside, inside, to), std::invalid_argument);
}

}  // namespace
}  // namespace weft::ptx
