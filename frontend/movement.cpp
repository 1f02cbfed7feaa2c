#include <algorithm>
#include <limits>
#include <numeric>

#include "trace.h"
#include "weft/ops.h"

namespace weft {

using detail::Recorder;
using detail::Value;

namespace {

/// First entry, entries and step of a range of an axis of `extent` entries; the step may be
/// negative.
struct Range {
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::int64_t step = 1;
};

Range resolve(Recorder& record, const Slice& slice, std::int64_t extent) {
  const std::int64_t step = slice.step;
  record.require(step != 0 && step != std::numeric_limits<std::int64_t>::min(), "a step of {}",
                 step);
  // As Python's slice.indices(): bounds are cut to what a walk in this direction can reach.
  const std::int64_t lowest = step > 0 ? 0 : -1;
  const std::int64_t highest = step > 0 ? extent : extent - 1;
  const auto bound = [&](std::int64_t given, std::int64_t absent) {
    if (given == Slice::none) return absent;
    return std::clamp(given < 0 ? given + extent : given, lowest, highest);
  };
  const std::int64_t start = bound(slice.start, step > 0 ? lowest : highest);
  const std::int64_t stop = bound(slice.stop, step > 0 ? highest : lowest);
  const std::int64_t span = step > 0 ? stop - start : start - stop;
  const std::int64_t stride = step > 0 ? step : -step;
  return {start, span > 0 ? (span - 1) / stride + 1 : 0, step};
}

Value take_ranges(Recorder& record, Value x, const std::vector<Range>& ranges) {
  std::vector<std::int64_t> start;
  std::vector<std::int64_t> limit;
  std::vector<std::int64_t> stride;
  std::vector<std::int64_t> reversed;
  for (std::size_t axis = 0; axis < ranges.size(); ++axis) {
    Range range = ranges[axis];
    if (range.count == 0) range = {0, 0, 1};
    if (range.step < 0) {
      range = {range.first + (range.count - 1) * range.step, range.count, -range.step};
      if (range.count > 1) reversed.push_back(static_cast<std::int64_t>(axis));
    }
    start.push_back(range.first);
    limit.push_back(range.count == 0 ? range.first
                                     : range.first + (range.count - 1) * range.step + 1);
    stride.push_back(range.count > 1 ? range.step : 1);
  }
  x = ops::slice(record.build, x, std::move(start), std::move(limit), std::move(stride));
  return ops::flip(record.build, x, std::move(reversed));
}

std::vector<Range> whole(const Shape& shape) {
  std::vector<Range> ranges;
  for (const std::int64_t extent : shape) ranges.push_back({0, extent, 1});
  return ranges;
}

Value without_axis(Recorder& record, Value x, int axis) {
  Shape shape = x.shape();
  shape.erase(axis);
  return ops::reshape(record.build, x, shape);
}

Value with_axis(Recorder& record, Value x, int axis) {
  Shape shape = x.shape();
  record.require(shape.rank() < Shape::max_rank, "{} has the most axes that there can be",
                 x.type().text());
  shape.insert(axis, 1);
  return ops::reshape(record.build, x, shape);
}

}  // namespace

Tensor reshape(const Tensor& x, const Shape& shape, Source at) {
  Recorder record("reshape", at);
  const Value value = record(x);
  Shape to = shape;
  int open = -1;
  std::int64_t known = 1;
  for (int axis = 0; axis < to.rank(); ++axis) {
    if (to[axis] == -1) {
      record.require(open < 0, "more than one extent of {} is -1", shape.text());
      open = axis;
    } else {
      record.require(to[axis] >= 0, "{} has a negative extent", shape.text());
      known *= to[axis];
    }
  }
  const std::int64_t elements = value.type().elements();
  if (open >= 0) {
    record.require(known != 0 && elements % known == 0, "{} does not fit into {}",
                   value.type().text(), shape.text());
    to[open] = elements / known;
  }
  record.require(to.elements() == elements, "{} does not fit into {}", value.type().text(),
                 shape.text());
  return record(ops::reshape(record.build, value, to));
}

Tensor flatten(const Tensor& x, int start, int end, Source at) {
  Recorder record("flatten", at);
  const Value value = record(x);
  if (value.type().rank() == 0) return record(ops::reshape(record.build, value, {1}));
  const int first = record.axis(start, value.type().rank());
  const int last = record.axis(end, value.type().rank());
  record.require(first <= last, "axes {} to {} of {}", first, last, value.type().text());
  Shape shape;
  for (int axis = 0; axis < value.type().rank(); ++axis) {
    if (axis > first && axis <= last) {
      shape[first] *= value.shape()[axis];
    } else {
      shape.push_back(value.shape()[axis]);
    }
  }
  return record(ops::reshape(record.build, value, shape));
}

Tensor permute(const Tensor& x, const Axes& order, Source at) {
  Recorder record("permute", at);
  const Value value = record(x);
  record.require(!order.all(), "needs an order");
  std::vector<std::int64_t> axes = record.ordered_axes(order.list(), value);
  record.require(static_cast<int>(axes.size()) == value.type().rank(), "{} axes for {}",
                 axes.size(), value.type().text());
  return record(ops::permute(record.build, value, std::move(axes)));
}

Tensor transpose(const Tensor& x, int axis0, int axis1, Source at) {
  Recorder record("transpose", at);
  const Value value = record(x);
  const int rank = value.type().rank();
  return record(
      ops::transpose(record.build, value, record.axis(axis0, rank), record.axis(axis1, rank)));
}

Tensor squeeze(const Tensor& x, const Axes& axes, Source at) {
  Recorder record("squeeze", at);
  const Value value = record(x);
  const std::vector<std::int64_t> listed = record.axes(axes, value);
  Shape shape;
  for (int axis = 0; axis < value.type().rank(); ++axis) {
    const bool removed = std::binary_search(listed.begin(), listed.end(), axis);
    const std::int64_t extent = value.shape()[axis];
    record.require(!removed || extent == 1 || axes.all(), "axis {} of {} has not extent 1", axis,
                   value.type().text());
    if (!removed || extent != 1) shape.push_back(extent);
  }
  return record(ops::reshape(record.build, value, shape));
}

Tensor unsqueeze(const Tensor& x, int axis, Source at) {
  Recorder record("unsqueeze", at);
  const Value value = record(x);
  return record(with_axis(record, value, record.axis(axis, value.type().rank() + 1)));
}

Tensor broadcast_to(const Tensor& x, const Shape& shape, Source at) {
  Recorder record("broadcast_to", at);
  const Value value = record(x);
  const int shift = shape.rank() - value.type().rank();
  bool fits = shift >= 0;
  for (int axis = 0; fits && axis < value.type().rank(); ++axis) {
    const std::int64_t extent = value.shape()[axis];
    fits = extent == 1 || extent == shape[axis + shift];
  }
  record.require(fits, "{} does not broadcast to {}", value.type().text(), shape.text());
  return record(ops::broadcast_to(record.build, value, shape));
}

Tensor expand(const Tensor& x, const Shape& shape, Source at) {
  const Shape& own = x.shape(at);
  Shape to = shape;
  const int shift = to.rank() - own.rank();
  for (int axis = 0; axis < to.rank(); ++axis) {
    if (to[axis] != -1) continue;
    if (axis < shift) {
      detail::fail(at, "expand: axis {} of {} is new and cannot be -1", axis, shape.text());
    }
    to[axis] = own[axis - shift];
  }
  return broadcast_to(x, to, at);
}

Tensor slice(const Tensor& x, int axis, std::int64_t start, std::int64_t stop, std::int64_t step,
             Source at) {
  Recorder record("slice", at);
  const Value value = record(x);
  const int checked = record.axis(axis, value.type().rank());
  std::vector<Range> ranges = whole(value.shape());
  ranges[static_cast<std::size_t>(checked)] =
      resolve(record, {start, stop, step}, value.shape()[checked]);
  return record(take_ranges(record, value, ranges));
}

Tensor slice(const Tensor& x, const std::vector<Slice>& slices, Source at) {
  Recorder record("slice", at);
  const Value value = record(x);
  record.require(static_cast<int>(slices.size()) <= value.type().rank(), "{} ranges for {}",
                 slices.size(), value.type().text());
  std::vector<Range> ranges = whole(value.shape());
  for (std::size_t axis = 0; axis < slices.size(); ++axis) {
    ranges[axis] = resolve(record, slices[axis], value.shape()[static_cast<int>(axis)]);
  }
  return record(take_ranges(record, value, ranges));
}

Tensor select(const Tensor& x, int axis, std::int64_t index, Source at) {
  Recorder record("select", at);
  const Value value = record(x);
  const int checked = record.axis(axis, value.type().rank());
  const std::int64_t extent = value.shape()[checked];
  record.require(index >= -extent && index < extent, "there is no entry {} along axis {} of {}",
                 index, checked, value.type().text());
  const std::int64_t entry = index < 0 ? index + extent : index;
  return record(without_axis(
      record, ops::slice_axis(record.build, value, checked, entry, entry + 1), checked));
}

std::vector<Tensor> split(const Tensor& x, const std::vector<std::int64_t>& sizes, int axis,
                          Source at) {
  Recorder record("split", at);
  const Value value = record(x);
  const int checked = record.axis(axis, value.type().rank());
  std::int64_t total = 0;
  for (const std::int64_t size : sizes) {
    record.require(size >= 0, "a piece of {} entries", size);
    total += size;
  }
  record.require(total == value.shape()[checked], "pieces of {} entries in all of axis {} of {}",
                 total, checked, value.type().text());
  std::vector<Tensor> pieces;
  std::int64_t start = 0;
  for (const std::int64_t size : sizes) {
    pieces.push_back(record(ops::slice_axis(record.build, value, checked, start, start + size)));
    start += size;
  }
  return pieces;
}

Tensor pad(const Tensor& x, const std::vector<std::int64_t>& low,
           const std::vector<std::int64_t>& high, double value, Source at) {
  Recorder record("pad", at);
  const Value padded = record(x);
  const auto rank = static_cast<std::size_t>(padded.type().rank());
  record.require(low.size() == rank && high.size() == rank, "{} and {} widths for {}", low.size(),
                 high.size(), padded.type().text());
  return record(ops::pad(record.build, padded, low, high, value));
}

Tensor pad(const Tensor& x, int axis, std::int64_t low, std::int64_t high, double value,
           Source at) {
  Recorder record("pad", at);
  const Value padded = record(x);
  const int checked = record.axis(axis, padded.type().rank());
  return record(ops::pad_axis(record.build, padded, checked, low, high, value));
}

std::vector<Tensor> split(const Tensor& x, std::int64_t size, int axis, Source at) {
  if (size <= 0) detail::fail(at, "split: pieces of {} entries", size);
  const std::int64_t extent = x.extent(axis, at);
  std::vector<std::int64_t> sizes;
  for (std::int64_t start = 0; start < extent; start += size) {
    sizes.push_back(std::min(size, extent - start));
  }
  return split(x, sizes, axis, at);
}

std::vector<Tensor> chunk(const Tensor& x, std::int64_t count, int axis, Source at) {
  if (count <= 0) detail::fail(at, "chunk: {} pieces", count);
  const std::int64_t extent = x.extent(axis, at);
  if (extent == 0) return {x};
  return split(x, (extent - 1) / count + 1, axis, at);
}

Tensor flip(const Tensor& x, const Axes& axes, Source at) {
  Recorder record("flip", at);
  const Value value = record(x);
  return record(ops::flip(record.build, value, record.axes(axes, value)));
}

Tensor roll(const Tensor& x, std::int64_t shift, int axis, Source at) {
  Recorder record("roll", at);
  const Value value = record(x);
  const int checked = record.axis(axis, value.type().rank());
  const std::int64_t extent = value.shape()[checked];
  if (extent == 0 || shift % extent == 0) return record(value);
  const std::int64_t first = extent - (shift % extent + extent) % extent;
  return record(ops::concat(record.build,
                            {ops::slice_axis(record.build, value, checked, first, extent),
                             ops::slice_axis(record.build, value, checked, 0, first)},
                            checked));
}

Tensor concat(const std::vector<Tensor>& xs, int axis, Source at) {
  Recorder record("concat", at);
  record.require(!xs.empty(), "of no tensors");
  std::vector<Value> values = record.values(xs);
  const int checked = record.axis(axis, values[0].type().rank());
  return record(ops::concat(record.build, std::move(values), checked));
}

Tensor stack(const std::vector<Tensor>& xs, int axis, Source at) {
  Recorder record("stack", at);
  record.require(!xs.empty(), "of no tensors");
  std::vector<Value> values = record.values(xs);
  const int checked = record.axis(axis, values[0].type().rank() + 1);
  for (Value& value : values) {
    record.require(value.type() == xs[0].type(), "{} and {} differ", xs[0].type().text(),
                   value.type().text());
    value = with_axis(record, value, checked);
  }
  return record(ops::concat(record.build, std::move(values), checked));
}

Tensor tile(const Tensor& x, std::int64_t count, int axis, Source at) {
  Recorder record("tile", at);
  Value value = record(x);
  record.require(count >= 0, "{} times", count);
  const int checked = record.axis(axis, value.type().rank());
  Shape shape = value.shape();
  shape[checked] *= count;
  value = with_axis(record, value, checked);
  Shape repeated = value.shape();
  repeated[checked] = count;
  value = ops::broadcast_to(record.build, value, repeated);
  return record(ops::reshape(record.build, value, shape));
}

namespace {

Tensor triangle(std::string_view what, const Tensor& x, std::int64_t diagonal, bool lower,
                const Source& at) {
  Recorder record(what, at);
  const Value value = record(x);
  const int rank = value.type().rank();
  record.require(rank >= 2, "{} has fewer than two axes", value.type().text());
  const Shape square = {value.shape()[rank - 2], value.shape()[rank - 1]};
  const Tensor row = iota(square, 0, DType::i64, at);
  const Tensor column = iota(square, 1, DType::i64, at);
  const Tensor offset = sub({column, at}, {row, at});
  const Tensor kept = lower ? less_equal({offset, at}, {diagonal, at})
                            : greater_equal({offset, at}, {diagonal, at});
  return where(kept, {x, at}, {0, at});
}

}  // namespace

Tensor tril(const Tensor& x, std::int64_t diagonal, Source at) {
  return triangle("tril", x, diagonal, true, at);
}
Tensor triu(const Tensor& x, std::int64_t diagonal, Source at) {
  return triangle("triu", x, diagonal, false, at);
}

}  // namespace weft
