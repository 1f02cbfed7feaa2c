#include "compiler/fusion/fuse.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <queue>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "compiler/fusion/order.h"
#include "compiler/fusion/segments.h"

namespace weft::compiler {

using ir::Node;
using ir::Pattern;
using ir::Region;
using ir::Value;

bool is_immediate(const Node& node) {
  return node.operands.empty() && node.op->pattern != Pattern::random && ops::is_pointwise(node);
}

bool is_source(const Node& node) {
  return node.is("state") || node.is("scalar") || node.is("constant_data") || node.is("argument");
}

bool is_anchor(const Node& node) {
  switch (node.op->pattern) {
    case Pattern::reduction:
    case Pattern::scan:
    case Pattern::dot:
    case Pattern::fft:
    case Pattern::tno:
    case Pattern::attention:
    case Pattern::scatter:
      return true;
    default:
      return false;
  }
}

namespace {

/// Above this many operations an element, rebuilding costs a CPU more than the load it saves.
constexpr int cheap_operations = 8;
/// The same for values too large to stay in a cache until they are read again.
constexpr int moderate_operations = 32;
constexpr double uncached_bytes = 1 << 20;
/// Limits on what one kernel may take: arguments are pointers that stay in registers.
constexpr std::size_t maximum_inputs = 24;
constexpr std::size_t maximum_outputs = 12;

struct Read {
  Value value;
  Position at;  ///< as the reader's position; a reduction over rows is at its operand's
};

class RegionFuser {
 public:
  RegionFuser(FusedGraph& fused, const Region& region, bool enabled)
      : fused_(fused), region_(region), enabled_(enabled) {}

  FusedRegion run() {
    number();
    count_uses();
    choose_virtual();
    make_vertices();
    if (enabled_) merge();
    return build();
  }

 private:
  struct Use {
    const Node* user;
    std::size_t operand;
  };
  struct Info {
    int position = -1;
    std::vector<Use> uses;
    bool escapes = false;  ///< needed in memory by something that is not a kernel
    bool is_virtual = false;
    int cost = 0;           ///< operations an element, virtual operands included
    double leaf_bytes = 0;  ///< bytes read to rebuild the whole value
    int vertex = -1;
  };
  /// A node of the graph that is merged: a kernel, or a node that is not one.
  struct Vertex {
    std::vector<const Node*> anchors;  ///< several: reductions over `rows`
    const Node* other = nullptr;       ///< loop, feeder, ...
    Rows rows;
    std::vector<const Node*> roots;
    std::set<int> successors;
    std::set<int> predecessors;
    std::int64_t elements = 0;
    bool merged_away = false;
  };

  bool here(const Node& node) const { return node.parent == &region_ && info_.count(&node) != 0; }
  bool pointwise(const Node& node) const { return ops::is_pointwise(node); }

  void number() {
    int position = 0;
    for (const Node* node : region_.nodes) info_[node].position = position++;
  }

  void escape(const Region& region) {
    for (const Node* node : region.nodes) {
      for (Value v : node->operands) {
        if (here(*v.node) && needs_memory(*node, v)) info_[v.node].escapes = true;
      }
      for (const Region* nested : node->regions) escape(*nested);
    }
    for (Value v : region.yields) {
      if (here(*v.node)) info_[v.node].escapes = true;
    }
  }
  /// Kernels rebuild immediate values; anything else reads memory.
  bool needs_memory(const Node& user, Value v) const {
    return !is_immediate(*v.node) || !(pointwise(user) || is_anchor(user));
  }

  void count_uses() {
    for (const Node* node : region_.nodes) {
      const bool kernel = pointwise(*node) || is_anchor(*node);
      for (std::size_t i = 0; i < node->operands.size(); ++i) {
        const Node* producer = node->operands[i].node;
        if (!here(*producer)) continue;
        if (kernel) {
          info_[producer].uses.push_back({node, i});
        } else {
          info_[producer].escapes = true;
        }
      }
      for (const Region* nested : node->regions) escape(*nested);
    }
    for (Value v : region_.yields) {
      if (here(*v.node)) info_[v.node].escapes = true;
    }
  }

