#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>

#include "compiler/fusion/fuse.h"
#include "compiler/schedules/schedule.h"
#include "compiler/schedules/tno_direct_gradient.h"
#include "compiler/schedules/tno_gradient_layout.h"
#include "interpreted.h"
#include "ptxas.h"
#include "tno_graph.h"

// The Toeplitz operator's gradient for its coefficients on matrix units.
namespace weft::compiler {
namespace {

using Case = test::TnoCase;
using test::TnoGraph;

/// That of x and g alone, or of pointwise work on both, with more behind it.
struct GradientGraph {
  GradientGraph(const Case& c, bool fused, unsigned seed) {
    ops::Builder b(graph, graph.body());
    Shape shape = c.leading;
    shape.push_back(c.n);
    shape.push_back(c.d);
    ir::Value x = TnoGraph::state(b, "x", {c.dtype, shape});
    ir::Value g = TnoGraph::state(b, "g", {c.dtype, shape});
    for (const char* name : {"x", "g"}) {
      std::vector<double>& values = inputs[name];
      values = test::random_values(static_cast<std::size_t>(shape.elements()), seed++);
      for (double& value : values) value = ops::round_to(c.dtype, value);
    }
    if (fused) {
      x = ops::unary(b, "tanh", x);
      g = ops::mul(b, g, 0.5);
    }
    ir::Value t = b.emit1("tno_gradient_t", {x, g},
                          {{"causal", c.causal}, {"leading", std::int64_t{c.shared}}});
    if (fused) t = ops::mul(b, t, 0.25);
    b.emit(ops::op("state_write"), {t}, {{"name", std::string("t")}});
    ir::verify(graph, "the test");
  }

