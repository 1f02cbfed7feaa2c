#include "compiler/fusion/gather.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "run.h"

// Which small kernels come to stand beside each other for a GPU, and that nothing runs too early.
namespace weft::compiler {
namespace {

/// Kernels that run side by side, of a region and the loops in it, by kind: "reduce reduce".
std::vector<std::string> items(const FusedRegion& region) {
  std::vector<std::string> out;
  for (const Item& item : region.items) {
    std::vector<std::string> kinds;
    for (const Group* group : item.groups) kinds.push_back(group->kind);
    if (item.node != nullptr) kinds.emplace_back(item.node->op->name);
    if (item.node == nullptr || item.node->is("loop")) {
      out.push_back(fmt::format("{}", fmt::join(kinds, " ")));
    }
    if (item.body != nullptr) {
      for (const std::string& text : items(*item.body)) out.push_back("  " + text);
    }
  }
  return out;
}

/// Three products in a row of [rows, 64], each followed by the largest value of its result, and
/// what else there is to do.
std::string chain(std::int64_t rows, const std::string& last = "") {
  std::string text = fmt::format(R"(graph @g {{
  %x0 = state {{name = "x", dtype = f32, shape = [{0}, 64]}} : f32[{0}, 64]
)",
                                 rows);
  for (int i = 1; i <= 3; ++i) {
    text += fmt::format(
        R"(  %w{0} = state {{name = "w{0}", dtype = f32, shape = [64, 64]}} : f32[64, 64]
  %x{0} = dot %x{1}, %w{0} {{lhs_contract = [1], rhs_contract = [0], lhs_batch = [], rhs_batch = []}} : f32[{2}, 64]
  %m{0} = max %x{0} {{axes = [0, 1], keep = false}} : f32[]
  state_write %m{0} {{name = "m{0}"}}
)",
        i, i - 1, rows);
  }
  return text + last + "}\n";
}

std::vector<std::string> gathered(const std::string& text, bool gather = true) {
  const ir::Graph graph = test::parse(text);
  FusedGraph fused = fuse(graph);
  if (gather) gather_equal(fused.body);
  return items(fused.body);
}

using Items = std::vector<std::string>;

TEST(Gather, WhatIsAlikeComesTogetherLate) {
  // Tensors of 4 MiB may wait for it.
  const std::string text = chain(16384);
  EXPECT_EQ(gathered(text), (Items{"dot", "dot", "dot", "reduce reduce reduce"}));
  EXPECT_NE(gathered(text, false), gathered(text));
}

TEST(Gather, KeepsNothingLargeAlive) {
  constexpr std::int64_t rows = 16640;
  EXPECT_EQ(gathered(chain(rows)), gathered(chain(rows), false));
  // Unless it is needed later anyway.
  const std::string text =
      chain(rows, fmt::format(R"(  %c = broadcast %m3 {{shape = [{0}, 64]}} : f32[{0}, 64]
  %s = add %x1, %x2 : f32[{0}, 64]
  %y = mul %s, %c : f32[{0}, 64]
  state_write %y {{name = "y"}}
)",
                              rows));
  EXPECT_EQ(gathered(text), (Items{"dot", "dot", "dot", "reduce reduce reduce", "elw"}));
}

/// Casts of weights are wanted one after the other, and can all be done at first.
TEST(Gather, WhatIsAlikeComesTogetherEarly) {
  std::string text = R"(graph @g {
  %x0 = state {name = "x", dtype = bf16, shape = [256, 64]} : bf16[256, 64]
)";
  for (int i = 1; i <= 3; ++i) {
    text += fmt::format(
        R"(  %w{0} = state {{name = "w{0}", dtype = f32, shape = [64, 64]}} : f32[64, 64]
  %c{0} = cast %w{0} {{dtype = bf16}} : bf16[64, 64]
  %x{0} = dot %x{1}, %c{0} {{lhs_contract = [1], rhs_contract = [0], lhs_batch = [], rhs_batch = []}} : bf16[256, 64]
)",
        i, i - 1);
  }
  EXPECT_EQ(gathered(text + "  state_write %x3 {name = \"y\"}\n}\n"),
            (Items{"elw elw elw", "dot", "dot", "dot"}));
}

/// An exception in a loop finds what came before it done, and nothing of what comes after.
TEST(Gather, NothingPassesALoop) {
  const std::string text = R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [8, 64]} : f32[8, 64]
  %y = state {name = "y", dtype = f32, shape = [8, 64]} : f32[8, 64]
  %a = max %x {axes = [0, 1], keep = false} : f32[]
  state_write %a {name = "a"}
  %l = loop %x {count = 3} (%i: i64[], %c: f32[8, 64]) {
    %d = exp %c : f32[8, 64]
    yield %d
  } : f32[8, 64]
  state_write %l {name = "l"}
  %b = max %y {axes = [0, 1], keep = false} : f32[]
  state_write %b {name = "b"}
}
)";
  EXPECT_EQ(gathered(text), gathered(text, false));
}

}  // namespace
}  // namespace weft::compiler