  /// Whether a reader may rebuild the value at each element that it reads.
  bool reader_accepts(const Info& info, const Use& use, const Node& node) const {
    const Node& user = *use.user;
    const bool movement_only = info.cost == 0;
    // Each element is read many times.
    if (user.op->pattern == Pattern::dot || user.op->pattern == Pattern::attention) {
      return movement_only;
    }
    if (user.op->pattern == Pattern::scatter) return use.operand != 1 || movement_only;
    if (user.is("gather") || user.is("dynamic_slice") || user.is("dynamic_update_slice")) {
      // Indices are read once for each element of the window.
      if (user.is("gather") ? use.operand == 1 : node.results[0].rank() == 0) {
        return info.cost <= 2;
      }
    }
    if (user.is("broadcast")) {
      // Along trailing axes the value is invariant in the inner loop; along leading ones it is
      // computed anew for each row.
      const Shape& from = node.results[0].shape;
      const Shape& to = user.results[0].shape;
      const int offset = to.rank() - from.rank();
      bool inner_kept = false;
      for (int axis = to.rank() - 1; axis >= 0 && !inner_kept; --axis) {
        const bool expanded = axis < offset || (from[axis - offset] == 1 && to[axis] != 1);
        if (!expanded && to[axis] != 1) inner_kept = true;
        if (expanded && to[axis] != 1 && !inner_kept) return info.cost <= 4 * cheap_operations;
      }
      if (from.elements() != to.elements()) return info.cost <= 2;
    }
    return true;
  }

  void choose_virtual() {
    for (const Node* node : region_.nodes) {
      Info& info = info_[node];
      if (!pointwise(*node)) continue;
      info.cost = ops::row(*node).cost;
      if (node->op->pattern == Pattern::movement) info.cost = 0;
      std::unordered_set<const Node*> seen;
      for (Value v : node->operands) {
        const double bytes = static_cast<double>(
            std::min(v.type().bytes(),
                     node->results[0].elements() * static_cast<std::int64_t>(size_of(v.dtype()))));
        if (!seen.insert(v.node).second) continue;
        if (here(*v.node) && info_[v.node].is_virtual) {
          info.cost += info_[v.node].cost;
          info.leaf_bytes += info_[v.node].leaf_bytes;
        } else if (!is_immediate(*v.node)) {
          info.leaf_bytes += bytes;
        }
      }
      if (is_immediate(*node)) {
        info.is_virtual = !info.escapes || node->is("constant");
        // A constant that is yielded or received needs memory after all.
        if (info.escapes) info.is_virtual = false;
        continue;
      }
      if (!enabled_ || info.escapes || info.uses.empty() || node->is("keep")) continue;
      bool accepted = true;
      for (const Use& use : info.uses) {
        if (!reader_accepts(info, use, *node)) {
          accepted = false;
          fused_.refusals.push_back({node, use.user, "the reader would compute it more than once"});
          break;
        }
      }
      if (!accepted) continue;
      std::unordered_set<const Node*> readers;
      for (const Use& use : info.uses) readers.insert(use.user);
      const auto count = static_cast<double>(readers.size());
      if (readers.size() == 1) {
        info.is_virtual = true;
      } else {
        const auto bytes = static_cast<double>(node->results[0].bytes());
        const bool cheap =
            info.cost <= cheap_operations && info.leaf_bytes * count <= bytes * (count + 1);
        // Memory is slower than caches: what does not stay in them may take more to rebuild.
        const bool cheaper_than_memory =
            bytes >= uncached_bytes && info.cost <= moderate_operations && info.leaf_bytes <= bytes;
        info.is_virtual = cheap || cheaper_than_memory;
        if (!info.is_virtual) refuse_recomputing(*node, readers.size());
      }
    }
  }

  void refuse_recomputing(const Node& node, std::size_t readers) {
    const Info& info = info_[&node];
    const auto bytes = static_cast<double>(node.results[0].bytes());
    const auto count = static_cast<double>(readers);
    const std::string reason =
        info.cost > cheap_operations
            ? fmt::format("it has {} readers, and {} operations an element are too many to repeat",
                          readers, info.cost)
            : fmt::format(
                  "its {} readers would read {:.0f} bytes to rebuild it; storing and "
                  "loading it moves {:.0f}",
                  readers, info.leaf_bytes * count, bytes * (count + 1));
    fused_.refusals.push_back({&node, nullptr, reason});
  }

