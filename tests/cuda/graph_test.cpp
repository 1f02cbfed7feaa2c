#include "runtime/plan/transform.h"
#include "training.h"

// The edges of a plan's graphs: what depends on each other has them, what does not has none.
namespace weft::runtime::testing {
namespace {

using stand_in::Call;
using stand_in::changes;
using stand_in::reads;
using stand_in::writes;

constexpr std::int64_t n = 16;
constexpr std::int64_t bytes = 8 * n;
const Type numbers{DType::i64, {n}};

/// "add <- 0 1" for each node.
std::vector<std::string> edges() {
  std::vector<std::string> lines;
  for (const stand_in::GraphNode& node : stand_in::last_graph()) {
    lines.push_back(node.name + " <-");
    for (const std::size_t other : node.after) lines.back() += " " + std::to_string(other);
  }
  return lines;
}
using Lines = std::vector<std::string>;

/// Plans of sums of vectors, started with ones in the state "x"; each ends in the state "y".
struct Vectors {
  GpuPlan b;
  State state;
  std::uint32_t x, y, add, twice;

  Vectors() : x(b.state("x", numbers)), y(b.state("y", numbers)) {
    add = b.kernel("add", {reads(bytes), reads(bytes), writes(bytes)}, [](const Call& call) {
      for (std::int64_t i = 0; i < n; ++i) {
        call.pointer<std::int64_t>(2)[i] =
            call.pointer<std::int64_t>(0)[i] + call.pointer<std::int64_t>(1)[i];
      }
    });
    twice = b.kernel("twice", {reads(bytes), writes(bytes)}, [](const Call& call) {
      for (std::int64_t i = 0; i < n; ++i) {
        call.pointer<std::int64_t>(1)[i] = 2 * call.pointer<std::int64_t>(0)[i];
      }
    });
    state.add("x", numbers);
    state.add("y", numbers);
    for (std::int64_t& value : state.data<std::int64_t>("x")) value = 1;
  }
  std::uint32_t vector() { return b.arena(numbers); }
  /// Every element of y after some runs.
  std::int64_t run(int times = 1) {
    Executable executable = b.executable();
    executable.bind(state);
    for (int i = 0; i < times; ++i) executable.run();
    const auto all = state.data<std::int64_t>("y");
    for (const std::int64_t element : all) EXPECT_EQ(element, all[0]);
    return all[0];
  }
};

class CudaGraph : public Gpu {};

TEST_F(CudaGraph, IndependentKernelsHaveNoEdge) {
  Vectors v;
  const auto p = v.vector();
  const auto q = v.vector();
  v.b.plan.steps = {launch(v.twice, {v.x, p}), launch(v.add, {v.x, v.x, q}),
                    launch(v.add, {p, q, v.y})};
  EXPECT_EQ(v.run(), 4);
  EXPECT_EQ(edges(), (Lines{"twice <-", "add <-", "add <- 0 1"}));
}

TEST_F(CudaGraph, AWriteWaitsForReadsOfWhatItReplaces) {
  Vectors v;
  const auto p = v.vector();
  const auto q = v.vector();
  v.b.plan.steps = {launch(v.twice, {v.x, p}), launch(v.twice, {p, q}),
                    // Over what the kernel before reads.
                    launch(v.twice, {v.x, p}), launch(v.add, {p, q, v.y}),
                    // And over the operand of all.
                    copy(v.y, v.x)};
  EXPECT_EQ(v.run(2), 36);
  EXPECT_EQ(edges(), (Lines{"twice <-", "twice <- 0", "twice <- 1", "add <- 2", "copy <- 3"}));
}

TEST_F(CudaGraph, ReusedMemoryOfTheArena) {
  Vectors v;
  // Two vectors in memory that a longer one had.
  const Type longer{DType::i64, {2 * n}};
  const auto both = v.b.arena(longer);
  const auto first = v.vector();
  const auto second = v.vector();
  v.b.plan.buffers[first].offset = v.b.plan.buffers[both].offset;
  v.b.plan.buffers[second].offset = v.b.plan.buffers[both].offset + bytes;
  const auto other = v.vector();
  const auto spread = v.b.kernel("spread", {reads(bytes), writes(2 * bytes)}, [](const Call& call) {
    for (std::int64_t i = 0; i < 2 * n; ++i) {
      call.pointer<std::int64_t>(1)[i] = call.pointer<std::int64_t>(0)[i % n];
    }
  });
  const auto fold = v.b.kernel("fold", {reads(2 * bytes), writes(bytes)}, [](const Call& call) {
    for (std::int64_t i = 0; i < n; ++i) {
      call.pointer<std::int64_t>(1)[i] =
          call.pointer<std::int64_t>(0)[i] + call.pointer<std::int64_t>(0)[i + n];
    }
  });
  v.b.plan.steps = {launch(spread, {v.x, both}),           launch(fold, {both, other}),
                    launch(v.twice, {v.x, first}),         launch(v.add, {v.x, v.x, second}),
                    launch(v.add, {first, second, first}), launch(v.add, {first, other, v.y})};
  EXPECT_EQ(v.run(3), 6);
  EXPECT_EQ(edges(),
            (Lines{"spread <-", "fold <- 0", "twice <- 1", "add <- 1", "add <- 2 3", "add <- 4"}));
}

TEST_F(CudaGraph, AChainStaysAChain) {
  Vectors v;
  const auto p = v.vector();
  const auto q = v.vector();
  v.b.plan.steps = {launch(v.twice, {v.x, p}), launch(v.add, {v.x, p, q}),
                    launch(v.add, {p, q, v.y}), launch(v.add, {v.y, p, v.y})};
  EXPECT_EQ(v.run(), 7);
  EXPECT_EQ(edges(), (Lines{"twice <-", "add <- 0", "add <- 1", "add <- 2"}));
}

/// A kernel's phases are nodes like others: where the plan says that they have nothing to do with
/// each other they run side by side, and a reader waits for the one that wrote.
TEST_F(CudaGraph, PhasesOfAKernel) {
  Vectors v;
  const auto p = v.vector();
  const auto q = v.vector();
  const auto double_to = [](std::size_t argument) {
    return [argument](const Call& call) {
      for (std::int64_t i = 0; i < n; ++i) {
        call.pointer<std::int64_t>(argument)[i] = 2 * call.pointer<std::int64_t>(0)[i];
      }
    };
  };
  const auto pair =
      v.b.kernel("left", {reads(bytes), writes(bytes), stand_in::number()}, double_to(1));
  const auto right =
      v.b.kernel("right", {reads(bytes), stand_in::number(), writes(bytes)}, double_to(2));
  plan::Kernel& kernel = v.b.plan.kernels[pair];
  kernel.phases.push_back(v.b.plan.kernels[right].phases[0]);
  // One object has the code of both.
  std::string& code = v.b.plan.objects[kernel.object].bytes;
  const std::string& more = v.b.plan.objects[v.b.plan.kernels[right].object].bytes;
  code += more.substr(more.find(".visible"));
  v.b.plan.steps = {launch(pair, {v.x, p, q}), launch(v.add, {q, q, q}), launch(v.twice, {p, p}),
                    launch(v.add, {p, q, v.y})};
  EXPECT_EQ(v.run(), 8);
  EXPECT_EQ(edges(), (Lines{"left <-", "right <-", "add <- 1", "twice <- 0", "add <- 2 3"}));
  // Of what it does not say the worst is taken.
  for (plan::Phase& phase : v.b.plan.kernels[pair].phases) phase.accesses.resize(1);
  EXPECT_EQ(v.run(), 8);
  EXPECT_EQ(edges(), (Lines{"left <-", "right <- 0", "add <- 1", "twice <- 1", "add <- 2 3"}));
}

TEST_F(CudaGraph, ManyBeforeManyMeetInOneNode) {
  Vectors v;
  constexpr std::size_t width = 6;
  std::vector<std::uint32_t> parts;
  std::vector<stand_in::Access> accesses;
  for (std::size_t i = 0; i < width; ++i) {
    parts.push_back(v.vector());
    accesses.push_back(reads(bytes));
  }
  accesses.push_back(writes(bytes));
  const auto sum = v.b.kernel("sum", accesses, [](const Call& call) {
    for (std::int64_t i = 0; i < n; ++i) {
      std::int64_t total = 0;
      for (std::size_t k = 0; k < width; ++k) total += call.pointer<std::int64_t>(k)[i];
      call.pointer<std::int64_t>(width)[i] = total;
    }
  });
  for (const std::uint32_t part : parts) v.b.plan.steps.push_back(launch(v.twice, {v.x, part}));
  std::vector<std::uint32_t> sums;
  std::vector<plan::Step> side_by_side;
  for (std::size_t i = 0; i < width; ++i) {
    sums.push_back(v.vector());
    std::vector<std::uint32_t> buffers = parts;
    buffers.push_back(sums.back());
    side_by_side.push_back(launch(sum, buffers));
  }
  v.b.plan.steps.push_back(together(side_by_side));
  sums.push_back(v.y);
  v.b.plan.steps.push_back(launch(sum, sums));
  EXPECT_EQ(v.run(2), 72);
  const Lines found = edges();
  ASSERT_EQ(found.size(), 2 * width + 2);
  EXPECT_EQ(found[6], "sum <- 0 1 2 3 4 5");
  EXPECT_EQ(found[7], "empty node <- 0 1 2 3 4 5");
  for (std::size_t i = 8; i < 13; ++i) EXPECT_EQ(found[i], "sum <- 7");
  EXPECT_EQ(found[13], "sum <- 6 8 9 10 11 12");
}

TEST_F(CudaGraph, UnrolledLoopsAndTheirIndices) {
  Vectors v;
  const auto index = v.b.arena(i64_scalar);
  const auto p = v.vector();
  const auto add_index = v.b.kernel("add_index", {reads(8), changes(bytes)}, [](const Call& call) {
    for (std::int64_t i = 0; i < n; ++i) {
      call.pointer<std::int64_t>(1)[i] += *call.pointer<std::int64_t>(0);
    }
  });
  // Two loops, so that none is the run's own and both are unrolled.
  v.b.plan.steps = {copy(v.x, v.y), loop(index, 2, {launch(add_index, {index, v.y})}),
                    loop(index, 1, {launch(v.twice, {v.x, p})}), launch(v.add, {p, v.y, v.y})};
  EXPECT_EQ(v.run(2), 4);
  EXPECT_EQ(edges(), (Lines{"copy <-", "weft_set_index <-", "add_index <- 0 1",
                            "weft_set_index <- 2", "add_index <- 3", "twice <-", "add <- 4 5"}));
}

TEST_F(CudaGraph, IterationsOfOneGraph) {
  Vectors v;
  const auto index = v.b.arena(i64_scalar);
  const auto p = v.vector();
  const auto q = v.vector();
  v.b.plan.steps = {
      loop(index, 63,
           {launch(v.twice, {v.x, p}), launch(v.twice, {v.x, q}), launch(v.add, {p, q, v.y})})};
  EXPECT_EQ(v.run(2), 4);
  const Lines found = edges();
  ASSERT_GE(found.size(), 9U);
  const Lines begin(found.begin(), found.begin() + 9);
  EXPECT_EQ(begin, (Lines{"twice <-", "twice <-", "add <- 0 1", "twice <- 2", "twice <- 2",
                          "add <- 3 4", "twice <- 5", "twice <- 5", "add <- 6 7"}));
}

TEST_F(CudaGraph, CopiesOfTransfers) {
  Training training(5);
  Executable executable = training.executable({});
  Seen seen;
  seen.watch(executable);
  executable.run();
  EXPECT_EQ(training.sum(), sum_below(5));
  // From the feeder's slot, the sum, and both tensors to the receiver's.
  EXPECT_EQ(edges(), (Lines{"copy <-", "accumulate <- 0", "copy <- 1", "copy <- 0"}));
}

/// What the library has no memory for at one time does not run at one time.
TEST_F(CudaGraph, TransformsShareTheirWorkspace) {
  GpuPlan b;
  plan::Transform transform;
  transform.length = 7;
  transform.lines = 2;
  transform.from = {0, 0, 2, 1, 0};
  transform.to = {1, 0, 2, 1, 0};
  const Type type{DType::c64, {7, 2}};
  plan::Kernel kernel;
  kernel.name = "fft.1";
  kernel.kind = "fft";
  kernel.phases.push_back({.symbol = "", .transform = transform});
  b.plan.objects.push_back({ptx("unused", 1)});
  b.plan.kernels.push_back(kernel);
  const auto x = b.state("x", type);
  const auto y = b.state("y", type);
  const auto z = b.state("z", type);
  b.plan.steps = {together({launch(0, {x, y}), launch(0, {x, z})})};
  State state;
  for (const char* name : {"x", "y", "z"}) state.add(name, type);
  state.set_values("x", std::vector<double>(28, 0.5));
  Executable executable = b.executable();
  executable.bind(state);
  executable.run();
  executable.run();
  EXPECT_NEAR(state.values("y")[0], 3.5, 7 * 0x1p-24);
  EXPECT_EQ(state.values("z"), state.values("y"));
  EXPECT_EQ(edges(), (Lines{"child graph <-", "child graph <- 0"}));
}

/// The check of edges is not to be trusted blindly: here a plan says of a kernel that it reads
/// only.
TEST_F(CudaGraph, APlanThatIsWrongAboutAKernelIsFoundOut) {
  Vectors v;
  v.b.plan.kernels[v.twice].phases[0].accesses[1] = {true, false};
  const auto p = v.vector();
  v.b.plan.steps = {launch(v.twice, {v.x, p}), launch(v.add, {p, v.x, v.y})};
  Executable executable = v.b.executable();
  executable.bind(v.state);
  executable.run();
  EXPECT_EQ(stand_in::violations(),
            Lines{"graph: add is not ordered after twice, which touches the same memory"});
  stand_in::reset();
}

TEST_F(CudaGraph, PlansThatSayWhatCannotBe) {
  Vectors v;
  const auto c = v.b.constant(numbers, std::vector<std::int64_t>(n, 1));
  v.b.plan.steps = {launch(v.twice, {v.x, c})};
  EXPECT_EQ(error_of([&] { v.b.executable(); }),
            "plan \"test\": step 0: writes to buffer 2, which is a constant");
  v.b.plan.steps = {launch(v.twice, {v.x})};
  EXPECT_EQ(error_of([&] { v.b.executable(); }),
            "plan \"test\": step 0: phase twice says how it uses 2 arguments; it has 1");
}

}  // namespace
}  // namespace weft::runtime::testing
