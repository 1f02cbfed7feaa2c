#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "assembled.h"
#include "compiler/fusion/fuse.h"
#include "interpreted.h"

// Products on a GPU: by the interpreter against reference evaluation, and assembled.
namespace weft::test {
namespace {

struct Case {
  int m, n, k;
  std::string dtype = "bf16";
  bool left_transposed = false;   ///< x is [k, m]
  bool right_transposed = false;  ///< w is [n, k]
  int batch = 0;
  bool prologue = false;
  bool epilogue = true;
};

std::string text(const Case& c) {
  return fmt::format("{}x{}x{} {} {}{} batch {}{}{}", c.m, c.n, c.k, c.dtype,
                     c.left_transposed ? 't' : 'n', c.right_transposed ? 't' : 'n', c.batch,
                     c.prologue ? " prologue" : "", c.epilogue ? " epilogue" : "");
}

std::string shape(const Case& c, int rows, int columns) {
  return c.batch > 0 ? fmt::format("[{}, {}, {}]", c.batch, rows, columns)
                     : fmt::format("[{}, {}]", rows, columns);
}

std::string graph_text(const Case& c) {
  const std::string x = c.left_transposed ? shape(c, c.k, c.m) : shape(c, c.m, c.k);
  const std::string w = c.right_transposed ? shape(c, c.n, c.k) : shape(c, c.k, c.n);
  const std::string y = shape(c, c.m, c.n);
  const std::string& t = c.dtype;
  const int axes = c.batch > 0 ? 1 : 0;
  std::string out = "graph @g {\n";
  const auto state = [&](const char* name, const std::string& of) {
    out += fmt::format("  %{0} = state {{name = \"{0}\", dtype = {1}, shape = {2}}} : {1}{2}\n",
                       name, t, of);
  };
  // Padded and turned around: no operand that lies in memory as it is wanted.
  const int x_rows = c.left_transposed ? c.k : c.m, x_columns = c.left_transposed ? c.m : c.k;
  state("x", c.prologue ? shape(c, x_rows, x_columns - 3) : x);
  state("w", w);
  std::string left = "x";
  if (c.prologue) {
    const std::string zeros = c.batch > 0 ? "0, 0, " : "0, ";
    out += fmt::format(
        "  %u = pad %x {{low = [{2}1], high = [{2}2], value = 0.5}} : {0}{1}\n"
        "  %v = flip %u {{axes = [{3}]}} : {0}{1}\n",
        t, x, zeros, axes);
    left = "v";
  }
  const std::string batch = c.batch > 0 ? "[0]" : "[]";
  out += fmt::format(
      "  %d = dot %{}, %w {{lhs_contract = [{}], rhs_contract = [{}], lhs_batch = {}, rhs_batch = "
      "{}}} : {}{}\n",
      left, axes + (c.left_transposed ? 0 : 1), axes + (c.right_transposed ? 1 : 0), batch, batch,
      t, y);
  if (c.epilogue) {
    state("b", fmt::format("[{}]", c.n));
    out += fmt::format(
        "  %c = broadcast %b {{shape = {0}}} : {1}{0}\n  %s = add %d, %c : {1}{0}\n"
        "  %r = relu %s : {1}{0}\n  state_write %s {{name = \"s\"}}\n"
        "  state_write %r {{name = \"r\"}}\n",
        y, t);
  } else {
    out += "  state_write %d {name = \"d\"}\n";
  }
  return out + "}";
}

double epsilon_of(const std::string& dtype) {
  return epsilon(dtype == "f16"    ? DType::f16
                 : dtype == "bf16" ? DType::bf16
                 : dtype == "f64"  ? DType::f64
                                   : DType::f32);
}

Values inputs_of(const ir::Graph& graph, unsigned seed) {
  Values inputs;
  ir::walk(graph.body(), [&](const ir::Node& node) {
    if (!node.is("state")) return;
    const auto elements = static_cast<std::size_t>(node.results[0].elements());
    inputs[node.attributes.text("name")] = random_values(elements, seed++);
  });
  return inputs;
}

Schedule on(const compiler::DeviceOptions& options) {
  return
      [options](const compiler::Group& group) { return compiler::schedule_device(group, options); };
}

void compare(const std::string& graph_text, double tolerance,
             const compiler::DeviceOptions& options = {}, std::uint64_t seed = 1,
             std::size_t kernels = 1) {
  const ir::Graph graph = parse(graph_text);
  EXPECT_EQ(compiler::fuse(graph).groups.size(), kernels) << graph_text;
  const Values inputs = inputs_of(graph, static_cast<unsigned>(seed));
  const Values expected = run_reference(graph, inputs);
  for (const Values& found : run_device(graph, inputs, on(options), seed, options.target)) {
    for (const auto& [name, values] : expected) {
      EXPECT_LE(relative_error(found.at(name), values), tolerance) << name << '\n' << graph_text;
    }
  }
}

/// Sums of k terms in f32 in any order, and what is rounded to the type: operands that are
/// computed, the product, and what is computed from it.
double tolerance(const Case& c, bool tf32 = false) {
  const double unit = epsilon_of(c.dtype);
  const double sums = c.k * std::max(epsilon_of("f64"), c.dtype == "f64" ? 0 : 0x1p-24);
  return 6 * unit + sums + (tf32 ? 0x1p-9 : 0);
}

void check(const Case& c, const compiler::DeviceOptions& options = {}, std::uint64_t seed = 1) {
  SCOPED_TRACE(text(c));
  compare(graph_text(c), tolerance(c, options.tf32), options, seed);
}

/// As if there were one multiprocessor: tiles are as large as they go.
compiler::DeviceOptions large_tiles(bool tf32 = false) {
  compiler::DeviceOptions options;
  options.processors = 1;
  options.tf32 = tf32;
  return options;
}

/// Two products that share an operand, and a product with the sum of its right operand.
std::string joint(int m, int n, int k, const std::string& dtype, bool left) {
  const std::string x = fmt::format("[{}, {}]", m, k), w = fmt::format("[{}, {}]", k, n);
  const auto dot = [&](const char* to, const char* of) {
    return left ? fmt::format(
                      "  %{} = dot %x, %{} {{lhs_contract = [1], rhs_contract = [0], lhs_batch = "
                      "[], rhs_batch = []}} : {}[{}, {}]\n",
                      to, of, dtype, m, n)
                : fmt::format(
                      "  %{} = dot %{}, %x {{lhs_contract = [0], rhs_contract = [1], lhs_batch = "
                      "[], rhs_batch = []}} : {}[{}, {}]\n",
                      to, of, dtype, n, m);
  };
  const std::string y = left ? fmt::format("[{}, {}]", m, n) : fmt::format("[{}, {}]", n, m);
  return fmt::format(
      "graph @g {{\n"
      "  %x = state {{name = \"x\", dtype = {0}, shape = {1}}} : {0}{1}\n"
      "  %a = state {{name = \"a\", dtype = {0}, shape = {2}}} : {0}{2}\n"
      "  %b = state {{name = \"b\", dtype = {0}, shape = {2}}} : {0}{2}\n"
      "{4}{5}"
      "  %r = relu %u : {0}{3}\n  %y = mul %r, %v : {0}{3}\n"
      "  state_write %u {{name = \"u\"}}\n  state_write %y {{name = \"y\"}}\n}}",
      dtype, x, w, y, dot("u", "a"), dot("v", "b"));
}

TEST(MatrixUnits, AllLayoutsWithEdges) {
  std::uint64_t seed = 1;
  for (const bool left : {false, true}) {
    for (const bool right : {false, true}) {
      // Rows of whole vectors, of halves and quarters of them, and of odd lengths.
      for (const auto& [m, n, k] : {std::tuple{40, 72, 96}, {36, 20, 52}, {22, 30, 34}}) {
        check({m, n, k, "bf16", left, right}, {}, seed++);
      }
      check({21, 35, 45, "f16", left, right}, {}, seed++);
    }
  }
}

TEST(MatrixUnits, LargeTiles) {
  check({130, 264, 72, "bf16", false, true}, large_tiles(), 3);
  check({264, 130, 200, "f16", true, false}, large_tiles(), 4);
  check({128, 136, 130, "bf16", false, false}, large_tiles(), 5);
}

TEST(MatrixUnits, BatchesPrologueAndShortAxes) {
  check({33, 40, 24, "bf16", false, true, 3, true});
  check({40, 33, 70, "f16", true, false, 2, true}, large_tiles());
  check({1, 64, 32, "bf16"});
  check({64, 1, 32, "bf16"});
  check({17, 9, 1, "bf16"});
  check({5, 3, 2, "f16", true, true, 2});
}

TEST(MatrixUnits, LongSumsAreCutAndAddedInOrder) {
  check({16, 24, 1500, "bf16"});
  check({16, 24, 1501, "bf16", true, false});
  check({9, 7, 900, "f16", false, true, 0, true});
}

/// The products of four warps, as if there were one multiprocessor and as if there were many.
TEST(MatrixUnits, ProductsOfFourWarps) {
  std::uint64_t seed = 1;
  compiler::DeviceOptions options;
  options.target = compiler::device_target("sm_90a");
  for (const std::int64_t processors : {1, 132}) {
    options.processors = processors;
    for (const bool left : {false, true}) {
      for (const bool right : {false, true}) {
        check({136, 264, 200, "bf16", left, right}, options, seed++);
        // Rows that are no multiples of 16 bytes.
        check({132, 260, 204, "bf16", left, right}, options, seed++);
      }
    }
    check({65, 70, 75, "f16", false, true, 2, true}, options, seed++);
  }
  check({64, 64, 2000, "bf16", true, false}, options);
  compare(joint(70, 72, 130, "bf16", true), 8 * epsilon(DType::bf16) + 130 * 0x1p-24, options);
  compare(joint(70, 72, 130, "bf16", false), 8 * epsilon(DType::bf16) + 130 * 0x1p-24, options);
}

TEST(MatrixUnits, Tf32) {
  compiler::DeviceOptions options;
  options.tf32 = true;
  for (const bool left : {false, true}) {
    for (const bool right : {false, true}) {
      check({40, 36, 52, "f32", left, right}, options);
      check({23, 17, 31, "f32", left, right}, options);
    }
  }
  check({130, 132, 40, "f32", true, false}, large_tiles(true));
  check({40, 33, 70, "f32", false, false, 2, true}, options);
}

TEST(ExactProducts, AllLayoutsWithEdges) {
  std::uint64_t seed = 1;
  for (const bool left : {false, true}) {
    for (const bool right : {false, true}) {
      for (const auto& [m, n, k] : {std::tuple{40, 72, 32}, {37, 21, 45}}) {
        check({m, n, k, "f32", left, right}, {}, seed++);
      }
    }
  }
  check({130, 140, 36, "f32", false, true}, large_tiles());
  check({130, 140, 36, "f32", true, false}, large_tiles());
  check({33, 40, 24, "f64", true, false});
  check({33, 21, 25, "f64", false, true, 2, true}, large_tiles());
  check({33, 40, 24, "f32", false, true, 3, true});
  check({16, 24, 1500, "f32"});
  check({5, 7, 901, "f64", false, true});
  check({5, 7, 0, "f32"});
}

TEST(JointProducts, ShareAnOperand) {
  for (const bool left : {true, false}) {
    for (const char* dtype : {"f32", "bf16"}) {
      const double tolerance = 8 * epsilon_of(dtype) + 64 * 0x1p-24;
      compare(joint(36, 40, 48, dtype, left), tolerance, {}, 7);
      compare(joint(61, 70, 33, dtype, left), tolerance, large_tiles(), 8);
      compare(joint(20, 24, 1000, dtype, left), tolerance + 1000 * 0x1p-24, {}, 9);
    }
  }
}

std::string with_sum(int m, int n, int k) {
  return fmt::format(R"(graph @g {{
  %x = state {{name = "x", dtype = f32, shape = [{2}, {0}]}} : f32[{2}, {0}]
  %g = state {{name = "g", dtype = f32, shape = [{2}, {1}]}} : f32[{2}, {1}]
  %w = dot %x, %g {{lhs_contract = [0], rhs_contract = [0], lhs_batch = [], rhs_batch = []}} : f32[{0}, {1}]
  %b = sum %g {{axes = [0], keep = false}} : f32[{1}]
  state_write %w {{name = "w"}}
  state_write %b {{name = "b"}}
}})",
                     m, n, k);
}

