#include "compiler/fusion/fuse.h"

#include <gtest/gtest.h>

#include "compiler/fusion/report.h"
#include "run.h"

// What becomes one kernel, what does not, and why.
namespace weft::compiler {
namespace {

std::vector<std::string> kinds(const FusedGraph& fused) {
  std::vector<std::string> out;
  for (const Group& group : fused.groups) out.push_back(group.kind);
  return out;
}

bool refused(const FusedGraph& fused, const std::string& reason) {
  for (const Refusal& refusal : fused.refusals) {
    if (refusal.reason.find(reason) != std::string::npos) return true;
  }
  return false;
}

using Kinds = std::vector<std::string>;

TEST(Fuse, ChainIsOneKernel) {
  const ir::Graph graph = test::parse(R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [8, 16]} : f32[8, 16]
  %a = exp %x : f32[8, 16]
  %b = tanh %a : f32[8, 16]
  %c = neg %b : f32[8, 16]
  state_write %c {name = "c"}
})");
  const FusedGraph fused = fuse(graph);
  EXPECT_EQ(kinds(fused), Kinds{"elw"});
  EXPECT_EQ(fused.groups[0].inputs.size(), 1U);
  EXPECT_EQ(fused.groups[0].outputs.size(), 1U);
  EXPECT_EQ(kinds(fuse(graph, false)), (Kinds{"elw", "elw", "elw"}));
}

TEST(Fuse, BiasAndActivationJoinTheProduct) {
  const ir::Graph graph = test::parse(R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [8, 16]} : f32[8, 16]
  %w = state {name = "w", dtype = f32, shape = [16, 4]} : f32[16, 4]
  %b = state {name = "b", dtype = f32, shape = [4]} : f32[4]
  %y = dot %x, %w {lhs_contract = [1], rhs_contract = [0], lhs_batch = [], rhs_batch = []} : f32[8, 4]
  %r = broadcast %b {shape = [8, 4]} : f32[8, 4]
  %s = add %y, %r : f32[8, 4]
  %a = silu %s : f32[8, 4]
  state_write %a {name = "a"}
})");
  const FusedGraph fused = fuse(graph);
  ASSERT_EQ(kinds(fused), Kinds{"dot_elw"});
  EXPECT_EQ(print_fused(fused, "g"), R"(graph @g {
  %x = state "x" : f32[8, 16]
  %w = state "w" : f32[16, 4]
  %b = state "b" : f32[4]
  kernel @dot_elw.0 anchor %y {  // reads 784B, writes 128B, 1.6K operations
    %y = dot %x[i, k], %w[k, j] : f32[8, 4]
    %s = add %y[i, j], %b[j] : f32[8, 4]
    %a = silu %s[i, j] : f32[8, 4]
  } -> %a
  state_write "a" %a
}
)");
}

TEST(Fuse, MovementBecomesAccess) {
  const ir::Graph graph = test::parse(R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [6, 4]} : f32[6, 4]
  %t = permute %x {order = [1, 0]} : f32[4, 6]
  %f = flip %t {axes = [1]} : f32[4, 6]
  %s = slice %f {start = [1, 0], limit = [3, 6], stride = [1, 2]} : f32[2, 3]
  %y = exp %s : f32[2, 3]
  state_write %y {name = "y"}
})");
  const FusedGraph fused = fuse(graph);
  ASSERT_EQ(kinds(fused), Kinds{"elw"});
  EXPECT_EQ(report(fused.groups[0]).lines,
            (std::vector<std::string>{"%y = exp %x[(5 - (j * 2)), (i + 1)] : f32[2, 3]"}));
}

TEST(Fuse, ReductionTakesPrologueAndEpilogue) {
  const ir::Graph graph = test::parse(R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [6, 40]} : f32[6, 40]
  %q = mul %x, %x : f32[6, 40]
  %s = sum %q {axes = [1], keep = false} : f32[6]
  %r = sqrt %s : f32[6]
  state_write %r {name = "r"}
})");
  EXPECT_EQ(kinds(fuse(graph)), Kinds{"reduce_elw"});
}

TEST(Fuse, EachAnchorHasAKernel) {
  const ir::Graph graph = test::parse(R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [8, 8]} : f32[8, 8]
  %y = dot %x, %x {lhs_contract = [1], rhs_contract = [0], lhs_batch = [], rhs_batch = []} : f32[8, 8]
  %z = dot %y, %x {lhs_contract = [1], rhs_contract = [0], lhs_batch = [], rhs_batch = []} : f32[8, 8]
  state_write %z {name = "z"}
})");
  EXPECT_EQ(kinds(fuse(graph)), (Kinds{"dot", "dot"}));
}

