#include "runtime/cuda/driver.h"

#include <dlfcn.h>

#include <cstdlib>
#include <mutex>
#include <optional>

#include "runtime/plan/error.h"

namespace weft::runtime::cuda {
namespace {

/// The driver's own text on why a library or a symbol of it could not be had.
std::string loader_error() {
  const char* text = dlerror();
  return text == nullptr ? "no reason given" : text;
}

template <typename Function>
void look_up(PFN_cuGetProcAddress_v12000 get_address, const char* name, int version,
             const std::string& library, Function& function) {
  void* address = nullptr;
  CUdriverProcAddressQueryResult found = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  // The plain variants, whose stream 0 is the legacy one, whatever a compiler's flags were.
  const CUresult result =
      get_address(name, &address, version, CU_GET_PROC_ADDRESS_LEGACY_STREAM, &found);
  if (result != CUDA_SUCCESS || address == nullptr) {
    throw Error(
        fmt::format("CUDA: {} has no {} of version {}", library, name, version_text(version)));
  }
  function = reinterpret_cast<Function>(address);
}

}  // namespace

std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

void Driver::fail(CUresult result, std::string_view doing) const {
  const char* name = nullptr;
  const char* text = nullptr;
  if (GetErrorName == nullptr || GetErrorName(result, &name) != CUDA_SUCCESS) name = nullptr;
  if (GetErrorString == nullptr || GetErrorString(result, &text) != CUDA_SUCCESS) text = nullptr;
  throw Error(
      fmt::format("CUDA: {}: {}{}{}", doing,
                  name != nullptr ? name : fmt::format("error {}", static_cast<int>(result)),
                  text != nullptr ? ": " : "", text != nullptr ? text : ""));
}

Driver load_driver(const std::string& library) {
  // Never closed: drivers leave threads and handlers behind.
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    throw Error(
        fmt::format("CUDA: no driver: {} could not be loaded: {}", library, loader_error()));
  }
  Driver driver;
  // A driver of any age has these two under these names.
  const auto get_version =
      reinterpret_cast<PFN_cuDriverGetVersion_v2020>(dlsym(handle, "cuDriverGetVersion"));
  if (get_version == nullptr) {
    throw Error(fmt::format("CUDA: {} is no driver: {}", library, loader_error()));
  }
  driver.check(get_version(&driver.version), "asking {} for its version", library);
  if (driver.version < oldest_driver) {
    throw Error(fmt::format("CUDA: the driver is too old: it is for CUDA {}, weft needs {}",
                            version_text(driver.version), version_text(oldest_driver)));
  }
  const auto get_address =
      reinterpret_cast<PFN_cuGetProcAddress_v12000>(dlsym(handle, "cuGetProcAddress_v2"));
  if (get_address == nullptr) {
    throw Error(fmt::format("CUDA: {}: {}", library, loader_error()));
  }
#define WEFT_CUDA_LOOK_UP(name, since) \
  look_up(get_address, "cu" #name, since, library, driver.name);
  WEFT_CUDA_FUNCTIONS(WEFT_CUDA_LOOK_UP)
#undef WEFT_CUDA_LOOK_UP
  const CUresult initialised = driver.Init(0);
  if (initialised == CUDA_SUCCESS) {
    driver.check(driver.DeviceGetCount(&driver.devices), "counting devices");
  }
  if (initialised == CUDA_ERROR_NO_DEVICE || (initialised == CUDA_SUCCESS && driver.devices == 0)) {
    throw Error(
        fmt::format("CUDA: the driver (CUDA {}) finds no device", version_text(driver.version)));
  }
  driver.check(initialised, "initialising the driver (CUDA {})", version_text(driver.version));
  return driver;
}

const Driver& driver() {
  static std::mutex mutex;
  static std::optional<Driver> loaded;
  const std::lock_guard lock(mutex);
  if (!loaded) {
    const char* chosen = std::getenv("WEFT_CUDA_DRIVER");
    loaded = load_driver(chosen != nullptr && *chosen != '\0' ? chosen : "libcuda.so.1");
  }
  return *loaded;
}

}  // namespace weft::runtime::cuda
