#pragma once

#include <functional>
#include <string>

#include "compiler/ir/graph.h"

namespace CLI {
class App;
}

/// The subcommands of `weft`: each adds itself to the command line and, where it was chosen, sets
/// what main() calls. The result is the exit code: 0, or 1 where a check found a difference.
namespace weft::command {

using Action = std::function<int()>;

void add_opt(CLI::App& app, Action& chosen);       ///< runs named passes on a graph's text
void add_run(CLI::App& app, Action& chosen);       ///< compiled against reference evaluation
void add_ops(CLI::App& app, Action& chosen);       ///< the table of operations
void add_dump(CLI::App& app, Action& chosen);      ///< what the compiler made of a graph
void add_profile(CLI::App& app, Action& chosen);   ///< what a graph's kernels take
void add_explain(CLI::App& app, Action& chosen);   ///< why two nodes are not one kernel
void add_bench(CLI::App& app, Action& chosen);     ///< measurements beside those of peers
void add_devices(CLI::App& app, Action& chosen);   ///< the machine and its GPUs
void add_selftest(CLI::App& app, Action& chosen);  ///< whether a device computes what it should

/// What `--device` says of itself.
inline constexpr const char* device_help = "cpu (default), cuda or cuda:1";

/// A file's text; "-" is the standard input. Throws Error where it cannot be read.
std::string read_text(const std::string& path);
/// Reads and parses a graph, runs the verifier.
ir::Graph read_graph(const std::string& path);

}  // namespace weft::command
