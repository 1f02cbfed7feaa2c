#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "compiler/compile.h"
#include "compiler/explain.h"
#include "compiler/ir/text.h"
#include "frontend/kernel_cache.h"
#include "tools/command.h"

namespace weft::command {

namespace {

struct ExplainOptions {
  std::string file;
  std::vector<std::string> nodes;
  std::string gpu;
  bool fuse = true;
};

/// The compiled graph's names for a node that the user gave: its own, or, for a name of the file
/// that simplification left no node of, those of the nodes that were made of the same line.
std::vector<std::string> compiled_names(const ir::Graph& graph,
                                        const compiler::Compilation& compilation,
                                        const std::string& name) {
  std::string line;
  const ir::Names names(graph);
  ir::walk(graph.body(), [&](const ir::Node& node) {
    if (names(node) == name) line = node.location.text();
  });
  std::vector<std::string> found;
  for (const compiler::KernelReport& kernel : compilation.kernels) {
    for (const compiler::NodeReport& node : kernel.nodes) {
      if (node.name == name && (line.empty() || node.location == line)) return {name};
      const bool same = !line.empty() && node.location == line;
      if (same && std::find(found.begin(), found.end(), node.name) == found.end()) {
        found.push_back(node.name);
      }
    }
  }
  if (found.empty()) found.push_back(name);
  return found;
}

std::string explain_text(const ExplainOptions& options) {
  const ir::Graph graph = read_graph(options.file);
  const std::shared_ptr<detail::KernelCache> cache = detail::kernel_cache();
  compiler::CompileOptions compile_options;
  compile_options.fuse = options.fuse;
  compile_options.gpu = options.gpu;
  compile_options.cache = cache.get();
  const compiler::Compilation compilation = compiler::compile(graph, compile_options);
  if (options.nodes.empty()) return compiler::explain(compilation);
  if (options.nodes.size() != 2) throw Error("explain: two nodes, or none for all");
  const auto percent = [](const std::string& name) {
    return name.starts_with('%') ? name : '%' + name;
  };
  std::string text;
  for (const std::string& a : compiled_names(graph, compilation, percent(options.nodes[0]))) {
    for (const std::string& b : compiled_names(graph, compilation, percent(options.nodes[1]))) {
      if (!text.empty()) text += '\n';
      text += compiler::explain(compilation, a, b);
    }
  }
  return text;
}

}  // namespace

void add_explain(CLI::App& app, Action& chosen) {
  auto options = std::make_shared<ExplainOptions>();
  CLI::App* command = app.add_subcommand(
      "explain", "Why nodes are not one kernel: all that was refused, or for two of them");
  command->add_option("FILE", options->file, "The graph's text; '-' is the standard input")
      ->required();
  command
      ->add_option("NODES", options->nodes,
                   "Two nodes, such as %a %5: names of the file, or of `weft dump --stage fused`")
      ->expected(0, 2);
  command->add_option("--gpu", options->gpu, "For a GPU of this kind, such as sm_90a");
  command->add_flag("!--no-fuse", options->fuse, "Every op is a kernel of its own");
  command->callback([options, &chosen] {
    chosen = [options] {
      std::cout << explain_text(*options);
      return 0;
    };
  });
}

}  // namespace weft::command
