#include "compiler/schedules/copied_operand.h"

#include <algorithm>
#include <string>

#include "compiler/schedules/access.h"
#include "compiler/schedules/group_product.h"

namespace weft::compiler {

using loop::Binary;
using loop::Ex;
using loop::ExprKind;
using loop::Scalar;

namespace {

/// What the driver takes (plan::TensorMap), in elements of 16 bits.
constexpr std::int64_t granule = 8;
constexpr std::int64_t most_extent = std::int64_t{1} << 32;
constexpr std::int64_t end_of_strides = std::int64_t{1} << 39;
constexpr std::size_t most_axes = 5;

/// The value where all variables are 0; nothing where that is not known.
std::optional<std::int64_t> at_zero(Ex e) {
  if (e->kind == ExprKind::constant) return e->integer;
  if (e->kind == ExprKind::variable) return 0;
  if (e->kind != ExprKind::binary) return std::nullopt;
  const auto x = at_zero(e->arguments[0]);
  const auto y = at_zero(e->arguments[1]);
  if (!x || !y) return std::nullopt;
  switch (static_cast<Binary>(e->code)) {
    case Binary::add:
      return *x + *y;
    case Binary::subtract:
      return *x - *y;
    case Binary::multiply:
      return *x * *y;
    default:
      return std::nullopt;
  }
}

struct Axes {
  std::vector<std::int64_t> extents, strides;
};

/// Neighbours that are one axis in memory become one; those of extent 1 are left out.
Axes merged(const Shape& shape, const std::vector<std::int64_t>& strides) {
  Axes result;
  for (int i = 0; i < shape.rank(); ++i) {
    const std::int64_t extent = shape[i];
    const std::int64_t stride = strides[static_cast<std::size_t>(i)];
    if (extent == 1) continue;
    if (!result.extents.empty() && result.strides.back() == stride * extent) {
      result.extents.back() *= extent;
      result.strides.back() = stride;
    } else {
      result.extents.push_back(extent);
      result.strides.push_back(stride);
    }
  }
  return result;
}

bool is_stride(std::int64_t stride) {
  return stride > 0 && stride % granule == 0 && stride < end_of_strides;
}

}  // namespace

std::optional<OperandView> view_of(GroupEmitter& emitter, const TiledOperand& operand,
                                   const Product& product, bool columns, DType storage) {
  loop::Kernel scratch;
  GroupEmitter probe(scratch, emitter.group());
  loop::Arena& a = probe.arena();
  std::vector<Ex> variables;
  const auto position = [&](const Shape& shape) {
    std::vector<Ex> own;
    for (const std::int64_t extent : shape) {
      own.push_back(a.variable(Scalar::i64, 0, std::max<std::int64_t>(extent - 1, 0)));
    }
    variables.insert(variables.end(), own.begin(), own.end());
    return a.linearize(own, shape);
  };
  const Shape& free = columns ? product.rhs_free : product.lhs_free;
  const Ex batch_at = position(product.batch);
  const Ex free_at = position(free);
  const Ex depth_at = position(product.contracted);
  const Ex e = operand.value(probe, batch_at, free_at, depth_at);
  if (e->kind != ExprKind::load || e->arguments[1] != nullptr ||
      e->buffer->space != loop::Space::argument || e->buffer->dtype != storage) {
    return std::nullopt;
  }
  const auto strides = strides_of(e->arguments[0], variables);
  const auto offset = at_zero(e->arguments[0]);
  if (!strides || !offset || *offset < 0 || *offset % granule != 0) return std::nullopt;
  const auto part = [&](std::size_t first, const Shape& shape) {
    const auto begin = strides->begin() + static_cast<std::ptrdiff_t>(first);
    return merged(shape, {begin, begin + shape.rank()});
  };
  const auto rank = [](const Shape& shape) { return static_cast<std::size_t>(shape.rank()); };
  const Axes batch = part(0, product.batch);
  const Axes along_free = part(rank(product.batch), free);
  const Axes along_depth = part(rank(product.batch) + rank(free), product.contracted);
  if (along_free.extents.size() != 1 || along_depth.extents.size() != 1) return std::nullopt;
  OperandView view;
  view.offset = *offset;
  view.free = along_free.extents[0];
  view.depth = along_depth.extents[0];
  view.depth_inner = along_depth.strides[0] == 1;
  view.outer_stride = view.depth_inner ? along_free.strides[0] : along_depth.strides[0];
  const std::int64_t inner = view.depth_inner ? along_depth.strides[0] : along_free.strides[0];
  if (inner != 1 || !is_stride(view.outer_stride) || view.free > most_extent ||
      view.depth > most_extent) {
    return std::nullopt;
  }
  std::size_t axes = 2;
  std::int64_t last = view.offset + (view.depth_inner ? view.depth : view.free) - 1 +
                      view.outer_stride * ((view.depth_inner ? view.free : view.depth) - 1);
  for (std::size_t i = 0; i < batch.extents.size(); ++i) {
    view.batch.push_back(batch.extents[i]);
    view.strides.push_back(batch.strides[i]);
    last += (batch.extents[i] - 1) * batch.strides[i];
    if (batch.strides[i] == 0) continue;
    if (!is_stride(batch.strides[i]) || batch.extents[i] > most_extent) return std::nullopt;
    ++axes;
  }
  if (axes > most_axes || last >= e->buffer->elements) return std::nullopt;
  return view;
}

TileCopies::TileCopies(GroupEmitter& emitter, const TiledOperand& operand, const OperandView& view,
                       DType storage, std::int64_t free, std::int64_t stages)
    : a_(emitter.arena()), b_(emitter.builder()), view_(view), free_(free) {
  const Ex zero = a_.integer(0);
  emitter.reset();
  const Ex load = operand.value(emitter, zero, zero, zero);
  emitter.reset();
  loop::TensorView seen;
  seen.buffer = load->buffer;
  seen.offset = view.offset;
  seen.exchanged = true;
  seen.extents = {view.depth, view.free};
  seen.box = {group_depth, free};
  if (!view.depth_inner) {
    seen.extents = {view.free, view.depth};
    seen.box = {group_depth, group_depth};
  }
  seen.strides = {1, view.outer_stride};
  for (std::size_t i = view.strides.size(); i-- > 0;) {
    if (view.strides[i] == 0) continue;
    batch_axes_.push_back(i);
    seen.extents.push_back(view.batch[static_cast<int>(i)]);
    seen.strides.push_back(view.strides[i]);
    seen.box.push_back(1);
  }
  map_ = b_.kernel().tensor_map(operand.name + "_map", seen);
  buffer_ = b_.kernel().shared(operand.name, storage, stages * free * group_depth);
}

Ex TileCopies::stage(Ex number) const { return a_.mul(number, a_.integer(free_ * group_depth)); }

std::int64_t TileCopies::bytes() const { return 2 * free_ * group_depth; }

void TileCopies::start(Ex stage, Ex batch, Ex free, Ex depth, const loop::Address& arrival) {
  const auto coordinate = [&](Ex e) { return b_.let(a_.cast(e, Scalar::i32)); };
  const std::vector<Ex> batches = a_.delinearize(batch, view_.batch);
  const std::int64_t boxes = view_.depth_inner ? 1 : free_ / group_depth;
  const Ex first = this->stage(stage);
  std::vector<Ex> operands(2);
  for (const std::size_t axis : batch_axes_) operands.push_back(coordinate(batches[axis]));
  const loop::Intrinsic& copy = loop::intrinsic("copy_tensor." + std::to_string(operands.size()));
  for (std::int64_t box = 0; box < boxes; ++box) {
    const Ex own = coordinate(a_.add(free, a_.integer(box * group_depth)));
    operands[view_.depth_inner ? 1 : 0] = own;
    operands[view_.depth_inner ? 0 : 1] = coordinate(depth);
    b_.call(copy, operands,
            {{buffer_, a_.add(first, a_.integer(box * group_depth * group_depth))},
             arrival,
             {map_, a_.integer(0)}});
  }
}

}  // namespace weft::compiler
