#include "compiler/passes/plan_memory.h"

#include <gtest/gtest.h>

#include "run.h"

// In-place updates, copies where they cannot be, and lifetimes in the arena.
namespace weft::compiler {
namespace {

std::int64_t count(const std::vector<plan::Step>& steps, plan::StepKind kind) {
  std::int64_t n = 0;
  for (const plan::Step& step : steps) n += (step.kind == kind ? 1 : 0) + count(step.body, kind);
  return n;
}

TEST(PlanMemory, TrainingStepUpdatesStateInPlace) {
  const ir::Graph graph = test::parse(R"(graph @g {
  %w0 = state {name = "w", dtype = f32, shape = [16, 16]} : f32[16, 16]
  %x = state {name = "x", dtype = f32, shape = [4, 16]} : f32[4, 16]
  %l = loop %w0 {count = 7} (%i: i64[], %w: f32[16, 16]) {
    %y = dot %x, %w {lhs_contract = [1], rhs_contract = [0], lhs_batch = [], rhs_batch = []} : f32[4, 16]
    %g = dot %x, %y {lhs_contract = [0], rhs_contract = [0], lhs_batch = [], rhs_batch = []} : f32[16, 16]
    %r = constant {dtype = f32, shape = [16, 16], value = 0.01} : f32[16, 16]
    %s = mul %g, %r : f32[16, 16]
    %n = sub %w, %s : f32[16, 16]
    yield %n
  } : f32[16, 16]
  state_write %l {name = "w"}
})");
  const Compilation compilation = compile(graph);
  EXPECT_EQ(count(compilation.plan.steps, plan::StepKind::copy), 0);
  EXPECT_EQ(count(compilation.plan.steps, plan::StepKind::launch), 2);
}

TEST(PlanMemory, SwapIsCopied) {
  const ir::Graph graph = test::parse(R"(graph @g {
  %a0 = state {name = "a", dtype = f32, shape = [5]} : f32[5]
  %b0 = state {name = "b", dtype = f32, shape = [5]} : f32[5]
  %l#0, %l#1 = loop %a0, %b0 {count = 3} (%i: i64[], %a: f32[5], %b: f32[5]) {
    yield %b, %a
  } : f32[5], f32[5]
  state_write %l#0 {name = "a"}
  state_write %l#1 {name = "b"}
})");
  const test::Values in = {{"a", {1, 2, 3, 4, 5}}, {"b", {6, 7, 8, 9, 10}}};
  const test::Values out = test::run_compiled(graph, in);
  EXPECT_EQ(out.at("a"), in.at("b"));
  EXPECT_EQ(out.at("b"), in.at("a"));
}

TEST(PlanMemory, OldValueSurvivesForLaterReaders) {
  // %s reads the old %w at other indices than the update writes: whichever order, it must be old.
  const ir::Graph graph = test::parse(R"(graph @g {
  %w0 = state {name = "w", dtype = f32, shape = [4, 4]} : f32[4, 4]
  %c0 = state {name = "c", dtype = f32, shape = [4, 4]} : f32[4, 4]
  %l#0, %l#1 = loop %w0, %c0 {count = 4} (%i: i64[], %w: f32[4, 4], %c: f32[4, 4]) {
    %d = add %w, %w : f32[4, 4]
    %t = permute %w {order = [1, 0]} : f32[4, 4]
    %n = add %d, %t : f32[4, 4]
    %o = sub %w, %c : f32[4, 4]
    yield %n, %o
  } : f32[4, 4], f32[4, 4]
  state_write %l#0 {name = "w"}
  state_write %l#1 {name = "c"}
})");
  const test::Values in = {{"w", test::random_values(16, 1)}, {"c", test::random_values(16, 2)}};
  const test::Values expected = test::run_reference(graph, in);
  const test::Values out = test::run_compiled(graph, in);
  // Four steps of a few additions: each rounds once.
  EXPECT_LT(test::relative_error(out.at("w"), expected.at("w")), 16 * 0x1p-24);
  EXPECT_LT(test::relative_error(out.at("c"), expected.at("c")), 16 * 0x1p-24);
}

TEST(PlanMemory, TemporariesShareTheArena) {
  // A chain of products: at any time two temporaries live.
  std::string text = R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [32, 32]} : f32[32, 32]
)";
  std::string last = "x";
  for (int i = 0; i < 8; ++i) {
    const std::string next = "y" + std::to_string(i);
    text += "  %" + next + " = dot %" + last +
            ", %x {lhs_contract = [1], rhs_contract = [0], lhs_batch = [], rhs_batch = []} : "
            "f32[32, 32]\n";
    last = next;
  }
  text += "  state_write %" + last + " {name = \"y\"}\n}";
  const Compilation compilation = compile(test::parse(text));
  EXPECT_EQ(compilation.plan.arena_bytes, 2 * 32 * 32 * 4);
  EXPECT_EQ(compilation.plan.live_bytes, 2 * 32 * 32 * 4);
}

TEST(PlanMemory, WhatALoopReadsLivesThroughIt) {
  // %e is made before the loop and read in every iteration: nothing may take its place meanwhile.
  const ir::Graph graph = test::parse(R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [16, 16]} : f32[16, 16]
  %e = dot %x, %x {lhs_contract = [1], rhs_contract = [0], lhs_batch = [], rhs_batch = []} : f32[16, 16]
  %l = loop %x {count = 3} (%i: i64[], %c: f32[16, 16]) {
    %p = dot %c, %e {lhs_contract = [1], rhs_contract = [0], lhs_batch = [], rhs_batch = []} : f32[16, 16]
    %q = dot %p, %p {lhs_contract = [1], rhs_contract = [0], lhs_batch = [], rhs_batch = []} : f32[16, 16]
    %t = tanh %q : f32[16, 16]
    yield %t
  } : f32[16, 16]
  state_write %l {name = "y"}
})");
  const test::Values in = {{"x", test::random_values(256, 3)}};
  const double error = test::relative_error(test::run_compiled(graph, in).at("y"),
                                            test::run_reference(graph, in).at("y"));
  // Products of depth 16 through three steps, each magnified by at most a small factor.
  EXPECT_LT(error, 1e-4);
}

}  // namespace
}  // namespace weft::compiler
