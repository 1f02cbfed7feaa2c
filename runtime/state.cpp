#include "runtime/state.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "runtime/memory.h"

namespace weft {

struct State::Storage {
  struct Tensor {
    Type type;
    runtime::AlignedBuffer memory;
    std::shared_ptr<DeviceTensor> device = nullptr;
    bool host_current = true;
    bool device_current = false;

    std::span<std::byte> bytes() const {
      return {memory.data(), static_cast<std::size_t>(memory.size())};
    }
    std::span<std::byte> fetch() {
      if (!host_current) device->download(bytes());
      host_current = true;
      return bytes();
    }
  };

  std::vector<std::string> order;
  std::unordered_map<std::string, Tensor> tensors;
  std::uint64_t version = 0;

  Tensor& find(const std::string& name) {
    const auto found = tensors.find(name);
    if (found != tensors.end()) return found->second;
    if (order.empty()) throw Error(fmt::format("state: no tensor \"{}\": it is empty", name));
    constexpr std::size_t shown = 12;
    const std::size_t count = std::min(shown, order.size());
    throw Error(
        fmt::format("state: no tensor \"{}\"; there are \"{}\"{}", name,
                    fmt::join(order.begin(), order.begin() + static_cast<long>(count), "\", \""),
                    count < order.size() ? ", ..." : ""));
  }
};

State::State() : storage_(std::make_shared<Storage>()) {}

void State::add(const std::string& name, const Type& type) {
  if (name.empty()) throw Error(fmt::format("state: a tensor {} needs a name", type.text()));
  if (has(name)) {
    throw Error(fmt::format("state: \"{}\" is there already, as {}; adding {}", name,
                            this->type(name).text(), type.text()));
  }
  std::int64_t bytes = static_cast<std::int64_t>(size_of(type.dtype));
  for (const std::int64_t extent : type.shape) {
    if (extent < 0 || __builtin_mul_overflow(bytes, extent, &bytes)) {
      throw Error(fmt::format("state: \"{}\": no tensor has the type {}", name, type.text()));
    }
  }
  runtime::AlignedBuffer memory(bytes);
  storage_->order.push_back(name);
  storage_->tensors.emplace(name, Storage::Tensor{type, std::move(memory), nullptr, true, false});
  ++storage_->version;
}

bool State::has(const std::string& name) const { return storage_->tensors.count(name) > 0; }

const Type& State::type(const std::string& name) const { return storage_->find(name).type; }

std::vector<std::string> State::names() const { return storage_->order; }

void State::remove(const std::string& name) {
  storage_->find(name);
  storage_->tensors.erase(name);
  std::erase(storage_->order, name);
  ++storage_->version;
}

std::span<std::byte> State::bytes(const std::string& name) {
  Storage::Tensor& tensor = storage_->find(name);
  const std::span<std::byte> bytes = tensor.fetch();
  tensor.device_current = false;
  return bytes;
}

std::span<const std::byte> State::bytes(const std::string& name) const {
  return storage_->find(name).fetch();
}

void State::check_element(const std::string& name, std::size_t size) const {
  const Type& held = type(name);
  if (size_of(held.dtype) != size) {
    throw Error(fmt::format("state: \"{}\" is {}: its elements have {} bytes, not {}", name,
                            held.text(), size_of(held.dtype), size));
  }
}

std::vector<double> State::values(const std::string& name) const {
  Storage::Tensor& tensor = storage_->find(name);
  tensor.fetch();
  const std::int64_t n = tensor.type.elements();
  std::vector<double> result(static_cast<std::size_t>(is_complex(tensor.type.dtype) ? 2 * n : n));
  to_doubles(tensor.type.dtype, tensor.memory.data(), n, result.data());
  return result;
}

void State::set_values(const std::string& name, std::span<const double> values) {
  Storage::Tensor& tensor = storage_->find(name);
  const std::int64_t n = tensor.type.elements();
  const auto expected = static_cast<std::size_t>(is_complex(tensor.type.dtype) ? 2 * n : n);
  if (values.size() != expected) {
    throw Error(fmt::format("state: \"{}\" is {}: needs {} values, not {}", name,
                            tensor.type.text(), expected, values.size()));
  }
  from_doubles(tensor.type.dtype, values.data(), n, tensor.memory.data());
  tensor.host_current = true;
  tensor.device_current = false;
}

std::int64_t State::total_bytes() const {
  std::int64_t total = 0;
  for (const auto& [name, tensor] : storage_->tensors) total += tensor.memory.size();
  return total;
}

std::uint64_t State::version() const { return storage_->version; }

std::shared_ptr<DeviceTensor> State::device_tensor(const std::string& name) const {
  return storage_->find(name).device;
}

void State::set_device_tensor(const std::string& name, std::shared_ptr<DeviceTensor> copy) {
  Storage::Tensor& tensor = storage_->find(name);
  tensor.fetch();
  tensor.device = std::move(copy);
  tensor.device_current = false;
  ++storage_->version;
}

void State::to_device(const std::string& name) {
  Storage::Tensor& tensor = storage_->find(name);
  if (tensor.device_current) return;
  tensor.device->upload(tensor.bytes());
  tensor.device_current = true;
}

void State::changed_on_device(const std::string& name) {
  Storage::Tensor& tensor = storage_->find(name);
  tensor.host_current = false;
  tensor.device_current = true;
}

State State::clone() const {
  State copy;
  for (const std::string& name : storage_->order) {
    copy.add(name, type(name));
    const auto from = bytes(name);
    std::memcpy(copy.bytes(name).data(), from.data(), from.size());
  }
  return copy;
}

}  // namespace weft
