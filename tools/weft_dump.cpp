#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <string>

#include "compiler/compile.h"
#include "compiler/dump.h"
#include "compiler/ir/text.h"
#include "ops/op.h"
#include "tools/command.h"

namespace weft::command {

namespace {

struct DumpOptions {
  std::string file;
  std::string stage = "fused";
  std::string format = "text";
  bool fuse = true;
};

std::string graph_dump(const ir::Graph& graph, const std::string& format) {
  if (format == "dot") return compiler::graph_dot(graph);
  if (format == "json") return compiler::graph_json(graph);
  return ir::print(graph);
}

std::string dump_text(const DumpOptions& options) {
  const std::string& stage = options.stage;
  const bool drawn = stage == "traced" || stage == "simplified" || stage == "kernels";
  if (!drawn && options.format != "text") {
    throw Error("stage '" + stage + "' has no " + options.format +
                " format; traced, simplified and kernels have");
  }
  const ir::Graph graph = read_graph(options.file);
  if (stage == "traced") return graph_dump(graph, options.format);

  compiler::CompileOptions compile_options;
  compile_options.fuse = options.fuse;
  compile_options.keep_assembly = stage == "assembly";
  const compiler::Compilation compilation = compiler::compile(graph, compile_options);
  if (stage == "simplified") {
    if (options.format == "text") return compilation.simplified;
    return graph_dump(ir::parse(compilation.simplified, ops::table(), "<simplified>"),
                      options.format);
  }
  if (stage == "fused") return compilation.fused;
  if (stage == "refusals") return compiler::refusals_text(compilation);
  if (stage == "loops") return compiler::loops_text(compilation);
  if (stage == "assembly") return compiler::assembly_text(compilation);
  if (options.format == "dot") return compiler::kernels_dot(compilation);
  if (options.format == "json") return compiler::kernels_json(compilation);
  return compiler::kernels_text(compilation);
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
