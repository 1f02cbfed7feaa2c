#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "compiler/compile.h"
#include "compiler/ir/text.h"
#include "tools/command.h"

namespace weft::command {

namespace {

struct OptOptions {
  std::string file;
  std::vector<std::string> passes;
  std::vector<std::string> print_after;
  bool locations = false;
  bool list = false;
};

int opt(const OptOptions& options) {
  const std::vector<std::string> known = compiler::pass_names();
  if (options.list) {
    for (const std::string& name : known) std::cout << name << '\n';
    return 0;
  }
  if (options.file.empty()) throw Error("weft opt needs a FILE ('-': standard input)");
  // Names are checked before anything runs.
  const auto check = [&](const std::string& name) {
    if (std::find(known.begin(), known.end(), name) != known.end()) return;
    std::string message = "no pass '" + name + "'; there are";
    for (const std::string& other : known) message += ' ' + other;
    throw Error(message);
  };
  std::for_each(options.passes.begin(), options.passes.end(), check);
  const bool print_all = std::count(options.print_after.begin(), options.print_after.end(), "all");
  if (!print_all) std::for_each(options.print_after.begin(), options.print_after.end(), check);

  const ir::TextOptions text{.locations = options.locations};
  ir::Graph graph = read_graph(options.file);
  std::string before = ir::print(graph, text);
  for (const std::string& pass : options.passes) {
    compiler::run_pass(graph, pass);
    ir::verify(graph, pass);
    std::string after = ir::print(graph, text);
    if (print_all || std::count(options.print_after.begin(), options.print_after.end(), pass)) {
      // Comments of the text form, so that the output can be read back from any of them.
      std::cerr << "// after " << pass << (after == before ? " (unchanged)\n" : "\n" + after);
    }
    before = std::move(after);
  }
  std::cout << before;
  return 0;
}

}  // namespace

void add_opt(CLI::App& app, Action& chosen) {
  auto options = std::make_shared<OptOptions>();
  CLI::App* command = app.add_subcommand("opt", "Run named passes on a graph; prints the result");
  command->add_option("FILE", options->file, "The graph's text; '-' is the standard input");
  command->add_option("--passes", options->passes, "Names, in order: a,b,c")->delimiter(',');
  command
      ->add_option("--print-after", options->print_after,
                   "Print the graph on stderr after these passes, or after all")
      ->delimiter(',');
  command->add_flag("--locations", options->locations, "Print the user's lines");
  command->add_flag("--list", options->list, "List the passes, in the pipeline's order");
  command->callback([options, &chosen] { chosen = [options] { return opt(*options); }; });
}

}  // namespace weft::command
