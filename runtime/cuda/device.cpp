#include "runtime/cuda/device.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <mutex>

#include "runtime/cuda/fourier.h"
#include "runtime/plan/error.h"

namespace weft::runtime::cuda {

DeviceHandle Device::number(int index) {
  static std::mutex mutex;
  static std::map<int, std::weak_ptr<const Device>> held;
  const std::lock_guard lock(mutex);
  DeviceHandle device = held[index].lock();
  if (device == nullptr) {
    const Driver& loaded = cuda::driver();
    if (index < 0 || index >= loaded.devices) {
      throw Error(fmt::format("CUDA: there is no device {}: the driver shows {}, counted from 0",
                              index, loaded.devices));
    }
    device = std::make_shared<const Device>(loaded, index);
    held[index] = device;
  }
  return device;
}

Device::Device(const Driver& driver, int index)
    : driver_(driver), fourier_plans_(std::make_unique<FourierPlans>()) {
  driver_.check(driver_.DeviceGet(&device_, index), "asking for device {}", index);
  std::array<char, 256> name{};
  driver_.check(driver_.DeviceGetName(name.data(), static_cast<int>(name.size()) - 1, device_),
                "asking for the name of device {}", index);
  name_ = name.data();
  const auto attribute = [&](CUdevice_attribute which) {
    int value = 0;
    driver_.check(driver_.DeviceGetAttribute(&value, which, device_),
                  "asking for attribute {} of {}", static_cast<int>(which), name_);
    return value;
  };
  major_ = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
  minor_ = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  most_shared_bytes_ = attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
  // Last: what throws here leaves nothing to release.
  driver_.check(driver_.DevicePrimaryCtxRetain(&context_, device_), "making a context on {}",
                name_);
}

Device::~Device() {
  fourier_plans_.reset();
  driver_.DevicePrimaryCtxRelease(device_);
}

std::string Device::memory_text() const {
  std::size_t free = 0;
  std::size_t total = 0;
  if (driver_.MemGetInfo(&free, &total) != CUDA_SUCCESS) return "how much is free is not known";
  return fmt::format("{} of {} bytes are free", free, total);
}

Device::Scope::Scope(const Device& device) : driver_(device.driver_) {
  driver_.check(driver_.CtxPushCurrent(device.context_), "entering the context of {}",
                device.name_);
}

Device::Scope::~Scope() {
  CUcontext context = nullptr;
  driver_.CtxPopCurrent(&context);
}

DeviceMemory::DeviceMemory(const DeviceHandle& device, std::int64_t bytes, std::string_view what)
    : bytes_(bytes) {
  const Device::Scope scope(*device);
  CUdeviceptr address = 0;
  // The driver has no allocation of nothing.
  const std::size_t size = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1));
  const CUresult result = device->driver().MemAlloc(&address, size);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) {
    device->driver().fail(result, fmt::format("allocating {} bytes for {} on {}, where {}", bytes,
                                              what, device->name(), device->memory_text()));
  }
  device->driver().check(result, "allocating {} bytes for {} on {}", bytes, what, device->name());
  memory_ = {device, address};
}

StagingMemory pinned_memory(const DeviceHandle& device, std::int64_t bytes) {
  const Device::Scope scope(*device);
  void* memory = nullptr;
  const std::size_t size = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1));
  device->driver().check(device->driver().MemHostAlloc(&memory, size, CU_MEMHOSTALLOC_PORTABLE),
                         "allocating {} bytes of pinned memory", bytes);
  using Pinned = Owned<void*, &Driver::MemFreeHost>;
  Pinned owned(device, memory);
  std::memset(memory, 0, size);
  auto shared = std::make_shared<Pinned>(std::move(owned));
  return {std::move(shared), static_cast<std::byte*>(memory)};
}

Event::Event(const DeviceHandle& device, Kind kind) {
  const Device::Scope scope(*device);
  CUevent event = nullptr;
  unsigned int flags = kind == Kind::timed ? CU_EVENT_DEFAULT : CU_EVENT_DISABLE_TIMING;
  if (kind == Kind::patient) flags |= CU_EVENT_BLOCKING_SYNC;
  device->driver().check(device->driver().EventCreate(&event, flags), "making an event");
  event_ = {device, event};
}

void Event::wait() const {
  const Device::Scope scope(*event_.device());
  event_.driver().check(event_.driver().EventSynchronize(event_.get()), "waiting for an event");
}