TEST(JointProducts, WithTheSumOfTheRightOperand) {
  for (const auto& [m, n, k] : {std::tuple{40, 36, 48}, {130, 70, 33}, {20, 24, 1000}}) {
    const double bound = 0x1p-20 + k * 0x1p-24;
    compare(with_sum(m, n, k), bound);
    compare(with_sum(m, n, k), bound, large_tiles());
    compare(with_sum(m, n, k), bound + 0x1p-9, large_tiles(true));
  }
}

// ---- attention ----------------------------------------------------------------------------------

struct Attention {
  int batch, n, m, d, e;
  bool causal;
  double scale = 0.3;
  std::string dtype = "bf16";
};

std::string forward(const Attention& a) {
  return fmt::format(R"(graph @g {{
  %q = state {{name = "q", dtype = {0}, shape = [{1}, {2}, {4}]}} : {0}[{1}, {2}, {4}]
  %k = state {{name = "k", dtype = {0}, shape = [{1}, {3}, {4}]}} : {0}[{1}, {3}, {4}]
  %v = state {{name = "v", dtype = {0}, shape = [{1}, {3}, {5}]}} : {0}[{1}, {3}, {5}]
  %o, %l = attention %q, %k, %v {{scale = {6:f}, causal = {7}}} : {0}[{1}, {2}, {5}], f32[{1}, {2}]
  state_write %o {{name = "o"}}
  state_write %l {{name = "l"}}
}})",
                     a.dtype, a.batch, a.n, a.m, a.d, a.e, a.scale, a.causal);
}