  int new_vertex() {
    vertices_.emplace_back();
    return static_cast<int>(vertices_.size()) - 1;
  }

  void make_vertices() {
    for (const Node* node : region_.nodes) {
      Info& info = info_[node];
      if (info.is_virtual || is_source(*node)) continue;
      if (pointwise(*node) && info.uses.empty() && !info.escapes) continue;  // dead
      info.vertex = new_vertex();
      Vertex& vertex = vertices_.back();
      if (pointwise(*node)) {
        vertex.roots.push_back(node);
      } else if (is_anchor(*node)) {
        vertex.anchors.push_back(node);
        vertex.rows = rows_of(*node);
      } else {
        vertex.other = node;
      }
      if (!node->results.empty()) vertex.elements = node->results[0].elements();
      for (const Read& read : reads(*node)) link(read.value, info.vertex);
    }
  }

  void link(Value value, int reader) {
    if (!here(*value.node)) return;
    const int producer = info_[value.node].vertex;
    if (producer < 0 || producer == reader) return;
    vertices_[static_cast<std::size_t>(producer)].successors.insert(reader);
    vertices_[static_cast<std::size_t>(reader)].predecessors.insert(producer);
  }

  void collect(Value value, Position at, std::vector<Read>& out,
               std::set<std::pair<const Node*, Position>>& seen) const {
    const Node& node = *value.node;
    if (is_immediate(node)) return;
    if (!here(node) || !info_.at(&node).is_virtual) {
      out.push_back({value, at});
      return;
    }
    if (!seen.insert({&node, at}).second) return;
    const Position inside = through(node, at);
    for (Value operand : node.operands) collect(operand, inside, out, seen);
  }

  /// What a materialised node reads from memory, virtual operands expanded.
  std::vector<Read> reads(const Node& node) const {
    std::vector<Read> out;
    std::set<std::pair<const Node*, Position>> seen;
    Position at;
    if (pointwise(node)) at = through(node, at_own_position);
    if (rows_of(node)) at = at_own_position;
    const bool kernel = pointwise(node) || is_anchor(node);
    for (Value operand : node.operands) {
      if (kernel) {
        collect(operand, at, out, seen);
      } else {
        out.push_back({operand, {}});
      }
    }
    if (!node.regions.empty()) {
      for (const Region* nested : node.regions) captures(*nested, out);
    }
    return out;
  }

  void captures(const Region& region, std::vector<Read>& out) const {
    for (const Node* node : region.nodes) {
      for (Value v : node->operands) {
        if (v.node->parent != &region && needs_memory(*node, v)) out.push_back({v, {}});
      }
      for (const Region* nested : node->regions) captures(*nested, out);
    }
    for (Value v : region.yields) {
      if (v.node->parent != &region) out.push_back({v, {}});
    }
  }

  Vertex& vertex(int index) { return vertices_[static_cast<std::size_t>(index)]; }

  /// Whether `from` reaches `to` through some other vertex.
  bool reaches_around(int from, int to) {
    std::vector<int> stack;
    std::unordered_set<int> seen;
    for (int next : vertex(from).successors) {
      if (next != to) stack.push_back(next);
    }
    while (!stack.empty()) {
      const int current = stack.back();
      stack.pop_back();
      if (current == to) return true;
      if (!seen.insert(current).second) continue;
      for (int next : vertex(current).successors) stack.push_back(next);
    }
    return false;
  }

  /// Everything that the vertex computes and that reads: anchors and roots.
  static std::vector<const Node*> heads(const Vertex& v) {
    std::vector<const Node*> out = v.anchors;
    out.insert(out.end(), v.roots.begin(), v.roots.end());
    return out;
  }

