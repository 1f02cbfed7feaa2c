#include "ops/support.h"

namespace weft::ops {

Array::Array(Type array_type) : type(array_type) {
  const auto count = static_cast<std::size_t>(type.elements());
  if (is_differentiable(type.dtype)) {
    re.resize(count);
    if (is_complex(type.dtype)) im.resize(count);
  } else {
    integers.resize(count);
  }
}

double Array::at(std::int64_t position) const {
  const auto index = static_cast<std::size_t>(position);
  return is_differentiable(type.dtype) ? re[index] : static_cast<double>(integers[index]);
}

void Array::set(std::int64_t position, double value) {
  const auto index = static_cast<std::size_t>(position);
  if (is_differentiable(type.dtype)) {
    re[index] = value;
    if (is_complex(type.dtype)) im[index] = 0;
  } else {
    integers[index] = saturate_to(type.dtype, value);
  }
}

}  // namespace weft::ops
