#include "tests/loop/compare.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <span>
#include <stdexcept>

#include "compiler/loop/interpret.h"
#include "tests/loop/harness.h"

namespace weft::tests {
namespace {

/// Pages for `bytes` between two inaccessible pages.
class Guarded {
 public:
  Guarded(std::size_t bytes, bool at_end) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t inner = std::max<std::size_t>((bytes + page - 1) / page * page, page);
    size_ = inner + 2 * page;
    memory_ = static_cast<std::byte*>(
        mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (memory_ == MAP_FAILED || mprotect(memory_ + page, inner, PROT_READ | PROT_WRITE) != 0) {
      throw std::runtime_error("no memory for a guarded buffer");
    }
    data = memory_ + page + (at_end ? inner - bytes : 0);
  }
  ~Guarded() { munmap(memory_, size_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  std::byte* data;

 private:
  std::byte* memory_;
  std::size_t size_;
};

std::uint16_t half_bits(double value) {
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  value = std::fabs(value);
  if (std::isnan(value)) return 0x7e00;
  if (std::isinf(value)) return sign | 0x7c00;
  if (value < 0x1p-14) return sign | static_cast<std::uint16_t>(value * 0x1p24);
  int exponent = 0;
  const double fraction = std::frexp(value, &exponent);
  return static_cast<std::uint16_t>(sign | ((exponent + 14) << 10) |
                                    (static_cast<int>(fraction * 2048) - 1024));
}

double half_value(std::uint16_t bits) {
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 1023;
  if (exponent == 31) return fraction ? std::nan("") : sign * HUGE_VAL;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(fraction + 1024, exponent - 25);
}

template <typename T>
void put(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof value);
}
template <typename T>
T get(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

void write(DType dtype, std::byte* to, const Number& value) {
  switch (dtype) {
    case DType::f32:
      put(to, static_cast<float>(value.real));
      break;
    case DType::f64:
      put(to, value.real);
      break;
    case DType::f16:
      put(to, half_bits(value.real));
      break;
    case DType::bf16:
      put(to, static_cast<std::uint16_t>(
                  std::bit_cast<std::uint32_t>(static_cast<float>(value.real)) >> 16));
      break;
    case DType::i32:
      put(to, static_cast<std::int32_t>(value.integer));
      break;
    case DType::i64:
      put(to, value.integer);
      break;
    default:
      put(to, static_cast<std::uint8_t>(value.integer));
      break;
  }
}

Number read(DType dtype, const std::byte* from) {
  switch (dtype) {
    case DType::f32:
      return {0, static_cast<double>(get<float>(from))};
    case DType::f64:
      return {0, get<double>(from)};
    case DType::f16:
      return {0, half_value(get<std::uint16_t>(from))};
    case DType::bf16:
      return {0, static_cast<double>(std::bit_cast<float>(
                     static_cast<std::uint32_t>(get<std::uint16_t>(from)) << 16))};
    case DType::i32:
      return {get<std::int32_t>(from), 0};
    case DType::i64:
      return {get<std::int64_t>(from), 0};
    default:
      return {get<std::uint8_t>(from), 0};
  }
}

bool same(const Number& a, const Number& b) {
  if (std::isnan(a.real) && std::isnan(b.real)) return true;
  return a.integer == b.integer &&
         std::bit_cast<std::uint64_t>(a.real) == std::bit_cast<std::uint64_t>(b.real);
}

/// The compiler's interpreter gives the same and has nothing to report.
void expect_interpreted(const loop::Kernel& kernel, const std::vector<std::vector<Number>>& initial,
                        const Interpreter& reference) {
  std::vector<std::vector<std::byte>> memory;
  for (std::size_t a = 0; a < initial.size(); ++a) {
    const DType dtype = kernel.arguments[a]->dtype;
    memory.emplace_back(initial[a].size() * size_of(dtype));
    for (std::size_t i = 0; i < initial[a].size(); ++i) {
      write(dtype, memory[a].data() + i * size_of(dtype), initial[a][i]);
    }
  }
  const std::vector<std::span<std::byte>> spans(memory.begin(), memory.end());
  for (const loop::Report& report : loop::interpret(kernel, spans, {.flush_denormals = false})) {
    // Blocks run one after the other here; some kernels make use of it.
    if (report.kind != loop::Report::Kind::race_of_blocks) ADD_FAILURE() << loop::print(report);
  }
  for (std::size_t a = 0; a < initial.size(); ++a) {
    const loop::Buffer* buffer = kernel.arguments[a];
    const std::vector<Number>& wanted = reference.memory.at(buffer);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const Number found = read(buffer->dtype, memory[a].data() + i * size_of(buffer->dtype));
      ASSERT_TRUE(same(found, wanted[i]))
          << "interpreted: " << buffer->name << "[" << i << "] is " << found.integer << " / "
          << found.real << " instead of " << wanted[i].integer << " / " << wanted[i].real << "\n"
          << loop::print(kernel);
    }
  }
}

}  // namespace

std::vector<compiler::HostTarget> targets() {
  std::vector<compiler::HostTarget> all = {compiler::host_target()};
  if (all[0].vector_bits >= 256) {
    all.push_back({"x86-64-v3", "+avx2,+fma,+f16c,+bmi,+bmi2", 256});
  }
  all.push_back({"x86-64", "", 128});
  return all;
}

Number small_numbers(const loop::Buffer& buffer, std::int64_t index) {
  const std::int64_t hash = (index * 7919 + 31 * (buffer.index + 1)) % 1009;
  const std::int64_t value = hash % 13 - 6;
  switch (loop::register_type(buffer.dtype)) {
    case loop::Scalar::boolean:
      return {hash % 2, 0};
    case loop::Scalar::u8:
      return {hash % 256, 0};
    case loop::Scalar::i32:
    case loop::Scalar::i64:
      return {value, 0};
    default:
      return {0, static_cast<double>(value)};
  }
}

void expect_same(const loop::Kernel& kernel, const Fill& fill) {
  Interpreter reference;
  std::vector<std::vector<Number>> initial;
  for (const loop::Buffer* buffer : kernel.arguments) {
    std::vector<Number> values;
    for (std::int64_t i = 0; i < buffer->elements; ++i) values.push_back(fill(*buffer, i));
    reference.memory[buffer] = values;
    initial.push_back(std::move(values));
  }
  reference.run(kernel);
  expect_interpreted(kernel, initial, reference);
  for (const compiler::HostTarget& target : targets()) {
    const Compiled compiled(kernel, target);
    for (const bool at_end : {true, false}) {
      std::vector<std::unique_ptr<Guarded>> memory;
      std::vector<void*> arguments;
      for (std::size_t a = 0; a < initial.size(); ++a) {
        const DType dtype = kernel.arguments[a]->dtype;
        const std::size_t size = size_of(dtype);
        memory.push_back(std::make_unique<Guarded>(initial[a].size() * size, at_end));
        for (std::size_t i = 0; i < initial[a].size(); ++i) {
          write(dtype, memory[a]->data + i * size, initial[a][i]);
        }
        arguments.push_back(memory[a]->data);
      }
      compiled.run(arguments);
      for (std::size_t a = 0; a < initial.size(); ++a) {
        const loop::Buffer* buffer = kernel.arguments[a];
        const std::vector<Number>& wanted = reference.memory.at(buffer);
        for (std::size_t i = 0; i < wanted.size(); ++i) {
          const Number found = read(buffer->dtype, memory[a]->data + i * size_of(buffer->dtype));
          ASSERT_TRUE(same(found, wanted[i]))
              << target.name() << ": " << buffer->name << "[" << i << "] is " << found.integer
              << " / " << found.real << " instead of " << wanted[i].integer << " / "
              << wanted[i].real << "\n"
              << loop::print(kernel);
        }
      }
    }
  }
}

}  // namespace weft::tests
