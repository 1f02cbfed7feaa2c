#include "trace.h"
#include "weft/ops.h"

namespace weft {

using detail::Recorder;
using detail::Value;

namespace {

/// Start values for each axis: `start` at `axis`, 0 elsewhere.
std::vector<Value> starts_of(Recorder& record, Value x, int axis, Value start) {
  record.require(start.type().rank() == 0, "the start is {}, not a scalar", start.type().text());
  record.require(start.dtype() == DType::i32 || start.dtype() == DType::i64,
                 "the start is {}, not i32 or i64", start.type().text());
  std::vector<Value> starts;
  for (int other = 0; other < x.type().rank(); ++other) {
    starts.push_back(other == axis ? start : ops::constant(record.build, start.dtype(), 0));
  }
  return starts;
}

Value window(Recorder& record, Value x, std::vector<Value> starts, const Shape& sizes) {
  std::vector<Value> operands = {x};
  operands.insert(operands.end(), starts.begin(), starts.end());
  const std::vector<std::int64_t> extents(sizes.begin(), sizes.end());
  return record.build.emit1("dynamic_slice", std::move(operands), {{"sizes", extents}});
}

}  // namespace

Tensor dynamic_slice(const Tensor& x, const std::vector<Tensor>& starts, const Shape& sizes,
                     Source at) {
  Recorder record("dynamic_slice", at);
  const Value value = record(x);
  return record(window(record, value, record.values(starts), sizes));
}

Tensor dynamic_slice(const Tensor& x, int axis, const Tensor& start, std::int64_t size, Source at) {
  Recorder record("dynamic_slice", at);
  const Value value = record(x);
  const int checked = record.axis(axis, value.type().rank());
  Shape sizes = value.shape();
  sizes[checked] = size;
  return record(window(record, value, starts_of(record, value, checked, record(start)), sizes));
}

Tensor select(const Tensor& x, int axis, const Tensor& index, Source at) {
  Recorder record("select", at);
  Value value = record(x);
  const int checked = record.axis(axis, value.type().rank());
  Shape sizes = value.shape();
  sizes[checked] = 1;
  value = window(record, value, starts_of(record, value, checked, record(index)), sizes);
  sizes.erase(checked);
  return record(ops::reshape(record.build, value, sizes));
}

Tensor dynamic_update_slice(const Tensor& x, const Tensor& update,
                            const std::vector<Tensor>& starts, Source at) {
  Recorder record("dynamic_update_slice", at);
  std::vector<Value> operands = {record(x), record(update)};
  for (const Tensor& start : starts) operands.push_back(record(start));
  return record(record.build.emit1("dynamic_update_slice", std::move(operands)));
}

Tensor dynamic_update_slice(const Tensor& x, const Tensor& update, int axis, const Tensor& start,
                            Source at) {
  Recorder record("dynamic_update_slice", at);
  std::vector<Value> operands = {record(x), record(update)};
  const int checked = record.axis(axis, operands[0].type().rank());
  const std::vector<Value> starts = starts_of(record, operands[0], checked, record(start));
  operands.insert(operands.end(), starts.begin(), starts.end());
  return record(record.build.emit1("dynamic_update_slice", std::move(operands)));
}

Tensor gather(const Tensor& x, const Tensor& indices, int axis, Source at) {
  Recorder record("gather", at);
  const Value value = record(x);
  const std::int64_t checked = record.axis(axis, value.type().rank());
  return record(record.build.emit1("gather", {value, record(indices)}, {{"axis", checked}}));
}

Tensor take(const Tensor& x, const Tensor& indices, int axis, Source at) {
  return gather(x, indices, axis, at);
}

Tensor scatter_add(const Tensor& x, const Tensor& indices, const Tensor& updates, int axis,
                   Source at) {
  Recorder record("scatter_add", at);
  const Value value = record(x);
  const std::int64_t checked = record.axis(axis, value.type().rank());
  return record(record.build.emit1("scatter_add", {value, record(indices), record(updates)},
                                   {{"axis", checked}}));
}

Tensor embedding(const Tensor& weight, const Tensor& ids, Source at) {
  Recorder record("embedding", at);
  const Value table = record(weight);
  record.require(table.type().rank() == 2, "the weight is {}, not a matrix", table.type().text());
  const Value rows = record(ids);
  record.require(rows.dtype() == DType::i32 || rows.dtype() == DType::i64,
                 "the ids are {}, not i32 or i64", rows.type().text());
  return record(record.build.emit1("gather", {table, rows}, {{"axis", std::int64_t{0}}}));
}

Tensor one_hot(const Tensor& ids, std::int64_t classes, DType dtype, Source at) {
  Recorder record("one_hot", at);
  const Value value = record(ids);
  record.require(is_integer(value.dtype()), "the ids are {}, not integers", value.type().text());
  record.require(classes >= 0, "{} classes", classes);
  const Tensor number = iota({classes}, 0, value.dtype(), at);
  return cast(equal({unsqueeze(ids, -1, at), at}, {number, at}), dtype, at);
}

}  // namespace weft
