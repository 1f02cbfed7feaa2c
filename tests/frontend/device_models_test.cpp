#include <fmt/format.h>
#include <gtest/gtest.h>
#include <weft/nn.h>
#include <weft/optim.h>
#include <weft/weft.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "compiler/fusion/fuse.h"
#include "compiler/schedules/schedule.h"
#include "runtime/plan/error.h"
#include "tests/compiler/ptxas.h"

// Training steps of the language models at the benchmarks' widths, as kernels for a GPU: which of
// them have no schedule yet, and that the others' code keeps its values in registers.
namespace weft {
namespace {

using Body = std::function<Tensor(const Tensor& ids)>;

constexpr std::int64_t vocabulary = 1000;
constexpr std::int64_t length = 512;

/// A step with AdamW and clipping.
ir::Graph training_step(const std::function<Body()>& make) {
  State state;
  const Program program = trace(state, [&] {
    const Body model = make();
    optim::AdamW adam({.lr = optim::cosine(1e-3, 100, 10, 1e-4), .weight_decay = 0.01});
    frontend::loop(3, [&](Tensor) {
      const Tensor tokens = feeder("tokens", {4, length + 1}, DType::i32,
                                   [](std::int64_t, std::span<std::int32_t>) {});
      const Tensor loss =
          cross_entropy(model(slice(tokens, 1, 0, length)), slice(tokens, 1, 1, length + 1));
      backward(loss);
      optim::clip_grad_norm(1);
      adam.step();
      adam.zero_grad();
      receiver("loss", {loss}, [](std::int64_t, const std::vector<HostTensor>&) {});
    });
  });
  return program.graph().clone();
}

/// Schedules and assembles every kernel; `missing` are anchors that may have no schedule.
void check_kernels(const ir::Graph& traced, const std::string& processor,
                   std::optional<DType> autocast, const std::set<std::string>& missing) {
  compiler::CompileOptions options;
  options.gpu = processor;
  options.autocast = autocast;
  options.generate_code = false;
  ir::Graph graph;
  options.after_pass = [&](std::string_view, const ir::Graph& passed, double) {
    graph = passed.clone();
  };
  try {
    compiler::compile(traced, options);
  } catch (const Error&) {
    // A schedule is missing: found again below.
    EXPECT_FALSE(missing.empty());
  }
  graph = graph.clone();
  const compiler::FusedGraph fused = compiler::fuse(graph);
  compiler::DeviceOptions device;
  device.target = compiler::device_target(processor);
  std::map<std::string, std::string> names;  // of kernels, by canonical form
  std::vector<std::string> modules;
  std::map<std::string, int> without;
  for (const compiler::Group& group : fused.groups) {
    compiler::ScheduledKernel scheduled;
    try {
      scheduled = compiler::schedule_device(group, device);
    } catch (const Error& error) {
      const std::string op(group.anchor == nullptr ? "pointwise" : group.anchor->op->name);
      ++without[op];
      EXPECT_TRUE(missing.contains(op)) << error.what();
      continue;
    }
    const auto [entry, added] =
        names.emplace(loop::canonical(*scheduled.kernel), fmt::format("kernel{}", names.size()));
    if (!added) continue;
    const compiler::GeneratedDeviceCode code =
        compiler::generate_device(*scheduled.kernel, entry->second, device.target);
    EXPECT_LE(code.shared_bytes, device.shared_bytes()) << group.name;
    modules.push_back("// " + group.name + "\n" + code.ptx);
    std::cout << entry->second << " " << group.name << ", " << code.shared_bytes
              << " bytes shared\n";
  }
  const std::string said = test::assemble(modules, processor);
  EXPECT_TRUE(test::spills(said).empty()) << fmt::format("{}", fmt::join(test::spills(said), "\n"));
  for (const auto& [op, count] : without) {
    std::cout << "no schedule yet: " << op << ", " << count << " kernels\n";
  }
  std::cout << modules.size() << " distinct kernels of " << fused.groups.size() << "\n";
}

TEST(DeviceModels, Transformer) {
  const ir::Graph graph = training_step([] {
    nn::TransformerLmOptions options;
    options.vocabulary = vocabulary;
    options.width = 256;
    options.layers = 1;
    options.max_length = length;
    options.block.heads = 4;
    options.block.hidden = 1024;
    return Body(nn::TransformerLm("", options));
  });
  check_kernels(graph, "sm_90a", DType::bf16, {});
}

TEST(DeviceModels, Toeplitz) {
  const ir::Graph graph = training_step([] {
    nn::TnnLmOptions options;
    options.vocabulary = vocabulary;
    options.width = 256;
    options.layers = 1;
    options.layer.gtu.tno.use_decay = true;
    return Body(nn::TnnLm("", options));
  });
  check_kernels(
      graph, "sm_80", std::nullopt,
      {"tno", "tno_gradient_x", "tno_gradient_t", "tno_gradients", "rfft", "irfft", "cumsum"});
}

}  // namespace
}  // namespace weft
