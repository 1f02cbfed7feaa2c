#include "runtime/cuda/fourier.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <vector>

#include "runtime/plan/error.h"

namespace weft::runtime::cuda {
namespace {

/// Of a device; those of living plans stay with them.
constexpr std::size_t most_plans = 32;

std::string_view text(cufftResult result) {
  switch (result) {
    case CUFFT_INVALID_PLAN:
      return "CUFFT_INVALID_PLAN";
    case CUFFT_ALLOC_FAILED:
      return "CUFFT_ALLOC_FAILED: out of memory";
    case CUFFT_INVALID_VALUE:
      return "CUFFT_INVALID_VALUE";
    case CUFFT_INTERNAL_ERROR:
      return "CUFFT_INTERNAL_ERROR";
    case CUFFT_EXEC_FAILED:
      return "CUFFT_EXEC_FAILED";
    case CUFFT_SETUP_FAILED:
      return "CUFFT_SETUP_FAILED: the library could not be set up";
    case CUFFT_INVALID_SIZE:
      return "CUFFT_INVALID_SIZE";
    case CUFFT_NOT_SUPPORTED:
      return "CUFFT_NOT_SUPPORTED";
    default:
      return "";
  }
}

FourierLibrary load() {
  std::vector<std::string> names = {"libcufft.so.12", "libcufft.so.11"};
  const char* chosen = std::getenv("WEFT_CUFFT");
  if (chosen != nullptr && *chosen != '\0') names = {chosen};
  void* handle = nullptr;
  std::string reasons;
  for (const std::string& name : names) {
    handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle != nullptr) break;
    const char* reason = dlerror();
    reasons += fmt::format("{}{}", reasons.empty() ? "" : "; ", reason ? reason : name.c_str());
  }
  if (handle == nullptr) {
    throw Error(fmt::format("cuFFT: the library could not be loaded: {}", reasons));
  }
  FourierLibrary library;
#define WEFT_CUFFT_LOOK_UP(name)                                                         \
  library.name = reinterpret_cast<decltype(library.name)>(dlsym(handle, "cufft" #name)); \
  if (library.name == nullptr) throw Error("cuFFT: the library has no cufft" #name);
  WEFT_CUFFT_FUNCTIONS(WEFT_CUFFT_LOOK_UP)
#undef WEFT_CUFFT_LOOK_UP
  return library;
}

cufftType type_of(plan::Transform::Kind kind) {
  switch (kind) {
    case plan::Transform::Kind::from_real:
      return CUFFT_R2C;
    case plan::Transform::Kind::to_real:
      return CUFFT_C2R;
    case plan::Transform::Kind::forward:
    case plan::Transform::Kind::inverse:
      break;
  }
  return CUFFT_C2C;
}

/// Where in arguments it works, and which way, is said when it is executed.
plan::Transform kind_of(plan::Transform transform) {
  for (plan::Transform::Side* side : {&transform.from, &transform.to}) {
    side->argument = 0;
    side->offset = 0;
  }
  return transform;
}

}  // namespace

void FourierLibrary::check(cufftResult result, std::string_view doing) const {
  if (result == CUFFT_SUCCESS) return;
  const std::string_view known = text(result);
  throw Error(fmt::format(
      "cuFFT: {}: {}", doing,
      known.empty() ? fmt::format("error {}", static_cast<int>(result)) : std::string(known)));
}

const FourierLibrary& fourier_library() {
  static std::mutex mutex;
  static std::optional<FourierLibrary> loaded;
  const std::lock_guard lock(mutex);
  if (!loaded) loaded = load();
  return *loaded;
}

std::string fourier_library_absent() {
  try {
    fourier_library();
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

FourierPlan::FourierPlan(const Device& device, const plan::Transform& transform)
    : device_(device), library_(fourier_library()), transform_(transform) {
  const Device::Scope scope(device_);
  const std::string what = fmt::format("preparing {} lines of a {} of {} points", transform.lines,
                                       plan::name(transform.kind), transform.length);
  library_.check(library_.Create(&handle_), what);
  try {
    // Its memory is the plan's, allocated before anything runs.
    library_.check(library_.SetAutoAllocation(handle_, 0), what);
    long long length = transform.length;
    long long from_points = transform.from_points();
    long long to_points = transform.to_points();
    std::size_t bytes = 0;
    library_.check(library_.MakePlanMany64(handle_, 1, &length, &from_points, transform.from.stride,
                                           transform.from.distance, &to_points, transform.to.stride,
                                           transform.to.distance, type_of(transform.kind),
                                           transform.lines, &bytes),
                   what);
    workspace_bytes_ = static_cast<std::int64_t>(bytes);
  } catch (...) {
    library_.Destroy(handle_);
    throw;
  }
}

FourierPlan::~FourierPlan() {
  try {
    const Device::Scope scope(device_);
    library_.Destroy(handle_);
  } catch (...) {
    // Without its context there is nothing left to release.
  }
}

void FourierPlan::execute(const Stream& stream, const TransformLaunch& launch) const {
  const std::lock_guard lock(mutex_);
  const std::string what =
      fmt::format("a {} of {} points", plan::name(transform_.kind), transform_.length);
  library_.check(library_.SetStream(handle_, reinterpret_cast<cudaStream_t>(stream.get())), what);
  library_.check(library_.SetWorkArea(handle_, reinterpret_cast<void*>(launch.workspace)), what);
  for (std::int64_t i = 0; i < transform_.repetitions; ++i) {
    const std::int64_t skipped = i * transform_.from.repeat * transform_.from_element();
    const std::int64_t written = i * transform_.to.repeat * transform_.to_element();
    const CUdeviceptr from = launch.from + static_cast<CUdeviceptr>(skipped);
    const CUdeviceptr to = launch.to + static_cast<CUdeviceptr>(written);
    switch (transform_.kind) {
      case plan::Transform::Kind::forward:
      case plan::Transform::Kind::inverse:
        library_.check(
            library_.ExecC2C(
                handle_, reinterpret_cast<cufftComplex*>(from), reinterpret_cast<cufftComplex*>(to),
                transform_.kind == plan::Transform::Kind::forward ? CUFFT_FORWARD : CUFFT_INVERSE),
            what);
        break;
      case plan::Transform::Kind::from_real:
        library_.check(library_.ExecR2C(handle_, reinterpret_cast<cufftReal*>(from),
                                        reinterpret_cast<cufftComplex*>(to)),
                       what);
        break;
      case plan::Transform::Kind::to_real:
        library_.check(library_.ExecC2R(handle_, reinterpret_cast<cufftComplex*>(from),
                                        reinterpret_cast<cufftReal*>(to)),
                       what);
        break;
    }
  }
}

std::shared_ptr<const FourierPlan> FourierPlans::get(const Device& device,
                                                     const plan::Transform& transform) {
  const plan::Transform wanted = kind_of(transform);
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(plans_.begin(), plans_.end(),
                                  [&](const auto& plan) { return plan->transform() == wanted; });
  if (found != plans_.end()) {
    plans_.splice(plans_.begin(), plans_, found);
  } else {
    plans_.push_front(std::make_shared<const FourierPlan>(device, wanted));
    if (plans_.size() > most_plans) plans_.pop_back();
  }
  return plans_.front();
}

}  // namespace weft::runtime::cuda