std::string backward(const Attention& a) {
  return fmt::format(R"(graph @g {{
  %q = state {{name = "q", dtype = {0}, shape = [{1}, {2}, {4}]}} : {0}[{1}, {2}, {4}]
  %k = state {{name = "k", dtype = {0}, shape = [{1}, {3}, {4}]}} : {0}[{1}, {3}, {4}]
  %v = state {{name = "v", dtype = {0}, shape = [{1}, {3}, {5}]}} : {0}[{1}, {3}, {5}]
  %l = state {{name = "l", dtype = f32, shape = [{1}, {2}]}} : f32[{1}, {2}]
  %t = state {{name = "t", dtype = f32, shape = [{1}, {2}]}} : f32[{1}, {2}]
  %g = state {{name = "g", dtype = {0}, shape = [{1}, {2}, {5}]}} : {0}[{1}, {2}, {5}]
  %a, %b, %c = attention_backward %q, %k, %v, %l, %t, %g {{scale = {6:f}, causal = {7}}} : {0}[{1}, {2}, {4}], {0}[{1}, {3}, {4}], {0}[{1}, {3}, {5}]
  state_write %a {{name = "a"}}
  state_write %b {{name = "b"}}
  state_write %c {{name = "c"}}
}})",
                     a.dtype, a.batch, a.n, a.m, a.d, a.e, a.scale, a.causal);
}