double Event::elapsed_seconds(const Event& from, const Event& to) {
  const Device::Scope scope(*from.event_.device());
  float milliseconds = 0;
  const Driver& driver = from.event_.driver();
  driver.check(driver.EventElapsedTime(&milliseconds, from.event_.get(), to.event_.get()),
               "asking for the time between two events");
  return static_cast<double>(milliseconds) * 1e-3;
}

Stream::Stream(const DeviceHandle& device) {
  const Device::Scope scope(*device);
  CUstream stream = nullptr;
  // Not in step with stream 0, which others in the process may use.
  device->driver().check(device->driver().StreamCreate(&stream, CU_STREAM_NON_BLOCKING),
                         "making a stream");
  stream_ = {device, stream};
}

void Stream::mark(const Event& event) {
  const Device::Scope scope(*stream_.device());
  stream_.driver().check(stream_.driver().EventRecord(event.event_.get(), stream_.get()),
                         "recording an event");
}

void Stream::wait_for(const Event& event) {
  const Device::Scope scope(*stream_.device());
  stream_.driver().check(
      stream_.driver().StreamWaitEvent(stream_.get(), event.event_.get(), CU_EVENT_WAIT_DEFAULT),
      "making a stream wait");
}

void Stream::upload(CUdeviceptr to, std::span<const std::byte> from) {
  if (from.empty()) return;
  const Device::Scope scope(*stream_.device());
  stream_.driver().check(
      stream_.driver().MemcpyHtoDAsync(to, from.data(), from.size(), stream_.get()),
      "copying {} bytes to {}", from.size(), stream_.device()->name());
}

void Stream::download(std::span<std::byte> to, CUdeviceptr from) {
  if (to.empty()) return;
  const Device::Scope scope(*stream_.device());
  stream_.driver().check(
      stream_.driver().MemcpyDtoHAsync(to.data(), from, to.size(), stream_.get()),
      "copying {} bytes from {}", to.size(), stream_.device()->name());
}

void Stream::copy(CUdeviceptr from, CUdeviceptr to, std::int64_t bytes) {
  if (bytes == 0 || from == to) return;
  const Device::Scope scope(*stream_.device());
  stream_.driver().check(
      stream_.driver().MemcpyDtoDAsync(to, from, static_cast<std::size_t>(bytes), stream_.get()),
      "copying {} bytes on {}", bytes, stream_.device()->name());
}

void Stream::clear(CUdeviceptr to, std::int64_t bytes) {
  if (bytes == 0) return;
  const Device::Scope scope(*stream_.device());
  stream_.driver().check(
      stream_.driver().MemsetD8Async(to, 0, static_cast<std::size_t>(bytes), stream_.get()),
      "clearing {} bytes on {}", bytes, stream_.device()->name());
}

void Stream::wait() const {
  const Device::Scope scope(*stream_.device());
  stream_.driver().check(stream_.driver().StreamSynchronize(stream_.get()),
                         "waiting for the work of {}", stream_.device()->name());
}

Module::Module(const DeviceHandle& device, const std::string& image, std::string_view what) {
  const Device::Scope scope(*device);
  std::array<char, 8192> log{};
  std::array<CUjit_option, 2> options = {CU_JIT_ERROR_LOG_BUFFER,
                                         CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  std::array<void*, 2> values = {log.data(), reinterpret_cast<void*>(log.size() - 1)};
  CUmodule module = nullptr;
  const CUresult result = device->driver().ModuleLoadDataEx(&module, image.c_str(), options.size(),
                                                            options.data(), values.data());
  if (result != CUDA_SUCCESS) {
    const std::string said = log.data();
    device->driver().fail(
        result, said.empty()
                    ? fmt::format("loading {}", what)
                    : fmt::format("loading {}, of which the driver says \"{}\"", what, said));
  }
  module_ = {device, module};
}

Function Module::function(const std::string& symbol) const {
  const Device::Scope scope(*module_.device());
  const Driver& driver = module_.driver();
  Function found;
  found.name = symbol;
  driver.check(driver.ModuleGetFunction(&found.handle, module_.get(), symbol.c_str()),
               "looking for the kernel {}", symbol);
  driver.check(driver.FuncGetAttribute(&found.most_threads, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK,
                                       found.handle),
               "asking what the kernel {} takes", symbol);
  return found;
}

void Module::allow_shared(const Function& function, std::int64_t bytes) const {
  const Device::Scope scope(*module_.device());
  module_.driver().check(module_.driver().FuncSetAttribute(
                             function.handle, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                             static_cast<int>(bytes)),
                         "giving the kernel {} {} bytes of shared memory", function.name, bytes);
}

}  // namespace weft::runtime::cuda
