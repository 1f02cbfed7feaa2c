#include "differential.h"

#include <fmt/format.h>

#include <exception>
#include <filesystem>
#include <fstream>

#include "compiler/compile.h"

namespace weft::test {

namespace {

void run_threads(const plan::Plan& compiled, const check::Interface& interface,
                 const check::Inputs& inputs, const std::vector<check::Bounded>& expected,
                 const Mode& mode, check::Comparison& comparison) {
  // A kernel that says nothing of its work is always shared among the threads.
  plan::Plan plan = compiled;
  for (plan::Kernel& kernel : plan.kernels) {
    kernel.bytes_read = kernel.bytes_written = kernel.operations = 0;
  }
  std::vector<check::Tensor> first;
  for (std::size_t i = 0; i < mode.threads.size(); ++i) {
    const check::Outcome outcome = check::run_compiled(plan, interface, inputs, mode.threads[i]);
    std::vector<check::Tensor> tensors = check::tensors_of(outcome, interface);
    if (i == 0) {
      comparison = check::compare(expected, tensors);
      first = std::move(tensors);
      continue;
    }
    for (const std::string& line : check::compare_bits(first, tensors)) {
      comparison.mismatches.push_back(
          fmt::format("{} on {} threads than on {}", line, mode.threads[i], mode.threads[0]));
    }
  }
}

}  // namespace

check::Comparison differences(const ir::Graph& graph, const check::Interface& interface,
                              const check::Inputs& inputs,
                              const std::vector<check::Bounded>& expected, const Mode& mode) {
  check::Comparison comparison;
  try {
    compiler::CompileOptions options;
    options.fuse = mode.fuse;
    options.threads = 1;
    run_threads(compiler::compile(graph, options).plan, interface, inputs, expected, mode,
                comparison);
  } catch (const std::exception& error) {
    comparison.mismatches.push_back(std::string("error: ") + error.what());
  }
  for (std::string& line : comparison.mismatches) line = mode.text() + ": " + line;
  return comparison;
}

std::string save(const std::string& file_name, const std::string& text) {
  const std::filesystem::path folder = std::filesystem::path(WEFT_BINARY_DIR) / "differential";
  std::filesystem::create_directories(folder);
  const std::filesystem::path path = folder / file_name;
  std::ofstream(path) << text;
  return path.string();
}

}  // namespace weft::test