  std::size_t input_count(const Vertex& a, const Vertex& b) const {
    std::set<std::pair<const Node*, std::uint32_t>> inputs;
    for (const Vertex* v : {&a, &b}) {
      for (const Node* head : heads(*v)) {
        for (const Read& read : reads(*head)) inputs.insert({read.value.node, read.value.index});
      }
    }
    return inputs.size();
  }

  /// The rows that both may run over, or none.
  static Rows common_rows(const Vertex& p, const Vertex& c) {
    for (const Vertex* v : {&p, &c}) {
      if (!v->anchors.empty() && !v->rows) return {};
    }
    const Rows rows = p.rows ? p.rows : c.rows;
    if (!rows || (c.rows && !(c.rows == rows))) return {};
    for (const Vertex* v : {&p, &c}) {
      for (const Node* root : v->roots) {
        const Type& type = root->results[0];
        if (is_complex(type.dtype)) return {};
        const std::int64_t elements = type.elements();
        if (elements != rows.rows && elements != rows.rows * rows.columns) return {};
      }
    }
    return rows;
  }

  /// Whether the reader finds what it reads in its own row.
  static bool in_row(const Node& reader, const Read& read, const Rows& rows) {
    const std::int64_t all = rows.rows * rows.columns;
    const bool whole = rows_of(reader) ? true : reader.results[0].elements() == all;
    if (read.value.type().elements() == (whole ? all : rows.rows) && read.at.same()) return true;
    return whole && read.value.type().elements() == rows.rows &&
           read.at.kind == Position::Kind::row && read.at.columns == rows.columns;
  }

  /// Why `consumer` cannot be computed in `producer`'s kernel, or "".
  std::string obstacle(int producer, int consumer) {
    const Vertex& p = vertex(producer);
    const Vertex& c = vertex(consumer);
    if (p.other != nullptr || c.other != nullptr) return "not a kernel";
    const Rows rows = common_rows(p, c);
    if (!rows) {
      if (!c.anchors.empty()) {
        return !p.anchors.empty() ? "each has an anchor"
                                  : "the anchor's operand is stored for other readers";
      }
      if (p.elements != c.elements) return "they run over different numbers of elements";
    }
    for (const Node* anchor : p.anchors) {
      if (anchor->results.size() == 1) continue;
      for (const Node* root : c.roots) {
        for (const Read& read : reads(*root)) {
          if (read.value.node == anchor && read.value.index > 0) {
            return "it reads a second result of the anchor";
          }
        }
      }
    }
    if (!p.anchors.empty() && p.anchors[0]->op->pattern == Pattern::scatter) {
      return "a scatter's result is complete only after its last update";
    }
    if (p.roots.size() + c.roots.size() > maximum_outputs) return "too many outputs";
    for (const Node* head : heads(c)) {
      for (const Read& read : reads(*head)) {
        if (!here(*read.value.node) || info_.at(read.value.node).vertex != producer) continue;
        if (rows ? !in_row(*head, read, rows) : !read.at.same()) {
          return "the reader needs it at other indices";
        }
      }
    }
    if (input_count(p, c) > maximum_inputs) return "too many arguments";
    if (reaches_around(producer, consumer)) return "another kernel must run between them";
    return "";
  }

  void unite(int keep, int drop) {
    Vertex& a = vertex(keep);
    Vertex& b = vertex(drop);
    if (!a.rows) a.rows = b.rows;
    for (const Node* anchor : b.anchors) {
      a.anchors.push_back(anchor);
      info_[anchor].vertex = keep;
    }
    for (const Node* root : b.roots) {
      a.roots.push_back(root);
      info_[root].vertex = keep;
    }
    for (int next : b.successors) {
      vertex(next).predecessors.erase(drop);
      if (next != keep) {
        vertex(next).predecessors.insert(keep);
        a.successors.insert(next);
      }
    }
    for (int previous : b.predecessors) {
      vertex(previous).successors.erase(drop);
      if (previous != keep) {
        vertex(previous).successors.insert(keep);
        a.predecessors.insert(previous);
      }
    }
    a.successors.erase(drop);
    a.predecessors.erase(drop);
    b.merged_away = true;
    b.anchors.clear();
    b.roots.clear();
  }

