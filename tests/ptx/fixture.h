#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "tests/ptx/machine/machine.h"
#include "tests/ptx/machine/tensor_copy.h"

namespace weft::ptx {

/// A device whose global memory is what has been added to it.
class TestDevice {
 public:
  template <class T>
  std::uint64_t add(std::vector<T>& memory) {
    const auto address = reinterpret_cast<std::uint64_t>(memory.data());
    ranges_[address] = address + memory.size() * sizeof(T);
    return address;
  }
  /// The first 8 bytes of a tensor map that is found by them.
  std::uint64_t add(const TensorMap& map) {
    maps_.push_back(&map);
    return maps_.size();
  }
  Device device() const {
    Device result;
    result.is_global = [this](std::uint64_t address, std::int64_t bytes) {
      auto range = ranges_.upper_bound(address);
      if (range == ranges_.begin()) return false;
      --range;
      return address + static_cast<std::uint64_t>(bytes) <= range->second;
    };
    result.tensor_map = [this](const std::byte* map) -> const TensorMap* {
      std::uint64_t number = 0;
      std::memcpy(&number, map, sizeof number);
      return number >= 1 && number <= maps_.size() ? maps_[number - 1] : nullptr;
    };
    return result;
  }

 private:
  std::map<std::uint64_t, std::uint64_t> ranges_;
  std::vector<const TensorMap*> maps_;
};

inline std::string module_of(const std::string& entries) {
  return ".version 8.0\n.target sm_90a\n.address_size 64\n" + entries;
}

struct Shape {
  std::array<std::uint32_t, 3> grid{1, 1, 1};
  std::array<std::uint32_t, 3> block{32, 1, 1};
  std::int64_t shared_bytes = 0;
  std::uint64_t seed = 1;
};
inline Shape threads(std::uint32_t count, std::uint64_t seed = 1) {
  return {{1, 1, 1}, {count, 1, 1}, 0, seed};
}

/// Runs the first entry of a module. Arguments have the sizes of its parameters.
template <class... Argument>
void run_entry(const Module& module, const TestDevice& device, const Shape& shape,
               const Argument&... arguments) {
  const Entry& entry = module.entries().at(0);
  std::vector<std::byte> parameters(static_cast<std::size_t>(entry.parameter_bytes));
  std::size_t index = 0;
  [[maybe_unused]] const auto place = [&](const auto& argument) {
    const Parameter& parameter = entry.parameters.at(index++);
    ASSERT_LE(sizeof argument, static_cast<std::size_t>(parameter.bytes)) << parameter.name;
    std::memcpy(parameters.data() + parameter.offset, &argument, sizeof argument);
  };
  (place(arguments), ...);
  Launch launch;
  launch.grid = shape.grid;
  launch.block = shape.block;
  launch.dynamic_shared_bytes = shape.shared_bytes;
  launch.parameters = parameters;
  launch.seed = shape.seed;
  run(entry, launch, device.device());
}

/// A kernel of one parameter `out`: %out is its address plus 4 times the thread's number, %t.
inline std::string kernel_of(const std::string& body) {
  return module_of(fmt::format(R"(
.visible .entry kernel(.param .u64 out)
{{
  .reg .b64 %base, %out, %offset;
  .reg .b32 %t;
  ld.param.u64 %base, [out];
  mov.u32 %t, %tid.x;
  mul.wide.u32 %offset, %t, 4;
  add.s64 %out, %base, %offset;
{}
  ret;
}}
)",
                               body));
}

/// What each of `count` threads writes to %out.
template <class T = std::uint32_t>
std::vector<T> out_of(const std::string& body, const Shape& shape = {}, std::size_t count = 0) {
  static_assert(sizeof(T) == 4);
  const Module module(kernel_of(body));
  std::vector<T> out(count != 0 ? count : shape.block[0]);
  TestDevice device;
  run_entry(module, device, shape, device.add(out));
  return out;
}

/// What the error says that the kernel ends in; empty: it ends well.
inline std::string error_of(const std::string& body, const Shape& shape = {}) {
  try {
    out_of(body, shape, 4096);
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

/// What `instructions` make of one element of each operand: registers %a, %b, ... become %d. There
/// are predicates %p and %q and 32-bit registers %t0 to %t3 as well.
template <class D, class... A>
std::vector<D> each(const std::string& instructions, const std::vector<A>&... operands) {
  const std::size_t count = std::min({operands.size()...});
  std::string text = ".visible .entry kernel(.param .u64 out";
  std::string loads;
  char operand = 'a';
  const auto add = [&](std::size_t bytes) {
    text += fmt::format(", .param .u64 in_{}", operand);
    loads += fmt::format(
        "  .reg .b{} %{};\n  ld.param.u64 %base, [in_{}];\n  mad.wide.u32 %base, %i, {}, %base;\n"
        "  ld.global.b{} %{}, [%base];\n",
        8 * bytes, operand, operand, bytes, 8 * bytes, operand);
    ++operand;
  };
  (add(sizeof(typename std::vector<A>::value_type)), ...);
  text += fmt::format(
      ")\n{{\n  .reg .b64 %base;\n  .reg .b32 %i, %t<4>;\n  .reg .pred %p, %q;\n  .reg .b{} %d;\n"
      "  mov.u32 %i, %tid.x;\n{}  {}\n  ld.param.u64 %base, [out];\n"
      "  mad.wide.u32 %base, %i, {}, %base;\n  st.global.b{} [%base], %d;\n  ret;\n}}\n",
      8 * sizeof(D), loads, instructions, sizeof(D), 8 * sizeof(D));
  const Module module(module_of(text));
  std::vector<D> out(count);
  TestDevice device;
  run_entry(module, device, threads(static_cast<std::uint32_t>(count)), device.add(out),
            device.add(const_cast<std::vector<A>&>(operands))...);
  return out;
}

}  // namespace weft::ptx
