#pragma once

#include <string>
#include <vector>

#include "compiler/ir/graph.h"
#include "tools/check/bounds.h"
#include "tools/check/run.h"

/// Graphs compiled in several ways and compared with the reference evaluation.
namespace weft::test {

/// One way to compile and run.
struct Mode {
  bool fuse = true;
  std::vector<int> threads = {1};  ///< of the executor; all must give the same bits

  std::string text() const { return fuse ? "fused" : "every op alone"; }
};

/// Compiles and runs the graph, and compares with what the reference evaluation expects. Says what
/// is wrong, a line each; nothing where all is well. Errors thrown are lines as well.
check::Comparison differences(const ir::Graph& graph, const check::Interface& interface,
                              const check::Inputs& inputs,
                              const std::vector<check::Bounded>& expected, const Mode& mode);

/// Writes a text to a folder of this test's below the build folder; returns the path.
std::string save(const std::string& file_name, const std::string& text);

}  // namespace weft::test
