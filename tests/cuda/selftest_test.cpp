// Cases of `weft selftest --device cuda`, on the stand-in: how they reach a device and what they
// say.
#include "tools/selftest/cases.h"

#include <fmt/format.h>

#include "compiler/loop/kernel.h"
#include "fixture.h"
#include "interpreted.h"

namespace weft::runtime::testing {
namespace {

class CudaSelftest : public Gpu, public ::testing::WithParamInterface<KernelsOfPrograms::Hook> {
 protected:
  static std::vector<std::string> run(const std::string& name) {
    const selftest::Target target = selftest::find_target("cuda");
    for (const selftest::Case& one : selftest::cases(target, {})) {
      if (one.name == name) return selftest::run_case(one);
    }
    return {"there is no case " + name};
  }
  KernelsOfPrograms kernels_{GetParam()};
};

TEST_P(CudaSelftest, Passes) {
  for (const char* name :
       {"op/relu", "op/sub", "op/reshape/loop", "products/f32_tt", "training/perceptron"}) {
    EXPECT_EQ(run(name), std::vector<std::string>()) << name;
  }
}

TEST_P(CudaSelftest, ADeviceThatIsWrongIsFound) {
  detail::load_hook() = [](const compiler::Compilation& compilation) {
    GetParam()(compilation);
    // The last kernel's work is left out.
    const plan::Kernel& last = compilation.plan.kernels.back();
    const loop::Kernel& kernel = *compilation.loop_kernels.back();
    std::vector<stand_in::Access> accesses(kernel.arguments.size(), stand_in::reads(0));
    for (const plan::Phase& phase : last.phases) {
      stand_in::add_kernel(phase.symbol, accesses, [](const stand_in::Call&) {});
    }
  };
  for (const char* name : {"op/relu", "op/sub", "training/perceptron"}) {
    EXPECT_FALSE(run(name).empty()) << name;
  }
}

TEST_P(CudaSelftest, AnErrorOfTheDriverIsALine) {
  stand_in::fail("cuStreamSynchronize", 3, CUDA_ERROR_ILLEGAL_ADDRESS);
  const std::vector<std::string> lines = run("op/relu");
  ASSERT_FALSE(lines.empty());
  EXPECT_NE(lines[0].find("CUDA_ERROR_ILLEGAL_ADDRESS"), std::string::npos) << lines[0];
}

INSTANTIATE_TEST_SUITE_P(Kernels, CudaSelftest,
                         ::testing::Values(interpret_on_stand_in, emulate_on_stand_in),
                         [](const auto& one) {
                           return one.param == interpret_on_stand_in ? "Interpreted" : "Emulated";
                         });

}  // namespace
}  // namespace weft::runtime::testing
