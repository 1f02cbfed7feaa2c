#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <string>

#include "compiler/compile.h"
#include "compiler/dump.h"
#include "frontend/device.h"
#include "frontend/kernel_cache.h"
#include "tools/command.h"

namespace weft::command {

namespace {

struct DumpOptions {
  std::string file;
  std::string stage = "fused";
  std::string format = "text";
  std::string device = "cpu";
  std::string gpu;
  bool fuse = true;
  bool tensor_copies = true;
};

std::string dump_text(const DumpOptions& options) {
  const compiler::DumpFormat format = *compiler::parse_dump_format(options.format);
  const ir::Graph graph = read_graph(options.file);
  if (options.stage == "traced") return compiler::dump(graph, format);
  const std::shared_ptr<detail::KernelCache> cache = detail::kernel_cache();
  compiler::CompileOptions compile_options;
  compile_options.fuse = options.fuse;
  compile_options.tensor_copies = options.tensor_copies;
  // For a GPU of a given kind none is needed.
  compile_options.gpu = options.gpu.empty() ? detail::find_device(options.device).gpu : options.gpu;
  compile_options.cache = cache.get();
  compile_options.keep_assembly = compiler::needs_assembly(options.stage);
  return compiler::dump(compiler::compile(graph, compile_options), options.stage, format);
}

}  // namespace

void add_dump(CLI::App& app, Action& chosen) {
  auto options = std::make_shared<DumpOptions>();
  CLI::App* command = app.add_subcommand("dump", "What the compiler makes of a graph");
  command->add_option("FILE", options->file, "The graph's text; '-' is the standard input")
      ->required();
  command
      ->add_option("--stage", options->stage,
                   "traced, simplified, fused (default), kernels, refusals, loops or assembly")
      ->check(CLI::IsMember(
          {"traced", "simplified", "fused", "kernels", "refusals", "loops", "assembly"}));
  command->add_option("--format", options->format, "text (default), dot or json")
      ->check(CLI::IsMember({"text", "dot", "json"}));
  CLI::Option* device = command->add_option("--device", options->device, device_help);
  command
      ->add_option(
          "--gpu", options->gpu,
          "For a GPU of this kind, such as sm_90a, whether or not there is one; its assembly "
          "is PTX")
      ->excludes(device);
  command->add_flag("!--no-fuse", options->fuse, "Every op is a kernel of its own");
  command->add_flag("!--no-tensor-copies", options->tensor_copies,
                    "GPUs of sm_90a: operands of products come by asynchronous copies");
  command->callback([options, &chosen] {
    chosen = [options] {
      std::cout << dump_text(*options);
      return 0;
    };
  });
}

}  // namespace weft::command