/// Probabilities and the result are rounded once each.
double tolerance(const Attention& a) { return 4 * epsilon_of(a.dtype); }

TEST(AttentionDevice, Forward) {
  std::uint64_t seed = 1;
  for (const Attention& a : {Attention{2, 70, 70, 32, 32, true},
                             {1, 33, 75, 24, 40, false},
                             {1, 20, 90, 16, 72, true},
                             {2, 3, 5, 7, 9, true},
                             {1, 40, 130, 64, 64, false, -0.2, "f16"},
                             {1, 9, 40, 8, 136, false}}) {
    SCOPED_TRACE(fmt::format("{} {} {} {}", a.n, a.m, a.d, a.e));
    compare(forward(a), tolerance(a), {}, seed++);
  }
}

TEST(AttentionDevice, Backward) {
  std::uint64_t seed = 1;
  for (const Attention& a : {Attention{2, 70, 70, 32, 32, true},
                             {1, 33, 75, 24, 40, false},
                             {1, 20, 90, 16, 72, true},
                             {2, 3, 5, 7, 9, true},
                             {1, 40, 130, 64, 64, false, -0.2, "f16"}}) {
    SCOPED_TRACE(fmt::format("{} {} {} {}", a.n, a.m, a.d, a.e));
    compare(backward(a), tolerance(a), {}, seed++);
  }
  compiler::DeviceOptions hopper;
  hopper.target = compiler::device_target("sm_90a");
  for (const Attention& a : {Attention{1, 70, 330, 64, 128, true},
                             {1, 140, 140, 128, 64, true},
                             {2, 64, 100, 64, 64, false, -0.2, "f16"}}) {
    SCOPED_TRACE(fmt::format("{} {} {} {}", a.n, a.m, a.d, a.e));
    compare(forward(a), tolerance(a), hopper, seed++);
  }
  compare(backward({1, 140, 140, 16, 16, true}), tolerance(Attention{}), large_tiles(), 9);
}

