#include "tests/ptx/machine/tensor_copy.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>

#include "tests/ptx/machine/matrix_descriptor.h"

namespace weft::ptx {

namespace {

constexpr std::int64_t kSwizzleBytes = 128;
constexpr std::int64_t kChunk = 16;

[[noreturn]] void refuse(const std::string& what) {
  throw std::invalid_argument("tensor copy: " + what);
}

/// The limits that the driver's documentation of cuTensorMapEncodeTiled gives.
void check(const TensorMap& map) {
  const std::size_t rank = map.extents.size();
  if (rank < 1 || rank > 5) refuse(fmt::format("{} axes, not 1 to 5", rank));
  if (map.box.size() != rank || map.strides.size() != rank - 1) {
    refuse(fmt::format("{} axes with {} strides and a box of {}", rank, map.strides.size(),
                       map.box.size()));
  }
  if (map.element_bytes != 1 && map.element_bytes != 2 && map.element_bytes != 4 &&
      map.element_bytes != 8) {
    refuse(fmt::format("elements of {} bytes", map.element_bytes));
  }
  if (map.address % 16 != 0)
    refuse(fmt::format("a tensor at {:#x}, no multiple of 16", map.address));
  for (std::size_t axis = 0; axis < rank; ++axis) {
    if (map.extents[axis] < 1 || map.extents[axis] > std::int64_t{1} << 32) {
      refuse(fmt::format("axis {} of {} elements", axis, map.extents[axis]));
    }
    if (map.box[axis] < 1 || map.box[axis] > 256) {
      refuse(fmt::format("axis {} of the box of {} elements", axis, map.box[axis]));
    }
    if (axis > 0) {
      const std::int64_t stride = map.strides[axis - 1];
      if (stride < 0 || stride % 16 != 0 || stride >= std::int64_t{1} << 40) {
        refuse(fmt::format("axis {} of a stride of {} bytes", axis, stride));
      }
    }
  }
  const std::int64_t inner = map.box[0] * map.element_bytes;
  if (inner % kChunk != 0) refuse(fmt::format("rows of {} bytes, no multiple of 16", inner));
  // NVIDIA's programming guide allows narrower ones and asks only that memory "accommodate the full
  // swizzle width": it does not say where their rows are.
  if (map.swizzled && inner != kSwizzleBytes) {
    refuse(
        fmt::format("swizzled rows of {} bytes, whose layout is documented for 128 only", inner));
  }
}

}  // namespace

std::int64_t box_bytes(const TensorMap& map) {
  std::int64_t bytes = map.element_bytes;
  for (const std::int64_t extent : map.box) bytes *= extent;
  return bytes;
}

std::int64_t tensor_bytes(const TensorMap& map) {
  std::int64_t bytes = map.extents.at(0) * map.element_bytes;
  for (std::size_t axis = 1; axis < map.extents.size(); ++axis) {
    bytes += (map.extents[axis] - 1) * map.strides.at(axis - 1);
  }
  return bytes;
}

void copy_box(const TensorMap& map, std::span<const std::int32_t> coordinates,
              std::span<std::byte> shared, std::uint32_t address) {
  check(map);
  const std::size_t rank = map.extents.size();
  if (coordinates.size() != rank) {
    refuse(fmt::format("{} coordinates of a tensor of {} axes", coordinates.size(), rank));
  }
  if (address % 128 != 0) refuse(fmt::format("shared address {:#x}, no multiple of 128", address));
  const std::int64_t bytes = box_bytes(map);
  if (address + bytes > static_cast<std::int64_t>(shared.size())) {
    refuse(fmt::format("{} bytes at {:#x} are outside of {} bytes of shared memory", bytes, address,
                       shared.size()));
  }

  const std::int64_t inner = map.box[0] * map.element_bytes;
  const std::int64_t begin = std::clamp<std::int64_t>(-std::int64_t{coordinates[0]}, 0, map.box[0]);
  const std::int64_t end =
      std::clamp<std::int64_t>(map.extents[0] - coordinates[0], begin, map.box[0]);
  std::vector<std::byte> row(static_cast<std::size_t>(inner));
  std::array<std::int64_t, 5> index{};  // within the box; [0] stays 0
  for (std::int64_t offset = 0; offset < bytes; offset += inner) {
    bool inside = begin < end;
    std::int64_t from = (coordinates[0] + begin) * map.element_bytes;
    for (std::size_t axis = 1; axis < rank; ++axis) {
      const std::int64_t at = coordinates[axis] + index[axis];
      inside = inside && at >= 0 && at < map.extents[axis];
      from += at * map.strides[axis - 1];
    }
    std::fill(row.begin(), row.end(), std::byte{0});
    if (inside) {
      // NOLINTNEXTLINE(performance-no-int-to-ptr): addresses of global memory are the host's.
      const auto* global = reinterpret_cast<const std::byte*>(map.address) + from;
      std::memcpy(row.data() + begin * map.element_bytes, global,
                  static_cast<std::size_t>((end - begin) * map.element_bytes));
    }
    // The pattern of the swizzle is one of addresses in shared memory: the programming guide's
    // smem[y][((y + offset) % 8) ^ x] with offset = (address / 128) % 8.
    for (std::int64_t chunk = 0; chunk < inner; chunk += kChunk) {
      const std::uint32_t to = address + static_cast<std::uint32_t>(offset + chunk);
      std::memcpy(shared.data() + swizzled(to, map.swizzled ? 8 : 1), row.data() + chunk,
                  static_cast<std::size_t>(kChunk));
    }
    for (std::size_t axis = 1; axis < rank; ++axis) {
      if (++index[axis] < map.box[axis]) break;
      index[axis] = 0;
    }
  }
}

}  // namespace weft::ptx
