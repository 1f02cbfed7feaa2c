#include "tests/ptx/machine/tensor_copy.h"

#include <gtest/gtest.h>

#include <array>
#include <stdexcept>

#include "tests/ptx/machine/matrix.h"
#include "tests/ptx/machine/matrix_descriptor.h"
#include "tests/ptx/operands.h"

namespace weft::ptx {
namespace {

/// A tensor of numbered 16-bit elements; rows are padded to a multiple of 16 bytes and 16 more.
struct Tensor {
  std::vector<std::uint64_t> storage;
  TensorMap map;

  Tensor(const std::vector<std::int64_t>& extents, const std::vector<std::int64_t>& box) {
    map.element_bytes = 2;
    map.extents = extents;
    map.box = box;
    std::int64_t stride = (extents[0] * 2 + 15) / 16 * 16 + 16;
    for (std::size_t axis = 1; axis < extents.size(); ++axis) {
      map.strides.push_back(stride);
      stride *= extents[axis];
    }
    storage.resize(static_cast<std::size_t>(stride) / 8 + 2);
    // NOLINTNEXTLINE(performance-no-int-to-ptr)
    map.address = (reinterpret_cast<std::uintptr_t>(storage.data()) + 15) / 16 * 16;
    auto* element = elements();
    for (std::int64_t i = 0; i < stride / 2; ++i) element[i] = static_cast<std::uint16_t>(i + 1);
  }
  std::uint16_t* elements() {
    return reinterpret_cast<std::uint16_t*>(map.address);  // NOLINT(performance-no-int-to-ptr)
  }
  /// Zero outside.
  std::uint16_t at(const std::vector<std::int64_t>& coordinates) {
    std::int64_t offset = 0;
    for (std::size_t axis = 0; axis < coordinates.size(); ++axis) {
      if (coordinates[axis] < 0 || coordinates[axis] >= map.extents[axis]) return 0;
      offset += coordinates[axis] * (axis == 0 ? 2 : map.strides[axis - 1]);
    }
    return elements()[offset / 2];
  }
};

/// Copies the box at `coordinates` and compares each of its elements.
void copy_and_check(Tensor& tensor, const std::vector<std::int32_t>& coordinates,
                    std::uint32_t address) {
  std::vector<std::byte> shared(65536, std::byte{0xff});
  copy_box(tensor.map, coordinates, shared, address);
  const std::int64_t count = box_bytes(tensor.map) / 2;
  for (std::int64_t i = 0; i < count; ++i) {
    std::vector<std::int64_t> at(coordinates.begin(), coordinates.end());
    std::int64_t rest = i;
    for (std::size_t axis = 0; axis < at.size(); ++axis) {
      at[axis] += rest % tensor.map.box[axis];
      rest /= tensor.map.box[axis];
    }
    std::size_t offset = address + static_cast<std::size_t>(2 * i);
    if (tensor.map.swizzled) {
      // The programming guide: smem[y][((y + offset) % 8) ^ x] in chunks x of row y.
      const std::size_t x = offset / 16 % 8;
      const std::size_t y = offset / 128;
      offset = y * 128 + (y % 8 ^ x) * 16 + offset % 16;
    }
    std::uint16_t element = 0;
    std::memcpy(&element, &shared.at(offset), 2);
    ASSERT_EQ(element, tensor.at(at)) << "element " << i;
  }
  // No byte beside the box was written.
  for (std::size_t i = 0; i < shared.size(); ++i) {
    if (i < address || i >= address + static_cast<std::size_t>(2 * count)) {
      ASSERT_EQ(shared[i], std::byte{0xff}) << "byte " << i;
    }
  }
}

TEST(TensorCopy, OneAxis) {
  Tensor tensor({100}, {32});
  for (const std::int32_t at : {0, 5, 68, 69, 90, 99, 100, 2000, -1, -31, -32, -5000}) {
    SCOPED_TRACE(at);
    copy_and_check(tensor, {at}, 128);
  }
}

TEST(TensorCopy, TwoToFiveAxes) {
  const std::vector<std::int64_t> extents = {21, 5, 4, 3, 2};
  const std::vector<std::int64_t> box = {16, 3, 2, 3, 2};
  for (std::size_t rank = 2; rank <= 5; ++rank) {
    Tensor tensor({extents.begin(), extents.begin() + static_cast<std::ptrdiff_t>(rank)},
                  {box.begin(), box.begin() + static_cast<std::ptrdiff_t>(rank)});
    for (std::size_t axis = 0; axis < rank; ++axis) {
      // One axis at a time inside, across both ends, and outside.
      for (std::int32_t at = -static_cast<std::int32_t>(box[axis]);
           at <= static_cast<std::int32_t>(extents[axis]); ++at) {
        SCOPED_TRACE(std::to_string(rank) + " axes, at " + std::to_string(at) + " of axis " +
                     std::to_string(axis));
        std::vector<std::int32_t> coordinates(rank, 0);
        coordinates[axis] = at;
        copy_and_check(tensor, coordinates, 1024);
      }
    }
  }
}

TEST(TensorCopy, SwizzledByAddress) {
  Tensor tensor({200, 40}, {64, 20});
  tensor.map.swizzled = true;
  for (std::uint32_t address = 0; address < 2048; address += 128) {
    SCOPED_TRACE(address);
    copy_and_check(tensor, {8, 3}, address);
    copy_and_check(tensor, {-9, 30}, address);
    copy_and_check(tensor, {150, -4}, address);
  }
}

TEST(TensorCopy, Bytes) {
  const Tensor tensor({21, 5, 4}, {16, 3, 2});
  EXPECT_EQ(box_bytes(tensor.map), 16 * 3 * 2 * 2);
  EXPECT_EQ(tensor_bytes(tensor.map), 42 + 4 * 64 + 3 * 5 * 64);
}

// What a copy swizzles, a product with a descriptor of the same swizzle reads: rows along k, and
// transposed in panels of 64 columns. Buffers need not begin at a multiple of 1024 bytes, for both
// take the pattern from the address.
TEST(TensorCopy, FeedsGroupProducts) {
  for (const bool transposed : {false, true}) {
    for (const std::uint32_t begin : {0U, 256U}) {
      SCOPED_TRACE(std::to_string(transposed) + " at " + std::to_string(begin));
      const Integers a(64, 16, 41);
      const Integers b(16, 128, 42);
      Tensor of_a({16, 64}, {64, 64});
      // B lies as columns x k, or as k x columns.
      Tensor of_b(
          transposed ? std::vector<std::int64_t>{128, 16} : std::vector<std::int64_t>{16, 128},
          transposed ? std::vector<std::int64_t>{64, 16} : std::vector<std::int64_t>{64, 128});
      of_a.map.swizzled = of_b.map.swizzled = true;
      const auto store = [](Tensor& tensor, std::int64_t x, std::int64_t y, int value) {
        tensor.elements()[x + y * tensor.map.strides[0] / 2] =
            static_cast<std::uint16_t>(element_bits(Element::f16, value));
      };
      for (int k = 0; k < 16; ++k) {
        for (int row = 0; row < 64; ++row) store(of_a, k, row, a(row, k));
        for (int column = 0; column < 128; ++column) {
          store(of_b, transposed ? column : k, transposed ? k : column, b(k, column));
        }
      }
      std::vector<std::byte> shared(65536, std::byte{0xff});
      const std::array<std::int32_t, 2> origin{};
      copy_box(of_a.map, origin, shared, begin);
      MatrixDescriptor descriptor{begin, 0, 1024, 0, 8};
      const std::uint64_t descriptor_a = encode_descriptor(descriptor);
      descriptor.start = begin + 16384;
      copy_box(of_b.map, origin, shared, descriptor.start);
      if (transposed) {
        // The second panel of 64 columns is 16 rows of 128 bytes behind the first.
        copy_box(of_b.map, std::array<std::int32_t, 2>{64, 0}, shared, descriptor.start + 2048);
        descriptor.leading = 2048;
      }
      GroupProduct what;
      what.columns = 128;
      what.b_transposed = transposed;
      std::vector<Lanes> sums(256, filled(0));
      group_product(what, shared, descriptor_a, encode_descriptor(descriptor),
                    pointers<Lanes*>(sums));
      for (int warp = 0; warp < 4; ++warp) {
        for (int index = 0; index < 64; ++index) {
          for (int lane = 0; lane < 32; ++lane) {
            const int row = 16 * warp + lane / 4 + (index % 4 < 2 ? 0 : 8);
            const int column = index / 4 * 8 + lane % 4 * 2 + index % 2;
            int sum = 0;
            for (int k = 0; k < 16; ++k) sum += a(row, k) * b(k, column);
            ASSERT_EQ(as_float(sums[static_cast<std::size_t>(warp * 64 + index)], lane),
                      static_cast<float>(sum))
                << "row " << row << ", column " << column;
          }
        }
      }
    }
  }
}

TEST(TensorCopy, RefusesWhatTheDriverWould) {
  std::vector<std::byte> shared(4096);
  const std::array<std::int32_t, 2> origin{};
  const Tensor tensor({64, 8}, {64, 8});
  EXPECT_NO_THROW(copy_box(tensor.map, origin, shared, 128));
  EXPECT_THROW(copy_box(tensor.map, origin, shared, 64), std::invalid_argument);
  EXPECT_THROW(copy_box(tensor.map, origin, shared, 3200), std::invalid_argument);
  EXPECT_THROW(copy_box(tensor.map, std::array<std::int32_t, 1>{}, shared, 0),
               std::invalid_argument);
  const auto refused = [&](const auto& change) {
    TensorMap map = tensor.map;
    change(map);
    EXPECT_THROW(copy_box(map, origin, shared, 0), std::invalid_argument);
  };
  refused([](TensorMap& map) { map.address += 8; });
  refused([](TensorMap& map) { map.strides[0] += 8; });
  refused([](TensorMap& map) { map.element_bytes = 3; });
  refused([](TensorMap& map) { map.box = {60, 8}; });
  refused([](TensorMap& map) { map.box = {64, 0}; });
  refused([](TensorMap& map) { map.box = {64, 257}; });
  refused([](TensorMap& map) { map.extents = {0, 8}; });
  refused([](TensorMap& map) { map.strides.clear(); });
  refused([](TensorMap& map) {
    map.swizzled = true;
    map.box = {128, 4};
  });
}

}  // namespace
}  // namespace weft::ptx