/// Group products of sm_90a: one group of warps where blocks are few, two otherwise.
TEST(AttentionDevice, BackwardByGroupProducts) {
  std::uint64_t seed = 1;
  compiler::DeviceOptions options;
  options.target = compiler::device_target("sm_90a");
  for (const Attention& a : {Attention{1, 130, 70, 64, 128, false},
                             {1, 70, 330, 64, 64, true},
                             {1, 140, 140, 128, 64, true},
                             {2, 64, 100, 64, 64, false, -0.2, "f16"}}) {
    SCOPED_TRACE(fmt::format("{} {} {} {}", a.n, a.m, a.d, a.e));
    compare(backward(a), tolerance(a), options, seed++);
  }
  options.processors = 1;
  for (const Attention& a :
       {Attention{1, 200, 200, 64, 64, true}, {1, 70, 140, 128, 128, true, -0.3}}) {
    SCOPED_TRACE(fmt::format("{} {} {} {}", a.n, a.m, a.d, a.e));
    compare(backward(a), tolerance(a), options, seed++);
  }
}

/// Products whose results nobody wants are left out.
TEST(AttentionDevice, SomeGradients) {
  compiler::DeviceOptions options;
  options.target = compiler::device_target("sm_90a");
  const Attention a{1, 70, 100, 64, 64, true};
  for (const std::string wanted : {"a", "b", "c", "ac"}) {
    SCOPED_TRACE(wanted);
    std::string text = backward(a);
    for (const char result : {'a', 'b', 'c'}) {
      if (wanted.find(result) != std::string::npos) continue;
      const std::string line = fmt::format("  state_write %{0} {{name = \"{0}\"}}\n", result);
      text.erase(text.find(line), line.size());
    }
    compare(text, tolerance(a), options, 3);
    compare(text, tolerance(a), {}, 3);
  }
}

TEST(AttentionDevice, Tf32) {
  std::uint64_t seed = 1;
  for (const Attention& a : {Attention{2, 70, 70, 32, 32, true, 0.3, "f32"},
                             {1, 33, 75, 24, 70, false, 0.3, "f32"},
                             {1, 20, 90, 16, 9, true, -0.2, "f32"},
                             {2, 3, 5, 7, 9, true, 0.3, "f32"},
                             {1, 70, 80, 64, 128, true, 0.1, "f32"}}) {
    SCOPED_TRACE(fmt::format("{} {} {} {}", a.n, a.m, a.d, a.e));
    // Both factors of each product are rounded to 11 bits, and elements are below 1: scores are
    // off by so much at most, and probabilities by that part of themselves.
    const double scores = 2 * 0x1p-11 * std::abs(a.scale) * a.d;
    const double tolerance = 8 * 0x1p-11 + scores;
    compare(forward(a), tolerance, {.tf32 = true}, seed++);
    compare(backward(a), tolerance, {.tf32 = true}, seed++);
  }
}

