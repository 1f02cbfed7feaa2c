#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <string>

#include "compiler/compile.h"
#include "compiler/dump.h"
#include "frontend/kernel_cache.h"
#include "tools/command.h"

namespace weft::command {

namespace {

struct DumpOptions {
  std::string file;
  std::string stage = "fused";
  std::string format = "text";
  bool fuse = true;
};

std::string dump_text(const DumpOptions& options) {
  const compiler::DumpFormat format = *compiler::parse_dump_format(options.format);
  const ir::Graph graph = read_graph(options.file);
  if (options.stage == "traced") return compiler::dump(graph, format);
  const std::shared_ptr<detail::KernelCache> cache = detail::kernel_cache();
  compiler::CompileOptions compile_options;
  compile_options.fuse = options.fuse;
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
  command->add_flag("!--no-fuse", options->fuse, "Every op is a kernel of its own");
  command->callback([options, &chosen] {
    chosen = [options] {
      std::cout << dump_text(*options);
      return 0;
    };
  });
}

}  // namespace weft::command
