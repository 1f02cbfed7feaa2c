#include <algorithm>

#include "trace.h"

namespace weft {

std::vector<double> HostTensor::values() const {
  const std::int64_t elements = type_.elements();
  std::vector<double> result(static_cast<std::size_t>(elements) *
                             (is_complex(type_.dtype) ? 2 : 1));
  to_doubles(type_.dtype, bytes_.data(), elements, result.data());
  return result;
}

double HostTensor::item() const {
  if (type_.elements() != 1 || is_complex(type_.dtype)) {
    throw Error(fmt::format("item: {} has not one real element", type_.text()));
  }
  return values()[0];
}

void HostTensor::check_element(std::size_t size) const {
  if (size != size_of(type_.dtype)) {
    throw Error(fmt::format("data: elements of {} bytes asked of {}", size, type_.text()));
  }
}

bool Fill::accepts(DType dtype) const {
  return dtypes_.empty() || std::find(dtypes_.begin(), dtypes_.end(), dtype) != dtypes_.end();
}

Tensor feeder(const std::string& name, const Shape& shape, DType dtype, Fill fill, Source at) {
  detail::Recorder record("feeder", at);
  const Type type{dtype, shape};
  auto& feeders = record.trace().feeders;
  record.require(!feeders.contains(name), "there is another one named '{}'", name);
  record.require(fill.accepts(dtype), "'{}': the function does not fill a span of {}", name,
                 weft::name(dtype));
  const std::vector<std::int64_t> extents(shape.begin(), shape.end());
  const detail::Value value =
      record.build.emit1("feeder", {}, {{"name", name}, {"dtype", dtype}, {"shape", extents}});
  feeders.emplace(name, std::pair{type, fill.function()});
  return record(value);
}

void receiver(const std::string& name, const std::vector<Tensor>& tensors, ReceiveCallback callback,
              std::int64_t every, Source at) {
  detail::Recorder record("receiver", at);
  auto& receivers = record.trace().receivers;
  record.require(!receivers.contains(name), "there is another one named '{}'", name);
  record.require(every >= 1, "'{}': every {} iterations", name, every);
  record.require(!tensors.empty(), "'{}': of no tensors", name);
  record.require(callback != nullptr, "'{}': without a function", name);
  record.build.emit(ops::op("receiver"), record.values(tensors),
                    {{"name", name}, {"every", every}});
  receivers.emplace(name, std::move(callback));
}

Tensor scalar(const std::string& name, double value, Source at) {
  detail::Recorder record("scalar", at);
  detail::Trace& trace = record.trace();
  if (const auto found = trace.scalars.find(name); found != trace.scalars.end()) {
    const auto& [cell, given] = found->second;
    record.require(given == value, "'{}' is {} elsewhere in this trace, not {}", name, given,
                   value);
    return detail::Access::handle(cell);
  }
  // An argument of the whole program: at the top level, whichever body asks for it.
  ir::Region& region = record.build.region();
  record.build.set_region(trace.graph.body());
  const detail::Value made = record.build.emit1("scalar", {}, {{"name", name}, {"value", value}});
  record.build.set_region(region);
  const auto cell = trace.cell(made, detail::CellKind::value, 0);
  cell->name = name;
  trace.scalars.emplace(name, std::pair{cell, value});
  return detail::Access::handle(cell);
}

}  // namespace weft
