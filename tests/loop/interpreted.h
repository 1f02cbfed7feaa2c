#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "compiler/loop/interpret.h"
#include "compiler/loop/interpret_value.h"

namespace weft::tests {

/// The memory of a kernel's arguments, filled and read as numbers (16-bit types are rounded).
class Arguments {
 public:
  explicit Arguments(const loop::Kernel& kernel) : kernel_(kernel) {
    for (const loop::Buffer* buffer : kernel.arguments) {
      memory_.emplace_back(static_cast<std::size_t>(buffer->elements) * size_of(buffer->dtype));
    }
  }

  template <typename Function>
  void fill(std::size_t argument, const Function& value) {
    const loop::Buffer& buffer = *kernel_.arguments[argument];
    for (std::int64_t i = 0; i < buffer.elements; ++i) {
      const double number = static_cast<double>(value(i));
      const loop::Scalar type = loop::register_type(buffer.dtype);
      const loop::Word word = type == loop::Scalar::f32
                                  ? loop::interpreter::word_of(static_cast<float>(number))
                              : type == loop::Scalar::f64
                                  ? loop::interpreter::word_of(number)
                                  : loop::interpreter::word_of(static_cast<std::int64_t>(number));
      loop::interpreter::to_memory(buffer.dtype, word, at(argument, i));
    }
  }
  double get(std::size_t argument, std::int64_t i) {
    const loop::Buffer& buffer = *kernel_.arguments[argument];
    const loop::Word word = loop::interpreter::from_memory(buffer.dtype, at(argument, i));
    const loop::Scalar type = loop::register_type(buffer.dtype);
    if (type == loop::Scalar::f32) return static_cast<double>(loop::interpreter::f32_of(word));
    if (type == loop::Scalar::f64) return loop::interpreter::f64_of(word);
    return static_cast<double>(loop::interpreter::integer_of(word));
  }
  std::vector<std::byte>& bytes(std::size_t argument) { return memory_[argument]; }

  std::vector<loop::Report> run(const loop::InterpretOptions& options = {}) {
    std::vector<std::span<std::byte>> spans(memory_.begin(), memory_.end());
    return loop::interpret(kernel_, spans, options);
  }
  /// Expects no reports.
  void run_clean(const loop::InterpretOptions& options = {}) {
    for (const loop::Report& report : run(options)) ADD_FAILURE() << loop::print(report);
  }

 private:
  std::byte* at(std::size_t argument, std::int64_t i) {
    return memory_[argument].data() +
           static_cast<std::size_t>(i) * size_of(kernel_.arguments[argument]->dtype);
  }

  const loop::Kernel& kernel_;
  std::vector<std::vector<std::byte>> memory_;
};

/// A line for each report.
inline std::string all(const std::vector<loop::Report>& reports) {
  std::string text;
  for (const loop::Report& report : reports) text += print(report) + "\n";
  return text;
}

inline std::set<loop::Report::Kind> kinds(const std::vector<loop::Report>& reports) {
  std::set<loop::Report::Kind> found;
  for (const loop::Report& report : reports) found.insert(report.kind);
  return found;
}

}  // namespace weft::tests
