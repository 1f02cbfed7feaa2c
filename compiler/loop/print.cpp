#include "compiler/loop/print.h"

#include <fmt/format.h>

#include <algorithm>

#include "compiler/loop/math_f64.h"

namespace weft::loop {
namespace {

/// Shared expressions of at most this many nodes are written out at each use.
constexpr long small_size = 10;

const char* infix(Binary op) {
  switch (op) {
    case Binary::add:
      return " + ";
    case Binary::subtract:
      return " - ";
    case Binary::multiply:
      return " * ";
    case Binary::divide:
      return " / ";
    case Binary::remainder:
      return " rem ";
    case Binary::floor_divide:
      return " // ";
    case Binary::floor_modulo:
      return " % ";
    case Binary::bitwise_and:
      return " & ";
    case Binary::bitwise_or:
      return " | ";
    case Binary::bitwise_xor:
      return " ^ ";
    case Binary::shift_left:
      return " << ";
    case Binary::shift_right:
      return " >> ";
    case Binary::shift_right_logical:
      return " >>> ";
    case Binary::equal:
      return " == ";
    case Binary::not_equal:
      return " != ";
    case Binary::less:
      return " < ";
    case Binary::less_equal:
      return " <= ";
    default:
      return nullptr;
  }
}

const char* function(Binary op) {
  switch (op) {
    case Binary::minimum:
      return "min";
    case Binary::maximum:
      return "max";
    case Binary::multiply_high_unsigned:
      return "mulhi";
    default:
      return "pow";
  }
}

const char* function(Unary op) {
  switch (op) {
    case Unary::negate:
      return "-";
    case Unary::absolute:
      return "abs";
    case Unary::square_root:
      return "sqrt";
    case Unary::floor:
      return "floor";
    case Unary::round_even:
      return "round";
    case Unary::logical_not:
      return "!";
    case Unary::bitwise_not:
      return "~";
    case Unary::round_f16:
      return "round_f16";
    case Unary::round_bf16:
      return "round_bf16";
    default:
      break;
  }
  const char* call = library_name(op);
  return call == nullptr ? "?" : call;
}

std::string constant(Ex expr) {
  switch (expr->type) {
    case Scalar::boolean:
      return expr->integer ? "true" : "false";
    case Scalar::u8:
      return fmt::format("{}:u8", expr->integer);
    case Scalar::i32:
      return fmt::format("{}:i32", expr->integer);
    case Scalar::i64:
      return fmt::format("{}", expr->integer);
    case Scalar::f32:
      return fmt::format("{}f", static_cast<float>(expr->real));
    case Scalar::f64:
      return fmt::format("{}d", expr->real);
  }
  return "?";
}

}  // namespace

std::string ExpressionPrinter::variable(Ex expr) {
  if (!renumber_) return fmt::format("x{}", expr->integer);
  return fmt::format(
      "x{}", variables_.try_emplace(expr, static_cast<int>(variables_.size())).first->second);
}

std::string ExpressionPrinter::buffer(const Buffer* buffer) {
  if (buffer_names_) return buffer->name;
  if (buffer->space == Space::argument) return fmt::format("a{}", buffer->index);
  if (buffer->space == Space::tensor_map) return fmt::format("m{}", buffer->index);
  const char space = buffer->space == Space::local    ? 'l'
                     : buffer->space == Space::shared ? 's'
                                                      : 't';
  return fmt::format("{}{}", space,
                     buffers_.try_emplace(buffer, static_cast<int>(buffers_.size())).first->second);
}

void ExpressionPrinter::count(Ex expr) {
  if (++uses_[expr] > 1) return;
  long size = 1;
  for (Ex argument : expr->arguments) {
    if (!argument) continue;
    count(argument);
    size += sizes_[argument];
  }
  sizes_[expr] = std::min(size, 1L << 40);
}

std::string ExpressionPrinter::text(Ex expr) {
  if (const auto found = shared_.find(expr); found != shared_.end()) return found->second;
  const auto& argument = expr->arguments;
  std::string out;
  switch (expr->kind) {
    case ExprKind::constant:
      return constant(expr);
    case ExprKind::variable:
      return variable(expr);
    case ExprKind::load:
      out = fmt::format("{}[{}", buffer(expr->buffer), text(argument[0]));
      if (argument[1]) out += fmt::format(" if {}", text(argument[1]));
      out += ']';
      break;
    case ExprKind::unary: {
      const auto* symbol = function(static_cast<Unary>(expr->code));
      out = fmt::format("{}({})", symbol, text(argument[0]));
      break;
    }
    case ExprKind::binary: {
      const auto op = static_cast<Binary>(expr->code);
      // One after the other: the order of evaluation numbers what is shared.
      const std::string left = text(argument[0]);
      const std::string right = text(argument[1]);
      out = infix(op) ? fmt::format("({}{}{})", left, infix(op), right)
                      : fmt::format("{}({}, {})", function(op), left, right);
      break;
    }
    case ExprKind::select:
    case ExprKind::fma:
    case ExprKind::dot_pair: {
      const std::string first = text(argument[0]);
      const std::string second = text(argument[1]);
      const std::string third = text(argument[2]);
      out = fmt::format("{}({}, {}, {})",
                        expr->kind == ExprKind::select ? "select"
                        : expr->kind == ExprKind::fma  ? "fma"
                                                       : "dot_pair",
                        first, second, third);
      break;
    }
    case ExprKind::cast:
      out = fmt::format("{}{}({})", name(expr->type),
                        static_cast<Cast>(expr->code) == Cast::bits ? "_bits" : "",
                        text(argument[0]));
      break;
  }
  if (uses_[expr] > 1 && sizes_[expr] > small_size) {
    std::string label = fmt::format("%{}", next_shared_++);
    *lines_ += fmt::format("{}{} = {}\n", *indent_, label, out);
    shared_[expr] = label;
    return label;
  }
  return out;
}

std::string ExpressionPrinter::print(Ex expr, std::string& lines, const std::string& indent) {
  uses_.clear();
  sizes_.clear();
  lines_ = &lines;
  indent_ = &indent;
  count(expr);
  return text(expr);
}

std::string print(Ex expr) {
  ExpressionPrinter printer(false, true);
  std::string lines;
  const std::string text = printer.print(expr, lines, "");
  return lines + text;
}

namespace {

const char* name(Combine combine) {
  switch (combine) {
    case Combine::add:
      return "+=";
    case Combine::multiply:
      return "*=";
    case Combine::minimum:
      return "min=";
    case Combine::maximum:
      return "max=";
  }
  return "?";
}

class KernelPrinter {
 public:
  KernelPrinter(const Kernel& kernel, bool names)
      : kernel_(kernel), names_(names), expressions_(!names, names) {}