TEST(Fuse, ReaderAtOtherIndicesIsRefused) {
  const ir::Graph graph = test::parse(R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [8, 8]} : f32[8, 8]
  %y = dot %x, %x {lhs_contract = [1], rhs_contract = [0], lhs_batch = [], rhs_batch = []} : f32[8, 8]
  %t = permute %y {order = [1, 0]} : f32[8, 8]
  %z = add %y, %t : f32[8, 8]
  state_write %z {name = "z"}
})");
  const FusedGraph fused = fuse(graph);
  EXPECT_EQ(kinds(fused), (Kinds{"dot", "elw"}));
  EXPECT_TRUE(refused(fused, "other indices"));
}

TEST(Fuse, DiamondThroughAnotherKernelIsRefused) {
  // %z needs %e itself and the sums over its columns: one kernel would have to wait for itself.
  const ir::Graph graph = test::parse(R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [8, 32]} : f32[8, 32]
  %e = exp %x : f32[8, 32]
  %s = sum %e {axes = [0], keep = true} : f32[1, 32]
  %b = broadcast %s {shape = [8, 32]} : f32[8, 32]
  %z = div %e, %b : f32[8, 32]
  state_write %z {name = "z"}
})");
  const FusedGraph fused = fuse(graph);
  EXPECT_EQ(fused.groups.size(), 3U);
  EXPECT_TRUE(refused(fused, "another kernel must run between"));
}

TEST(Fuse, ReductionsOverRowsAndWhatIsBetweenAreOneKernel) {
  const ir::Graph graph = test::parse(R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [2, 8, 32]} : f32[2, 8, 32]
  %y = state {name = "y", dtype = f32, shape = [16, 32]} : f32[16, 32]
  %f = reshape %x {shape = [16, 32]} : f32[16, 32]
  %a = add %f, %y : f32[16, 32]
  %m = max %a {axes = [1], keep = true} : f32[16, 1]
  %n = broadcast %m {shape = [16, 32]} : f32[16, 32]
  %d = sub %a, %n : f32[16, 32]
  %e = exp %d : f32[16, 32]
  %s = sum %e {axes = [1], keep = false} : f32[16]
  %l = log %s : f32[16]
  %r = reshape %s {shape = [16, 1]} : f32[16, 1]
  %b = broadcast %r {shape = [16, 32]} : f32[16, 32]
  %z = div %e, %b : f32[16, 32]
  state_write %z {name = "z"}
  state_write %a {name = "a"}
  state_write %l {name = "l"}
})");
  const FusedGraph fused = fuse(graph);
  ASSERT_EQ(kinds(fused), Kinds{"reduce_elw"});
  EXPECT_EQ(fused.groups[0].anchors.size(), 2U);
  EXPECT_EQ(fused.groups[0].outputs.size(), 3U);
  EXPECT_EQ(fused.groups[0].rows, (Rows{16, 32}));
}

TEST(Fuse, WhatATransformReadsIsStoredByTheKernelThatHasItsOperands) {
  const auto text = [](const char* other) {
    return std::string(R"(graph @g {
  %u = state {name = "u", dtype = f32, shape = [2, 16, 8]} : f32[2, 16, 8]
  %v = state {name = "v", dtype = f32, shape = [2, 16, 8]} : f32[2, 16, 8]
  %w = state {name = "w", dtype = f32, shape = [2, 16, 8]} : f32[2, 16, 8]
  %t = state {name = "t", dtype = f32, shape = [16, 8]} : f32[16, 8]
  %y = tno %v, %t {causal = true} : f32[2, 16, 8]
  %z = mul %u, %y : f32[2, 16, 8]
  %x = mul %y, )") +
           other + R"( : f32[2, 16, 8]
  %r = tno %x, %t {causal = true} : f32[2, 16, 8]
  state_write %z {name = "z"}
  state_write %r {name = "r"}
})";
  };
  const auto stored = [](const FusedGraph& fused) {
    std::vector<std::string> ops;
    for (const ir::Value output : fused.groups[0].outputs) ops.emplace_back(output.node->op->name);
    return ops;
  };
  // The first kernel reads u for z: it stores x, and y nowhere.
  const ir::Graph at_hand = test::parse(text("%u"));
  EXPECT_EQ(stored(fuse(at_hand)), (std::vector<std::string>{"mul", "mul"}));
  EXPECT_EQ(fuse(at_hand).groups[1].inputs.size(), 2U);
  // It does not read w: the second one does.
  const ir::Graph elsewhere = test::parse(text("%w"));
  EXPECT_EQ(stored(fuse(elsewhere)), (std::vector<std::string>{"tno", "mul"}));
  EXPECT_EQ(fuse(elsewhere).groups[1].inputs.size(), 3U);
}

