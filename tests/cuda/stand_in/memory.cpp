// Devices, contexts, memory, streams, events.
#include <algorithm>
#include <cstring>

#include "entries.h"
#include "machine.h"

namespace weft::stand_in::entry {
namespace {

Machine& machine() { return Machine::get(); }

template <typename Handle, typename Value>
Value* find(std::map<Handle, Value>& values, Handle handle, const char* what) {
  const auto found = values.find(handle);
  if (found != values.end()) return &found->second;
  machine().violation(std::string(what) + ": a handle of nothing alive");
  return nullptr;
}

CUresult allocate(Allocation::Kind kind, std::size_t bytes, std::uintptr_t& address) {
  constexpr std::size_t alignment = 512;
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  auto allocation = std::make_unique<Allocation>();
  allocation->kind = kind;
  allocation->owner = std::make_unique<std::byte[]>(bytes + alignment);
  allocation->begin = reinterpret_cast<std::uintptr_t>(allocation->owner.get());
  allocation->begin = (allocation->begin + alignment - 1) / alignment * alignment;
  allocation->bytes = static_cast<std::int64_t>(bytes);
  // Not zeros, which many a mistake would not show in.
  std::memset(reinterpret_cast<void*>(allocation->begin), 0xA5, bytes);
  address = allocation->begin;
  machine().allocations[address] = std::move(allocation);
  return CUDA_SUCCESS;
}

CUresult release(Allocation::Kind kind, std::uintptr_t address, const std::string& what) {
  const auto found = machine().allocations.find(address);
  if (found == machine().allocations.end() || found->second->kind != kind) {
    machine().violation(what + ": of what is not allocated");
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (const Allocation::Record& record : found->second->records) {
    if (machine().host[record.stream] < record.time) {
      machine().violation(what + ": of memory that " + record.what + " may still use");
    }
  }
  machine().allocations.erase(found);
  return CUDA_SUCCESS;
}

/// Pinned memory that a copy goes through; nullptr for other memory of the host.
Allocation* pinned(const void* address, std::size_t bytes, const std::string& what) {
  Allocation* found = machine().find(reinterpret_cast<std::uintptr_t>(address));
  if (found == nullptr) return nullptr;
  if (found->kind != Allocation::Kind::pinned) {
    machine().violation(what + ": a device's address for the host's");
  } else if (reinterpret_cast<std::uintptr_t>(address) + bytes >
             found->begin + static_cast<std::uintptr_t>(found->bytes)) {
    machine().violation(what + ": goes beyond the end of pinned memory");
  }
  return found;
}

void copy_if_alive(std::uintptr_t to, std::uintptr_t from, std::size_t bytes,
                   std::initializer_list<std::uintptr_t> owned, const std::string& what) {
  for (const std::uintptr_t address : owned) {
    if (machine().find(address) != nullptr) continue;
    return machine().violation(what + ": memory was freed before it ran");
  }
  std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
}

std::uintptr_t number(const void* address) { return reinterpret_cast<std::uintptr_t>(address); }

}  // namespace

CUresult Init(unsigned int) {
  return machine().settings.devices == 0 ? CUDA_ERROR_NO_DEVICE : CUDA_SUCCESS;
}

CUresult DriverGetVersion(int* version) {
  *version = machine().settings.version;
  return CUDA_SUCCESS;
}

CUresult GetErrorName(CUresult error, const char** text) {
  switch (error) {
    case CUDA_ERROR_INVALID_VALUE:
      *text = "CUDA_ERROR_INVALID_VALUE";
      return CUDA_SUCCESS;
    case CUDA_ERROR_OUT_OF_MEMORY:
      *text = "CUDA_ERROR_OUT_OF_MEMORY";
      return CUDA_SUCCESS;
    case CUDA_ERROR_INVALID_PTX:
      *text = "CUDA_ERROR_INVALID_PTX";
      return CUDA_SUCCESS;
    case CUDA_ERROR_NOT_FOUND:
      *text = "CUDA_ERROR_NOT_FOUND";
      return CUDA_SUCCESS;
    case CUDA_ERROR_ILLEGAL_ADDRESS:
      *text = "CUDA_ERROR_ILLEGAL_ADDRESS";
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult GetErrorString(CUresult error, const char** text) {
  if (error != CUDA_ERROR_OUT_OF_MEMORY) return CUDA_ERROR_INVALID_VALUE;
  *text = "out of memory";
  return CUDA_SUCCESS;
}

CUresult DeviceGetCount(int* count) {
  *count = machine().settings.devices;
  return CUDA_SUCCESS;
}

CUresult DeviceGet(CUdevice* device, int ordinal) {
  if (ordinal < 0 || ordinal >= machine().settings.devices) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult DeviceGetName(char* name, int length, CUdevice) {
  std::strncpy(name, "Stand-in", static_cast<std::size_t>(length));
  return CUDA_SUCCESS;
}

CUresult DeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
      *value = machine().settings.major;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
      *value = machine().settings.minor;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      *value = 132;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:
      *value = 1980000;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE:
      *value = 2619000;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH:
      *value = 5120;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
      *value = 232448;
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult DeviceTotalMem(std::size_t* bytes, CUdevice) {
  *bytes = static_cast<std::size_t>(machine().memory_bytes());
  return CUDA_SUCCESS;
}

CUresult DevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
  ++machine().retained;
  *context = reinterpret_cast<CUcontext>(&machine());
  return CUDA_SUCCESS;
}

CUresult DevicePrimaryCtxRelease(CUdevice) {
  --machine().retained;
  if (machine().retained == 0 && !alive().empty()) {
    machine().violation("cuDevicePrimaryCtxRelease: with " + alive().front() + " alive");
  }
  return CUDA_SUCCESS;
}

CUresult MemGetInfo(std::size_t* free, std::size_t* total) {
  *total = static_cast<std::size_t>(machine().memory_bytes());
  *free = *total - static_cast<std::size_t>(machine().used_bytes());
  return CUDA_SUCCESS;
}

CUresult MemAlloc(CUdeviceptr* address, std::size_t bytes) {
  if (static_cast<std::int64_t>(bytes) > machine().memory_bytes() - machine().used_bytes()) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  std::uintptr_t made = 0;
  const CUresult result = allocate(Allocation::Kind::device, bytes, made);
  *address = made;
  return result;
}

CUresult MemFree(CUdeviceptr address) {
  return release(Allocation::Kind::device, address, "cuMemFree");
}

CUresult MemHostAlloc(void** address, std::size_t bytes, unsigned int) {
  std::uintptr_t made = 0;
  const CUresult result = allocate(Allocation::Kind::pinned, bytes, made);
  *address = reinterpret_cast<void*>(made);
  return result;
}

CUresult MemFreeHost(void* address) {
  return release(Allocation::Kind::pinned, number(address), "cuMemFreeHost");
}

CUresult MemcpyHtoDAsync(CUdeviceptr to, const void* from, std::size_t bytes, CUstream stream) {
  const std::string what = "cuMemcpyHtoDAsync";
  auto* on = find(machine().streams, stream, what.c_str());
  if (on == nullptr || !machine().inside_device(to, static_cast<std::int64_t>(bytes), what)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Operation operation;
  operation.what = what;
  operation.ranges = {{to, static_cast<std::int64_t>(bytes), true}};
  if (pinned(from, bytes, what) != nullptr) {
    operation.ranges.push_back({number(from), static_cast<std::int64_t>(bytes), false});
    operation.execute = [=] { copy_if_alive(to, number(from), bytes, {to, number(from)}, what); };
  } else {
    // The driver has read it when it returns.
    const auto* source = static_cast<const std::byte*>(from);
    auto staged = std::make_shared<std::vector<std::byte>>(source, source + bytes);
    operation.execute = [=] { copy_if_alive(to, number(staged->data()), bytes, {to}, what); };
  }
  machine().enqueue(**on, std::move(operation));
  return CUDA_SUCCESS;
}

CUresult MemcpyDtoHAsync(void* to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
  const std::string what = "cuMemcpyDtoHAsync";
  auto* on = find(machine().streams, stream, what.c_str());
  if (on == nullptr || !machine().inside_device(from, static_cast<std::int64_t>(bytes), what)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Operation operation;
  operation.what = what;
  operation.ranges = {{from, static_cast<std::int64_t>(bytes), false}};
  const bool later = pinned(to, bytes, what) != nullptr;
  if (later) {
    operation.ranges.push_back({number(to), static_cast<std::int64_t>(bytes), true});
    operation.execute = [=] { copy_if_alive(number(to), from, bytes, {number(to), from}, what); };
  } else {
    operation.execute = [=] { copy_if_alive(number(to), from, bytes, {from}, what); };
  }
  machine().enqueue(**on, std::move(operation));
  // To other memory of the host, the driver copies before it returns.
  if (!later) machine().execute_all(**on);
  return CUDA_SUCCESS;
}

CUresult MemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
  auto* on = find(machine().streams, stream, "cuMemcpyDtoDAsync");
  if (on == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  Work work;
  work.kind = Work::Kind::copy;
  work.from = from;
  work.to = to;
  work.bytes = static_cast<std::int64_t>(bytes);
  Operation operation;
  operation.what = "cuMemcpyDtoDAsync";
  operation.ranges = machine().ranges(work, operation.what);
  operation.execute = [work, what = operation.what] { machine().run(work, what); };
  machine().enqueue(**on, std::move(operation));
  return CUDA_SUCCESS;
}

CUresult MemsetD8Async(CUdeviceptr to, unsigned char value, std::size_t bytes, CUstream stream) {
  const std::string what = "cuMemsetD8Async";
  auto* on = find(machine().streams, stream, what.c_str());
  if (on == nullptr || !machine().inside_device(to, static_cast<std::int64_t>(bytes), what)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Operation operation;
  operation.what = what;
  operation.ranges = {{to, static_cast<std::int64_t>(bytes), true}};
  operation.execute = [=] {
    if (machine().inside_device(to, static_cast<std::int64_t>(bytes), what)) {
      std::memset(reinterpret_cast<void*>(to), value, bytes);
    }
  };
  machine().enqueue(**on, std::move(operation));
  return CUDA_SUCCESS;
}

CUresult StreamCreate(CUstream* stream, unsigned int) {
  auto made = std::make_unique<StreamState>();
  made->number = ++machine().streams_made;
  *stream = reinterpret_cast<CUstream>(made.get());
  machine().streams[*stream] = std::move(made);
  return CUDA_SUCCESS;
}

CUresult StreamDestroy(CUstream stream) {
  auto* found = find(machine().streams, stream, "cuStreamDestroy");
  if (found == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  // Its work is done all the same, but nobody has waited for it.
  const Clock host = machine().host;
  machine().execute_all(**found);
  machine().host = host;
  machine().streams.erase(stream);
  return CUDA_SUCCESS;
}

CUresult StreamSynchronize(CUstream stream) {
  auto* found = find(machine().streams, stream, "cuStreamSynchronize");
  if (found == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  machine().execute_all(**found);
  return CUDA_SUCCESS;
}

CUresult StreamWaitEvent(CUstream stream, CUevent event, unsigned int) {
  auto* on = find(machine().streams, stream, "cuStreamWaitEvent");
  auto* waited = find(machine().events, event, "cuStreamWaitEvent");
  if (on == nullptr || waited == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if ((*waited)->operation == nullptr) return CUDA_SUCCESS;
  join((*on)->clock, (*waited)->clock);
  Operation operation;
  operation.what = "cuStreamWaitEvent";
  operation.waits_for = (*waited)->operation;
  machine().enqueue(**on, std::move(operation));
  return CUDA_SUCCESS;
}

CUresult EventCreate(CUevent* event, unsigned int flags) {
  auto made = std::make_unique<Event>();
  made->timed = (flags & CU_EVENT_DISABLE_TIMING) == 0;
  *event = reinterpret_cast<CUevent>(made.get());
  machine().events[*event] = std::move(made);
  return CUDA_SUCCESS;
}

CUresult EventRecord(CUevent event, CUstream stream) {
  auto* on = find(machine().streams, stream, "cuEventRecord");
  auto* found = find(machine().events, event, "cuEventRecord");
  if (on == nullptr || found == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  Operation operation;
  operation.what = "cuEventRecord";
  (*found)->operation = machine().enqueue(**on, std::move(operation));
  (*found)->clock = (*found)->operation->clock;
  return CUDA_SUCCESS;
}

CUresult EventSynchronize(CUevent event) {
  auto* found = find(machine().events, event, "cuEventSynchronize");
  if (found == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  if ((*found)->operation == nullptr) return CUDA_SUCCESS;
  machine().execute((*found)->operation);
  join(machine().host, (*found)->clock);
  return CUDA_SUCCESS;
}

CUresult EventElapsedTime(float* milliseconds, CUevent from, CUevent to) {
  auto* begin = find(machine().events, from, "cuEventElapsedTime");
  auto* end = find(machine().events, to, "cuEventElapsedTime");
  if (begin == nullptr || end == nullptr || !(*begin)->timed || !(*end)->timed) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  for (const auto* event : {begin, end}) {
    if ((*event)->operation == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (!(*event)->operation->done) return CUDA_ERROR_NOT_READY;
  }
  *milliseconds =
      static_cast<float>((*end)->operation->launches_before - (*begin)->operation->launches_before);
  return CUDA_SUCCESS;
}

CUresult EventDestroy(CUevent event) {
  if (find(machine().events, event, "cuEventDestroy") == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  machine().events.erase(event);
  return CUDA_SUCCESS;
}

}  // namespace weft::stand_in::entry
