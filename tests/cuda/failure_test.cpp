#include "training.h"

namespace weft::runtime::testing {
namespace {

enum class Mode { threads, synchronous, profiling };

/// Runs that use all that there is; returns the state's sum, or throws.
std::int64_t scenario(Mode mode) {
  // Long enough to be counted by the host, but where each launch is made alone.
  const std::int64_t inner_count = mode == Mode::profiling ? 3 : 600;
  Training training(6, 2);
  plan::Plan& plan = training.b.plan;
  const auto index = training.b.arena(i64_scalar);
  const auto inner = training.b.arena(i64_scalar);
  const auto rate = training.b.scalar("rate", 1);
  const auto copied = training.b.arena({DType::f32, {}});
  const auto note = training.b.kernel(
      "note", {stand_in::reads(8), stand_in::changes(8)},
      [](const stand_in::Call& call) {
        *call.pointer<std::int64_t>(1) += *call.pointer<std::int64_t>(0);
      },
      1, 32, 60000);
  const auto mapped = training.b.kernel("mapped", {stand_in::reads(16), stand_in::changes(8)},
                                        [](const stand_in::Call&) {}, 1, 32, 0,
                                        {{0, 0, DType::i64, {2}, {}, {2}, false}});
  const auto pair = training.b.arena({DType::i64, {2}});
  const auto count = training.b.state("count", i64_scalar);
  training.state.add("count", i64_scalar);
  std::vector<plan::Step>& body = plan.steps[0].body;
  body.insert(body.begin() + 1, together({launch(note, {inner, count}), body[1]}));
  body.insert(body.begin() + 1,
              together({launch(note, {index, index}), launch(note, {inner, inner})}));
  body.push_back(loop(inner, inner_count, {launch(note, {inner, count})}));
  body.push_back(copy(rate, copied));
  body.push_back(launch(mapped, {pair, inner}));
  plan.steps[0].buffers[0] = index;
  Executable executable = training.executable({.synchronous = mode == Mode::synchronous});
  Seen seen;
  seen.watch(executable);
  executable.set_scalar("rate", 2);
  executable.run(0, 3);
  executable.set_profiling(mode == Mode::profiling);
  executable.run(3, 6);
  EXPECT_EQ(seen.received, range(0, 6, 2));
  return training.sum();
}

class CudaFailure : public Gpu, public ::testing::WithParamInterface<Mode> {
 protected:
  /// Runs the scenario with the kth call of an entry point failing.
  static std::string run(const std::string& entry, int k) {
    stand_in::reset();
    add_own_kernels();
    stand_in::fail(entry, k, CUDA_ERROR_ILLEGAL_ADDRESS);
    const std::string message = error_of([] { scenario(GetParam()); });
    EXPECT_EQ(stand_in::violations(), std::vector<std::string>()) << entry << " " << k;
    EXPECT_EQ(stand_in::alive(), std::vector<std::string>()) << entry << " " << k;
    return message;
  }
};

/// Every call that can fail does so once: an Error comes out that has the driver's words, and
/// nothing is left behind.
TEST_P(CudaFailure, OfEachCallOnce) {
  EXPECT_EQ(scenario(GetParam()), 2 * sum_below(6));
  ASSERT_EQ(stand_in::violations(), std::vector<std::string>());
  std::map<std::string, int> calls;
  for (const std::string& entry : stand_in::called()) calls[entry] = stand_in::calls(entry);
  // The driver is loaded once for the process, and who releases has nobody to tell.
  const auto left_out = [](const std::string& entry) {
    for (const char* part : {"Init", "DriverGet", "GetError", "DeviceGetCount", "Free", "Destroy",
                             "Unload", "Release", "CtxPop"}) {
      if (entry.find(part) != std::string::npos) return true;
    }
    // Destructors enter the context as well; see below.
    return entry == "cuCtxPushCurrent";
  };
  int entries = 0;
  for (const auto& [entry, count] : calls) {
    if (left_out(entry)) continue;
    ++entries;
    // Of what happens in every iteration, the first few and the last.
    for (int k = 1; k <= count; k = k < 6 || k == count ? k + 1 : count) {
      const std::string message = run(entry, k);
      // How often threads find a snapshot to use again is a matter of their pace.
      if (message.empty() && stand_in::calls(entry) < k) continue;
      EXPECT_NE(message.find("CUDA: "), std::string::npos) << entry << " " << k;
      EXPECT_NE(message.find("CUDA_ERROR_ILLEGAL_ADDRESS"), std::string::npos) << entry << " " << k;
    }
  }
  EXPECT_GE(entries, 20);
}

TEST_P(CudaFailure, OfWhatReleasesIsPassedOver) {
  for (const char* entry :
       {"cuMemFree", "cuMemFreeHost", "cuStreamDestroy", "cuEventDestroy", "cuModuleUnload",
        "cuGraphDestroy", "cuGraphExecDestroy", "cuDevicePrimaryCtxRelease", "cuCtxPopCurrent"}) {
    EXPECT_EQ(run(entry, 1), "") << entry;
    EXPECT_GE(stand_in::calls(entry), 1) << entry;
  }
}

TEST_P(CudaFailure, OfTheContext) {
  EXPECT_NE(run("cuCtxPushCurrent", 1).find("entering the context of Stand-in"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(All, CudaFailure,
                         ::testing::Values(Mode::threads, Mode::synchronous, Mode::profiling),
                         [](const auto& information) {
                           return information.param == Mode::threads       ? "Threads"
                                  : information.param == Mode::synchronous ? "Synchronous"
                                                                           : "Profiling";
                         });

}  // namespace
}  // namespace weft::runtime::testing