  std::string run() {
    out_ = names_ ? fmt::format("kernel {}(", kernel_.name) : std::string("kernel (");
    for (std::size_t i = 0; i < kernel_.arguments.size(); ++i) {
      const Buffer* buffer = kernel_.arguments[i];
      out_ +=
          fmt::format("{}{}: {}{}[{}]", i ? ", " : "", expressions_.buffer(buffer),
                      buffer->writable ? "out " : "", weft::name(buffer->dtype), buffer->elements);
    }
    out_ += ")\n";
    for (const Buffer& buffer : kernel_.buffers) {
      if (buffer.space == Space::argument) continue;
      if (buffer.space == Space::tensor_map) {
        view(buffer);
        continue;
      }
      const char* space = buffer.space == Space::local    ? "local"
                          : buffer.space == Space::shared ? "shared"
                                                          : "table";
      out_ += fmt::format("  {} {}: {}[{}]", space, expressions_.buffer(&buffer),
                          weft::name(buffer.dtype), buffer.elements);
      if (buffer.space == Space::table) table(buffer);
      out_ += '\n';
    }
    for (const Phase& phase : kernel_.phases) {
      indent_ = "  ";
      if (phase.transform) {
        transform(*phase.transform);
        continue;
      }
      const std::string block = expression(phase.block);
      out_ += fmt::format("  phase {} in {}", block, phase.grid);
      if (phase.threads > 0) {
        out_ += fmt::format(", thread {} in {}", expression(phase.thread), phase.threads);
      }
      out_ += ":\n";
      statements(phase.body);
    }
    return std::move(out_);
  }

  /// `statement` alone.
  std::string run(const Statement& statement) {
    bodies_ = false;
    line(statement);
    out_.pop_back();
    return std::move(out_);
  }

 private:
  void view(const Buffer& buffer) {
    const TensorView& v = kernel_.tensor_maps[static_cast<std::size_t>(buffer.index)];
    out_ += fmt::format("  tensor map {}: {}[{}] from {} by {}, boxes of {}{}\n",
                        expressions_.buffer(&buffer), expressions_.buffer(v.buffer),
                        fmt::join(v.extents, ", "), v.offset, fmt::join(v.strides, ", "),
                        fmt::join(v.box, " x "), v.exchanged ? ", exchanged" : "");
  }

  void transform(const plan::Transform& t) {
    const auto side = [&](const plan::Transform::Side& s) {
      return fmt::format("{} from byte {} by {}, {}, {}",
                         expressions_.buffer(kernel_.arguments[s.argument]), s.offset, s.stride,
                         s.distance, s.repeat);
    };
    out_ += fmt::format("  phase of {} times {} lines: {} of {} points, {}, to {}\n", t.repetitions,
                        t.lines, plan::name(t.kind), t.length, side(t.from), side(t.to));
  }

  std::string expression(Ex expr) { return expressions_.print(expr, out_, indent_); }

  std::string accumulator(const Accumulator* accumulator) {
    return fmt::format(
        "r{}", accumulators_.try_emplace(accumulator, static_cast<int>(accumulators_.size()))
                   .first->second);
  }

