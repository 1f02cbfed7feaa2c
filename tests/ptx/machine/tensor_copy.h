#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::ptx {

/// What cuTensorMapEncodeTiled was given: no interleaving, elements taken one after the other,
/// zeros for what lies outside. Axes are innermost first.
struct TensorMap {
  std::uint64_t address = 0;
  std::int64_t element_bytes = 0;
  std::vector<std::int64_t> extents;  ///< Elements.
  std::vector<std::int64_t> strides;  ///< Bytes, of all axes but the innermost.
  std::vector<std::int64_t> box;      ///< Elements.
  bool swizzled = false;              ///< CU_TENSOR_MAP_SWIZZLE_128B, else none.
};

/// What cp.async.bulk.tensor in tiled mode does: writes the box whose first element has these
/// coordinates (innermost first, may be negative) to `address` in `shared`, densely, the innermost
/// axis first; elements outside of the tensor are zero. Reads global memory at the map's address.
/// Throws std::invalid_argument of a map that the driver would refuse, coordinates of another rank,
/// or an address that is misaligned or too near to the end of `shared`.
void copy_box(const TensorMap& map, std::span<const std::int32_t> coordinates,
              std::span<std::byte> shared, std::uint32_t address);

/// The bytes that a copy writes and signals to its mbarrier: the whole box, zeros included.
std::int64_t box_bytes(const TensorMap& map);

/// The bytes from the map's address to the end of the tensor's last element: what must be global
/// memory.
std::int64_t tensor_bytes(const TensorMap& map);

}  // namespace weft::ptx
