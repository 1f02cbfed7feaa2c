#include "tests/loop/ptx_run.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

#include "compiler/loop/tensor_view.h"
#include "tests/ptx/machine/machine.h"
#include "tests/ptx/machine/tensor_copy.h"

namespace weft::test {

namespace {

constexpr std::align_val_t kAlignment{256};  // of what a driver allocates

/// A copy of an argument where a driver might have put it.
class Allocation {
 public:
  explicit Allocation(const std::vector<std::byte>& bytes)
      : size_(bytes.size()),
        data_(
            static_cast<std::byte*>(::operator new(std::max<std::size_t>(size_, 1), kAlignment))) {
    std::copy(bytes.begin(), bytes.end(), data_);
  }
  Allocation(Allocation&& other) noexcept : size_(other.size_), data_(other.data_) {
    other.data_ = nullptr;
  }
  Allocation(const Allocation&) = delete;
  Allocation& operator=(const Allocation&) = delete;
  Allocation& operator=(Allocation&&) = delete;
  ~Allocation() { ::operator delete(data_, kAlignment); }

  std::uint64_t address() const { return reinterpret_cast<std::uintptr_t>(data_); }
  bool holds(std::uint64_t at, std::int64_t bytes) const {
    return at >= address() && at + static_cast<std::uint64_t>(bytes) <= address() + size_;
  }
  void read(std::vector<std::byte>& bytes) const { std::copy(data_, data_ + size_, bytes.begin()); }

 private:
  std::size_t size_;
  std::byte* data_;
};

const std::string kSymbol = "kernel";
constexpr std::size_t kMapBytes = 128;
constexpr std::uint64_t kMapMark = 0x7f4d6170;  // what a map's bytes begin with

}  // namespace

compiler::GeneratedDeviceCode generate_ptx(const loop::Kernel& kernel,
                                           const compiler::DeviceTarget& target) {
  return compiler::generate_device(kernel, kSymbol, target);
}

void run_ptx(const loop::Kernel& kernel, const compiler::GeneratedDeviceCode& code,
             std::vector<std::vector<std::byte>>& arguments, std::uint64_t seed) {
  const ptx::Module module(code.ptx);

  std::vector<Allocation> memory;
  for (const std::vector<std::byte>& argument : arguments) memory.emplace_back(argument);
  std::vector<ptx::TensorMap> maps;
  for (const loop::TensorView& view : kernel.tensor_maps) {
    const plan::TensorMap map = loop::tensor_map(view);
    maps.push_back({memory.at(map.argument).address() + static_cast<std::uint64_t>(map.offset),
                    static_cast<std::int64_t>(size_of(map.dtype)), map.extents, map.strides,
                    map.box, map.exchanged});
  }
  ptx::Device device;
  device.is_global = [&](std::uint64_t address, std::int64_t bytes) {
    return std::any_of(memory.begin(), memory.end(),
                       [&](const Allocation& one) { return one.holds(address, bytes); });
  };
  device.tensor_map = [&](const std::byte* bytes) -> const ptx::TensorMap* {
    std::uint64_t words[2];
    std::memcpy(words, bytes, sizeof words);
    return words[0] == kMapMark && words[1] < maps.size() ? &maps[words[1]] : nullptr;
  };

  for (std::size_t phase = 0; phase < kernel.phases.size(); ++phase) {
    const ptx::Entry* entry = module.find(compiler::device_phase_symbol(kSymbol, phase));
    if (entry == nullptr) throw std::logic_error(kernel.name + ": a phase has no entry");
    std::vector<std::byte> parameters(static_cast<std::size_t>(entry->parameter_bytes));
    for (std::size_t i = 0; i < entry->parameters.size(); ++i) {
      std::byte* to = parameters.data() + entry->parameters[i].offset;
      if (i < memory.size()) {
        const std::uint64_t address = memory[i].address();
        std::memcpy(to, &address, sizeof address);
      } else {
        const std::uint64_t words[2] = {kMapMark, i - memory.size()};
        static_assert(sizeof words <= kMapBytes);
        std::memcpy(to, words, sizeof words);
      }
    }
    ptx::Launch launch;
    launch.grid[0] = static_cast<std::uint32_t>(kernel.phases[phase].grid);
    launch.block[0] = static_cast<std::uint32_t>(kernel.phases[phase].threads);
    launch.dynamic_shared_bytes = code.shared_bytes;
    launch.parameters = parameters;
    launch.seed = seed;
    ptx::run(*entry, launch, device);
  }
  for (std::size_t i = 0; i < memory.size(); ++i) memory[i].read(arguments[i]);
}

}  // namespace weft::test