  ir::Graph graph{"gradient"};
  test::Values inputs;
};

/// Its phases, whether or not it would be chosen.
test::Schedule schedule_for(const DeviceOptions& options) {
  return [options](const Group& group) {
    ScheduledKernel scheduled{std::make_unique<loop::Kernel>(), 0};
    GroupEmitter emitter(*scheduled.kernel, group);
    emit_tno_direct_gradient(emitter, options);
    scheduled.workspace_bytes = emitter.workspace_bytes();
    return scheduled;
  };
}

void expect_reference(const Case& c, bool fused, const DeviceOptions& options = {}) {
  const GradientGraph made(c, fused, 7);
  const test::Values expected = test::run_reference(made.graph, made.inputs);
  // Norm-wise: products of 16-bit values are exact, a sum's error is an epsilon of f32 for each
  // term at most; each of the few values of 16 bits, the result among them, is rounded once.
  const auto terms = static_cast<double>(c.n * c.leading.elements());
  const double roundings = fused ? 4 : 1;
  const double tolerance = terms * 0x1p-24 + roundings * epsilon(c.dtype);
  for (const test::Values& out :
       test::run_device(made.graph, made.inputs, schedule_for(options), 3, options.target)) {
    EXPECT_LE(test::relative_error(out.at("t"), expected.at("t")), tolerance);
  }
}

class TnoDirectGradient : public testing::TestWithParam<Case> {};

TEST_P(TnoDirectGradient, TheInterpreterAgreesWithTheReference) {
  expect_reference(GetParam(), false);
}

TEST_P(TnoDirectGradient, AlsoOfWhatIsComputedOnTheWay) { expect_reference(GetParam(), true); }

// Parts of fragments, of classes of positions, of rows and of channels of all kinds.
INSTANTIATE_TEST_SUITE_P(
    Causal, TnoDirectGradient,
    testing::Values(Case{{1}, 0, 1, 1, true, DType::f16}, Case{{3}, 0, 2, 8, true, DType::bf16},
                    Case{{8}, 0, 15, 40, true, DType::f16}, Case{{9}, 0, 64, 12, true, DType::bf16},
                    Case{{20}, 0, 71, 18, true, DType::f16}, Case{{}, 0, 127, 3, true, DType::f16},
                    Case{{3}, 0, 128, 16, true, DType::bf16},
                    Case{{8}, 0, 129, 8, true, DType::f16}, Case{{1}, 0, 400, 9, true, DType::bf16},
                    Case{{1}, 0, 700, 8, true, DType::f16}));
INSTANTIATE_TEST_SUITE_P(Both, TnoDirectGradient,
                         testing::Values(Case{{2}, 0, 1, 2, false, DType::f16},
                                         Case{{1}, 0, 9, 17, false, DType::bf16},
                                         Case{{3}, 0, 63, 40, false, DType::f16},
                                         Case{{9}, 0, 128, 5, false, DType::bf16},
                                         Case{{20}, 0, 131, 8, false, DType::f16},
                                         Case{{1}, 0, 513, 8, false, DType::bf16}));
INSTANTIATE_TEST_SUITE_P(Groups, TnoDirectGradient,
                         testing::Values(Case{{3, 2}, 1, 20, 12, true, DType::f16},
                                         Case{{2, 3}, 1, 140, 8, false, DType::bf16},
                                         Case{{2, 3}, 2, 33, 9, true, DType::f16},
                                         Case{{3, 65}, 1, 10, 8, false, DType::bf16},
                                         Case{{5, 44}, 1, 650, 8, true, DType::f16}));

/// Ways to lay a case out that the cases above are for.
TEST(TnoGradientLayout, HasPartsAndStages) {
  const auto layout_of = [](const Case& c) {
    const GradientGraph made(c, false, 1);
    const FusedGraph fused = fuse(made.graph);
    return TnoGradientLayout(TnoExtents(*fused.groups[0].anchor), DeviceOptions().shared_bytes());
  };
  const TnoGradientLayout one = layout_of({{3, 65}, 1, 10, 8, false, DType::bf16});
  EXPECT_EQ(one.parts(), 1);
  EXPECT_EQ(one.together, 3);
  EXPECT_EQ(one.stages, 1);
  // The last part has fewer rows.
  const TnoGradientLayout uneven = layout_of({{5, 44}, 1, 650, 8, true, DType::f16});
  EXPECT_EQ(uneven.row_parts, 3);
  EXPECT_EQ(uneven.chunk, 2);
  EXPECT_EQ(uneven.stages, 2);
  const TnoGradientLayout shared = layout_of({{1}, 0, 2100, 8, true, DType::bf16});
  EXPECT_GT(shared.class_parts, 1);
  EXPECT_EQ(shared.warps, 1);
}

/// Memory for a stage at a time, rows of the batch together in it.
TEST(TnoDirectGradientStages, MayBeAlone) {
  DeviceOptions options;
  options.shared_limit = 40 * 1024;
  expect_reference({{4, 64}, 1, 270, 8, true, DType::bf16}, false, options);
}

/// More registers of sums, a warp for each channel.
TEST(TnoDirectGradientStages, LongSequences) {
  expect_reference({{1}, 0, 2100, 8, true, DType::bf16}, false);
}

/// Where the sums take less than transforms: not of long sequences, nor of a few channels.
TEST(TnoDirectGradientChoice, IsByWhatIsFaster) {
  const auto is_direct = [](const Case& c) {
    const GradientGraph made(c, false, 1);
    const FusedGraph fused = fuse(made.graph);
    DeviceOptions options;
    options.target = device_target("sm_90a");
    return tno_gradient_t_is_direct(*fused.groups[0].anchor, options);
  };
  EXPECT_TRUE(is_direct({{8}, 0, 512, 512, true, DType::bf16}));
  EXPECT_TRUE(is_direct({{8}, 0, 2048, 512, false, DType::f16}));
  EXPECT_FALSE(is_direct({{1}, 0, 4096, 64, false, DType::bf16}));
  EXPECT_FALSE(is_direct({{1}, 0, 8192, 8, true, DType::bf16}));
  EXPECT_FALSE(is_direct({{2}, 0, 1000, 1, true, DType::f16}));
  EXPECT_FALSE(is_direct({{1}, 0, 512, 64, true, DType::f32}));
}

void expect_no_spills(std::int64_t n, bool fused, const char* processor) {
  const GradientGraph made({{8}, 0, n, 512, true, DType::bf16}, fused, 1);
  const FusedGraph groups = fuse(made.graph);
  ASSERT_EQ(groups.groups.size(), 1U);
  DeviceOptions options;
  options.target = device_target(processor);
  EXPECT_TRUE(tno_gradient_t_is_direct(*groups.groups[0].anchor, options));
  const ScheduledKernel scheduled = schedule_device(groups.groups[0], options);
  const GeneratedDeviceCode code = generate_device(*scheduled.kernel, "test", options.target);
  EXPECT_LE(code.shared_bytes, options.shared_bytes());
  EXPECT_EQ(code.ptx.find(".local"), std::string::npos) << n;
  const std::string said = test::assemble(code.ptx, processor);
  EXPECT_TRUE(test::spills(said).empty()) << said;
  std::string registers;
  for (std::size_t at = said.find("Used "); at != std::string::npos;
       at = said.find("Used ", at + 1)) {
    registers += ' ' + said.substr(at + 5, said.find(',', at) - at - 5);
  }
  fmt::print("n {} {} {}:{}; {} blocks of {} threads, {} bytes of shared memory\n", n,
             fused ? "fused" : "alone", processor, registers, scheduled.kernel->phases[0].grid,
             scheduled.kernel->phases[0].threads, code.shared_bytes);
  if (const char* folder = std::getenv("WEFT_KEEP_PTX")) {
    std::ofstream(fmt::format("{}/g_{}_{}_{}.ptx", folder, n, fused, processor)) << code.ptx;
  }
}

TEST(TnoDirectGradientPtx, NothingIsSpilled) {
  for (const bool fused : {false, true}) {
    for (const std::int64_t n : {256, 512, 1024, 2048, 3072, 4096}) {
      expect_no_spills(n, fused, "sm_90a");
      // There is less shared memory.
      if (n < 4096) expect_no_spills(n, fused, "sm_80");
    }
  }
}

}  // namespace
}  // namespace weft::compiler
