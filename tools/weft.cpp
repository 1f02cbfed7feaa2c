#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <new>
#include <string>

#include "compiler/ir/text.h"
#include "ops/op.h"
#include "runtime/plan/error.h"
#include "tools/command.h"

namespace weft::command {

namespace {

// A graph's text is small; what is larger is something else, such as a device that never ends.
constexpr std::size_t most_bytes = std::size_t{1} << 30;

std::string read_stream(std::istream& stream, const std::string& path) {
  std::string text;
  char piece[1 << 16];
  while (stream.read(piece, sizeof piece) || stream.gcount() > 0) {
    text.append(piece, static_cast<std::size_t>(stream.gcount()));
    if (text.size() > most_bytes) throw Error(path + ": larger than 1 GiB, not a graph's text");
  }
  if (stream.bad()) throw Error(path + ": cannot be read");
  return text;
}

}  // namespace

std::string read_text(const std::string& path) {
  if (path == "-") return read_stream(std::cin, "<stdin>");
  std::ifstream stream(path, std::ios::binary);
  if (stream) stream.peek();  // a folder opens, and fails here
  if (!stream.is_open() || stream.bad()) throw Error(path + ": cannot be read");
  return read_stream(stream, path);
}

ir::Graph read_graph(const std::string& path) {
  ir::Graph graph = ir::parse(read_text(path), ops::table(), path == "-" ? "<stdin>" : path);
  ir::verify(graph, "parse");
  return graph;
}

}  // namespace weft::command

int main(int argc, char** argv) {
  using namespace weft::command;
  try {
    CLI::App app{"weft: inspect, transform and run tensor graphs in their text form"};
    app.set_version_flag("--version", "weft " WEFT_VERSION);
    app.require_subcommand(0, 1);  // checked below: CLI11 would hide a misspelt one
    Action chosen;
    add_opt(app, chosen);
    add_run(app, chosen);
    add_ops(app, chosen);
    add_dump(app, chosen);
    add_profile(app, chosen);
    add_explain(app, chosen);
    add_bench(app, chosen);
    add_devices(app, chosen);
    add_selftest(app, chosen);
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      // Help and the version are "errors" with code 0.
      return app.exit(error) == 0 ? 0 : 2;
    }
    if (!chosen) throw weft::Error("a subcommand is required; `weft --help` lists them");
    const int code = chosen();
    std::cout.flush();
    if (!std::cout) throw weft::Error("the output could not be written");
    return code;
  } catch (const std::bad_alloc&) {
    std::cerr << "weft: out of memory\n";
  } catch (const std::exception& error) {
    std::cerr << "weft: " << error.what() << '\n';
  }
  return 2;
}
