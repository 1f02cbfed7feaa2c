#include "runtime/cuda/tensor_map.h"

#include <fmt/ranges.h>

#include <array>

#include "runtime/cuda/code.h"

namespace weft::runtime::cuda {
namespace {

constexpr std::size_t most_axes = 5;

/// Copies move bits: of a type only its size matters, and that its zero is zero bits.
CUtensorMapDataType type_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    case DType::f16:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    case DType::bf16:
      return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    case DType::f64:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT64;
    case DType::i32:
      return CU_TENSOR_MAP_DATA_TYPE_INT32;
    case DType::i64:
      return CU_TENSOR_MAP_DATA_TYPE_INT64;
    case DType::c64:
      return CU_TENSOR_MAP_DATA_TYPE_UINT64;
    case DType::u8:
    case DType::boolean:
      break;
  }
  return CU_TENSOR_MAP_DATA_TYPE_UINT8;
}

template <typename Number>
std::array<Number, most_axes> numbers(const std::vector<std::int64_t>& values) {
  std::array<Number, most_axes> made{};
  for (std::size_t i = 0; i < values.size(); ++i) made[i] = static_cast<Number>(values[i]);
  return made;
}

}  // namespace

std::span<const CUtensorMap> TensorMaps::of(const plan::Step& launch,
                                            std::span<const std::uint64_t> addresses) {
  const plan::Kernel& kernel = plan_.kernels[launch.index];
  if (kernel.tensor_maps.empty()) return {};
  const auto known = encoded_.find(&launch);
  if (known != encoded_.end()) return known->second;
  std::vector<CUtensorMap> made;
  for (std::size_t i = 0; i < kernel.tensor_maps.size(); ++i) {
    made.push_back(encode(kernel, i, addresses));
  }
  return encoded_.emplace(&launch, std::move(made)).first->second;
}

CUtensorMap TensorMaps::encode(const plan::Kernel& kernel, std::size_t number,
                               std::span<const std::uint64_t> addresses) const {
  const plan::TensorMap& map = kernel.tensor_maps[number];
  const std::uint64_t address = addresses[map.argument] + static_cast<std::uint64_t>(map.offset);
  const auto extents = numbers<cuuint64_t>(map.extents);
  const auto strides = numbers<cuuint64_t>(map.strides);
  const auto box = numbers<cuuint32_t>(map.box);
  std::array<cuuint32_t, most_axes> steps{};
  steps.fill(1);
  CUtensorMap made{};
  device_->driver().check(
      device_->driver().TensorMapEncodeTiled(
          &made, type_of(map.dtype), static_cast<cuuint32_t>(map.extents.size()),
          reinterpret_cast<void*>(address), extents.data(), strides.data(), box.data(),
          steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE,
          map.exchanged ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE,
          // Neighbouring boxes are read by other blocks soon: whole lines may as well come.
          CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
      "plan \"{}\": {}: encoding tensor map {}, {} [{}] of [{}] bytes apart at {:#x}, boxes of "
      "[{}]{}",
      plan_.name, text_of(kernel), number, name(map.dtype), fmt::join(map.extents, ", "),
      fmt::join(map.strides, ", "), address, fmt::join(map.box, ", "),
      map.exchanged ? ", exchanged" : "");
  return made;
}

}  // namespace weft::runtime::cuda
