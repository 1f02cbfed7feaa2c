#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "compiler/compile.h"
#include "compiler/ir/graph.h"

namespace weft::detail {

/// What WEFT_DUMP=FOLDER asks for: every compilation leaves the graph after each pass (readable by
/// `weft opt` and `weft run`), what was fused and refused, and the kernels' loops and assembly, in
/// FOLDER/<program's name>/.
class DumpFiles {
 public:
  /// nullptr where the environment does not ask for files. Throws Error where the folder cannot be
  /// made.
  static std::unique_ptr<DumpFiles> open(const std::string& program);

  void graph(std::string_view stage, const ir::Graph& graph);
  void compilation(const compiler::Compilation& compilation);

 private:
  explicit DumpFiles(std::filesystem::path folder) : folder_(std::move(folder)) {}
  void write(const std::string& file, std::string_view text) const;

  std::filesystem::path folder_;
  int number_ = 0;
};

}  // namespace weft::detail
