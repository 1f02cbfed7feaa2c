#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "stand_in/stand_in.h"
#include "tests/runtime/fake.h"

/// Plans for a GPU, written by hand, whose kernels are functions of the test.
namespace weft::runtime::testing {

/// Parameters only: what a kernel does is the stand-in's affair.
inline std::string ptx(const std::string& name, std::size_t arguments, std::size_t maps = 0) {
  std::string text =
      ".version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry " + name + "(\n";
  for (std::size_t i = 0; i < arguments; ++i) {
    text += (i == 0 ? "" : ",\n") + std::string("  .param .u64 argument") + std::to_string(i);
  }
  for (std::size_t i = 0; i < maps; ++i) {
    text += (arguments + i == 0 ? "" : ",\n") + std::string("  .param .align 64 .b8 map") +
            std::to_string(i) + "[128]";
  }
  return text + "\n)\n{\n  ret;\n}\n";
}

using KernelFunction = std::function<void(const stand_in::Call&)>;

struct GpuPlan : PlanBuilder {
  GpuPlan() { plan.target = "nvptx64/sm_90a"; }

  std::uint32_t kernel(const std::string& name, std::vector<stand_in::Access> arguments,
                       KernelFunction function, std::int64_t grid = 1, std::int64_t threads = 32,
                       std::int64_t shared_bytes = 0, std::vector<plan::TensorMap> maps = {}) {
    plan::Kernel made;
    made.name = name;
    made.kind = "elw";
    made.object = static_cast<std::uint32_t>(plan.objects.size());
    made.phases.push_back({name, grid, threads, shared_bytes});
    for (const stand_in::Access& access : arguments) {
      made.phases.back().accesses.push_back({access.reads, access.writes});
    }
    plan.objects.push_back({ptx(name, arguments.size(), maps.size())});
    made.tensor_maps = std::move(maps);
    plan.kernels.push_back(made);
    stand_in::add_kernel(name, std::move(arguments), std::move(function));
    return static_cast<std::uint32_t>(plan.kernels.size() - 1);
  }
  Executable executable(RunOptions options = {}) const { return Executable(plan, options); }
};

inline plan::Step together(std::vector<plan::Step> launches) {
  plan::Step made = step(plan::StepKind::together, 0, {});
  made.body = std::move(launches);
  return made;
}

/// Loads the stand-in, and asks in the end what it saw.
class Gpu : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(setenv("WEFT_CUDA_DRIVER", WEFT_STAND_IN, 1), 0);
    ASSERT_EQ(setenv("WEFT_CUFFT", WEFT_FOURIER, 1), 0);
    stand_in::reset();
    stand_in::settings() = {};
    add_own_kernels();
  }
  void TearDown() override {
    EXPECT_EQ(stand_in::violations(), std::vector<std::string>());
    EXPECT_EQ(stand_in::alive(), std::vector<std::string>());
    stand_in::reset();
  }
  /// What the runtime's own PTX does.
  static void add_own_kernels() {
    stand_in::add_kernel("weft_set_index", {stand_in::writes(8), stand_in::number()},
                         [](const stand_in::Call& call) {
                           *call.pointer<std::int64_t>(0) =
                               static_cast<std::int64_t>(call.arguments[1]);
                         });
    stand_in::add_kernel("weft_next_index", {stand_in::changes(8), stand_in::writes(8)},
                         [](const stand_in::Call& call) {
                           *call.pointer<std::int64_t>(1) = (*call.pointer<std::int64_t>(0))++;
                         });
  }
};

}  // namespace weft::runtime::testing
