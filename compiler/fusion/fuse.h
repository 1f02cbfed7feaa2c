#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "compiler/compile.h"
#include "compiler/fusion/position.h"
#include "ops/op.h"

namespace weft::compiler {

/// One kernel to be: at most one anchor, several reductions over the same rows, two products that
/// share an operand, or a product and the sum of its operand; the pointwise nodes that are computed
/// with it, what it reads from memory and what it stores.
struct Group {
  std::string name;                      ///< "dot_elw.12"
  std::string kind;                      ///< "dot_elw"
  const ir::Node* anchor = nullptr;      ///< the first one
  std::vector<const ir::Node*> anchors;  ///< all, in order
  /// Beside a dot: the sum of its right operand over the contracted axes, or null.
  const ir::Node* operand_sum = nullptr;
  Rows rows;                       ///< set where the kernel runs row by row
  std::vector<ir::Value> roots;    ///< pointwise values that have an index of their own
  std::vector<ir::Value> outputs;  ///< stored: roots, or the anchor's result
  std::vector<ir::Value> inputs;   ///< loaded
  /// For each input, whether an element is read only where the element at the same row-major
  /// position is stored: an output may then share its memory.
  std::vector<bool> identity;
  std::vector<const ir::Node*> members;  ///< everything computed inside, in order of execution
};

struct FusedRegion;

/// One thing to execute: a kernel, several that do not depend on each other (a segmented kernel),
/// or a node that is not a kernel (loop, feeder, receiver, state_write).
struct Item {
  std::vector<Group*> groups;
  const ir::Node* node = nullptr;
  std::unique_ptr<FusedRegion> body;  ///< of a loop
  std::vector<ir::Value> reads;       ///< of memory; a loop's include what its body captures
  std::vector<ir::Value> writes;
};

struct FusedRegion {
  const ir::Region* region = nullptr;
  std::vector<Item> items;  ///< in order of execution
};

/// Why `consumer` is not computed with `producer`; without a consumer, why the producer's value is
/// stored, whoever reads it. compiler/fusion/refusals.h makes the whole picture of them.
struct Refusal {
  const ir::Node* producer = nullptr;
  const ir::Node* consumer = nullptr;
  std::string reason;
};

/// Why two kernels that read one tensor at the same positions are not one that reads it once.
struct Siblings {
  const ir::Node* first = nullptr;
  const ir::Node* second = nullptr;
  ir::Value shared;
  std::string reason;
};

struct FusedGraph {
  std::deque<Group> groups;
  FusedRegion body;
  std::vector<Refusal> refusals;
  std::vector<Siblings> sibling_refusals;
};

/// Whether a value never has memory of its own because every reader can make it for nothing.
bool is_immediate(const ir::Node& node);
/// Whether the node heads a kernel of its own kind: reduction, scan, dot, fft, scatter.
bool is_anchor(const ir::Node& node);
/// Whether the node's results are in memory before any kernel of its region runs (state, scalar,
/// constant data, region arguments).
bool is_source(const ir::Node& node);

/// Merges pointwise nodes with their anchors and with each other. A value that every reader can
/// rebuild for fewer bytes than storing and loading it would move is not stored. With `fuse` false
/// every op is a kernel of its own. The order of items lets states and carried values be updated in
/// place: readers of the old value come first where dependences allow.
/// `together`: the target has schedules for products that share an operand, and for sums of an
/// operand beside a product.
FusedGraph fuse(const ir::Graph& graph, bool fuse = true, bool together = true);

}  // namespace weft::compiler
