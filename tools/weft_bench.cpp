#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "frontend/device.h"
#include "runtime/cuda/devices.h"
#include "runtime/machine.h"
#include "runtime/plan/error.h"
#include "tools/bench/bench.h"
#include "tools/command.h"

namespace weft::command {

namespace {

using bench::Benchmark;
using bench::Row;

constexpr std::array benchmarks{
    Benchmark{"gemm", "matrix products: GFLOP/s beside oneDNN", bench::gemm},
    Benchmark{"attention", "attention as one kernel beside the same in parts: GFLOP/s",
              bench::attention},
    Benchmark{"sigmoid_mlp", "a training loop that is all overhead: kernels and us an iteration",
              bench::sigmoid_mlp},
    Benchmark{"tno", "the causal Toeplitz operator with its gate, beside pipelines of FFTW",
              bench::tno},
    Benchmark{"fft", "Fourier transforms, complex and real, along either axis, beside FFTW",
              bench::fft},
    Benchmark{"short_transformer",
              "a small encoder beside PyTorch: from the model to 3000 steps, us a step",
              bench::short_transformer},
    Benchmark{"language_models", "training steps of a TNN and a transformer beside PyTorch",
              bench::language_models},
};

struct BenchOptions {
  std::string name;
  std::string json;
  bench::Settings settings;
};

const Benchmark& find(const std::string& name) {
  const auto* const found =
      std::find_if(benchmarks.begin(), benchmarks.end(),
                   [&](const Benchmark& benchmark) { return name == benchmark.name; });
  if (found == benchmarks.end()) {
    std::string names;
    for (const Benchmark& benchmark : benchmarks) names += fmt::format(" {}", benchmark.name);
    throw Error(fmt::format("no benchmark is called \"{}\"; there are{}", name, names));
  }
  return *found;
}

nlohmann::json to_json(const Row& row, const std::string& device, int threads) {
  nlohmann::json object{{"bench", row.bench},    {"case", row.name}, {"metric", row.metric},
                        {"value", row.value},    {"unit", row.unit}, {"peer", nullptr},
                        {"peer_value", nullptr}, {"ratio", nullptr}, {"device", device},
                        {"threads", threads}};
  if (row.peer) {
    object["peer"] = row.peer->peer;
    object["peer_value"] = row.peer->value;
  }
  if (row.ratio) object["ratio"] = *row.ratio;
  if (!row.error.empty()) {
    object["value"] = nullptr;
    object["error"] = row.error;
  }
  return object;
}

void print(const Row& row) {
  if (!row.error.empty()) {
    fmt::print("{:<34} FAILED: {}\n", row.name, row.error);
    std::fflush(stdout);
    return;
  }
  std::string line =
      fmt::format("{:<34} {:<22} {:>11.5g} {:<9}", row.name, row.metric, row.value, row.unit);
  if (row.peer) line += fmt::format(" {:<24} {:>11.5g}", row.peer->peer, row.peer->value);
  if (row.ratio) line += fmt::format("  ratio {:.2f}", *row.ratio);
  fmt::print("{}\n", line);
  std::fflush(stdout);
}

/// The processor's name or that of the GPU. Throws Error where there is no such device.
std::string device_name(const std::string& device) {
  const detail::Device found = detail::find_device(device);
  if (found.gpu.empty()) return runtime::machine_name();
  return runtime::cuda::find_devices().devices.at(static_cast<std::size_t>(found.index)).name;
}

/// The peers' scripts: where this was built, or beside the program in a bundle.
std::string scripts_folder() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) {
    const std::filesystem::path beside = program.parent_path().parent_path() / "baselines";
    if (std::filesystem::is_directory(beside, error)) return beside.string();
  }
  return WEFT_BASELINES;
}

int bench_command(const BenchOptions& options) {
  const Benchmark& benchmark = find(options.name);
  bench::Settings settings = options.settings;
  if (settings.threads <= 0) {
    settings.threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  std::ofstream file;
  if (!options.json.empty()) {
    file.open(options.json);
    file << "[]" << std::endl;
    if (!file) throw Error(options.json + ": cannot be written");
  }
  const std::string device = device_name(settings.device);
  fmt::print("{} on {}, {} thread{}\n", benchmark.name, device, settings.threads,
             settings.threads == 1 ? "" : "s");
  nlohmann::json rows = nlohmann::json::array();
  bool failed = false;
  benchmark.run(settings, [&](const Row& row) {
    failed = failed || !row.error.empty();
    print(row);
    rows.push_back(to_json(row, device, settings.threads));
    // Whole at any time: what is measured may be ended from outside.
    if (file.is_open()) {
      file.seekp(0);
      file << rows.dump(1) << std::endl;
      if (!file) throw Error(options.json + ": could not be written");
    }
  });
  return failed ? 1 : 0;
}

}  // namespace

void add_bench(CLI::App& app, Action& chosen) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command =
      app.add_subcommand("bench", "measure, beside the peers that were found at build time");
  std::string names;
  for (const Benchmark& benchmark : benchmarks) {
    names += fmt::format("\n  {:<18} {}", benchmark.name, benchmark.description);
  }
  command->add_option("name", options->name, "one of:" + names)->required();
  command->add_option("--device", options->settings.device, device_help);
  command->add_option("--threads", options->settings.threads, "for both sides; 0: all cores");
  command->add_option("--json", options->json, "write the numbers to this file");
  command->add_option("--case", options->settings.filter, "only cases whose name contains this");
  command->add_option("--seconds", options->settings.seconds, "for each case, about")
      ->default_val(1.0)
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--python", options->settings.python,
                   "a Python that has PyTorch, for the cases that are compared with it")
      ->envname("WEFT_PYTHON");
  command->add_option("--cpu", options->settings.cpu,
                      "gemm: generate code for this processor (x86-64-v3: AVX2, x86-64-v4: "
                      "AVX-512), and hold the peer to the same instructions");
  command->add_flag("!--no-tensor-copies", options->settings.tensor_copies,
                    "GPUs of sm_90a: operands of products come by asynchronous copies");
  options->settings.scripts = scripts_folder();
  command->callback([options, &chosen] { chosen = [options] { return bench_command(*options); }; });
}

}  // namespace weft::command
