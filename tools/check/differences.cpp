#include "tools/check/differences.h"

#include <fmt/format.h>

#include <exception>

#include "compiler/compile.h"
#include "frontend/load_hook.h"

namespace weft::check {

namespace {

void run_threads(const plan::Plan& compiled, const Interface& interface, const Inputs& inputs,
                 const std::vector<Bounded>& expected, const Mode& mode, Comparison& comparison) {
  // A kernel that says nothing of its work is always shared among the threads.
  plan::Plan plan = compiled;
  for (plan::Kernel& kernel : plan.kernels) {
    kernel.bytes_read = kernel.bytes_written = kernel.operations = 0;
  }
  std::vector<Tensor> first;
  for (std::size_t i = 0; i < mode.threads.size(); ++i) {
    const Outcome outcome =
        run_compiled(plan, interface, inputs, {.threads = mode.threads[i], .device = mode.device});
    std::vector<Tensor> tensors = tensors_of(outcome, interface);
    if (i == 0) {
      comparison = compare(expected, tensors);
      first = std::move(tensors);
      continue;
    }
    for (const std::string& line : compare_bits(first, tensors)) {
      comparison.mismatches.push_back(
          fmt::format("{} on {} threads than on {}", line, mode.threads[i], mode.threads[0]));
    }
  }
}

}  // namespace

std::string Mode::text() const {
  std::string text = fuse ? "fused" : "every op alone";
  if (library_transforms) text += ", transforms by the library";
  if (tno_by_products) {
    text += *tno_by_products ? ", Toeplitz operators by products"
                             : ", Toeplitz operators by transforms";
  }
  return text;
}

Comparison differences(const ir::Graph& graph, const Interface& interface, const Inputs& inputs,
                       const std::vector<Bounded>& expected, const Mode& mode) {
  Comparison comparison;
  try {
    compiler::CompileOptions options;
    options.fuse = mode.fuse;
    options.threads = 1;
    options.gpu = mode.gpu;
    options.cache = mode.cache;
    if (mode.library_transforms) {
      options.library_transform = [](const ir::Node&) { return true; };
    }
    if (mode.tno_by_products) {
      options.tno_by_products = [&mode](const ir::Node&) { return *mode.tno_by_products; };
    }
    const detail::LoadHook& hook = detail::load_hook();
    options.keep_kernels = hook != nullptr;
    const compiler::Compilation compilation = compiler::compile(graph, options);
    if (hook) hook(compilation);
    run_threads(compilation.plan, interface, inputs, expected, mode, comparison);
  } catch (const std::exception& error) {
    comparison.mismatches.push_back(std::string("error: ") + error.what());
  }
  for (std::string& line : comparison.mismatches) {
    line = fmt::format("{}: {}", mode.text(), line);
  }
  return comparison;
}

}  // namespace weft::check
