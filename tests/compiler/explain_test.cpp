#include "compiler/explain.h"

#include <gtest/gtest.h>

#include <set>

#include "run.h"
#include "separations.h"

namespace weft::compiler {
namespace {

const char* const mlp = R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [8, 16]} : f32[8, 16] @ "model.cpp":1
  %w = state {name = "w", dtype = f32, shape = [16, 16]} : f32[16, 16] @ "model.cpp":2
  %y = dot %x, %w {lhs_contract = [1], rhs_contract = [0], lhs_batch = [], rhs_batch = []} : f32[8, 16] @ "model.cpp":3
  %a = tanh %y : f32[8, 16] @ "model.cpp":4
  %s = sum %a {axes = [1], keep = false} : f32[8] @ "model.cpp":5
  %z = dot %a, %w {lhs_contract = [1], rhs_contract = [0], lhs_batch = [], rhs_batch = []} : f32[8, 16] @ "model.cpp":6
  %e = exp %x : f32[8, 16] @ "model.cpp":7
  %r = sum %e {axes = [0], keep = false} : f32[16] @ "model.cpp":8
  state_write %z {name = "z"} @ "model.cpp":9
  state_write %s {name = "s"} @ "model.cpp":10
  state_write %r {name = "r"} @ "model.cpp":11
})";

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(Explain, SaysWhyForEachKernel) {
  const Compilation compilation = compile(test::parse(mlp));
  const std::string text = explain(compilation);
  EXPECT_TRUE(has(text, "%a (tanh, model.cpp:4) of @dot_elw.0 for %z (dot, model.cpp:6): "))
      << text;
  for (const FusionRefusal& refusal : compilation.refusals) {
    EXPECT_FALSE(refusal.reason.empty());
    EXPECT_NE(refusal.producer_kernel, refusal.consumer_kernel);
  }
}

TEST(Explain, TwoNodesOfOneKernel) {
  const std::string text = explain(compile(test::parse(mlp)), "%y", "%a");
  EXPECT_TRUE(has(text, "both are computed in @dot_elw.0")) << text;
}

TEST(Explain, TwoNeighboursInEitherOrder) {
  const Compilation compilation = compile(test::parse(mlp));
  EXPECT_TRUE(has(explain(compilation, "%a", "%z"), "for %z (dot, model.cpp:6): "));
  EXPECT_TRUE(has(explain(compilation, "%z", "%a"), "for %z (dot, model.cpp:6): "));
}

TEST(Explain, TwoNodesWithOthersBetween) {
  const std::string text = explain(compile(test::parse(mlp)), "%y", "%z");
  EXPECT_TRUE(has(text, "not neighbours")) << text;
  EXPECT_TRUE(has(text, "loads %a (tanh, model.cpp:4) of @dot_elw.0 for %z")) << text;
}

TEST(Explain, IndependentNodes) {
  const std::string text = explain(compile(test::parse(mlp)), "%y", "%r");
  EXPECT_TRUE(has(text, "neither needs the other")) << text;
}

TEST(Explain, KernelsThatReadOneTensorAndAreNotOne) {
  const ir::Graph graph = test::parse(R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [8, 32]} : f32[8, 32] @ "model.cpp":1
  %t = state {name = "t", dtype = f32, shape = [32, 8]} : f32[32, 8] @ "model.cpp":4
  %y = reshape %x {shape = [32, 8]} : f32[32, 8] @ "model.cpp":5
  %z = mul %y, %t : f32[32, 8] @ "model.cpp":6
  %n = neg %x : f32[8, 32] @ "model.cpp":7
  state_write %n {name = "n"} @ "model.cpp":8
  state_write %z {name = "z"} @ "model.cpp":9
})");
  const Compilation compilation = compile(graph);
  const std::string reason =
      "%z (mul, model.cpp:6) and %n (neg, model.cpp:7) both read %x: they run over different "
      "shapes";
  EXPECT_TRUE(has(explain(compilation), reason)) << explain(compilation);
  EXPECT_TRUE(has(explain(compilation, "%n", "%z"), reason)) << explain(compilation, "%n", "%z");
}

TEST(Explain, WhatIsNoNodeOfAKernel) {
  const Compilation compilation = compile(test::parse(mlp));
  const auto message = [&](const std::string& a, const std::string& b) -> std::string {
    try {
      explain(compilation, a, b);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_TRUE(has(message("%x", "%a"), "%x is in no kernel"));
  EXPECT_TRUE(has(message("%a", "%nonsense"), "there is no %nonsense"));
}

TEST(Explain, WithoutFusionThatIsTheReason) {
  CompileOptions options;
  options.fuse = false;
  const Compilation compilation = compile(test::parse(mlp), options);
  ASSERT_FALSE(compilation.refusals.empty());
  for (const FusionRefusal& refusal : compilation.refusals) {
    EXPECT_TRUE(has(refusal.reason, "fusion is off"));
  }
}

TEST(Explain, ValuesForLoopsAndStates) {
  const ir::Graph graph = test::parse(R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [8, 4]} : f32[8, 4]
  %w = state {name = "w", dtype = f32, shape = [8, 3]} : f32[8, 3]
  %a = permute %x {order = [1, 0]} : f32[4, 8]
  %b = dot %a, %w {lhs_contract = [1], rhs_contract = [0], lhs_batch = [], rhs_batch = []} : f32[4, 3]
  state_write %a {name = "a"}
  state_write %b {name = "b"}
})");
  const std::string text = explain(compile(graph), "%a", "%b");
  EXPECT_TRUE(has(text, "in memory for state_write \"a\"")) << text;
}

TEST(Explain, EverySeparationHasAReason) {
  EXPECT_EQ(test::expect_reasons(test::parse(mlp)), 2);
  EXPECT_EQ(test::expect_reasons(test::parse(mlp), false), 4);
}

}  // namespace
}  // namespace weft::compiler
