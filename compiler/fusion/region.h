#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "compiler/fusion/fuse.h"

/// How the nodes of one region become kernels: what the steps of fuse() share.
namespace weft::compiler {

class RegionFuser {
 public:
  RegionFuser(FusedGraph& fused, const ir::Region& region, bool enabled, bool together)
      : fused_(fused), region_(region), enabled_(enabled), together_(together) {}

  FusedRegion run();

 private:
  using Node = ir::Node;
  using Value = ir::Value;

  struct Read {
    Value value;
    Position at;  ///< as the reader's position; a reduction over rows is at its operand's
  };
  struct Use {
    const Node* user;
    std::size_t operand;
  };
  struct Info {
    int position = -1;
    std::vector<Use> uses;
    bool escapes = false;              ///< needed in memory by something that is not a kernel
    std::set<std::uint32_t> escaping;  ///< the results that are
    void escape(std::uint32_t result) {
      escapes = true;
      escaping.insert(result);
    }
    bool is_virtual = false;
    int cost = 0;           ///< operations an element, virtual operands included
    double leaf_bytes = 0;  ///< bytes read to rebuild the whole value
    int vertex = -1;
  };
  /// A node of the graph that is merged: a kernel, or a node that is not one.
  struct Vertex {
    std::vector<const Node*> anchors;   ///< several: over `rows`, or products with a common operand
    const Node* operand_sum = nullptr;  ///< the anchor that is a dot's operand summed beside it
    const Node* other = nullptr;        ///< loop, feeder, ...
    Rows rows;
    std::vector<const Node*> roots;
    std::set<int> successors;
    std::set<int> predecessors;
    std::int64_t elements = 0;
    bool merged_away = false;
  };

  bool here(const Node& node) const { return node.parent == &region_ && info_.count(&node) != 0; }
  static bool pointwise(const Node& node) { return ops::is_pointwise(node); }
  Vertex& vertex(int index) { return vertices_[static_cast<std::size_t>(index)]; }

  // values.cpp: which values are not stored

  void number();
  void escape(const ir::Region& region);
  /// Kernels rebuild immediate values; anything else reads memory.
  bool needs_memory(const Node& user, Value v) const;
  void count_uses();
  /// Whether a reader may rebuild the value at each element that it reads.
  bool reader_accepts(const Info& info, const Use& use, const Node& node) const;
  void choose_virtual();
  void refuse_recomputing(const Node& node, std::size_t readers);
  /// Ahead of a transform a value is computed where fewer bytes are read for it: the kernel that
  /// made the last of its operands stores it in place of that, where it has the others at hand.
  void move_to_producers();
  bool is_better_stored(const Node& node) const;

  // merge.cpp: which kernels are one

  int new_vertex();
  void make_vertices();
  void link(Value value, int reader);
  void collect(Value value, Position at, std::vector<Read>& out,
               std::set<std::pair<const Node*, Position>>& seen) const;
  /// What a materialised node reads from memory, virtual operands expanded.
  std::vector<Read> reads(const Node& node) const;
  void captures(const ir::Region& region, std::vector<Read>& out) const;
  /// Whether `from` reaches `to` through some other vertex.
  bool reaches_around(int from, int to);
  /// Everything that the vertex computes and that reads: anchors and roots.
  static std::vector<const Node*> heads(const Vertex& v);
  std::size_t input_count(const Vertex& a, const Vertex& b) const;
  /// The rows that both may run over, or none.
  static Rows common_rows(const Vertex& p, const Vertex& c);
  /// Whether it is to be scheduled by rows: its anchors alone would be a reduction.
  static bool runs_over_rows(const Vertex& v);
  /// Whether the reader finds what it reads in its own row.
  static bool in_row(const Node& reader, const Read& read, const Rows& rows);
  /// Why `consumer` cannot be computed in `producer`'s kernel, or "".
  std::string obstacle(int producer, int consumer);
  void unite(int keep, int drop);
  void merge();
  /// Pointwise kernels over equal shapes that read the same tensor at the same position: one reads
  /// it for both.
  void merge_siblings();
  /// Why the kernels of two readers of one tensor are not merged, or "".
  std::string sibling_obstacle(const Node& first, const Node& second);
  /// Sums of a product's right operand over the contracted axes, such as the gradient of a bias
  /// beside that of the weights: the product reads all of it anyway.
  void merge_operand_sums();

  // groups.cpp: the result

  void gather_members(Value value, std::set<std::pair<int, const Node*>>& members) const;
  Group& make_group(int index);
  /// Whether `user`, or a kernel that rebuilds it, is outside of the vertex.
  bool needed_elsewhere(const Node& user, int index) const;
  void name_group(Group& group, int);
  FusedRegion build();

  FusedGraph& fused_;
  const ir::Region& region_;
  bool enabled_;
  bool together_;  ///< products may share a kernel with another product or a sum
  std::unordered_map<const Node*, Info> info_;
  std::vector<Vertex> vertices_;
  std::unordered_set<int> built_;
};

}  // namespace weft::compiler
