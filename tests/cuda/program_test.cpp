// Programs of the front end with device "cuda": the compiler's plans on the runtime for a GPU,
// their kernels by the interpreter of the loop language and by their PTX, against the same programs
// on the host.
#include <weft/weft.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <iostream>
#include <limits>

#include "fixture.h"
#include "interpreted.h"

namespace weft::test {
namespace {

using runtime::testing::emulate_on_stand_in;
using runtime::testing::error_of;
using runtime::testing::Gpu;
using runtime::testing::interpret_on_stand_in;
using runtime::testing::KernelsOfPrograms;

class CudaProgram : public Gpu, public testing::WithParamInterface<KernelsOfPrograms::Hook> {
 protected:
  KernelsOfPrograms kernels_{GetParam()};
};

using Values = std::vector<double>;
using Curve = std::vector<double>;

/// Largest difference over the larger of 1 and the value.
double worst(const Values& given, const Values& expected) {
  if (given.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double largest = 0;
  for (std::size_t i = 0; i < given.size(); ++i) {
    const double difference = std::abs(given[i] - expected[i]);
    // NaN counts as wrong.
    if (!(difference <= largest * std::max(1.0, std::abs(expected[i])))) {
      largest = difference / std::max(1.0, std::abs(expected[i]));
    }
  }
  return largest;
}

/// Both compute with f32 in another order: sums of `terms` products of size 1, `steps` times over.
double tolerance(double terms, double steps) {
  return 4 * std::numeric_limits<float>::epsilon() * terms * steps;
}

constexpr std::int64_t batch = 6;
constexpr std::int64_t inputs = 10;
constexpr std::int64_t hidden = 24;

void fill_inputs(std::int64_t iteration, std::span<float> to) {
  for (std::size_t i = 0; i < to.size(); ++i) {
    to[i] = static_cast<float>(
        std::sin(0.3 * static_cast<double>(iteration) + 0.7 * static_cast<double>(i)));
  }
}

struct Training {
  State state;
  Curve losses;
  std::vector<std::int64_t> seen;

  Program program(std::int64_t steps) {
    return trace(
        state,
        [&, steps] {
          set_seed(7);
          const nn::Sequential model(nn::Linear("hidden", inputs, hidden), weft::tanh,
                                     nn::Linear("out", hidden, 1));
          optim::Adam adam({.lr = 0.01});
          const Tensor noise = scalar("noise", 0.1);
          frontend::loop(steps, [&](Tensor) {
            const Tensor x = feeder("x", {batch, inputs}, DType::f32, fill_inputs);
            const Tensor jitter = noise * random_uniform({batch, inputs});
            const Tensor target = sum(x, {1}, true);
            const Tensor loss = mse_loss(model(x + jitter), target);
            backward(loss);
            optim::clip_grad_norm(1);
            adam.step();
            adam.zero_grad();
            receiver(
                "loss", {loss},
                [this](std::int64_t step, const std::vector<HostTensor>& tensors) {
                  seen.push_back(step);
                  losses.push_back(tensors[0].item());
                },
                2);
          });
        },
        "training");
  }
};

TEST_P(CudaProgram, TrainsAsOnTheHost) {
  constexpr std::int64_t steps = 7;
  Training host;
  host.program(steps).compile().run();
  Training gpu;
  gpu.program(steps).compile({.device = "cuda"}).run();
  EXPECT_EQ(gpu.seen, host.seen);
  EXPECT_LE(worst(gpu.losses, host.losses), tolerance(hidden, steps));
  for (const std::string& name : host.state.names()) {
    // Adam divides by the root of a mean of squares: what is next to 0 is not determined better
    // than by the step's size.
    EXPECT_LE(worst(gpu.state.values(name), host.state.values(name)),
              tolerance(hidden * batch, steps))
        << name;
  }
}

TEST_P(CudaProgram, GoesOnWhereItStopped) {
  Training whole;
  whole.program(6).compile({.device = "cuda"}).run();
  Training parts;
  const Program program = parts.program(6);
  Executable executable = program.compile({.device = "cuda"});
  executable.run(0, 2);
  const Values between = parts.state.values("hidden.weight");
  executable.set_profiling(true);
  executable.run(2, 4);
  EXPECT_NE(executable.dump("kernels").find("GB/s"), std::string::npos);
  executable.set_profiling(false);
  executable.run(4, 6);
  EXPECT_EQ(parts.losses, whole.losses);
  EXPECT_EQ(parts.state.values("hidden.weight"), whole.state.values("hidden.weight"));
  EXPECT_NE(between, whole.state.values("hidden.weight"));
}

TEST_P(CudaProgram, TheHostAndTheGpuTakeTurns) {
  Training both;
  const Program program = both.program(6);
  Executable on_host = program.compile();
  Executable on_gpu = program.compile({.device = "cuda"});
  Training host;
  host.program(6).compile().run();
  for (std::int64_t i = 0; i < 6; ++i) (i % 2 == 0 ? on_gpu : on_host).run(i, i + 1);
  EXPECT_LE(worst(both.losses, host.losses), tolerance(hidden, 6));
}

TEST_P(CudaProgram, ExecutablesShareAState) {
  Training training;
  const Program program = training.program(4);
  double measured = 0;
  const Program evaluation = trace(
      training.state,
      [&] {
        const nn::Sequential model(nn::Linear("hidden", inputs, hidden), weft::tanh,
                                   nn::Linear("out", hidden, 1));
        const Tensor x = constant(Values(static_cast<std::size_t>(inputs), 0.5), {1, inputs});
        receiver("y", {model(x)}, [&](std::int64_t, const std::vector<HostTensor>& tensors) {
          measured = tensors[0].item();
        });
      },
      "evaluation");
  Executable train = program.compile({.device = "cuda"});
  Executable evaluate = evaluation.compile({.device = "cuda"});
  Executable evaluate_on_host = evaluation.compile();
  for (std::int64_t i = 0; i < 4; i += 2) {
    train.run(i, i + 2);
    evaluate.run();
    const double on_gpu = measured;
    evaluate_on_host.run();
    EXPECT_NEAR(on_gpu, measured, tolerance(hidden, 1));
  }
}

constexpr std::int64_t vocabulary = 11;
constexpr std::int64_t sequences = 2;
constexpr std::int64_t length = 12;

void fill_tokens(std::int64_t iteration, std::span<std::int32_t> to) {
  for (std::size_t i = 0; i < to.size(); ++i) {
    to[i] = static_cast<std::int32_t>((i * i + 3 * i + static_cast<std::size_t>(iteration)) %
                                      static_cast<std::size_t>(vocabulary));
  }
}

/// Steps of a language model: whole models, most of whose gradients do not depend on each other.
struct LanguageModel {
  State state;
  Curve losses;

  using Model = std::function<Tensor(const Tensor& tokens)>;
  void train(const std::function<Model()>& make, std::int64_t steps,
             const CompileOptions& options) {
    const Program program = trace(
        state,
        [&] {
          set_seed(5);
          const Model model = make();
          optim::Sgd sgd({.lr = 0.05, .momentum = 0.9});
          frontend::loop(steps, [&](Tensor) {
            const Tensor tokens =
                feeder("tokens", {sequences, length + 1}, DType::i32, fill_tokens);
            const Tensor loss = mean(
                cross_entropy(model(slice(tokens, 1, 0, length)), slice(tokens, 1, 1, length + 1)));
            backward(loss);
            optim::clip_grad_norm(1);
            sgd.step();
            sgd.zero_grad();
            receiver("loss", {loss}, [this](std::int64_t, const std::vector<HostTensor>& tensors) {
              losses.push_back(tensors[0].item());
            });
          });
        },
        "language_model");
    program.compile(options).run();
  }
};

/// Updates of many parameters: of 300 alike, whose arguments fill one launch and begin another, and
/// of a few others.
TEST_P(CudaProgram, EqualKernelsShareLaunches) {
  constexpr int alike = 300;
  constexpr int others = 3;
  const auto run = [](const CompileOptions& options, bool profiled) {
    State state;
    const Program program = trace(
        state,
        [] {
          set_seed(5);
          const auto update = [](const std::string& name, const Shape& shape) {
            const Tensor x = parameter(name, shape, init::normal());
            assign(x, x * 0.75 + tanh(x));
          };
          frontend::loop(2, [&](Tensor) {
            for (int i = 0; i < alike; ++i) update("a" + std::to_string(i), {3, 16});
            for (int i = 0; i < others; ++i) update("b" + std::to_string(i), {40});
            for (int i = 0; i < 2; ++i) update("empty" + std::to_string(i), {0, 3});
          });
        },
        "updates");
    Executable executable = program.compile(options);
    executable.set_profiling(profiled);
    executable.run();
    std::vector<Values> values;
    for (const std::string& name : state.names()) values.push_back(state.values(name));
    return std::pair(values, executable.statistics());
  };
  const auto [host, on_host] = run({}, false);
  const auto [gpu, on_gpu] = run({.device = "cuda"}, false);
  EXPECT_EQ(on_gpu.kernels, alike + others + 2);
  EXPECT_EQ(on_gpu.launches_per_step, 3);
  EXPECT_EQ(stand_in::last_graph().size(), 3U);
  // Kernels that are timed run alone, and compute the same.
  EXPECT_EQ(run({.device = "cuda"}, true).first, gpu);
  ASSERT_EQ(host.size(), gpu.size());
  for (std::size_t i = 0; i < host.size(); ++i) {
    EXPECT_LE(worst(gpu[i], host[i]), tolerance(4, 2)) << i;
  }
}

/// Nodes on the longest way through the graph that was made last.
std::size_t longest_way() {
  std::vector<std::size_t> depths;
  for (const stand_in::GraphNode& node : stand_in::last_graph()) {
    std::size_t deepest = 0;
    for (const std::size_t other : node.after) deepest = std::max(deepest, depths[other]);
    depths.push_back(deepest + 1);
  }
  return depths.empty() ? 0 : *std::max_element(depths.begin(), depths.end());
}

TEST_P(CudaProgram, LanguageModelsTrainAsOnTheHost) {
  constexpr std::int64_t steps = 3;
  const auto transformer = [] {
    nn::TransformerLmOptions options;
    options.vocabulary = vocabulary;
    options.width = 16;
    options.layers = 2;
    options.max_length = length;
    options.block.heads = 2;
    options.block.hidden = 24;
    return LanguageModel::Model(nn::TransformerLm("", options));
  };
  const auto toeplitz = [] {
    nn::TnnLmOptions options;
    options.vocabulary = vocabulary;
    options.width = 16;
    options.layers = 2;
    options.layer.gtu.expand_ratio = 1;
    options.layer.gtu.tno.use_decay = true;
    return LanguageModel::Model(nn::TnnLm("", options));
  };
  for (const auto& make : {std::function<LanguageModel::Model()>(transformer),
                           std::function<LanguageModel::Model()>(toeplitz)}) {
    LanguageModel host;
    host.train(make, steps, {});
    LanguageModel gpu;
    gpu.train(make, steps, {.device = "cuda"});
    ASSERT_EQ(host.losses.size(), static_cast<std::size_t>(steps));
    // Sums over all tokens, through some ten layers' worth of others each.
    const double bound = tolerance(10 * sequences * length, steps);
    EXPECT_LE(worst(gpu.losses, host.losses), bound);
    for (const std::string& name : host.state.names()) {
      EXPECT_LE(worst(gpu.state.values(name), host.state.values(name)), bound) << name;
    }
    const std::size_t nodes = stand_in::last_graph().size();
    EXPECT_LT(longest_way(), nodes);
    std::cout << nodes << " nodes, " << longest_way() << " on the longest way\n";
  }
}

/// Loops in loops, the index, a state that is exchanged with another, a scalar.
Program nest(State& state, std::vector<Values>& seen) {
  return trace(
      state,
      [&] {
        Tensor a = weft::state("a", {5, 3}, DType::f32, init::uniform(-1, 1));
        Tensor b = weft::state("b", {5, 3}, DType::f32, init::uniform(-1, 1));
        Tensor count = weft::state("count", {}, DType::i64);
        const Tensor scale = scalar("scale", 0.5);
        frontend::loop(3, [&](Tensor outer) {
          frontend::loop(4, [&](Tensor inner) {
            // What a stands for before it is assigned, which a reference would follow.
            const Tensor old = a;  // NOLINT(performance-unnecessary-copy-initialization)
            assign(a, b * scale + cast(inner, DType::f32));
            assign(b, old);
            assign(count, count + inner * outer);
          });
          receiver("seen", {a, count}, [&](std::int64_t, const std::vector<HostTensor>& tensors) {
            seen.push_back(tensors[0].values());
            seen.push_back(tensors[1].values());
          });
        });
      },
      "nest");
}

TEST_P(CudaProgram, LoopsInLoops) {
  std::vector<Values> seen[2];
  State states[2];
  for (const int i : {0, 1}) {
    const CompileOptions options{.device = i == 0 ? "cpu" : "cuda"};
    Executable executable = nest(states[i], seen[i]).compile(options);
    executable.run();
    executable.set_scalar("scale", 0.25);
    executable.run(1, 3);
  }
  EXPECT_EQ(seen[1], seen[0]);
  for (const char* name : {"a", "b", "count"}) {
    EXPECT_EQ(states[1].values(name), states[0].values(name)) << name;
  }
}

TEST_P(CudaProgram, RandomNumbersAreTheHosts) {
  State states[2];
  for (const int i : {0, 1}) {
    trace(states[i],
          [] {
            set_seed(3);
            Tensor u = weft::state("u", {100});
            Tensor n = weft::state("n", {33, 3});
            frontend::loop(3, [&](Tensor) {
              assign(u, u + random_uniform({100}));
              assign(n, random_normal({33, 3}));
            });
          })
        .compile({.device = i == 0 ? "cpu" : "cuda"})
        .run();
  }
  EXPECT_EQ(states[1].values("u"), states[0].values("u"));
  EXPECT_LE(worst(states[1].values("n"), states[0].values("n")), tolerance(4, 1));
}

TEST_P(CudaProgram, AFeedersErrorLeavesTheLastIteration) {
  Training training;
  const Program program = training.program(6);
  Executable executable = program.compile({.device = "cuda"});
  executable.set_feeder("x", [](std::int64_t iteration, std::span<float> to) {
    if (iteration == 3) throw Error("the disk is gone");
    fill_inputs(iteration, to);
  });
  EXPECT_EQ(error_of([&] { executable.run(); }), "the disk is gone");
  Training three;
  three.program(6).compile({.device = "cuda"}).run(0, 3);
  EXPECT_EQ(training.state.values("out.weight"), three.state.values("out.weight"));
}

TEST_P(CudaProgram, ErrorsNameTheKernelAndTheLine) {
  setenv("WEFT_CUDA_CHECK", "1", 1);
  State state;
  const Program program = trace(state, [] {
    Tensor x = weft::state("x", {8});
    assign(x, exp(x));
  });
  Executable executable = program.compile({.device = "cuda"});
  unsetenv("WEFT_CUDA_CHECK");
  stand_in::fail("cuLaunchKernel", 1, CUDA_ERROR_ILLEGAL_ADDRESS);
  const std::string error = error_of([&] { executable.run(); });
  EXPECT_NE(error.find("kernel elw"), std::string::npos) << error;
  EXPECT_NE(error.find("program_test.cpp:"), std::string::npos) << error;
  EXPECT_NE(error.find("CUDA_ERROR_ILLEGAL_ADDRESS"), std::string::npos) << error;
  // A graph's launch cannot say which; how to find out is said.
  Executable in_graphs = program.compile({.device = "cuda"});
  stand_in::fail("cuStreamSynchronize", 1, CUDA_ERROR_ILLEGAL_ADDRESS);
  const std::string other = error_of([&] { in_graphs.run(); });
  EXPECT_NE(other.find("plan \"main\": CUDA: "), std::string::npos) << other;
  EXPECT_NE(other.find("WEFT_CUDA_CHECK=1"), std::string::npos) << other;
}

TEST_P(CudaProgram, DevicesByNumberAndKind) {
  const auto add_one = [](State& state) {
    return trace(state, [] {
      Tensor x = weft::state("x", {8});
      assign(x, x + 1.0);
    });
  };
  const auto error_on = [&](const std::string& device) {
    State state;
    return error_of([&] { add_one(state).compile({.device = device}); });
  };
  EXPECT_EQ(error_on("cuda:1"),
            "program 'main' cannot be compiled for device \"cuda:1\": CUDA: the driver shows 1 "
            "device, counted from 0");
  stand_in::settings().major = 7;
  stand_in::settings().minor = 5;
  EXPECT_EQ(error_on("cuda"),
            "program 'main' cannot be compiled for device \"cuda\": Stand-in has the compute "
            "capability 7.5; weft needs 8.0 or newer");
  for (const auto& [major, minor, processor] :
       {std::tuple{8, 0, "sm_80"}, {8, 6, "sm_86"}, {9, 0, "sm_90a"}, {12, 0, "sm_90"}}) {
    stand_in::settings().major = major;
    stand_in::settings().minor = minor;
    State state;
    Executable executable = add_one(state).compile({.device = "cuda:0"});
    EXPECT_EQ(executable.implementation().plan().target, std::string("nvptx64/") + processor);
    EXPECT_EQ(executable.implementation().device(), 0);
    executable.run();
    EXPECT_EQ(state.values("x"), Values(8, 1));
  }
}

/// Transforms by weft's kernels, by the library, and by whichever was measured to be faster.
/// Of 16 bits and large enough for products of four warps, whose operands come by tensor copies
/// from the arena and from states.
TEST_P(CudaProgram, ProductsByTensorCopies) {
  constexpr std::int64_t rows = 72, width = 64, columns = 80;
  const auto run = [](const std::string& device) {
    State state;
    const Program program = trace(
        state,
        [] {
          const Tensor w = weft::state("w", {width, columns}, DType::bf16);
          Tensor x = weft::state("x", {rows, width}, DType::bf16);
          Tensor y = weft::state("y", {rows, columns}, DType::bf16);
          frontend::loop(2, [&](Tensor) {
            assign(y, relu(matmul(x, w)));
            assign(x, matmul(y, permute(w, {1, 0})));
          });
        },
        "products");
    Executable executable = program.compile({.device = device});
    const auto fill = [&](const char* name, std::int64_t count) {
      Values values;
      for (std::int64_t i = 0; i < count; ++i) {
        values.push_back(0.25 * std::sin(0.7 * static_cast<double>(i)));
      }
      state.set_values(name, values);
    };
    fill("x", rows * width);
    fill("w", width * columns);
    executable.run();
    return state;
  };
  const State host = run("cpu");
  EXPECT_EQ(stand_in::calls("cuTensorMapEncodeTiled"), 0);
  const State gpu = run("cuda");
  // Two operands of two products.
  EXPECT_EQ(stand_in::calls("cuTensorMapEncodeTiled"), 4);
  for (const char* name : {"x", "y"}) {
    // Four products one after the other, each rounded to 16 bits.
    EXPECT_LE(worst(gpu.values(name), host.values(name)), 8 * epsilon(DType::bf16)) << name;
  }
}

TEST_P(CudaProgram, FourierTransformsByEither) {
  const auto run = [](const CompileOptions& options) {
    State state;
    const Program program = trace(
        state,
        [] {
          set_seed(3);
          const Tensor x = parameter("x", {3, 20, 6}, init::normal());
          const Tensor spectrum = rfft(x * 0.5, 1, 24);
          assign(weft::state("y", {3, 24, 6}), irfft(spectrum * spectrum, 1, 24) + 1.0);
        },
        "transforms");
    program.compile(options).run();
    return state.values("y");
  };
  const Values host = run({});
  using Transforms = CompileOptions::Transforms;
  for (const auto transforms :
       {Transforms::generated, Transforms::library, Transforms::measured, Transforms::measured}) {
    const int before = stand_in::calls("cufftExecR2C");
    const Values found = run({.device = "cuda", .transforms = transforms});
    // Two sums of 24 products of size 1.
    EXPECT_LE(worst(found, host), tolerance(2 * 24, 1));
    const int calls = stand_in::calls("cufftExecR2C") - before;
    if (transforms == Transforms::measured) continue;
    EXPECT_EQ(calls > 0, transforms == Transforms::library);
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, CudaProgram,
                         testing::Values(interpret_on_stand_in, emulate_on_stand_in),
                         [](const auto& one) {
                           return one.param == interpret_on_stand_in ? "Interpreted" : "Emulated";
                         });

}  // namespace
}  // namespace weft::test
