#include "weft/reference.h"

#include <cstring>
#include <vector>

#include "ops/evaluate.h"
#include "trace.h"

namespace weft {

namespace {

/// Elements of `type` in memory as an array of the evaluation.
ops::Array array_of(const Type& type, std::span<const std::byte> bytes) {
  ops::Array array(type);
  const std::int64_t elements = type.elements();
  if (type.dtype == DType::i64) {
    // Not by way of doubles, which do not hold all of them.
    std::memcpy(array.integers.data(), bytes.data(), bytes.size());
    return array;
  }
  const std::size_t parts = is_complex(type.dtype) ? 2 : 1;
  std::vector<double> values(static_cast<std::size_t>(elements) * parts);
  to_doubles(type.dtype, bytes.data(), elements, values.data());
  for (std::int64_t i = 0; i < elements; ++i) {
    const auto at = static_cast<std::size_t>(i);
    array.set(i, values[at * parts]);
    if (parts == 2) array.im[at] = values[at * parts + 1];
  }
  return array;
}

/// The reverse: rounds to the type.
void write(const ops::Array& array, std::span<std::byte> bytes) {
  const std::int64_t elements = array.elements();
  if (array.type.dtype == DType::i64) {
    std::memcpy(bytes.data(), array.integers.data(), bytes.size());
    return;
  }
  const std::size_t parts = is_complex(array.type.dtype) ? 2 : 1;
  std::vector<double> values(static_cast<std::size_t>(elements) * parts);
  for (std::int64_t i = 0; i < elements; ++i) {
    const auto at = static_cast<std::size_t>(i);
    values[at * parts] = array.at(i);
    if (parts == 2) values[at * parts + 1] = array.im[at];
  }
  from_doubles(array.type.dtype, values.data(), elements, bytes.data());
}

std::size_t byte_count(const Type& type) {
  return static_cast<std::size_t>(type.elements()) * size_of(type.dtype);
}

HostTensor host_tensor(const ops::Array& array) {
  std::vector<std::byte> bytes(byte_count(array.type));
  write(array, bytes);
  return {array.type, std::move(bytes)};
}

}  // namespace

State reference_run(const Program& program, const State& state, const ReferenceOptions& options) {
  const Program::Impl& impl = *program.impl_;
  ops::Environment environment;
  for (const std::string& name : state.names()) {
    environment.state.emplace(name, array_of(state.type(name), state.bytes(name)));
  }
  environment.scalars = options.scalars;
  environment.feed = [&](const std::string& name, const Type& type, std::int64_t iteration) {
    std::vector<std::byte> bytes(byte_count(type));
    impl.feeders.at(name).second(iteration, bytes);
    return array_of(type, bytes);
  };
  environment.receive = [&](const std::string& name, std::int64_t iteration,
                            std::span<const ops::Array> arrays) {
    const auto callback = options.receivers.find(name);
    if (callback == options.receivers.end()) return;
    std::vector<HostTensor> tensors;
    for (const ops::Array& array : arrays) tensors.push_back(host_tensor(array));
    callback->second(iteration, tensors);
  };
  ops::evaluate(impl.graph, environment);
  State result = state.clone();
  for (const auto& [name, array] : environment.state) write(array, result.bytes(name));
  return result;
}

}  // namespace weft