  void table(const Buffer& buffer) {
    constexpr std::size_t shown = 8;
    const std::size_t count = names_ ? std::min(shown, buffer.values.size()) : buffer.values.size();
    out_ += " = {";
    for (std::size_t i = 0; i < count; ++i) {
      out_ += fmt::format("{}{}", i ? ", " : "", buffer.values[i]);
    }
    out_ += count < buffer.values.size() ? ", ...}" : "}";
  }

  void statements(const Block& block) {
    if (!bodies_) return;
    indent_ += "  ";
    for (const Statement* statement : block) {
      expressions_.new_statement();
      line(*statement);
    }
    indent_.resize(indent_.size() - 2);
  }

  void line(const Statement& s) {
    switch (s.kind) {
      case StatementKind::loop: {
        const std::string extent = expression(s.extent);
        const std::string variable = expression(s.variable);
        const std::string role = s.role == Role::vector     ? fmt::format("vector<{}> ", s.width)
                                 : s.role == Role::unrolled ? std::string("unrolled ")
                                                            : std::string();
        out_ += fmt::format("{}for {}{} in {}:\n", indent_, role, variable, extent);
        statements(s.body);
        break;
      }
      case StatementKind::tile_product: {
        const TileProduct& t = s.tile;
        const auto view = [&](const MatrixView& v) {
          const std::string index = expression(v.index);
          return fmt::format("{}[{}; {}]", expressions_.buffer(v.buffer), index, v.stride);
        };
        const std::string sums = view(t.sums);
        const std::string left = view(t.left);
        const std::string right = view(t.right);
        const std::string steps = expression(t.steps);
        out_ += fmt::format("{}tiles {}x{} {} {} {} * {} over {}\n", indent_, t.rows, t.columns,
                            sums, t.accumulate ? "+=" : "=", left, right, steps);
        break;
      }
      case StatementKind::prefetch: {
        const std::string index = expression(s.index);
        out_ += fmt::format("{}prefetch {}[{}]\n", indent_, expressions_.buffer(s.buffer), index);
        break;
      }
      case StatementKind::store: {
        const std::string value = expression(s.value);
        const std::string index = expression(s.index);
        const std::string predicate =
            s.predicate ? fmt::format(" if {}", expression(s.predicate)) : std::string();
        out_ += fmt::format("{}{}{}[{}] = {}{}\n", indent_, s.streaming ? "stream " : "",
                            expressions_.buffer(s.buffer), index, value, predicate);
        break;
      }
      case StatementKind::let: {
        const std::string value = s.value ? expression(s.value) : accumulator(s.accumulator);
        out_ += fmt::format("{}let {}: {} = {}\n", indent_, expression(s.variable),
                            loop::name(s.variable->type), value);
        break;
      }
      case StatementKind::declare: {
        const std::string initial = expression(s.accumulator->initial);
        out_ += fmt::format("{}{}: {} {} from {}\n", indent_, accumulator(s.accumulator),
                            loop::name(s.accumulator->type), name(s.accumulator->combine), initial);
        break;
      }
      case StatementKind::accumulate:
      case StatementKind::assign: {
        const std::string value = expression(s.value);
        const char* symbol = s.kind == StatementKind::assign ? "=" : name(s.accumulator->combine);
        out_ += fmt::format("{}{} {} {}\n", indent_, accumulator(s.accumulator), symbol, value);
        break;
      }
      case StatementKind::condition: {
        const std::string condition = expression(s.value);
        out_ += fmt::format("{}if {}:\n", indent_, condition);
        statements(s.body);
        break;
      }
      case StatementKind::barrier:
        out_ += fmt::format("{}barrier\n", indent_);
        break;
      case StatementKind::intrinsic:
        call(s);
        break;
    }
  }

  void call(const Statement& s) {
    // One after the other: what is shared is written to lines of its own before.
    std::string arguments;
    const auto add = [&](const std::string& text) {
      if (!arguments.empty()) arguments += ", ";
      arguments += text;
    };
    for (const Ex operand : s.operands) add(expression(operand));
    for (const Address& address : s.addresses) {
      const std::string index = expression(address.index);
      add(fmt::format("&{}[{}]", expressions_.buffer(address.buffer), index));
    }
    std::string results;
    for (const Ex result : s.results) {
      results += fmt::format("{}{}: {}", results.empty() ? "let " : ", ", expression(result),
                             loop::name(result->type));
    }
    if (!results.empty()) results += " = ";
    out_ += fmt::format("{}{}{}({})\n", indent_, results, s.intrinsic->name, arguments);
  }

  const Kernel& kernel_;
  bool names_;
  bool bodies_ = true;
  ExpressionPrinter expressions_;
  std::unordered_map<const Accumulator*, int> accumulators_;
  std::string out_;
  std::string indent_;
};

}  // namespace

std::string print(const Kernel& kernel) { return KernelPrinter(kernel, true).run(); }
std::string print(const Kernel& kernel, const Statement& statement) {
  return KernelPrinter(kernel, true).run(statement);
}
std::string canonical(const Kernel& kernel) { return KernelPrinter(kernel, false).run(); }

}  // namespace weft::loop
