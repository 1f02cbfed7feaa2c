#pragma once

#include <string>
#include <unordered_map>

#include "compiler/loop/kernel.h"

namespace weft::loop {

/// Writes expressions. Variables are numbered in order of appearance where `renumber` is set, so
/// that the text does not depend on what was built and dropped; else by their ids.
class ExpressionPrinter {
 public:
  explicit ExpressionPrinter(bool renumber, bool buffer_names)
      : renumber_(renumber), buffer_names_(buffer_names) {}

  /// The text of `expr`. Shared subexpressions that are not small become lines "%n = ..." which
  /// are appended to `lines`, each with `indent`: the text stays linear in the size of the DAG.
  std::string print(Ex expr, std::string& lines, const std::string& indent);
  std::string buffer(const Buffer* buffer);
  /// Forgets the "%n" of the statements before.
  void new_statement() { shared_.clear(); }

 private:
  std::string text(Ex expr);
  void count(Ex expr);
  std::string variable(Ex expr);

  bool renumber_;
  bool buffer_names_;
  int next_shared_ = 0;
  std::unordered_map<Ex, std::string> shared_;
  std::unordered_map<Ex, int> uses_;
  std::unordered_map<Ex, long> sizes_;
  std::unordered_map<Ex, int> variables_;
  std::unordered_map<const Buffer*, int> buffers_;
  std::string* lines_ = nullptr;
  const std::string* indent_ = nullptr;
};

}  // namespace weft::loop
