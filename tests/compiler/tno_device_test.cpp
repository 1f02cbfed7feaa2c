#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

#include "assembled.h"
#include "compiler/fusion/fuse.h"
#include "compiler/schedules/fourier_tile.h"
#include "compiler/schedules/schedule.h"
#include "compiler/schedules/tno_direct.h"
#include "compiler/schedules/tno_tiling.h"
#include "interpreted.h"
#include "tno_graph.h"

// The Toeplitz operator on a GPU: by the interpreter, and by ptxas.
namespace weft::compiler {
namespace {

using Case = test::TnoCase;

void expect_reference(const Case& c, const test::Schedule& schedule) {
  test::TnoGraph gated(c, 7);
  test::Values inputs = gated.inputs;
  for (auto& [name, values] : inputs) {
    for (double& value : values) value = ops::round_to(c.dtype, value);
  }
  const test::Values expected = test::run_reference(gated.graph, inputs);
  for (const test::Values& out : test::run_device(gated.graph, inputs, schedule, 3)) {
    for (const std::string& name : gated.results) {
      EXPECT_LE(test::relative_error(out.at(name), expected.at(name)), test::tolerance(c)) << name;
    }
  }
}

class TnoDevice : public testing::TestWithParam<Case> {};

TEST_P(TnoDevice, TheInterpreterAgreesWithTheReference) {
  expect_reference(GetParam(), test::on_device);
}

// One point, one channel, primes, odd channels, more channels and rows than a block has, shared
// coefficients.
INSTANTIATE_TEST_SUITE_P(Small, TnoDevice,
                         testing::Values(Case{{2}, 0, 1, 1, true}, Case{{2}, 0, 1, 4, false},
                                         Case{{}, 0, 2, 3, true}, Case{{3}, 0, 7, 16, true},
                                         Case{{3}, 0, 9, 17, false}, Case{{2, 3}, 1, 5, 6, true},
                                         Case{{2, 3}, 2, 12, 5, false}, Case{{150}, 0, 4, 33, true},
                                         Case{{5}, 0, 13, 1, false}, Case{{700}, 0, 3, 1, false}));
INSTANTIATE_TEST_SUITE_P(Long, TnoDevice,
                         testing::Values(Case{{5}, 0, 64, 20, true}, Case{{2}, 0, 100, 8, false},
                                         Case{{3, 2}, 1, 127, 16, true}, Case{{1}, 0, 251, 1, true},
                                         Case{{2}, 0, 96, 5, true, DType::f16},
                                         Case{{3}, 0, 45, 33, false},
                                         Case{{2}, 0, 300, 9, false, DType::bf16},
                                         Case{{2}, 0, 1100, 4, true}));

// Short sequences of 16-bit types on matrix units: parts of blocks, rows and channels of all kinds.
INSTANTIATE_TEST_SUITE_P(Direct, TnoDevice,
                         testing::Values(Case{{3}, 0, 1, 8, true, DType::f16},
                                         Case{{3}, 0, 20, 9, true, DType::f16},
                                         Case{{11}, 0, 50, 17, false, DType::bf16},
                                         Case{{2, 2}, 1, 64, 16, true, DType::bf16},
                                         Case{{9}, 0, 133, 12, true, DType::f16},
                                         Case{{2}, 0, 256, 8, false, DType::bf16}));
/// The same with tiles for few multiprocessors, which are large, or for many.
class TnoDirect : public testing::TestWithParam<std::pair<Case, std::int64_t>> {};

TEST_P(TnoDirect, TheInterpreterAgreesWithTheReference) {
  const auto& [c, processors] = GetParam();
  expect_reference(c, [&](const Group& group) {
    DeviceOptions options;
    options.processors = processors;
    options.tno_by_products = [](const ir::Node&) { return true; };
    return schedule_device(group, options);
  });
}

// Strips of all heights, diagonals of one tile and of several, ragged ends, full and empty columns,
// parts of sequences beside each other, copies and values that are computed, vectors of results and
// single ones.
INSTANTIATE_TEST_SUITE_P(Tiles, TnoDirect,
                         testing::Values(std::pair{Case{{8}, 0, 257, 8, true, DType::bf16}, 1},
                                         std::pair{Case{{3}, 0, 257, 24, true, DType::f16}, 132},
                                         std::pair{Case{{9}, 0, 300, 8, true, DType::f16}, 2},
                                         std::pair{Case{{8}, 0, 300, 16, false, DType::bf16}, 4},
                                         std::pair{Case{{2, 2}, 1, 320, 9, false, DType::f16}, 1},
                                         std::pair{Case{{3, 2}, 1, 333, 16, true, DType::bf16}, 8},
                                         std::pair{Case{{1}, 0, 1100, 8, true, DType::bf16}, 1},
                                         std::pair{Case{{1}, 0, 700, 8, false, DType::f16}, 132},
                                         std::pair{Case{{2}, 0, 600, 17, true, DType::bf16}, 1},
                                         std::pair{Case{{20}, 0, 260, 8, true, DType::bf16}, 1},
                                         std::pair{Case{{1}, 0, 258, 40, true, DType::f16}, 1000},
                                         std::pair{Case{{4}, 0, 513, 8, false, DType::bf16}, 1},
                                         std::pair{Case{{8}, 0, 1024, 8, true, DType::f16}, 1}));

/// Two sweeps and three, with and without neighbouring points in a block.
TEST(TnoDeviceSweeps, LongLinesGoThroughMemory) {
  expect_reference({{2}, 0, 200, 3, true}, test::on_device_with(1024));
  expect_reference({{3}, 0, 77, 9, false}, test::on_device_with(512));
  expect_reference({{2, 2}, 1, 130, 1, false}, test::on_device_with(512));
  expect_reference({{1}, 0, 600, 2, true}, test::on_device_with(256));
}

/// A channel whose lines fill a block's memory.
TEST(TnoDeviceSweeps, TheLongestLinesOfABlock) {
  expect_reference({{1}, 0, 8300, 1, true}, test::on_device);
}

/// What a block's half warps access together is in banks of its own; single channels of lines that
/// end in two short passes share one in six.
TEST(TnoDeviceBanks, AreNotSharedWithinAnAccess) {
  const std::pair<std::int64_t, std::int64_t> blocks[] = {
      {64, 32},  {64, 8},   {128, 16}, {128, 4},  {256, 16}, {512, 16}, {512, 4},  {1024, 8},
      {1024, 4}, {2048, 4}, {2048, 2}, {4096, 2}, {4096, 1}, {8192, 1}, {16384, 1}};
  for (const auto& [length, channels] : blocks) {
    loop::Kernel kernel;
    loop::Builder builder(kernel);
    const DevicePlan plan = *device_plan(length);
    const DeviceTurns turns(builder, plan, true);
    FourierTile::Extents extents;
    extents.last = plan.levels();
    extents.fast = channels;
    extents.threads = 256;
    const FourierTile tile(builder, plan, turns, extents);
    const FourierTile::Banks banks = tile.banks();
    const std::int64_t shared = plan.levels() > 3 ? banks.accesses / 6 : 0;
    EXPECT_LE(banks.cycles, banks.accesses + shared)
        << length << " points, " << channels << " channels, "
        << fmt::format("{}", fmt::join(plan.radices, " "));
  }
}

/// Where products take less than transforms: not of the longest sequences, the fewest rows or f32.
TEST(TnoDirectChoice, IsByWhatIsFaster) {
  const auto is_direct = [](const Shape& shape, bool causal, DType dtype) {
    ir::Graph graph("tno");
    ops::Builder b(graph, graph.body());
    const std::int64_t n = shape[1];
    const ir::Value x = test::TnoGraph::state(b, "x", {dtype, shape});
    const ir::Value t = test::TnoGraph::state(b, "t", {dtype, {causal ? n : 2 * n - 1, shape[2]}});
    const ir::Value y = b.emit1("tno", {x, t}, {{"causal", causal}});
    return tno_is_direct(*y.node, {});
  };
  for (const std::int64_t n : {64, 256, 512, 1024, 2048, 4096}) {
    EXPECT_TRUE(is_direct({8, n, 512}, true, DType::bf16)) << n;
  }
  EXPECT_TRUE(is_direct({8, 2048, 512}, false, DType::f16));
  EXPECT_FALSE(is_direct({8, 16384, 512}, true, DType::bf16));
  EXPECT_FALSE(is_direct({1, 4096, 512}, true, DType::bf16));
  EXPECT_FALSE(is_direct({8, 1024, 4}, true, DType::bf16));
  EXPECT_FALSE(is_direct({8, 1024, 512}, true, DType::f32));
}

/// Every strip's tiles and rows are all there are, whatever the tiling.
TEST(TnoDirectChoice, TilesCoverTheMatrix) {
  for (const bool causal : {true, false}) {
    for (const std::int64_t n : {1, 63, 64, 65, 300, 1000}) {
      ir::Graph graph("tno");
      ops::Builder b(graph, graph.body());
      const ir::Value x = test::TnoGraph::state(b, "x", {DType::f16, {3, n, 16}});
      const ir::Value t = test::TnoGraph::state(b, "t", {DType::f16, {causal ? n : 2 * n - 1, 16}});
      const TnoExtents e(*b.emit1("tno", {x, t}, {{"causal", causal}}).node);
      for (const std::int64_t processors : {1, 20, 132, 5000}) {
        const TnoTiling tiling = tno_tiling(e, processors, true);
        EXPECT_GE(tiling.strips(e) * tiling.rows * tiling.shifts, n);
        EXPECT_LE(tiling.batch() * tiling.shifts, TnoTiling::columns);
        const std::int64_t last = tiling.strips(e) - 1;
        EXPECT_GE(tiling.tiles(e, last) * tiling.points, n);
        EXPECT_GT(tno_cycles(e, tiling, processors), 0);
      }
    }
  }
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// What each phase of the operator or its gradients takes, as the log says it.
void expect_no_spills(const char* op, std::int64_t n, std::int64_t d, DType dtype,
                      bool by_products = false) {
  ir::Graph graph("tno");
  ops::Builder b(graph, graph.body());
  const Type type{dtype, {8, n, d}};
  const ir::Value x = test::TnoGraph::state(b, "x", type);
  const ir::Value g = test::TnoGraph::state(b, "g", type);
  const ir::Value t = test::TnoGraph::state(b, "t", {dtype, {n, d}});
  if (std::string_view(op) == "tno") {
    const ir::Value y = b.emit1("tno", {x, t}, {{"causal", true}});
    b.emit(ops::op("state_write"), {ops::mul(b, g, y)}, {{"name", std::string("y")}});
  } else if (std::string_view(op) == "tno_gradient_x") {
    const ir::Value gated = ops::mul(b, g, x);
    const ir::Value y = b.emit1("tno_gradient_x", {gated, t}, {{"causal", true}});
    b.emit(ops::op("state_write"), {y}, {{"name", std::string("y")}});
  } else {
    ir::Node* both = b.emit(ops::op(op), {x, t, g}, {{"causal", true}});
    b.emit(ops::op("state_write"), {both->result(0)}, {{"name", std::string("gx")}});
    b.emit(ops::op("state_write"), {both->result(1)}, {{"name", std::string("gt")}});
  }
  const FusedGraph fused = fuse(graph);
  ASSERT_EQ(fused.groups.size(), 1U);
  for (const char* processor : {"sm_80", "sm_90a"}) {
    DeviceOptions options;
    if (by_products) options.tno_by_products = [](const ir::Node&) { return true; };
    const test::Assembled made = test::assembled(fused.groups[0], processor, options);
    if (made.said.empty()) return;
    std::string threads;
    for (const loop::Phase& phase : made.scheduled.kernel->phases) {
      threads += fmt::format(" {} x {}", phase.grid, phase.threads);
    }
    fmt::print(
        "{} n {} d {} {} {}: {} registers; blocks and threads{}; {} bytes of shared memory\n", op,
        n, d, name(dtype), processor, made.registers(), threads, made.code.shared_bytes);
    EXPECT_FALSE(has(made.code.ptx, ".local")) << op << " " << n << " " << d;
  }
}

TEST(TnoDevicePtx, NothingOfProductsIsSpilled) {
  for (const std::int64_t n : {512, 1024, 2048, 4096}) {
    expect_no_spills("tno", n, 512, DType::bf16, true);
    expect_no_spills("tno", n, 64, DType::f16, true);
    expect_no_spills("tno_gradient_x", n, 512, DType::bf16, true);
    expect_no_spills("tno_gradients", n, 512, DType::bf16, true);
  }
}

TEST(TnoDevicePtx, NothingIsSpilled) {
  expect_no_spills("tno", 64, 512, DType::bf16);
  expect_no_spills("tno", 256, 64, DType::bf16);
  expect_no_spills("tno", 1024, 64, DType::f32);
  expect_no_spills("tno", 4096, 512, DType::f32);
  expect_no_spills("tno", 16384, 64, DType::bf16);
  expect_no_spills("tno_gradients", 2048, 512, DType::f32);
  expect_no_spills("tno_gradients", 4096, 512, DType::f32);
  expect_no_spills("tno_gradients", 16384, 64, DType::bf16);
}

}  // namespace
}  // namespace weft::compiler
