// Which of two ways a device computes an operation faster: measured once for a shape.
#include <weft/weft.h>

#include <algorithm>
#include <cmath>

#include "fixture.h"
#include "frontend/measured_choice.h"
#include "interpreted.h"
#include "ops/build.h"
#include "tests/temporary_folder.h"

namespace weft::test {
namespace {

using runtime::testing::emulate_on_stand_in;
using runtime::testing::Gpu;
using runtime::testing::KernelsOfPrograms;

class Choice : public Gpu {
 protected:
  Choice() : graph_("choice") {
    ops::Builder b(graph_, graph_.body());
    const auto state = [&](const char* name, const Shape& shape) {
      return b.emit1("state", {},
                     {{"name", std::string(name)},
                      {"dtype", DType::bf16},
                      {"shape", std::vector<std::int64_t>(shape.begin(), shape.end())}});
    };
    tno_ = b.emit1("tno", {state("x", {2, 48, 16}), state("t", {48, 16})}, {{"causal", true}}).node;
  }

  detail::Device device() const { return detail::find_device("cuda"); }
  std::shared_ptr<detail::KernelCache> cache() const {
    return std::make_shared<detail::KernelCache>(
        runtime::DiskCacheOptions{.folder = folder_.path()});
  }

  KernelsOfPrograms kernels_{emulate_on_stand_in};
  TemporaryFolder folder_;
  ir::Graph graph_;
  ir::Node* tno_ = nullptr;
};

TEST_F(Choice, IsTheWayThatRuns) {
  // Transforms are the first to be measured.
  stand_in::fail("cuModuleLoadDataEx", 1, CUDA_ERROR_INVALID_PTX);
  EXPECT_TRUE(detail::MeasuredChoice(device(), nullptr).prefers_products(*tno_));
  const int modules = stand_in::calls("cuModuleLoadDataEx");
  detail::MeasuredChoice(device(), nullptr).prefers_products(*tno_);
  const int of_one_way = (stand_in::calls("cuModuleLoadDataEx") - modules) / 2;
  stand_in::fail("cuModuleLoadDataEx", of_one_way + 1, CUDA_ERROR_INVALID_PTX);
  EXPECT_FALSE(detail::MeasuredChoice(device(), nullptr).prefers_products(*tno_));
}

TEST_F(Choice, IsMeasuredOnceAndKept) {
  detail::MeasuredChoice first(device(), cache());
  stand_in::fail("cuModuleLoadDataEx", 1, CUDA_ERROR_INVALID_PTX);
  EXPECT_TRUE(first.prefers_products(*tno_));
  const int launches = stand_in::calls("cuGraphLaunch");
  EXPECT_GT(launches, 0);
  EXPECT_TRUE(first.prefers_products(*tno_));
  EXPECT_TRUE(detail::MeasuredChoice(device(), cache()).prefers_products(*tno_));
  EXPECT_EQ(stand_in::calls("cuGraphLaunch"), launches);
  // Of another shape nothing is known.
  tno_->attributes.set("causal", false);
  tno_->operands[1].node->results[0] = {DType::bf16, {95, 16}};
  detail::MeasuredChoice(device(), cache()).prefers_products(*tno_);
  EXPECT_GT(stand_in::calls("cuGraphLaunch"), launches);
}

/// u * tno(v, t) with its gradients, in either way and as measured.
TEST_F(Choice, ToeplitzOperatorsGoAsTheyAreTold) {
  struct Ran {
    std::vector<std::vector<double>> values;
    bool matrix_units = false;
  };
  const auto run = [](const CompileOptions& options) {
    State state;
    const Program program = trace(
        state,
        [] {
          set_seed(3);
          const Tensor u = parameter("u", {2, 48, 16}, init::normal(), DType::bf16);
          const Tensor v = parameter("v", {2, 48, 16}, init::normal(), DType::bf16);
          const Tensor t = parameter("t", {48, 16}, init::normal(), DType::bf16);
          const Tensor z = u * tno(v, t, true);
          const std::vector<Tensor> gradients = grad(z, {v, t});
          assign(weft::state("z", {2, 48, 16}, DType::bf16), z);
          assign(weft::state("gv", {2, 48, 16}, DType::bf16), gradients[0]);
          assign(weft::state("gt", {48, 16}, DType::bf16), gradients[1]);
        },
        "toeplitz");
    Executable executable = program.compile(options);
    executable.run();
    Ran ran;
    for (const char* name : {"z", "gv", "gt"}) ran.values.push_back(state.values(name));
    if (options.keep_assembly) {
      ran.matrix_units = executable.dump("assembly").find("mma.") != std::string::npos;
    }
    return ran;
  };
  const Ran host = run({});
  using Toeplitz = CompileOptions::Toeplitz;
  for (const Toeplitz toeplitz : {Toeplitz::products, Toeplitz::transforms, Toeplitz::measured}) {
    const Ran found = run({.device = "cuda", .toeplitz = toeplitz, .keep_assembly = true});
    if (toeplitz != Toeplitz::measured) {
      EXPECT_EQ(found.matrix_units, toeplitz == Toeplitz::products);
    }
    for (std::size_t i = 0; i < host.values.size(); ++i) {
      double largest = 0;
      for (const double value : host.values[i]) largest = std::max(largest, std::abs(value));
      // Either stores a result once, of operands that are the same but for u * g, stored once.
      const double tolerance = 3 * 0x1p-8 * largest;
      ASSERT_EQ(found.values[i].size(), host.values[i].size());
      for (std::size_t k = 0; k < host.values[i].size(); ++k) {
        ASSERT_NEAR(found.values[i][k], host.values[i][k], tolerance) << i << " at " << k;
      }
    }
  }
}

}  // namespace
}  // namespace weft::test
