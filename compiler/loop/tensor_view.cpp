#include "compiler/loop/tensor_view.h"

#include <fmt/format.h>

namespace weft::loop {
namespace {

constexpr std::size_t most_axes = 5;
constexpr std::int64_t unit = 16;  ///< bytes that copies move at a time
constexpr std::int64_t most_box = 256;
constexpr std::int64_t most_extent = std::int64_t{1} << 32;
constexpr std::int64_t end_of_strides = std::int64_t{1} << 40;  ///< bytes
constexpr std::int64_t exchanged_row = 128;

std::int64_t element_bytes(const TensorView& view) {
  return static_cast<std::int64_t>(size_of(view.buffer->dtype));
}

}  // namespace

std::int64_t TensorView::box_bytes() const {
  std::int64_t bytes = element_bytes(*this);
  for (const std::int64_t side : box) bytes *= side;
  return bytes;
}

std::optional<std::string> refusal(const TensorView& view) {
  if (view.buffer == nullptr || view.buffer->space != Space::argument) {
    return "is not of an argument";
  }
  if (view.buffer->dtype == DType::boolean || view.buffer->dtype == DType::c64) {
    return fmt::format("is of {}", name(view.buffer->dtype));
  }
  const std::size_t axes = view.extents.size();
  if (axes < 1 || axes > most_axes || view.strides.size() != axes || view.box.size() != axes) {
    return fmt::format("has {} extents, {} strides and a box of {} axes, where {} to {} are", axes,
                       view.strides.size(), view.box.size(), 1, most_axes);
  }
  const std::int64_t size = element_bytes(view);
  if (view.offset < 0 || view.offset * size % unit != 0) {
    return fmt::format("starts at byte {}, no multiple of {}", view.offset * size, unit);
  }
  if (view.strides[0] != 1) return fmt::format("has an innermost stride of {}", view.strides[0]);
  std::int64_t last = view.offset;
  for (std::size_t i = 0; i < axes; ++i) {
    const std::int64_t extent = view.extents[i], stride = view.strides[i], side = view.box[i];
    if (extent < 1 || extent > most_extent) {
      return fmt::format("has {} elements along axis {}", extent, i);
    }
    if (i > 0 && (stride < 0 || stride >= end_of_strides / size || stride * size % unit != 0)) {
      return fmt::format("has a stride of {} bytes along axis {}, no multiple of {} below 2^40",
                         stride * size, i, unit);
    }
    if (side < 1 || side > most_box) {
      return fmt::format("has a box of {} elements along axis {}, not 1 to {}", side, i, most_box);
    }
    last += (extent - 1) * stride;
  }
  if (view.box[0] * size % unit != 0) {
    return fmt::format("has a box with rows of {} bytes, no multiple of {}", view.box[0] * size,
                       unit);
  }
  if (view.exchanged && view.box[0] * size != exchanged_row) {
    return fmt::format("exchanges pieces of rows of {} bytes, not {}", view.box[0] * size,
                       exchanged_row);
  }
  if (last >= view.buffer->elements) {
    return fmt::format("reaches element {} of {}, which has {}", last, view.buffer->name,
                       view.buffer->elements);
  }
  return std::nullopt;
}

plan::TensorMap tensor_map(const TensorView& view) {
  const std::int64_t size = element_bytes(view);
  plan::TensorMap map;
  map.argument = static_cast<std::uint32_t>(view.buffer->index);
  map.offset = view.offset * size;
  map.dtype = view.buffer->dtype;
  map.extents = view.extents;
  for (std::size_t i = 1; i < view.strides.size(); ++i) {
    map.strides.push_back(view.strides[i] * size);
  }
  map.box = view.box;
  map.exchanged = view.exchanged;
  return map;
}

}  // namespace weft::loop
