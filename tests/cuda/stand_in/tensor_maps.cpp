// Tensor maps: what the driver takes, and what a launch is given.
#include <algorithm>
#include <bit>

#include "entries.h"
#include "machine.h"

namespace weft::stand_in {
namespace {

/// Maps are opaque: words that only the stand-in makes, one of them the map's number.
cuuint64_t word(std::size_t number, std::size_t i) {
  return i == 0 ? number : (0x9e3779b97f4a7c15U * (number + 1)) ^ (i * 0x0123456789abcdefU);
}

std::int64_t bytes_of(CUtensorMapDataType type) {
  switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_UINT8:
      return 1;
    case CU_TENSOR_MAP_DATA_TYPE_UINT16:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
      return 2;
    case CU_TENSOR_MAP_DATA_TYPE_UINT64:
    case CU_TENSOR_MAP_DATA_TYPE_INT64:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT64:
      return 8;
    default:
      return 4;
  }
}

/// Types whose elements are whole bytes.
bool is_known(CUtensorMapDataType type) {
  return type >= CU_TENSOR_MAP_DATA_TYPE_UINT8 && type <= CU_TENSOR_MAP_DATA_TYPE_TFLOAT32_FTZ;
}

/// What is wrong with a map, by the driver's documentation; nullptr: nothing.
const char* wrong_with(const void* at, CUtensorMapDataType type, const TensorMap& map,
                       const cuuint64_t* extents, const cuuint32_t* steps,
                       CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                       CUtensorMapFloatOOBfill fill) {
  constexpr std::uint64_t most_extent = std::uint64_t{1} << 32;
  constexpr std::int64_t end_of_strides = std::int64_t{1} << 40;
  if (std::bit_cast<std::uintptr_t>(at) % 64 != 0) return "the map is not at a multiple of 64";
  if (!is_known(type)) return "no such type";
  if (map.address % 16 != 0) return "the address is no multiple of 16";
  for (std::size_t i = 0; i < map.extents.size(); ++i) {
    if (extents[i] < 1 || extents[i] > most_extent) return "no such extent";
    if (map.box[i] < 1 || map.box[i] > 256) return "no such box";
    if (steps[i] != 1) return "steps that are not 1, which weft never asks for";
  }
  for (const std::int64_t stride : map.strides) {
    if (stride < 1 || stride % 16 != 0 || stride >= end_of_strides) return "no such stride";
  }
  if (interleave != CU_TENSOR_MAP_INTERLEAVE_NONE || fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE ||
      (swizzle != CU_TENSOR_MAP_SWIZZLE_NONE && swizzle != CU_TENSOR_MAP_SWIZZLE_128B)) {
    return "modes that weft never asks for";
  }
  const std::int64_t row = map.box[0] * bytes_of(type);
  if (row % 16 != 0) return "rows of a box that are no multiple of 16 bytes";
  if (map.exchanged && row > 128) return "rows of a box that are too long to be exchanged";
  return nullptr;
}

}  // namespace

const TensorMap* Machine::find(const CUtensorMap& map) const {
  const std::size_t number = map.opaque[0];
  if (number >= tensor_maps.size()) return nullptr;
  for (std::size_t i = 0; i < std::size(map.opaque); ++i) {
    if (map.opaque[i] != word(number, i)) return nullptr;
  }
  return &tensor_maps[number];
}

namespace entry {

CUresult TensorMapEncodeTiled(CUtensorMap* encoded, CUtensorMapDataType type, cuuint32_t axes,
                              void* address, const cuuint64_t* extents, const cuuint64_t* strides,
                              const cuuint32_t* box, const cuuint32_t* steps,
                              CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                              CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
  Machine& machine = Machine::get();
  const auto wrong = [&](const char* text) {
    machine.violation(std::string("cuTensorMapEncodeTiled: ") + text);
    return CUDA_ERROR_INVALID_VALUE;
  };
  if (axes < 1 || axes > 5) return wrong("no such number of axes");
  if (promotion > CU_TENSOR_MAP_L2_PROMOTION_L2_256B) return wrong("no such promotion");
  TensorMap map;
  map.address = std::bit_cast<std::uintptr_t>(address);
  map.element_bytes = bytes_of(type);
  map.extents.assign(extents, extents + axes);
  map.strides.assign(strides, strides + axes - 1);
  map.box.assign(box, box + axes);
  map.exchanged = swizzle == CU_TENSOR_MAP_SWIZZLE_128B;
  if (const char* text =
          wrong_with(encoded, type, map, extents, steps, interleave, swizzle, fill)) {
    return wrong(text);
  }
  map.bytes = map.extents[0] * map.element_bytes;
  for (std::size_t i = 1; i < axes; ++i) {
    const std::int64_t last = map.extents[i] - 1;
    if (last > machine.settings.memory_bytes / map.strides[i - 1]) return wrong("beyond memory");
    map.bytes += last * map.strides[i - 1];
  }
  if (!machine.inside_device(map.address, map.bytes, "cuTensorMapEncodeTiled")) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const std::size_t number = machine.tensor_maps.size();
  for (std::size_t i = 0; i < std::size(encoded->opaque); ++i) encoded->opaque[i] = word(number, i);
  machine.tensor_maps.push_back(std::move(map));
  return CUDA_SUCCESS;
}

}  // namespace entry

}  // namespace weft::stand_in
