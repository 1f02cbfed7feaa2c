#pragma once

#include <cudaTypedefs.h>
#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

/// CUDA's Driver API, loaded when it is first needed: nothing of CUDA is linked, so one binary
/// serves machines with and without a GPU.
namespace weft::runtime::cuda {

/// What the functions below need, as cuDriverGetVersion counts: 12.0.
inline constexpr int oldest_driver = 12000;
/// As a version is written: 12040 is "12.4".
std::string version_text(int version);

/// The entry points that weft calls, with the versions whose signatures it was written for.
#define WEFT_CUDA_FUNCTIONS(X)        \
  X(Init, 2000)                       \
  X(DriverGetVersion, 2020)           \
  X(GetErrorName, 6000)               \
  X(GetErrorString, 6000)             \
  X(DeviceGetCount, 2000)             \
  X(DeviceGet, 2000)                  \
  X(DeviceGetName, 2000)              \
  X(DeviceGetAttribute, 2000)         \
  X(DeviceTotalMem, 3020)             \
  X(DevicePrimaryCtxRetain, 7000)     \
  X(DevicePrimaryCtxRelease, 11000)   \
  X(CtxPushCurrent, 4000)             \
  X(CtxPopCurrent, 4000)              \
  X(MemGetInfo, 3020)                 \
  X(MemAlloc, 3020)                   \
  X(MemFree, 3020)                    \
  X(MemHostAlloc, 2020)               \
  X(MemFreeHost, 2000)                \
  X(MemcpyHtoDAsync, 3020)            \
  X(MemcpyDtoHAsync, 3020)            \
  X(MemcpyDtoDAsync, 3020)            \
  X(MemsetD8Async, 3020)              \
  X(StreamCreate, 2000)               \
  X(StreamDestroy, 4000)              \
  X(StreamSynchronize, 2000)          \
  X(StreamWaitEvent, 3020)            \
  X(StreamBeginCapture, 10010)        \
  X(StreamEndCapture, 10000)          \
  X(EventCreate, 2000)                \
  X(EventRecord, 2000)                \
  X(EventSynchronize, 2000)           \
  X(EventElapsedTime, 2000)           \
  X(EventDestroy, 4000)               \
  X(ModuleLoadDataEx, 2010)           \
  X(ModuleUnload, 2000)               \
  X(ModuleGetFunction, 2000)          \
  X(FuncSetAttribute, 9000)           \
  X(FuncGetAttribute, 2020)           \
  X(LaunchKernel, 4000)               \
  X(GraphCreate, 10000)               \
  X(GraphDestroy, 10000)              \
  X(GraphAddKernelNode, 12000)        \
  X(GraphAddMemcpyNode, 10000)        \
  X(GraphAddEmptyNode, 10000)         \
  X(GraphAddChildGraphNode, 10000)    \
  X(GraphInstantiateWithFlags, 11040) \
  X(GraphExecDestroy, 10000)          \
  X(GraphLaunch, 10000)               \
  X(GraphUpload, 11010)               \
  X(TensorMapEncodeTiled, 12000)

struct Driver {
#define WEFT_CUDA_MEMBER(name, version) PFN_cu##name##_v##version name = nullptr;
  WEFT_CUDA_FUNCTIONS(WEFT_CUDA_MEMBER)
#undef WEFT_CUDA_MEMBER
  int version = 0;  ///< as cuDriverGetVersion counts
  int devices = 0;  ///< at least 1

  /// Throws Error: "CUDA: <doing>: CUDA_ERROR_..: <the driver's text>".
  [[noreturn]] void fail(CUresult result, std::string_view doing) const;
  /// Where a call went wrong, fail() with what the text says was being done.
  template <typename... Arguments>
  void check(CUresult result, fmt::format_string<Arguments...> doing,
             Arguments&&... arguments) const {
    if (result == CUDA_SUCCESS) return;
    fail(result, fmt::format(doing, std::forward<Arguments>(arguments)...));
  }
};

/// Loads a driver library and initialises it. Throws Error that says what is missing: the library,
/// an entry point, a driver that is new enough, a device.
Driver load_driver(const std::string& library);

/// The process's driver: libcuda.so.1, or what WEFT_CUDA_DRIVER names. Loaded by the first call;
/// throws as load_driver(), and then tries again when next called.
const Driver& driver();

}  // namespace weft::runtime::cuda
