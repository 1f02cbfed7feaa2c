#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/cuda/driver.h"
#include "runtime/memory.h"

/// What a GPU gives, each released with its object. Failures of the driver are Error where
/// something is asked for; where something is released they are passed over: they are those of
/// earlier work, which whoever waits for that work is told of.
namespace weft::runtime::cuda {

class FourierPlans;

/// A device with its primary context, which weft shares with whatever else of the process uses it.
class Device {
 public:
  /// As the driver counts them; the same object for all that hold it at one time. Throws Error as
  /// driver() does, and where there are not so many.
  static std::shared_ptr<const Device> number(int index);
  static std::shared_ptr<const Device> first() { return number(0); }

  Device(const Driver& driver, int index);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const Driver& driver() const { return driver_; }
  CUcontext context() const { return context_; }
  const std::string& name() const { return name_; }
  int major() const { return major_; }  ///< of the compute capability
  int minor() const { return minor_; }
  /// Most dynamic shared memory of a block, where its function asks for it.
  std::int64_t most_shared_bytes() const { return most_shared_bytes_; }
  /// "123 of 456 bytes are free", as far as the driver says.
  std::string memory_text() const;
  /// Transforms that its library has prepared.
  FourierPlans& fourier_plans() const { return *fourier_plans_; }

  /// Makes the device's context the calling thread's while it lives.
  class Scope {
   public:
    explicit Scope(const Device& device);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    const Driver& driver_;
  };

 private:
  const Driver& driver_;
  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
  std::string name_;
  int major_ = 0;
  int minor_ = 0;
  std::int64_t most_shared_bytes_ = 0;
  std::unique_ptr<FourierPlans> fourier_plans_;
};

using DeviceHandle = std::shared_ptr<const Device>;

/// Something of a device that is released once: a handle and how it is released.
template <typename Handle, CUresult (*(Driver::* release))(Handle)>
class Owned {
 public:
  Owned() = default;
  Owned(DeviceHandle device, Handle handle) : device_(std::move(device)), handle_(handle) {}
  ~Owned() {
    if (handle_ == Handle{}) return;
    try {
      const Device::Scope scope(*device_);
      (device_->driver().*release)(handle_);
    } catch (...) {
      // Without its context there is nothing left to release.
    }
  }
  Owned(Owned&& other) noexcept
      : device_(std::move(other.device_)), handle_(std::exchange(other.handle_, Handle{})) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(handle_, other.handle_);
    return *this;
  }

  Handle get() const { return handle_; }
  const DeviceHandle& device() const { return device_; }
  const Driver& driver() const { return device_->driver(); }

 private:
  DeviceHandle device_;
  Handle handle_{};
};

/// Device memory at a constant address, 256-byte aligned. Its contents are not set.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  /// `what` for the error: "the arena of plan \"mlp\"". Of 0 bytes there is an address all the
  /// same.
  DeviceMemory(const DeviceHandle& device, std::int64_t bytes, std::string_view what);

  CUdeviceptr address() const { return memory_.get(); }
  std::int64_t bytes() const { return bytes_; }

 private:
  Owned<CUdeviceptr, &Driver::MemFree> memory_;
  std::int64_t bytes_ = 0;
};

/// Zeroed host memory that copies to and from the device run beside everything else with.
StagingMemory pinned_memory(const DeviceHandle& device, std::int64_t bytes);

/// Marks a place in a stream.
class Event {
 public:
  enum class Kind : std::uint8_t {
    quick,    ///< who waits for it keeps looking
    patient,  ///< who waits for it sleeps
    timed     ///< elapsed_seconds() is to be asked of it, which makes marks take longer
  };
  explicit Event(const DeviceHandle& device, Kind kind = Kind::quick);
  void wait() const;  ///< until the work before the latest mark is done; at once without a mark
  /// Between the marks of two timed events, both reached.
  static double elapsed_seconds(const Event& from, const Event& to);

 private:
  friend class Stream;
  Owned<CUevent, &Driver::EventDestroy> event_;
};

/// Work in order, beside that of other streams.
class Stream {
 public:
  explicit Stream(const DeviceHandle& device);

  CUstream get() const { return stream_.get(); }
  void mark(const Event& event);      ///< after all that is in the stream
  void wait_for(const Event& event);  ///< before all that comes into the stream
  void upload(CUdeviceptr to, std::span<const std::byte> from);
  void download(std::span<std::byte> to, CUdeviceptr from);
  void copy(CUdeviceptr from, CUdeviceptr to, std::int64_t bytes);  ///< within the device
  void clear(CUdeviceptr to, std::int64_t bytes);
  void wait() const;  ///< until all of it is done; throws Error where any of it failed

 private:
  Owned<CUstream, &Driver::StreamDestroy> stream_;
};

/// A kernel of a loaded module.
struct Function {
  CUfunction handle = nullptr;
  std::string name;
  int most_threads = 0;  ///< of a block, with the registers that it takes
};

/// Loaded code.
class Module {
 public:
  Module() = default;
  /// `image`: PTX text or a cubin. An Error has what the driver's compiler says of it.
  Module(const DeviceHandle& device, const std::string& image, std::string_view what);
  Function function(const std::string& symbol) const;
  /// Lets a function have that much dynamic shared memory.
  void allow_shared(const Function& function, std::int64_t bytes) const;

 private:
  Owned<CUmodule, &Driver::ModuleUnload> module_;
};

}  // namespace weft::runtime::cuda