  void merge() {
    // Producer and consumer: epilogues of anchors, chains of pointwise roots, reductions over rows
    // with what stands between them.
    for (const Node* node : region_.nodes) {
      if (!(pointwise(*node) || rows_of(*node)) || info_[node].vertex < 0) continue;
      for (const Read& read : reads(*node)) {
        if (!here(*read.value.node)) continue;
        const int producer = info_[read.value.node].vertex;
        const int consumer = info_[node].vertex;
        if (producer < 0 || producer == consumer) continue;
        const std::string reason = obstacle(producer, consumer);
        if (reason.empty()) {
          unite(producer, consumer);
        } else {
          fused_.refusals.push_back({read.value.node, node, reason});
        }
      }
    }
    merge_siblings();
  }

  /// Pointwise kernels over equal shapes that read the same tensor at the same position: one reads
  /// it for both.
  void merge_siblings() {
    std::map<std::pair<std::uint32_t, std::uint32_t>, std::vector<const Node*>> readers;
    for (const Node* node : region_.nodes) {
      if (!(pointwise(*node) || rows_of(*node)) || info_[node].vertex < 0) continue;
      for (const Read& read : reads(*node)) {
        if (read.at.same()) readers[{read.value.node->id, read.value.index}].push_back(node);
      }
    }
    for (const auto& [source, nodes] : readers) {
      for (std::size_t i = 1; i < nodes.size(); ++i) {
        const int a = info_[nodes[0]].vertex;
        const int b = info_[nodes[i]].vertex;
        if (a == b) continue;
        const Vertex& first = vertex(a);
        const Vertex& second = vertex(b);
        if (!first.anchors.empty() || !second.anchors.empty()) {
          if (!common_rows(first, second)) continue;
        } else if (!(nodes[0]->results[0].shape == nodes[i]->results[0].shape)) {
          continue;
        }
        if (first.roots.size() + second.roots.size() > maximum_outputs) continue;
        if (input_count(first, second) > maximum_inputs) continue;
        if (first.successors.count(b) != 0 || second.successors.count(a) != 0) continue;
        if (reaches_around(a, b) || reaches_around(b, a)) continue;
        unite(a, b);
      }
    }
  }

  // ---- building the result ----------------------------------------------------------------------

  void gather_members(Value value, std::set<std::pair<int, const Node*>>& members) const {
    const Node& node = *value.node;
    if (!here(node)) return;
    const Info& info = info_.at(&node);
    if (!info.is_virtual) return;
    if (!members.insert({info.position, &node}).second) return;
    for (Value operand : node.operands) gather_members(operand, members);
  }

  Group& make_group(int index) {
    Vertex& v = vertex(index);
    Group& group = fused_.groups.emplace_back();
    const auto earlier = [&](const Node* a, const Node* b) {
      return info_[a].position < info_[b].position;
    };
    group.anchors = v.anchors;
    std::sort(group.anchors.begin(), group.anchors.end(), earlier);
    if (!group.anchors.empty()) group.anchor = group.anchors[0];
    std::set<std::pair<int, const Node*>> members;
    std::sort(v.roots.begin(), v.roots.end(), earlier);
    bool whole_rows = group.anchors.size() > 1;
    for (const Node* root : v.roots) {
      group.roots.push_back({const_cast<Node*>(root), 0});
      whole_rows = whole_rows || root->results[0].elements() != v.rows.rows;
    }
    if (v.rows && whole_rows) group.rows = v.rows;
    std::vector<const Node*> own = group.anchors;
    own.insert(own.end(), v.roots.begin(), v.roots.end());
    std::map<std::pair<const Node*, std::uint32_t>, std::size_t> inputs;
    for (const Node* node : own) {
      members.insert({info_[node].position, node});
      for (Value operand : node->operands) gather_members(operand, members);
      for (const Read& read : reads(*node)) {
        const Node* producer = read.value.node;
        if (here(*producer) && info_[producer].vertex == index) continue;
        const auto [found, added] =
            inputs.insert({{producer, read.value.index}, group.inputs.size()});
        if (added) {
          group.inputs.push_back(read.value);
          group.identity.push_back(true);
        }
        // A row is passed over several times: its inputs must stay as they are until the last. An
        // anchor's further results are written at times of their own.
        const bool one_pass = !group.rows && (!group.anchor || group.anchor->results.size() == 1);
        const bool same = read.at.same() && one_pass && read.value.type().elements() == v.elements;
        if (!same) group.identity[found->second] = false;
      }
    }
    for (const auto& member : members) group.members.push_back(member.second);
    for (const Node* node : own) {
      for (std::uint32_t result = 0; result < node->results.size(); ++result) {
        bool stored = info_[node].escapes;
        for (const Use& use : info_[node].uses) {
          if (use.user->operands[use.operand].index != result) continue;
          stored = stored || needed_elsewhere(*use.user, index);
        }
        if (stored) group.outputs.push_back({const_cast<Node*>(node), result});
      }
    }
    name_group(group, index);
    return group;
  }

