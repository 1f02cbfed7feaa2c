#include <cmath>
#include <complex>
#include <cstdlib>

#include "support.h"

namespace weft::test {
namespace {

constexpr std::int64_t batch = 8;

void fill_inputs(std::int64_t iteration, std::span<float> to) {
  for (std::size_t i = 0; i < to.size(); ++i) {
    to[i] = static_cast<float>(
        std::sin(0.3 * static_cast<double>(iteration) + 0.7 * static_cast<double>(i)));
  }
}

/// A small regression: two layers, plain gradient descent, losses to `losses`.
Program training(State& state, std::int64_t steps, std::vector<double>& losses) {
  return trace(state, [&, steps] {
    const Tensor rate = scalar("rate", 0.1);
    Tensor w = parameter("w", {3, 4}, init::xavier_uniform(3, 4));
    Tensor b = parameter("b", {4});
    Tensor v = parameter("v", {4}, init::normal(0, 0.5));
    loop(steps, [&](Tensor) {
      const Tensor x = feeder("x", {batch, 3}, DType::f32, fill_inputs);
      zero_grad();
      const Tensor y = matmul(tanh(matmul(x, w) + b), v);
      const Tensor loss = mse_loss(y, sum(x, 1));
      backward(loss);
      for (Tensor p : parameters()) p -= rate * p.grad();
      receiver("loss", {loss}, [&](std::int64_t, const std::vector<HostTensor>& tensors) {
        losses.push_back(tensors[0].item());
      });
    });
  });
}

/// The message of the Error that compiling for `device` throws, "" where it throws none.
std::string error_for_device(const std::string& device) {
  State state;
  std::vector<double> losses;
  const Program program = training(state, 1, losses);
  try {
    CompileOptions options;
    options.device = device;
    program.compile(options).run();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Device, TheProcessorIsThere) {
  EXPECT_EQ(CompileOptions().device, "cpu");
  EXPECT_EQ(error_for_device("cpu"), "");
}

/// A driver that is not there while it lives, whatever the machine has.
class NoDriver {
 public:
  NoDriver() { setenv("WEFT_CUDA_DRIVER", "/none/libcuda.so.1", 1); }
  ~NoDriver() { unsetenv("WEFT_CUDA_DRIVER"); }
};

TEST(Device, WithoutAGpuWhatIsMissingIsSaid) {
  const NoDriver none;
  for (const std::string device : {"cuda", "cuda:1"}) {
    const std::string start =
        "program 'main' cannot be compiled for device \"" + device + "\": CUDA: ";
    const std::string error = error_for_device(device);
    EXPECT_EQ(error.find(start), 0U) << error;
    EXPECT_TRUE(error.find("/none/libcuda.so.1 could not be loaded") != std::string::npos ||
                error.find("without CUDA's headers") != std::string::npos)
        << error;
  }
}

TEST(Device, NamesThatAreNone) {
  for (const std::string device :
       {"", "tpu", "CPU", "cudax", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda:99999999999"}) {
    EXPECT_EQ(error_for_device(device),
              "program 'main' cannot be compiled for device \"" + device +
                  "\": there is no device of that name; devices are cpu, cuda and cuda:1");
  }
}

TEST(Device, AnotherDeviceLeavesProgramAndStateAlone) {
  const NoDriver none;
  State state;
  std::vector<double> losses;
  const Program program = training(state, 3, losses);
  const Values before = state.values("w");
  EXPECT_THROW(program.compile({.device = "cuda"}), Error);
  EXPECT_EQ(state.values("w"), before);
  program.compile().run();
  EXPECT_EQ(losses.size(), 3U);
}

TEST(Executable, TrainsAsTheReferenceDoes) {
  State state;
  std::vector<double> losses;
  const Program program = training(state, 20, losses);
  check_graph(program);
  Executable executable = program.compile();
  EXPECT_EQ(executable.iterations(), 20);
  executable.run();
  ASSERT_EQ(losses.size(), 20U);
  EXPECT_LT(losses.back(), 0.5 * losses.front());
  // The reference has other feeder values: the loop is rolled out by hand, in doubles.
  State fresh;
  std::vector<double> unused;
  training(fresh, 1, unused);
  Values w = fresh.values("w");
  Values b = fresh.values("b");
  Values v = fresh.values("v");
  for (std::int64_t step = 0; step < 20; ++step) {
    std::vector<float> x(batch * 3);
    fill_inputs(step, x);
    Values dw(12);
    Values db(4);
    Values dv(4);
    double loss = 0;
    for (std::size_t n = 0; n < batch; ++n) {
      Values h(4);
      double error = 0;
      for (std::size_t j = 0; j < 4; ++j) {
        double sum = b[j];
        for (std::size_t i = 0; i < 3; ++i) sum += x[n * 3 + i] * w[i * 4 + j];
        h[j] = std::tanh(sum);
        error += h[j] * v[j];
      }
      for (std::size_t i = 0; i < 3; ++i) error -= x[n * 3 + i];
      loss += error * error / batch;
      for (std::size_t j = 0; j < 4; ++j) {
        const double g = 2 * error / batch;
        dv[j] += g * h[j];
        const double before = g * v[j] * (1 - h[j] * h[j]);
        db[j] += before;
        for (std::size_t i = 0; i < 3; ++i) dw[i * 4 + j] += before * x[n * 3 + i];
      }
    }
    // Some 60 roundings of f32 a step, on values of order 1.
    EXPECT_NEAR(losses[static_cast<std::size_t>(step)], loss,
                60 * 0x1p-24 * static_cast<double>(step + 1));
    for (std::size_t i = 0; i < 12; ++i) w[i] -= 0.1 * dw[i];
    for (std::size_t j = 0; j < 4; ++j) {
      b[j] -= 0.1 * db[j];
      v[j] -= 0.1 * dv[j];
    }
  }
  expect_near(state.values("w"), w, 60 * 20 * 0x1p-24);
  expect_near(state.values("v"), v, 60 * 20 * 0x1p-24);
}

TEST(Executable, RunsInPiecesAndWithOneKernelAnOperation) {
  std::vector<double> whole;
  State first;
  training(first, 12, whole).compile().run();
  std::vector<double> pieces;
  State second;
  Executable executable = training(second, 12, pieces).compile();
  executable.run(0, 5);
  executable.run(5, 12);
  EXPECT_EQ(whole, pieces);
  EXPECT_EQ(first.values("w"), second.values("w"));

  std::vector<double> plain;
  State third;
  CompileOptions options;
  options.fuse = false;
  options.synchronous = true;
  options.threads = 1;
  Executable unfused = training(third, 12, plain).compile(options);
  unfused.run();
  expect_near(plain, whole, 60 * 12 * 0x1p-24);
  EXPECT_GT(unfused.statistics().launches_per_step, executable.statistics().launches_per_step);
}

TEST(Executable, ScalarsAndFeedersChangeWithoutCompiling) {
  State state;
  std::vector<double> losses;
  Executable executable = training(state, 3, losses).compile();
  const Values before = state.values("w");
  executable.set_scalar("rate", 0);
  executable.run();
  EXPECT_EQ(state.values("w"), before);
  EXPECT_NE(losses[0], losses[1]);
  losses.clear();
  executable.set_feeder("x", [](std::int64_t, std::span<float> to) {
    for (float& value : to) value = 0;
  });
  executable.run();
  EXPECT_EQ(losses, (std::vector<double>{0, 0, 0}));
  int calls = 0;
  executable.set_receiver("loss", [&](std::int64_t, const std::vector<HostTensor>&) { ++calls; });
  executable.run();
  EXPECT_EQ(calls, 3);
  EXPECT_THROW(executable.set_scalar("none", 0), Error);
  EXPECT_THROW(executable.set_feeder("none", [](std::int64_t, std::span<float>) {}), Error);
  EXPECT_THROW(executable.set_feeder("x", [](std::int64_t, std::span<double>) {}), Error);
}

TEST(Executable, SeveralOnOneState) {
  State state;
  std::vector<double> losses;
  Executable train = training(state, 5, losses).compile();
  Values predicted;
  const Program prediction = trace(state, [&] {
    const Tensor w = parameter("w", {3, 4});
    receiver("sum", {sum(w)}, [&](std::int64_t, const std::vector<HostTensor>& tensors) {
      predicted.push_back(tensors[0].item());
    });
  });
  Executable predict = prediction.compile();
  predict.run();
  train.run();
  predict.run();
  ASSERT_EQ(predicted.size(), 2U);
  double sum = 0;
  for (const double value : state.values("w")) sum += value;
  EXPECT_NEAR(predicted[1], sum, 16 * 0x1p-24);
  EXPECT_NE(predicted[0], predicted[1]);
  // Another State: its tensors are what is read then.
  State other = state.clone();
  other.set_values("w", Values(12, 0.5));
  predict.bind(other);
  predict.run();
  EXPECT_EQ(predicted[2], 6);
  EXPECT_THROW(predict.bind(State()), Error);
}

TEST(Executable, RandomNumbersGoOnOverRuns) {
  const auto noise = [](const std::vector<std::pair<std::int64_t, std::int64_t>>& runs) {
    State state;
    std::vector<double> numbers;
    const Program program = trace(state, [&] {
      loop(6, [&](Tensor) {
        receiver("noise", {random_uniform({5}, "noise")},
                 [&](std::int64_t, const std::vector<HostTensor>& tensors) {
                   const Values values = tensors[0].values();
                   numbers.insert(numbers.end(), values.begin(), values.end());
                 });
      });
    });
    Executable executable = program.compile();
    for (const auto& [from, to] : runs) executable.run(from, to);
    return numbers;
  };
  const std::vector<double> whole = noise({{0, 6}});
  ASSERT_EQ(whole.size(), 30U);
  EXPECT_EQ(noise({{0, 1}, {1, 4}, {4, 6}}), whole);
  // The reference's numbers, to the bit.
  State state;
  const Program reference =
      trace(state, [] { loop(6, [](Tensor) { out("noise", random_uniform({5}, "noise")); }); });
  const Outcome outcome = evaluate(reference, state);
  std::vector<double> expected;
  for (const auto& call : outcome.received.at("noise")) {
    expected.insert(expected.end(), call[0].begin(), call[0].end());
  }
  EXPECT_EQ(whole, expected);
}

TEST(Executable, NestedLoopsAndComplexValues) {
  State state;
  std::vector<double> received;
  const Program program = trace(state, [&] {
    Tensor total = weft::state("total", {4});
    loop(3, [&](Tensor i) {
      loop(2, [&](Tensor j) {
        const Tensor x =
            feeder("x", {4}, DType::f32, [](std::int64_t iteration, std::span<float> to) {
              for (float& value : to) value = static_cast<float>(iteration);
            });
        total += irfft(rfft(x) * 2) + cast(i * 10 + j, DType::f32);
      });
      receiver("spectrum", {rfft(total)},
               [&](std::int64_t, const std::vector<HostTensor>& tensors) {
                 received.push_back(tensors[0].data<std::complex<float>>()[0].real());
               });
    });
  });
  check_graph(program);
  program.compile().run();
  double sum = 0;
  std::vector<double> expected;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 2; ++j) sum += 2 * (2 * i + j) + 10 * i + j;
    expected.push_back(4 * sum);
  }
  expect_near(received, expected, 1e-5);
  expect_near(state.values("total"), Values(4, sum), 1e-5);
}

TEST(Executable, ExceptionsOfCallbacksComeOut) {
  State state;
  std::vector<double> losses;
  Executable executable = training(state, 5, losses).compile();
  executable.set_feeder("x", [](std::int64_t iteration, std::span<float>) {
    if (iteration == 2) throw std::runtime_error("no more data");
  });
  EXPECT_THROW(executable.run(), std::runtime_error);
  EXPECT_EQ(losses.size(), 2U);
}

TEST(Executable, DumpsAndStatistics) {
  State state;
  std::vector<double> losses;
  CompileOptions options;
  options.keep_assembly = true;
  Executable executable = training(state, 4, losses).compile(options);
  for (const char* stage : {"traced", "simplified", "fused", "kernels", "loops", "assembly"}) {
    EXPECT_FALSE(executable.dump(stage).empty()) << stage;
  }
  EXPECT_NO_THROW(executable.dump("refusals"));
  EXPECT_NE(executable.dump("traced").find("dot"), std::string::npos);
  const std::string picture = executable.dump("kernels", Format::dot);
  EXPECT_EQ(picture.find("digraph"), 0U);
  // A box a launch; parameters are named in the boxes of the kernels that read them.
  std::size_t boxes = 0;
  for (std::size_t at = picture.find("[label=\""); at != std::string::npos;
       at = picture.find("[label=\"", at + 1)) {
    const std::size_t line = picture.rfind('\n', at);
    boxes += picture.substr(line, at - line).find("->") == std::string::npos ? 1 : 0;
  }
  EXPECT_EQ(static_cast<std::int64_t>(boxes), executable.statistics().launches_per_step);
  for (const char* name : {" w\\l", " b\\l", " v\\l"}) {
    EXPECT_NE(picture.find(name), std::string::npos) << name;
  }
  EXPECT_NE(executable.dump("kernels", Format::json).find("\"kernels\""), std::string::npos);
  EXPECT_NE(executable.dump("simplified", Format::json).find("\"graph\""), std::string::npos);
  EXPECT_THROW(executable.dump("none"), Error);
  EXPECT_THROW(executable.dump("loops", Format::dot), Error);
  const Statistics& statistics = executable.statistics();
  EXPECT_GT(statistics.nodes, 10);
  EXPECT_GT(statistics.kernels, 0);
  EXPECT_GT(statistics.launches_per_step, 0);
  EXPECT_EQ(statistics.state_bytes, (12 + 4 + 4) * 4);
  EXPECT_GT(statistics.compile_seconds, 0);
  executable.set_profiling(true);
  executable.run();
  std::int64_t launches = 0;
  for (const KernelProfile& kernel : executable.profile()) launches += kernel.launches;
  EXPECT_GE(launches, 4 * statistics.launches_per_step);
}

}  // namespace
}  // namespace weft::test
