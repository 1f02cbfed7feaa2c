#include "runtime/cuda/memory.h"

#include <algorithm>
#include <map>

namespace weft::runtime::cuda {
namespace {

/// What the driver aligns allocations to, so that any vector access is aligned.
constexpr std::int64_t alignment = 256;

std::int64_t align(std::int64_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

bool is_constant(const plan::Buffer& buffer) {
  return buffer.kind == plan::BufferKind::constant || buffer.kind == plan::BufferKind::scalar;
}

std::int64_t constant_bytes(const plan::Plan& plan) {
  std::int64_t total = 0;
  for (const plan::Buffer& buffer : plan.buffers) {
    if (is_constant(buffer)) total += align(static_cast<std::int64_t>(buffer.data.size()));
  }
  return total;
}

void settle(const Stream& stream) noexcept {
  try {
    stream.wait();
  } catch (...) {
    // The error that led here says more.
  }
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace

StateTensor::StateTensor(std::shared_ptr<Stream> stream, const DeviceHandle& device,
                         std::int64_t bytes, const std::string& name)
    : device_(device),
      stream_(std::move(stream)),
      memory_(device, bytes, fmt::format("the state \"{}\"", name)) {}

void StateTensor::upload(std::span<const std::byte> from) {
  stream_->upload(memory_.address(), from);
  stream_->wait();
}

void StateTensor::download(std::span<std::byte> to) {
  stream_->download(to, memory_.address());
  stream_->wait();
}

PlanMemory::PlanMemory(const plan::Plan& plan, const DeviceHandle& device, Stream& stream)
    : plan_(plan),
      device_(device),
      arena_(device, plan.arena_bytes, fmt::format("the arena of plan \"{}\"", plan.name)),
      constants_(device, constant_bytes(plan),
                 fmt::format("the constants of plan \"{}\"", plan.name)),
      addresses_(plan.buffers.size()),
      scalars_(plan.buffers.size()) {
  try {
    fill(stream);
  } catch (...) {
    // What was begun must not find its memory gone.
    settle(stream);
    throw;
  }
  stream.wait();
}

void PlanMemory::fill(Stream& stream) {
  stream.clear(arena_.address(), arena_.bytes());
  std::int64_t offset = 0;
  for (std::size_t i = 0; i < plan_.buffers.size(); ++i) {
    const plan::Buffer& buffer = plan_.buffers[i];
    if (buffer.kind == plan::BufferKind::arena) {
      addresses_[i] = arena_.address() + static_cast<CUdeviceptr>(buffer.offset);
    } else if (is_constant(buffer)) {
      addresses_[i] = constants_.address() + static_cast<CUdeviceptr>(offset);
      stream.upload(addresses_[i], bytes_of(buffer.data));
      offset += align(static_cast<std::int64_t>(buffer.data.size()));
    }
  }
}

bool PlanMemory::bind(State& state) {
  std::map<std::string, std::shared_ptr<StateTensor>> tensors;
  std::shared_ptr<Stream> stream;
  for (const plan::Buffer& buffer : plan_.buffers) {
    if (buffer.kind != plan::BufferKind::state || tensors.count(buffer.name) > 0) continue;
    auto tensor = std::dynamic_pointer_cast<StateTensor>(state.device_tensor(buffer.name));
    if (tensor == nullptr || tensor->device() != device_) {
      if (stream == nullptr) stream = std::make_shared<Stream>(device_);
      tensor = std::make_shared<StateTensor>(stream, device_, buffer.type.bytes(), buffer.name);
      state.set_device_tensor(buffer.name, tensor);
    }
    tensors.emplace(buffer.name, std::move(tensor));
  }
  state_ = std::make_unique<State>(state);
  names_.clear();
  tensors_.clear();
  bool changed = false;
  for (std::size_t i = 0; i < plan_.buffers.size(); ++i) {
    if (plan_.buffers[i].kind != plan::BufferKind::state) continue;
    const CUdeviceptr address = tensors.at(plan_.buffers[i].name)->address();
    changed = changed || address != addresses_[i];
    addresses_[i] = address;
  }
  for (auto& [name, tensor] : tensors) {
    names_.push_back(name);
    tensors_.push_back(std::move(tensor));
  }
  return changed;
}

void PlanMemory::take_states() {
  for (const std::string& name : names_) state_->to_device(name);
  for (const std::string& name : names_) state_->changed_on_device(name);
}

void PlanMemory::set_scalar(std::size_t buffer, std::span<const std::byte> value) {
  scalars_[buffer].assign(value.begin(), value.end());
}

void PlanMemory::upload_scalars(Stream& stream) {
  for (std::size_t i = 0; i < scalars_.size(); ++i) {
    if (scalars_[i].empty()) continue;
    stream.upload(addresses_[i], scalars_[i]);
    scalars_[i].clear();
  }
}

}  // namespace weft::runtime::cuda