  /// Whether `user`, or a kernel that rebuilds it, is outside of the vertex.
  bool needed_elsewhere(const Node& user, int index) const {
    const Info& info = info_.at(&user);
    if (!info.is_virtual) return info.vertex >= 0 && info.vertex != index;
    return std::any_of(info.uses.begin(), info.uses.end(),
                       [&](const Use& use) { return needed_elsewhere(*use.user, index); });
  }

  void name_group(Group& group, int) {
    std::string base = "elw";
    if (group.anchor != nullptr) {
      switch (group.anchor->op->pattern) {
        case Pattern::dot:
          base = "dot";
          break;
        case Pattern::fft:
          base = "fft";
          break;
        case Pattern::tno:
          base = "tno";
          break;
        case Pattern::attention:
          base = "attention";
          break;
        case Pattern::scan:
          base = "cumulative";
          break;
        case Pattern::scatter:
          base = "scatter";
          break;
        default:
          base = "reduce";
          break;
      }
      const bool elementwise =
          std::any_of(group.members.begin(), group.members.end(), [&](const Node* node) {
            return node != group.anchor && node->op->pattern != Pattern::movement &&
                   !is_immediate(*node);
          });
      if (elementwise) base += "_elw";
    }
    group.kind = base;
    group.name = fmt::format("{}.{}", base, fused_.groups.size() - 1);
  }

  FusedRegion build() {
    FusedRegion out;
    out.region = &region_;
    std::vector<std::pair<int, Item>> items;
    for (const Node* node : region_.nodes) {
      Info& info = info_[node];
      if (info.vertex < 0) continue;
      Vertex& v = vertex(info.vertex);
      Item item;
      if (v.other != nullptr) {
        item.node = v.other;
        for (const Read& read : reads(*node)) item.reads.push_back(read.value);
        for (std::uint32_t r = 0; r < node->results.size(); ++r) {
          item.writes.push_back({const_cast<Node*>(node), r});
        }
        if (!node->regions.empty()) {
          RegionFuser nested(fused_, *node->regions[0], enabled_);
          item.body = std::make_unique<FusedRegion>(nested.run());
        }
      } else {
        // A group is made when its first node is met.
        if (v.merged_away || built_.count(info.vertex) != 0) continue;
        built_.insert(info.vertex);
        Group& group = make_group(info.vertex);
        if (group.outputs.empty()) {
          fused_.groups.pop_back();
          continue;
        }
        item.groups.push_back(&group);
        item.reads = group.inputs;
        item.writes = group.outputs;
      }
      items.emplace_back(info.position, std::move(item));
    }
    for (auto& entry : items) out.items.push_back(std::move(entry.second));
    order_items(out);
    if (enabled_) merge_segments(out);
    return out;
  }

  FusedGraph& fused_;
  const Region& region_;
  bool enabled_;
  std::unordered_map<const Node*, Info> info_;
  std::vector<Vertex> vertices_;
  std::unordered_set<int> built_;
};

}  // namespace

FusedGraph fuse(const ir::Graph& graph, bool enabled) {
  FusedGraph fused;
  RegionFuser fuser(fused, graph.body(), enabled);
  fused.body = fuser.run();
  return fused;
}

}  // namespace weft::compiler
