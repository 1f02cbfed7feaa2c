#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "assembled.h"
#include "compiler/fusion/fuse.h"
#include "interpreted.h"

// Products on sm_90a whose operands come by tensor copies: by the interpreter against reference
// evaluation, and assembled.
namespace weft::test {
namespace {

constexpr std::size_t left = 0, right = 1;

std::string list(const std::vector<int>& numbers) {
  return fmt::format("[{}]", fmt::join(numbers, ", "));
}

/// A product of two states, and what follows.
struct Dot {
  std::string dtype = "bf16";
  std::array<std::vector<int>, 2> shape;  ///< of the operands
  std::array<std::vector<int>, 2> contract;
  std::array<std::vector<int>, 2> batch;
  std::string before = {};                           ///< lines that make %p and %q of %x and %w
  std::string after = {};                            ///< lines that make %r of %d
  std::array<std::vector<int>, 2> state_shape = {};  ///< where `before` changes them

  std::vector<int> result() const {
    std::vector<int> shape_of;
    for (const int axis : batch[left]) shape_of.push_back(shape[left].at(axis));
    for (const std::size_t side : {left, right}) {
      for (std::size_t axis = 0; axis < shape[side].size(); ++axis) {
        const auto is = [&](const std::vector<int>& axes) {
          return std::find(axes.begin(), axes.end(), static_cast<int>(axis)) != axes.end();
        };
        if (!is(contract[side]) && !is(batch[side])) shape_of.push_back(shape[side][axis]);
      }
    }
    return shape_of;
  }
  int depth() const {
    int product = 1;
    for (const int axis : contract[left]) product *= shape[left].at(axis);
    return product;
  }
  std::string text() const {
    const auto state = [&](std::size_t side) {
      return list(state_shape[side].empty() ? shape[side] : state_shape[side]);
    };
    return fmt::format(
        "graph @g {{\n"
        "  %x = state {{name = \"x\", dtype = {0}, shape = {1}}} : {0}{1}\n"
        "  %w = state {{name = \"w\", dtype = {0}, shape = {2}}} : {0}{2}\n"
        "{3}"
        "  %d = dot %{4}, %{5} {{lhs_contract = {6}, rhs_contract = {7}, lhs_batch = {8}, "
        "rhs_batch "
        "= {9}}} : {0}{10}\n"
        "{11}  state_write %{12} {{name = \"r\"}}\n}}",
        dtype, state(left), state(right), before, before.find("%p") != before.npos ? "p" : "x",
        before.find("%q") != before.npos ? "q" : "w", list(contract[left]), list(contract[right]),
        list(batch[left]), list(batch[right]), list(result()), after,
        after.find("%r") != after.npos ? "r" : "d");
  }
};

/// m by n by k, operands as they are or transposed.
Dot plain(int m, int n, int k, bool left_transposed = false, bool right_transposed = false,
          int batch = 0) {
  Dot dot;
  dot.shape[left] = left_transposed ? std::vector{k, m} : std::vector{m, k};
  dot.shape[right] = right_transposed ? std::vector{n, k} : std::vector{k, n};
  const int axes = batch > 0 ? 1 : 0;
  dot.contract = {std::vector{axes + (left_transposed ? 0 : 1)},
                  std::vector{axes + (right_transposed ? 1 : 0)}};
  for (const std::size_t side : {left, right}) {
    if (batch == 0) continue;
    dot.shape[side].insert(dot.shape[side].begin(), batch);
    dot.batch[side] = {0};
  }
  return dot;
}

std::string bias_and_gelu(const Dot& dot) {
  const std::string y = list(dot.result());
  return fmt::format(
      "  %b = state {{name = \"b\", dtype = {0}, shape = [{2}]}} : {0}[{2}]\n"
      "  %c = broadcast %b {{shape = {1}}} : {0}{1}\n  %s = add %d, %c : {0}{1}\n"
      "  %r = gelu %s : {0}{1}\n",
      dot.dtype, y, dot.result().back());
}

compiler::DeviceOptions hopper(std::int64_t processors = 132) {
  compiler::DeviceOptions options;
  options.target = compiler::device_target("sm_90a");
  options.processors = processors;
  return options;
}

Values random_inputs(const ir::Graph& graph, std::uint64_t seed) {
  Values inputs;
  auto number = static_cast<unsigned>(seed);
  ir::walk(graph.body(), [&](const ir::Node& node) {
    if (!node.is("state")) return;
    const auto elements = static_cast<std::size_t>(node.results[0].elements());
    inputs[node.attributes.text("name")] = random_values(elements, number++);
  });
  return inputs;
}

/// What the graph's one kernel gives is what reference evaluation gives; it has so many tensor
/// maps, and so many blocks (0: any).
void compare(const std::string& text, double tolerance, const compiler::DeviceOptions& options,
             std::size_t maps, std::uint64_t seed = 1, std::int64_t grid = 0) {
  SCOPED_TRACE(text);
  const ir::Graph graph = parse(text);
  ASSERT_EQ(compiler::fuse(graph).groups.size(), 1U);
  const Values inputs = random_inputs(graph, seed);
  const Schedule schedule = [&](const compiler::Group& group) {
    compiler::ScheduledKernel scheduled = compiler::schedule_device(group, options);
    EXPECT_EQ(scheduled.kernel->tensor_maps.size(), maps);
    if (grid > 0) {
      EXPECT_EQ(scheduled.kernel->phases[0].grid, grid);
    }
    return scheduled;
  };
  const Values expected = run_reference(graph, inputs);
  for (const Values& found : run_device(graph, inputs, schedule, seed, options.target)) {
    for (const auto& [name, values] : expected) {
      EXPECT_LE(relative_error(found.at(name), values), tolerance) << name;
    }
  }
}

/// Operands, the product and what follows are rounded to the type; sums of `depth` terms in f32
/// come in any order.
void check(const Dot& dot, const compiler::DeviceOptions& options = hopper(), std::size_t maps = 2,
           std::uint64_t seed = 1, std::int64_t grid = 0) {
  const double unit = epsilon(dot.dtype == "f16" ? DType::f16 : DType::bf16);
  compare(dot.text(), 6 * unit + dot.depth() * 0x1p-24, options, maps, seed, grid);
}

TEST(DotCopies, AllLayoutsWithEdges) {
  std::uint64_t seed = 1;
  for (const bool left_transposed : {false, true}) {
    for (const bool right_transposed : {false, true}) {
      check(plain(72, 136, 200, left_transposed, right_transposed), hopper(), 2, seed++);
      check(plain(200, 264, 72, left_transposed, right_transposed), hopper(1), 2, seed++);
      Dot half = plain(64, 64, 64, left_transposed, right_transposed);
      half.dtype = "f16";
      check(half, hopper(), 2, seed++);
    }
  }
}

TEST(DotCopies, ABlockHasSeveralTiles) {
  // Two multiprocessors; tiles of 192 by 256, 12 of them, the last ones ragged.
  check(plain(568, 1000, 136), hopper(2), 2, 3, 2);
  // Five, which do not divide 12.
  check(plain(568, 1000, 136, true, true), hopper(5), 2, 4, 5);
  // A ring of stages that is longer than what a tile has of them.
  check(plain(568, 1000, 64, false, true), hopper(2), 2, 5, 2);
}

TEST(DotCopies, BatchesMergedAndApart) {
  check(plain(72, 64, 136, false, false, 3));
  check(plain(72, 64, 136, true, true, 3), hopper(2), 2, 2, 2);
  // [b, n, h, d] by [b, m, h, d]: axes of the batch are apart, and the free axis between them.
  Dot heads;
  heads.shape = {std::vector{2, 72, 3, 64}, std::vector{2, 80, 3, 64}};
  heads.contract = {std::vector{3}, std::vector{3}};
  heads.batch = {std::vector{0, 2}, std::vector{0, 2}};
  check(heads);
  // Along the free axis, and turned around: [h, b, k, n].
  heads.shape = {std::vector{3, 2, 72, 64}, std::vector{2, 72, 3, 80}};
  heads.contract = {std::vector{2}, std::vector{1}};
  heads.batch = {std::vector{1, 0}, std::vector{0, 2}};
  check(heads);
  // Three axes that stay apart on either side: five in all.
  Dot five;
  five.shape = {std::vector{2, 64, 2, 3, 64}, std::vector{3, 2, 64, 2, 64}};
  five.contract = {std::vector{4}, std::vector{4}};
  five.batch = {std::vector{0, 3, 2}, std::vector{1, 0, 3}};
  check(five);
  // The innermost axis is one of the batch: no copies.
  five.shape[right] = {3, 2, 64, 64, 2};
  five.contract[right] = {3};
  five.batch[right] = {1, 0, 4};
  check(five, hopper(), 0);
}

TEST(DotCopies, PartsOfTensors) {
  // Slices that begin at a multiple of 16 bytes, and one that does not.
  for (const auto& [start, maps] : {std::pair{8, 2}, {4, 0}}) {
    Dot dot = plain(72, 64, 96);
    dot.state_shape[left] = {80, 120};
    dot.before = fmt::format(
        "  %p = slice %x {{start = [5, {}], limit = [77, {}], stride = [1, 1]}} : bf16[72, 96]\n",
        start, start + 96);
    check(dot, hopper(), static_cast<std::size_t>(maps));
  }
  // Every other row is rows twice as far apart; every other column is not to be had.
  for (const auto& [strides, state, maps] :
       {std::tuple{"[2, 1]", std::vector{144, 96}, 2}, {"[1, 2]", std::vector{72, 192}, 0}}) {
    Dot dot = plain(72, 64, 96);
    dot.state_shape[left] = state;
    dot.before =
        fmt::format("  %p = slice %x {{start = [0, 0], limit = {}, stride = {}}} : bf16[72, 96]\n",
                    list(state), strides);
    check(dot, hopper(), static_cast<std::size_t>(maps));
  }
  // A batch that one operand does not have.
  Dot shared = plain(72, 64, 96, false, false, 3);
  shared.state_shape[right] = {96, 64};
  shared.before = "  %q = broadcast %w {shape = [3, 96, 64]} : bf16[3, 96, 64]\n";
  check(shared);
  // A contracted axis that is two, next to each other in one operand and not in the other.
  Dot two;
  two.shape = {std::vector{72, 4, 32}, std::vector{4, 32, 64}};
  two.contract = {std::vector{1, 2}, std::vector{0, 1}};
  check(two);
  two.shape[right] = {4, 64, 32};
  two.contract[right] = {0, 2};
  check(two, hopper(), 0);
}

TEST(DotCopies, WhatIsComputedGoesTheOtherWay) {
  Dot dot = plain(72, 64, 136);
  dot.state_shape[left] = {72, 130};
  dot.before = "  %p = pad %x {low = [0, 1], high = [0, 5], value = 0.5} : bf16[72, 136]\n";
  check(dot, hopper(), 0);
  check(plain(72, 70, 136), hopper(), 0);               // rows of 140 bytes
  check(plain(70, 72, 132, false, true), hopper(), 0);  // of 264
}

TEST(DotCopies, Epilogues) {
  for (const std::int64_t processors : {1, 132}) {
    Dot dot = plain(136, 264, 200, false, true);
    dot.after = bias_and_gelu(dot);
    check(dot, hopper(processors));
    Dot batched = plain(72, 72, 136, true, false, 2);
    batched.dtype = "f16";
    batched.after = bias_and_gelu(batched);
    check(batched, hopper(processors));
  }
}

TEST(DotCopies, LongSumsAreCutAndAddedInOrder) {
  check(plain(64, 72, 2000, true, false));
  check(plain(72, 64, 2048));
  // Parts of equal length, several a block.
  check(plain(64, 64, 4096, false, true), hopper(7));
}

/// Two products of a shared operand: x by a and b, or a and b by x.
std::string joint(int m, int n, int k, bool shares_left) {
  const auto dot = [&](const char* to, const char* of) {
    return fmt::format(
        "  %{} = dot %{}, %{} {{lhs_contract = [1], rhs_contract = [0], lhs_batch = [], rhs_batch "
        "= []}} : bf16[{}, {}]\n",
        to, shares_left ? "x" : of, shares_left ? of : "x", m, n);
  };
  const auto state = [](const char* name, int rows, int columns) {
    return fmt::format(
        "  %{0} = state {{name = \"{0}\", dtype = bf16, shape = [{1}, {2}]}} : bf16[{1}, {2}]\n",
        name, rows, columns);
  };
  std::string text = "graph @g {\n";
  text += shares_left ? state("x", m, k) : state("x", k, n);
  for (const char* name : {"a", "b"}) text += shares_left ? state(name, k, n) : state(name, m, k);
  return text + dot("u", "a") + dot("v", "b") +
         fmt::format(
             "  %s = silu %u : bf16[{0}, {1}]\n  %y = mul %s, %v : bf16[{0}, {1}]\n"
             "  state_write %u {{name = \"u\"}}\n  state_write %y {{name = \"y\"}}\n}}",
             m, n);
}

TEST(DotCopies, TwoProductsThatShareAnOperand) {
  for (const bool shares_left : {false, true}) {
    for (const std::int64_t processors : {1, 132}) {
      compare(joint(72, 136, 200, shares_left), 8 * epsilon(DType::bf16) + 200 * 0x1p-24,
              hopper(processors), 3);
    }
  }
}

/// Both ways to bring operands: the same results, to the bit where both add up in the same order.
void compare_ways(const std::string& text, double tolerance, bool in_parts,
                  compiler::DeviceOptions options = hopper()) {
  SCOPED_TRACE(text);
  const ir::Graph graph = parse(text);
  ASSERT_EQ(compiler::fuse(graph).groups.size(), 1U);
  const Values inputs = random_inputs(graph, 1);
  std::array<Values, 2> found;
  for (const bool copies : {false, true}) {
    options.tensor_copies = copies;
    const Schedule schedule = [&](const compiler::Group& group) {
      compiler::ScheduledKernel scheduled = compiler::schedule_device(group, options);
      EXPECT_EQ(scheduled.kernel->tensor_maps.empty(), !copies);
      EXPECT_EQ(scheduled.kernel->phases.size(), in_parts ? 2U : 1U);
      return scheduled;
    };
    found[copies ? 1 : 0] = run_interpreted(graph, inputs, schedule, {.seed = 1});
  }
  for (const auto& [name, values] : found[0]) {
    if (in_parts) {
      EXPECT_LE(relative_error(found[1].at(name), values), tolerance) << name;
    } else {
      EXPECT_EQ(found[1].at(name), values) << name;
    }
  }
}

TEST(DotCopies, OperandsComeEitherWay) {
  for (const bool left_transposed : {false, true}) {
    for (const bool right_transposed : {false, true}) {
      compare_ways(plain(72, 136, 200, left_transposed, right_transposed).text(), 0, false);
    }
  }
  Dot several = plain(392, 520, 136);
  several.dtype = "f16";
  several.after = bias_and_gelu(several);
  compare_ways(several.text(), 0, false, hopper(2));
  compare_ways(joint(72, 136, 200, true), 0, false);
  // Parts may be cut elsewhere. Their sums are f32; the result is rounded once.
  compare_ways(plain(64, 72, 2048).text(), epsilon(DType::bf16) + 2048 * 0x1p-24, true);
}

/// Registers and shared memory go to the log; nothing is spilled, and products are not kept waiting
/// for each other.
void assemble(const std::string& text, const std::string& name) {
  const ir::Graph graph = parse(text);
  const compiler::FusedGraph fused = compiler::fuse(graph);
  for (const compiler::Group& group : fused.groups) {
    SCOPED_TRACE(name);
    const Assembled made = assembled(group, "sm_90a", hopper());
    EXPECT_GT(made.scheduled.kernel->tensor_maps.size(), 0U);
    // What groups give and take adds up where each thread starts with its share of all registers.
    const std::int64_t threads = made.scheduled.kernel->phases[0].threads;
    if (threads > 256 && !made.said.empty()) {
      const std::int64_t each = 65536 / threads / 8 * 8;
      const std::string used = fmt::format("Used {} registers", each);
      EXPECT_NE(made.said.find(used), std::string::npos) << made.said;
    }
    fmt::print("{:28} {:10} registers, shared {:6}, phase 0: {} blocks of {}\n", name,
               made.registers(), made.code.shared_bytes, made.scheduled.kernel->phases[0].grid,
               threads);
  }
}

TEST(DotCopies, Assemble) {
  for (const bool left_transposed : {false, true}) {
    for (const bool right_transposed : {false, true}) {
      const Dot dot = plain(4096, 4096, 4096, left_transposed, right_transposed);
      assemble(dot.text(), fmt::format("4096 cubed {}{}", left_transposed ? 't' : 'n',
                                       right_transposed ? 't' : 'n'));
    }
  }
  Dot bias = plain(4096, 4096, 1024);
  bias.after = bias_and_gelu(bias);
  assemble(bias.text(), "bias and gelu");
  bias = plain(2048, 2048, 2048, false, true);
  bias.after = bias_and_gelu(bias);
  assemble(bias.text(), "bias and gelu, two groups");
  assemble(plain(1024, 1024, 4096, true).text(), "parts");
  assemble(plain(512, 512, 64, false, true, 64).text(), "batches");
  assemble(joint(4096, 4096, 1024, true), "two products");
  Dot heads;
  heads.shape = {std::vector{8, 2048, 16, 128}, std::vector{8, 1024, 16, 128}};
  heads.contract = {std::vector{3}, std::vector{3}};
  heads.batch = {std::vector{0, 2}, std::vector{0, 2}};
  assemble(heads.text(), "heads");
}

}  // namespace
}  // namespace weft::test
