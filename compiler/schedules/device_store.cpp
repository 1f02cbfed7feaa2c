#include "compiler/schedules/device_store.h"

#include <algorithm>

#include "compiler/schedules/device_tile.h"

namespace weft::compiler {

using loop::Ex;
using loop::Role;
using loop::Scalar;

std::int64_t aligned_columns(
    GroupEmitter& emitter, std::int64_t columns,
    const std::function<std::vector<Ex>(GroupEmitter& probe, Ex column)>& accesses,
    std::int64_t most) {
  for (std::int64_t width = most; width > 1; width /= 2) {
    if (columns % width != 0) continue;
    loop::Kernel scratch;
    GroupEmitter probe(scratch, emitter.group());
    loop::Arena& a = probe.arena();
    const Ex lane = a.variable(Scalar::i64, 0, width - 1);
    const Ex chunk = a.variable(Scalar::i64, 0, columns / width - 1);
    bool aligned = true;
    for (const Ex e : accesses(probe, a.add(a.mul(chunk, a.integer(width)), lane))) {
      aligned = aligned && lanes_are_aligned(a, e, lane, width);
    }
    if (aligned) return width;
  }
  return 1;
}

std::vector<Ex> output_accesses(GroupEmitter& probe, const std::vector<Ex>& index,
                                const Shape& shape) {
  loop::Arena& a = probe.arena();
  const Ex position = a.linearize(index, shape);
  std::vector<Ex> accesses;
  for (const ir::Value output : probe.group().outputs) {
    if (output.index > 0 || output.node == probe.group().operand_sum) continue;
    std::vector<Ex> own = index;
    if (!(output.shape() == shape)) own = a.delinearize(position, output.shape());
    const ops::Element element = probe.value(output, own);
    accesses.push_back(element.re);
    if (element.im != nullptr) accesses.push_back(element.im);
    accesses.push_back(a.load(probe.output_buffer(output), position));
  }
  return accesses;
}

void RowStore::store(Ex row, Ex column, const std::vector<Ex>& values, const Body& body) {
  const std::int64_t count = static_cast<std::int64_t>(values.size()) / series_;
  const std::int64_t width = std::min(width_, count);
  if (width > 1 && values_ == nullptr) {
    values_ = b_.kernel().local("results", values[0]->type == Scalar::f64 ? DType::f64 : DType::f32,
                                series_ * width_);
  }
  const auto value = [&](std::int64_t of, std::int64_t at) {
    return values[static_cast<std::size_t>(of * count + at)];
  };
  for (std::int64_t start = 0; start < count; start += width) {
    const Ex first = a_.add(column, a_.integer(start));
    Ex inside = nullptr;
    if (row->maximum >= rows_) inside = a_.less(row, a_.integer(rows_));
    if (first->maximum >= columns_) {
      const Ex in_row = a_.less(first, a_.integer(columns_));
      inside = inside == nullptr ? in_row : a_.logical_and(inside, in_row);
    }
    const auto here = [&] {
      const Ex own_row = b_.let_within(row, 0, rows_ - 1);
      std::vector<Ex> results;
      if (width == 1) {
        for (std::int64_t i = 0; i < series_; ++i) results.push_back(value(i, start));
        body(own_row, b_.let_within(first, 0, columns_ - 1), results);
        return;
      }
      // A multiple of the width, which its bounds must not hide.
      const Ex chunk = b_.let_within(a_.floor_div(first, width), 0, columns_ / width - 1);
      for (std::int64_t i = 0; i < series_; ++i) {
        for (std::int64_t j = 0; j < width; ++j) {
          b_.store(values_, a_.integer(i * width + j), value(i, start + j));
        }
      }
      b_.loop(width, Role::vector, static_cast<int>(width), [&](Ex lane) {
        for (std::int64_t i = 0; i < series_; ++i) {
          results.push_back(b_.let(a_.load(values_, a_.add(a_.integer(i * width), lane))));
        }
        body(own_row, a_.add(a_.mul(chunk, a_.integer(width)), lane), results);
      });
    };
    if (inside != nullptr) {
      b_.condition(inside, here);
    } else {
      here();
    }
  }
}

}  // namespace weft::compiler
