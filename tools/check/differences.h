#pragma once

#include <optional>
#include <string>
#include <vector>

#include "compiler/ir/graph.h"
#include "compiler/object_cache.h"
#include "tools/check/bounds.h"
#include "tools/check/run.h"

/// Graphs compiled in several ways and compared with the reference evaluation.
namespace weft::check {

/// One way to compile and run.
struct Mode {
  bool fuse = true;
  std::vector<int> threads = {1};  ///< of the executor; all must give the same bits
  std::string gpu = {};            ///< "sm_90a": on a GPU of this kind; "": on this machine
  int device = 0;                  ///< the GPU's number
  // On a GPU:
  bool library_transforms = false;  ///< Fourier transforms by its library
  /// Toeplitz operators that may be products on matrix units; nothing: where that is counted to be
  /// faster.
  std::optional<bool> tno_by_products = std::nullopt;
  compiler::ObjectCache* cache = nullptr;

  std::string text() const;
};

/// Compiles and runs the graph, and compares with what the reference evaluation expects. Says what
/// is wrong, a line each; nothing where all is well. Errors thrown are lines as well.
Comparison differences(const ir::Graph& graph, const Interface& interface, const Inputs& inputs,
                       const std::vector<Bounded>& expected, const Mode& mode);

}  // namespace weft::check
