#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/plan/error.h"
#include "runtime/plan/type.h"

namespace weft {

/// A tensor's copy in the memory of a device that cannot reach the host's.
class DeviceTensor {
 public:
  virtual ~DeviceTensor() = default;
  /// Both are done when they return, and throw Error where the device fails.
  virtual void upload(std::span<const std::byte> from) = 0;
  virtual void download(std::span<std::byte> to) = 0;
};

/// Named tensors that outlive a run: parameters, optimiser moments, counters. A handle: copies
/// share the tensors. Executables are bound to one State; not to be changed while one runs.
///
/// What a GPU changes stays there until it is asked for: after a run on one, bytes(), data() and
/// values() bring a tensor back, and what is written through a span from before the run is lost.
class State {
 public:
  State();
  // No moves: a handle without storage would be one more case everywhere.
  State(const State&) = default;
  State& operator=(const State&) = default;

  /// Adds a zeroed tensor; throws Error where the name exists.
  void add(const std::string& name, const Type& type);
  bool has(const std::string& name) const;
  const Type& type(const std::string& name) const;  ///< throws Error where there is none
  std::vector<std::string> names() const;           ///< in order of addition
  void remove(const std::string& name);

  /// The tensor's bytes, 64-byte aligned, at an address that is stable while it exists. May be
  /// written to until the next run, so that a GPU takes them anew.
  std::span<std::byte> bytes(const std::string& name);
  std::span<const std::byte> bytes(const std::string& name) const;

  /// Elements as T (float for f32, double for f64, ...); throws Error where sizes do not match.
  template <typename T>
  std::span<T> data(const std::string& name) {
    const auto raw = bytes(name);
    check_element(name, sizeof(T));
    return {reinterpret_cast<T*>(raw.data()), raw.size() / sizeof(T)};
  }
  /// Elements converted to and from double, whatever the type (c64: pairs).
  std::vector<double> values(const std::string& name) const;
  void set_values(const std::string& name, std::span<const double> values);

  std::int64_t total_bytes() const;
  /// Changes whenever a tensor is added or removed, so that those who hold addresses look again.
  std::uint64_t version() const;
  State clone() const;  ///< a deep copy

  // For executables on devices with a memory of their own; the tensor must exist.
  /// The tensor's copy on a device; nullptr where there is none.
  std::shared_ptr<DeviceTensor> device_tensor(const std::string& name) const;
  /// Gives it a copy, not yet current, in place of the one that it has, whose values are fetched
  /// before. Changes version().
  void set_device_tensor(const std::string& name, std::shared_ptr<DeviceTensor> copy);
  /// Uploads what the host has changed.
  void to_device(const std::string& name);
  /// The device's copy is to be changed: from here on the host's is what is fetched.
  void changed_on_device(const std::string& name);

 private:
  void check_element(const std::string& name, std::size_t size) const;
  struct Storage;
  std::shared_ptr<Storage> storage_;
};

/// Converts n elements of `dtype` (c64: n pairs) to doubles and back, rounding to nearest even.
/// Beyond the range a float becomes infinity and an integer the nearest end of its type (NaN: 0);
/// a bool is 1 for whatever is not 0. f16 and bf16 keep every bit there and back, NaNs included;
/// i64 above 2^53 does not.
void to_doubles(DType dtype, const std::byte* from, std::int64_t n, double* to);
void from_doubles(DType dtype, const double* from, std::int64_t n, std::byte* to);

}  // namespace weft
