#include "compiler/schedules/access.h"

namespace weft::compiler {

using loop::Binary;
using loop::Ex;
using loop::ExprKind;

bool depends_on(Ex e, Ex variable) {
  if (e == nullptr) return false;
  if (e == variable) return true;
  for (Ex argument : e->arguments) {
    if (depends_on(argument, variable)) return true;
  }
  return false;
}

namespace {

bool add_strides(Ex e, std::span<const Ex> axes, std::vector<std::int64_t>& strides,
                 std::int64_t scale) {
  switch (e->kind) {
    case ExprKind::constant:
      return true;
    case ExprKind::variable:
      for (std::size_t i = 0; i < axes.size(); ++i) {
        if (axes[i] == e) strides[i] += scale;
      }
      return true;
    case ExprKind::binary: {
      const auto op = static_cast<Binary>(e->code);
      const Ex x = e->arguments[0];
      const Ex y = e->arguments[1];
      if (op == Binary::add) {
        return add_strides(x, axes, strides, scale) && add_strides(y, axes, strides, scale);
      }
      if (op == Binary::subtract) {
        return add_strides(x, axes, strides, scale) && add_strides(y, axes, strides, -scale);
      }
      if (op == Binary::multiply && y->kind == ExprKind::constant) {
        return add_strides(x, axes, strides, scale * y->integer);
      }
      if (op == Binary::multiply && x->kind == ExprKind::constant) {
        return add_strides(y, axes, strides, scale * x->integer);
      }
      break;
    }
    default:
      break;
  }
  // Any other expression is a constant as long as no axis is in it.
  for (Ex axis : axes) {
    if (depends_on(e, axis)) return false;
  }
  return true;
}

}  // namespace

std::optional<std::vector<std::int64_t>> strides_of(Ex e, std::span<const Ex> axes) {
  std::vector<std::int64_t> strides(axes.size(), 0);
  if (!add_strides(e, axes, strides, 1)) return std::nullopt;
  return strides;
}

bool contiguous_along(Ex e, Ex axis) {
  if (e == nullptr) return true;
  if (e->kind == ExprKind::load && depends_on(e->arguments[0], axis)) {
    const auto strides = strides_of(e->arguments[0], {&axis, 1});
    if (!strides || strides->front() != 1) return false;
  }
  for (Ex argument : e->arguments) {
    if (!contiguous_along(argument, axis)) return false;
  }
  return true;
}

}  // namespace weft::compiler