TEST(Fuse, ReductionsOverOtherRowsAreNot) {
  // The second reduction runs over pairs of the first one's rows.
  const ir::Graph graph = test::parse(R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [8, 2, 32]} : f32[8, 2, 32]
  %s = sum %x {axes = [2], keep = true} : f32[8, 2, 1]
  %b = broadcast %s {shape = [8, 2, 32]} : f32[8, 2, 32]
  %z = div %x, %b : f32[8, 2, 32]
  %t = sum %z {axes = [1, 2], keep = false} : f32[8]
  state_write %t {name = "t"}
})");
  EXPECT_EQ(kinds(fuse(graph)), (Kinds{"reduce", "reduce_elw"}));
}

TEST(Fuse, CheapValueWithTwoReadersIsRebuilt) {
  const ir::Graph graph = test::parse(R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [64, 32]} : f32[64, 32]
  %r = relu %x : f32[64, 32]
  %s = sum %r {axes = [1], keep = false} : f32[64]
  %c = sum %r {axes = [0], keep = false} : f32[32]
  state_write %s {name = "s"}
  state_write %c {name = "c"}
})");
  const FusedGraph fused = fuse(graph);
  EXPECT_EQ(kinds(fused), (Kinds{"reduce_elw", "reduce_elw"}));
}

TEST(Fuse, KeepIsComputedOnce) {
  // Without %k, both sums would compute the relu themselves.
  const ir::Graph graph = test::parse(R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [64, 32]} : f32[64, 32]
  %r = relu %x : f32[64, 32]
  %k = keep %r : f32[64, 32]
  %s = sum %k {axes = [1], keep = false} : f32[64]
  %c = sum %k {axes = [0], keep = false} : f32[32]
  state_write %s {name = "s"}
  state_write %c {name = "c"}
})");
  const FusedGraph fused = fuse(graph);
  ASSERT_EQ(kinds(fused), (Kinds{"reduce_elw", "reduce"}));
  EXPECT_EQ(fused.groups[0].outputs.size(), 2U);
}

TEST(Fuse, UpdatesOfSeveralStatesShareOneKernel) {
  // Momentum: the moment and the weight are updated from one gradient, read once.
  const ir::Graph graph = test::parse(R"(graph @g {
  %w = state {name = "w", dtype = f32, shape = [32]} : f32[32]
  %m = state {name = "m", dtype = f32, shape = [32]} : f32[32]
  %g = state {name = "g", dtype = f32, shape = [32]} : f32[32]
  %h = constant {dtype = f32, shape = [32], value = 0.9} : f32[32]
  %a = mul %m, %h : f32[32]
  %n = add %a, %g : f32[32]
  %v = sub %w, %n : f32[32]
  state_write %n {name = "m"}
  state_write %v {name = "w"}
})");
  const FusedGraph fused = fuse(graph);
  ASSERT_EQ(kinds(fused), Kinds{"elw"});
  EXPECT_EQ(fused.groups[0].outputs.size(), 2U);
}

TEST(Fuse, ComplexValuesAreNoPartOfRows) {
  const ir::Graph graph = test::parse(R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [4, 64]} : f32[4, 64]
  %y = exp %x : f32[4, 64]
  %s = sum %y {axes = [1], keep = false} : f32[4]
  %c = complex %y, %x : c64[4, 64]
  state_write %y {name = "y"}
  state_write %s {name = "s"}
  state_write %c {name = "c"}
})");
  const FusedGraph fused = fuse(graph);
  ASSERT_EQ(kinds(fused), (Kinds{"reduce_elw", "elw"}));
  EXPECT_TRUE(refused(fused, "complex values"));
  const test::Values inputs = {{"x", test::random_values(256, 1)}};
  const test::Values found = test::run_compiled(graph, inputs);
  const test::Values wanted = test::run_reference(graph, inputs);
  // Values of size 1, and sums of 64 of them.
  for (const char* name : {"y", "s", "c"}) {
    EXPECT_LE(test::relative_error(found.at(name), wanted.at(name)), 64 * 0x1p-23) << name;
  }
}

}  // namespace
}  // namespace weft::compiler
