// Matrix products and attention large enough that a GPU's schedules take all of their tiles, in all
// layouts: the table's samples are too small for that.
#include <fmt/format.h>

#include "compiler/ir/text.h"
#include "ops/op.h"
#include "tools/selftest/cases.h"

namespace weft::selftest {
namespace {

std::string state(const char* name, const char* dtype, const std::string& shape) {
  return fmt::format("  %{0} = state {{name = \"{0}\", dtype = {1}, shape = {2}}} : {1}{2}\n", name,
                     dtype, shape);
}

/// relu(x w + b), where x may be [k, m] and w [n, k].
std::string product(std::int64_t m, std::int64_t n, std::int64_t k, const char* dtype,
                    bool left_transposed, bool right_transposed) {
  const auto shape = [](std::int64_t rows, std::int64_t columns) {
    return fmt::format("[{}, {}]", rows, columns);
  };
  const std::string y = fmt::format("{}[{}, {}]", dtype, m, n);
  return fmt::format(
      "graph @products {{\n{}{}{}"
      "  %d = dot %x, %w {{lhs_contract = [{}], rhs_contract = [{}], lhs_batch = [], rhs_batch = "
      "[]}} : {}\n"
      "  %c = broadcast %b {{shape = [{}, {}]}} : {}\n"
      "  %s = add %d, %c : {}\n  %r = relu %s : {}\n  state_write %r {{name = \"r\"}}\n}}",
      state("x", dtype, left_transposed ? shape(k, m) : shape(m, k)),
      state("w", dtype, right_transposed ? shape(n, k) : shape(k, n)),
      state("b", dtype, fmt::format("[{}]", n)), left_transposed ? 0 : 1, right_transposed ? 1 : 0,
      y, m, n, y, y, y);
}

/// Attention and its gradients for given ones of its result.
std::string attention(std::int64_t n, std::int64_t m, std::int64_t d, std::int64_t e,
                      const char* dtype, bool causal) {
  const auto shape = [](std::int64_t rows, std::int64_t columns) {
    return fmt::format("[2, {}, {}]", rows, columns);
  };
  const auto typed = [&](std::int64_t rows, std::int64_t columns) {
    return dtype + shape(rows, columns);
  };
  const std::string attributes = fmt::format("{{scale = 0.1, causal = {}}}", causal);
  return fmt::format(
      "graph @attention {{\n{}{}{}{}{}"
      "  %o, %l = attention %q, %k, %v {} : {}, f32[2, {}]\n"
      "  %a, %b, %c = attention_backward %q, %k, %v, %l, %t, %g {} : {}, {}, {}\n"
      "  state_write %o {{name = \"o\"}}\n  state_write %a {{name = \"a\"}}\n"
      "  state_write %b {{name = \"b\"}}\n  state_write %c {{name = \"c\"}}\n}}",
      state("q", dtype, shape(n, d)), state("k", dtype, shape(m, d)),
      state("v", dtype, shape(m, e)), state("t", "f32", fmt::format("[2, {}]", n)),
      state("g", dtype, shape(n, e)), attributes, typed(n, e), n, attributes, typed(n, d),
      typed(m, d), typed(m, e));
}

void add(std::vector<Case>& cases, const Target& target, const std::string& name,
         std::string text) {
  cases.push_back({"products/" + name, [text = std::move(text), target] {
                     return differences(ir::parse(text, ops::table()), target);
                   }});
}

}  // namespace

void add_product_cases(std::vector<Case>& cases, const Target& target) {
  for (const bool left : {false, true}) {
    for (const bool right : {false, true}) {
      const std::string layout = fmt::format("{}{}", left ? 't' : 'n', right ? 't' : 'n');
      for (const char* dtype : {"bf16", "f16", "f32"}) {
        add(cases, target, fmt::format("{}_{}", dtype, layout),
            product(200, 264, 136, dtype, left, right));
      }
    }
  }
  add(cases, target, "odd", product(131, 67, 259, "bf16", false, true));
  add(cases, target, "long_sums", product(64, 72, 4100, "bf16", true, false));
  for (const int d : {64, 128}) {
    for (const char* dtype : {"bf16", "f32"}) {
      add(cases, target, fmt::format("attention_{}_{}", dtype, d),
          attention(200, 264, d, d, dtype, true));
    }
  }
  add(cases, target, "attention_odd", attention(77, 130, 40, 24, "f16", false));
  if (target.gpu.empty()) return;
  // As many of the largest tiles as a GPU has multiprocessors.
  for (const bool left : {false, true}) {
    for (const bool right : {false, true}) {
      if (left && right) continue;
      add(cases, target, fmt::format("large_{}{}", left ? 't' : 'n', right ? 't' : 'n'),
          product(1536, 4096, 72, "bf16", left, right));
    }
  }
}

}  // namespace weft::selftest
