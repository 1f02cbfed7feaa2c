#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "runtime/cuda/devices.h"
#include "runtime/machine.h"
#include "tools/command.h"

namespace weft::command {

namespace {

double gibibytes(std::int64_t bytes) {
  return static_cast<double>(bytes) / static_cast<double>(std::int64_t{1} << 30);
}

int cores() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

void print_text(const runtime::cuda::DeviceList& gpus) {
  std::cout << fmt::format("host: {}, {} cores, {:.1f} GiB, {}\n", runtime::machine_name(), cores(),
                           gibibytes(runtime::memory_bytes()),
                           fmt::join(runtime::vector_features(), " "));
  if (gpus.devices.empty()) {
    std::cout << fmt::format("cuda: none: {}\n", gpus.absent);
    return;
  }
  for (std::size_t i = 0; i < gpus.devices.size(); ++i) {
    const runtime::cuda::DeviceInfo& gpu = gpus.devices[i];
    std::cout << fmt::format(
        "cuda {}: {}, compute capability {}.{}, {} multiprocessors, {:.1f} GiB ({}), driver for "
        "CUDA {}\n",
        i, gpu.name, gpu.major, gpu.minor, gpu.multiprocessors, gibibytes(gpu.memory_bytes),
        gpu.free_bytes ? fmt::format("{:.1f} GiB free", gibibytes(*gpu.free_bytes))
                       : "takes no further process",
        gpus.driver);
  }
  if (const std::string absent = runtime::cuda::fourier_library_absent(); !absent.empty()) {
    std::cout << fmt::format("Fourier transforms by weft alone: {}\n", absent);
  }
}

/// null where there is no text.
nlohmann::ordered_json text_or_null(const std::string& text) {
  if (text.empty()) return nullptr;
  return text;
}

void print_json(const runtime::cuda::DeviceList& gpus) {
  nlohmann::ordered_json out;
  out["host"] = {{"name", runtime::machine_name()},
                 {"cores", cores()},
                 {"memory_bytes", runtime::memory_bytes()},
                 {"vector_features", runtime::vector_features()}};
  nlohmann::ordered_json& cuda = out["cuda"];
  cuda["absent"] = text_or_null(gpus.absent);
  cuda["driver"] = text_or_null(gpus.driver);
  cuda["devices"] = nlohmann::ordered_json::array();
  for (const runtime::cuda::DeviceInfo& gpu : gpus.devices) {
    nlohmann::ordered_json row = {
        {"name", gpu.name},
        {"compute_capability", fmt::format("{}.{}", gpu.major, gpu.minor)},
        {"multiprocessors", gpu.multiprocessors},
        {"memory_bytes", gpu.memory_bytes}};
    row["free_bytes"] =
        gpu.free_bytes ? nlohmann::ordered_json(*gpu.free_bytes) : nlohmann::ordered_json();
    cuda["devices"].push_back(row);
  }
  if (!gpus.devices.empty()) {
    cuda["fourier_library_absent"] = text_or_null(runtime::cuda::fourier_library_absent());
  }
  std::cout << out.dump(2) << '\n';
}

}  // namespace

void add_devices(CLI::App& app, Action& chosen) {
  auto format = std::make_shared<std::string>("text");
  CLI::App* command = app.add_subcommand("devices", "The machine and its GPUs");
  command->add_option("--format", *format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  command->callback([format, &chosen] {
    chosen = [format] {
      const runtime::cuda::DeviceList gpus = runtime::cuda::find_devices();
      if (*format == "json") {
        print_json(gpus);
      } else {
        print_text(gpus);
      }
      return 0;
    };
  });
}

}  // namespace weft::command