TEST(AttentionDevice, ExactF32) {
  std::uint64_t seed = 1;
  for (const Attention& a : {Attention{2, 70, 70, 32, 32, true, 0.3, "f32"},
                             {1, 33, 75, 24, 70, false, 0.3, "f32"},
                             {1, 20, 90, 16, 9, true, -0.2, "f32"},
                             {2, 3, 5, 7, 9, true, 0.3, "f32"}}) {
    SCOPED_TRACE(fmt::format("{} {} {} {}", a.n, a.m, a.d, a.e));
    const double tolerance = (a.m + a.d + a.e + 16) * epsilon(DType::f32);
    compare(forward(a), tolerance, {}, seed++);
    compare(backward(a), tolerance, {}, seed++);
  }
}

// ---- machine code -------------------------------------------------------------------------------

/// Assembles the graph's kernels for both processors; registers and shared memory go to the log.
void assemble_kernels(const std::string& name, const std::string& graph_text,
                      const compiler::DeviceOptions& options = {}) {
  const ir::Graph graph = parse(graph_text);
  const compiler::FusedGraph fused = compiler::fuse(graph);
  for (const char* processor : {"sm_80", "sm_90a"}) {
    for (const compiler::Group& group : fused.groups) {
      SCOPED_TRACE(name);
      const Assembled made = assembled(group, processor, options);
      fmt::print("{:44} {:7} {:10} registers, shared {:6}, phase 0: {} blocks of {}\n", name,
                 processor, made.registers(), made.code.shared_bytes,
                 made.scheduled.kernel->phases[0].grid, made.scheduled.kernel->phases[0].threads);
    }
  }
}

void assemble_product(const Case& c, const compiler::DeviceOptions& options = {}) {
  assemble_kernels(text(c) + (options.tf32 ? " tf32" : ""), graph_text(c), options);
}

TEST(MatrixAssembly, Products) {
  assemble_product({4096, 4096, 4096, "bf16"});
  assemble_product({1024, 1024, 4096, "bf16", true, false});
  assemble_product({512, 64, 512, "bf16", false, true, 64});
  assemble_product({4096, 1024, 1024, "f16", false, true, 0, true});
}

TEST(MatrixAssembly, ProductsOfF32) {
  assemble_product({4096, 4096, 4096, "f32", false, true});
  assemble_product({4096, 4096, 1024, "f32", true, false}, {.tf32 = true});
  assemble_kernels("sum of the right operand", with_sum(1024, 1024, 4096));
  assemble_kernels("two products", joint(2048, 1024, 512, "f32", true));
}

TEST(MatrixAssembly, Attention) {
  Attention narrow{32, 2048, 2048, 64, 64, true, 0.125};
  assemble_kernels("attention d 64", forward(narrow));
  Attention wide{32, 2048, 2048, 128, 128, true, 0.09};
  assemble_kernels("attention d 128", forward(wide));
  assemble_kernels("attention_backward d 64", backward(narrow));
  assemble_kernels("attention_backward d 128", backward(wide));
  assemble_kernels("attention_backward d 128, 64", backward({1, 256, 256, 128, 64, false, 0.09}));
  assemble_kernels("attention_backward d 128, ragged", backward({64, 1000, 1001, 128, 128, true}));
  assemble_kernels("attention_backward d 128, ragged, f16",
                   backward({64, 1000, 1001, 128, 128, false, 0.1, "f16"}));
  wide.dtype = "f32";
  assemble_kernels("attention f32 d 128", forward(wide));
  assemble_kernels("attention tf32 d 128", forward(wide), {.tf32 = true});
  assemble_kernels("attention_backward tf32 d 128", backward(wide), {.tf32 = true});
  narrow.dtype = "f32";
  assemble_kernels("attention tf32 d 64", forward(narrow), {.tf32 = true});
  assemble_kernels("attention_backward tf32 d 64", backward(narrow), {.tf32 = true});
}

}  // namespace
}  // namespace weft::test
