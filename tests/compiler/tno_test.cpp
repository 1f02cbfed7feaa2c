#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "compiler/passes/decompose.h"
#include "compiler/passes/differentiate.h"
#include "compiler/schedules/schedule.h"
#include "ops/build.h"
#include "ops/support.h"
#include "run.h"
#include "runtime/executable.h"
#include "tno_graph.h"

// The Toeplitz operator and its gradients as anchors, with what is fused into them.
namespace weft::compiler {
namespace {

using ir::Value;
using ops::Builder;
using Case = test::TnoCase;
using Gated = test::TnoGraph;
using test::tolerance;

class Tno : public testing::TestWithParam<Case> {};

TEST_P(Tno, FusedAndEveryOpAloneAgreeWithTheReference) {
  for (unsigned seed = 0; seed < 3; ++seed) {
    Gated gated(GetParam(), 10 * seed);
    // The reference evaluation knows no rounding: give it what the states hold.
    test::Values inputs = gated.inputs;
    for (auto& [name, values] : inputs) {
      for (double& value : values) value = ops::round_to(GetParam().dtype, value);
    }
    const test::Values expected = test::run_reference(gated.graph, inputs);
    for (const bool fuse : {true, false}) {
      CompileOptions options;
      options.fuse = fuse;
      const test::Values out = test::run_compiled(gated.graph, inputs, options);
      for (const std::string& name : gated.results) {
        ASSERT_EQ(out.count(name), 1U) << name;
        const auto found = expected.find(name);  // nothing is written to empty states
        const std::vector<double> none;
        const std::vector<double>& wanted = found == expected.end() ? none : found->second;
        EXPECT_LE(test::relative_error(out.at(name), wanted), tolerance(GetParam()))
            << name << (fuse ? " fused" : " every op alone") << ", seed " << seed;
      }
    }
  }
}

TEST_P(Tno, AnyNumberOfThreadsGivesTheSameBits) {
  Gated gated(GetParam(), 5);
  test::Values first;
  for (const int threads : {1, 3}) {
    Compilation compilation = compile(gated.graph);
    State state;
    for (const plan::Buffer& buffer : compilation.plan.buffers) {
      if (buffer.kind != plan::BufferKind::state || state.has(buffer.name)) continue;
      state.add(buffer.name, buffer.type);
      const auto given = gated.inputs.find(buffer.name);
      if (given != gated.inputs.end()) state.set_values(buffer.name, given->second);
    }
    runtime::RunOptions options;
    options.threads = threads;
    runtime::Executable executable(std::move(compilation.plan), options);
    executable.bind(state);
    executable.run();
    for (const std::string& name : gated.results) {
      const std::vector<double> values = state.values(name);
      if (threads == 1) {
        first[name] = values;
      } else {
        EXPECT_EQ(values, first.at(name)) << name;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Small, Tno,
                         testing::Values(Case{{2}, 0, 1, 4, true}, Case{{2}, 0, 1, 4, false},
                                         Case{{}, 0, 2, 3, true}, Case{{3}, 0, 7, 16, true},
                                         Case{{3}, 0, 9, 17, false}, Case{{2, 3}, 1, 5, 6, true},
                                         Case{{2, 3}, 2, 12, 5, false}, Case{{0}, 0, 8, 4, true},
                                         Case{{2}, 0, 8, 0, false}));
INSTANTIATE_TEST_SUITE_P(Long, Tno,
                         testing::Values(Case{{5}, 0, 64, 20, true}, Case{{2}, 0, 100, 8, false},
                                         Case{{3, 2}, 1, 127, 16, true}, Case{{1}, 0, 251, 4, true},
                                         Case{{1}, 0, 251, 4, false}, Case{{9}, 0, 45, 33, true},
                                         Case{{2}, 0, 300, 16, true, DType::bf16},
                                         Case{{2}, 0, 96, 5, false, DType::f16},
                                         Case{{2}, 0, 1100, 16, true}));
// More than caches hold: results are streamed to memory.
INSTANTIATE_TEST_SUITE_P(Wide, Tno,
                         testing::Values(Case{{560}, 0, 16, 64, true},
                                         Case{{560}, 0, 16, 64, false}));

TEST(TnoFusion, TheGatedOperatorIsOneKernel) {
  const Case c{{4}, 0, 128, 32, true};
  ir::Graph graph("gate");
  Builder b(graph, graph.body());
  const Value x = Gated::state(b, "x", {DType::f32, {4, c.n, c.d}});
  const Value u = Gated::state(b, "u", {DType::f32, {4, c.n, c.d}});
  const Value t = Gated::state(b, "t", {DType::f32, {c.n, c.d}});
  const Value y = b.emit1("tno", {ops::unary(b, "silu", x), ops::mul(b, t, 2)}, {{"causal", true}});
  const Value z = ops::mul(b, ops::unary(b, "sigmoid", u), y);
  for (const auto& [name, value] : {std::pair{"y", y}, {"z", z}}) {
    b.emit(ops::op("state_write"), {value}, {{"name", std::string(name)}});
  }
  const Compilation compilation = compile(graph);
  ASSERT_EQ(compilation.kernels.size(), 1U) << compilation.fused;
  EXPECT_EQ(compilation.kernels[0].kind, "tno_elw");
  EXPECT_EQ(compilation.kernels[0].outputs.size(), 2U);
}

/// The gradients of both operands come from the same transforms, and that of the gate from the
/// kernel of the operator.
TEST(TnoFusion, BothGradientsComeFromOneKernel) {
  ir::Graph graph("gradients");
  Builder b(graph, graph.body());
  const Type type{DType::f32, {4, 128, 32}};
  const std::vector<Value> sources = {Gated::state(b, "x", type), Gated::state(b, "u", type),
                                      Gated::state(b, "t", {DType::f32, {128, 32}})};
  const Value y = b.emit1("tno", {sources[0], sources[2]}, {{"causal", true}});
  const Value z = ops::mul(b, sources[1], y);
  const std::vector<Value> gradients =
      compiler::gradients(b, z, sources, Gated::state(b, "weights", type));
  b.emit(ops::op("state_write"), {z}, {{"name", std::string("z")}});
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    b.emit(ops::op("state_write"), {gradients[i]}, {{"name", fmt::format("g{}", i)}});
  }
  const Compilation compilation = compile(graph);
  ASSERT_EQ(compilation.kernels.size(), 2U) << compilation.fused;
  EXPECT_EQ(compilation.kernels[0].outputs.size(), 2U);
  EXPECT_EQ(compilation.kernels[1].outputs.size(), 2U);
}

/// Gradients of gradients: the family is closed under differentiation.
TEST(TnoFusion, SecondDerivatives) {
  for (const bool causal : {true, false}) {
    ir::Graph graph("second");
    Builder b(graph, graph.body());
    const std::int64_t n = 10;
    const Value x = Gated::state(b, "x", {DType::f32, {3, n, 8}});
    const Value t = Gated::state(b, "t", {DType::f32, {causal ? n : 2 * n - 1, 8}});
    const Value y = b.emit1("tno", {x, t}, {{"causal", causal}});
    const std::vector<Value> sources = {x, t};
    const std::vector<Value> first = compiler::gradients(b, ops::mul(b, y, y), sources);
    const Value sum = ops::add(b, ops::sum(b, ops::mul(b, first[0], first[0]), {0, 1, 2}),
                               ops::sum(b, ops::mul(b, first[1], first[1]), {0, 1}));
    const std::vector<Value> second = compiler::gradients(b, sum, sources);
    test::Values in;
    for (const Value value : sources) {
      const std::string name = value.node->attributes.text("name");
      in[name] = test::random_values(static_cast<std::size_t>(value.type().elements()), 3);
    }
    for (const auto& [name, value] : {std::pair{"gx", second[0]}, {"gt", second[1]}}) {
      b.emit(ops::op("state_write"), {value}, {{"name", std::string(name)}});
    }
    const test::Values expected = test::run_reference(graph, in);
    const test::Values out = test::run_compiled(graph, in);
    for (const char* name : {"gx", "gt"}) {
      EXPECT_LE(test::relative_error(out.at(name), expected.at(name)),
                2 * tolerance({{3}, 0, n, 8}))
          << name << " causal " << causal;
    }
  }
}

/// What has no schedule is decomposed, and means the same.
TEST(TnoFusion, FewChannelsAreLeftToPrimitives) {
  Gated gated({{6}, 0, 50, 1, true}, 2);
  ir::walk(gated.graph.body(), [&](const ir::Node& node) {
    EXPECT_FALSE(node.op->pattern == ir::Pattern::tno && has_host_schedule(node));
  });
  const test::Values expected = test::run_reference(gated.graph, gated.inputs);
  const test::Values out = test::run_compiled(gated.graph, gated.inputs);
  for (const std::string& name : gated.results) {
    EXPECT_LE(test::relative_error(out.at(name), expected.at(name)),
              tolerance({{6}, 0, 50, 1, true}))
        << name;
  }
}

}  // namespace
}  // namespace weft::compiler
