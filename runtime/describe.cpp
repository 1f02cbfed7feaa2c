#include "runtime/describe.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <string_view>

namespace weft::plan {
namespace {

/// Type::text(), for types out of nowhere as well.
std::string text_of(const Type& type) {
  const bool known = static_cast<std::size_t>(type.dtype) < all_dtypes.size();
  return known ? type.text() : "?" + type.shape.text();
}

std::string text_of(const TensorMap& map) {
  return fmt::format("tensor map of argument {} + {}: [{}] of [{}] bytes apart, boxes of [{}]{}",
                     map.argument, map.offset, fmt::join(map.extents, ", "),
                     fmt::join(map.strides, ", "), fmt::join(map.box, ", "),
                     map.exchanged ? ", exchanged" : "");
}

class Listing {
 public:
  explicit Listing(const Plan& plan) : plan_(plan) {}

  std::string text() {
    std::size_t code = 0;
    for (const CodeObject& object : plan_.objects) code += object.bytes.size();
    line("plan {} for {}: {} kernels, {} of code, arena {}", plan_.name,
         plan_.target.empty() ? "any machine" : plan_.target, plan_.kernels.size(), size(code),
         size(static_cast<std::uint64_t>(std::max<std::int64_t>(plan_.arena_bytes, 0))));
    for (std::size_t i = 0; i < plan_.buffers.size(); ++i) {
      line("  {} = {}", buffer(static_cast<std::uint32_t>(i)), place(plan_.buffers[i]));
    }
    for (const Kernel& kernel : plan_.kernels) {
      line("  kernel {}: reads {}, writes {}, {} operations, scratch {}", kernel.name,
           kernel.bytes_read, kernel.bytes_written, kernel.operations, kernel.scratch_bytes);
      for (const Phase& phase : kernel.phases) line("    {} grid {}", phase.symbol, phase.grid);
      for (const TensorMap& map : kernel.tensor_maps) line("    {}", text_of(map));
    }
    for (const Feeder& feeder : plan_.feeders) {
      line("  feeder \"{}\" {}", feeder.name, text_of(feeder.type));
    }
    for (const Receiver& receiver : plan_.receivers) {
      std::string types;
      for (const Type& type : receiver.types) types += " " + text_of(type);
      line("  receiver \"{}\"{} every {}", receiver.name, types, receiver.every);
    }
    steps(plan_.steps, "  ");
    return std::move(text_);
  }

 private:
  template <typename... Arguments>
  void line(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Arguments>(arguments)...);
    text_ += '\n';
  }

  static std::string size(std::uint64_t bytes) {
    if (bytes < 10240) return fmt::format("{} B", bytes);
    if (bytes < 10240 * 1024) return fmt::format("{:.1f} KiB", static_cast<double>(bytes) / 1024);
    return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1024 * 1024));
  }

  std::string buffer(std::uint32_t index) const {
    if (index >= plan_.buffers.size()) return fmt::format("?{}", index);
    const Buffer& held = plan_.buffers[index];
    switch (held.kind) {
      case BufferKind::state:
      case BufferKind::scalar:
        return fmt::format("\"{}\"", held.name);
      case BufferKind::arena:
      case BufferKind::constant:
        break;
    }
    return fmt::format("b{}", index);
  }

  static std::string place(const Buffer& buffer) {
    switch (buffer.kind) {
      case BufferKind::arena:
        return fmt::format("arena + {}: {}", buffer.offset, text_of(buffer.type));
      case BufferKind::state:
        return fmt::format("state: {}", text_of(buffer.type));
      case BufferKind::constant:
        return fmt::format("constant: {}", text_of(buffer.type));
      case BufferKind::scalar:
        return fmt::format("scalar: {}", text_of(buffer.type));
    }
    return "?";
  }

  template <typename Entry>
  static std::string named(const std::vector<Entry>& entries, std::uint32_t index) {
    return index < entries.size() ? entries[index].name : fmt::format("?{}", index);
  }

  std::string arguments(const Step& step) const {
    std::string list;
    for (const std::uint32_t index : step.buffers) {
      if (!list.empty()) list += ", ";
      list += buffer(index);
    }
    return list;
  }

  void steps(const std::vector<Step>& list, const std::string& indent) {
    for (const Step& step : list) {
      switch (step.kind) {
        case StepKind::launch:
          line("{}{}({})", indent, named(plan_.kernels, step.index), arguments(step));
          break;
        case StepKind::copy:
          line("{}copy({})", indent, arguments(step));
          break;
        case StepKind::together:
          line("{}together {{", indent);
          steps(step.body, indent + "  ");
          line("{}}}", indent);
          break;
        case StepKind::loop:
          line("{}loop {} ({}) {{", indent, step.count, arguments(step));
          steps(step.body, indent + "  ");
          line("{}}}", indent);
          break;
        case StepKind::feed:
          line("{}feed \"{}\" -> {}", indent, named(plan_.feeders, step.index), arguments(step));
          break;
        case StepKind::receive:
          line("{}receive \"{}\" <- {}", indent, named(plan_.receivers, step.index),
               arguments(step));
          break;
      }
    }
  }

  const Plan& plan_;
  std::string text_;
};

}  // namespace

std::string describe(const Plan& plan) { return Listing(plan).text(); }

}  // namespace weft::plan
