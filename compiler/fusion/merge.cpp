#include <algorithm>
#include <map>

#include "compiler/fusion/region.h"
#include "compiler/schedules/dot_product.h"

/// Which kernels are merged.
namespace weft::compiler {

using ir::Node;
using ir::Pattern;
using ir::Region;
using ir::Value;

namespace {

/// Limits on what one kernel may take: arguments are pointers that stay in registers.
constexpr std::size_t maximum_inputs = 24;
constexpr std::size_t maximum_outputs = 12;

}  // namespace

int RegionFuser::new_vertex() {
  vertices_.emplace_back();
  return static_cast<int>(vertices_.size()) - 1;
}

void RegionFuser::make_vertices() {
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

void RegionFuser::link(Value value, int reader) {
  if (!here(*value.node)) return;
  const int producer = info_[value.node].vertex;
  if (producer < 0 || producer == reader) return;
  vertices_[static_cast<std::size_t>(producer)].successors.insert(reader);
  vertices_[static_cast<std::size_t>(reader)].predecessors.insert(producer);
}

void RegionFuser::collect(Value value, Position at, std::vector<Read>& out,
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

std::vector<RegionFuser::Read> RegionFuser::reads(const Node& node) const {
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

void RegionFuser::captures(const Region& region, std::vector<Read>& out) const {
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

bool RegionFuser::reaches_around(int from, int to) {
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

std::vector<const Node*> RegionFuser::heads(const Vertex& v) {
  std::vector<const Node*> out = v.anchors;
  out.insert(out.end(), v.roots.begin(), v.roots.end());
  return out;
}

std::size_t RegionFuser::input_count(const Vertex& a, const Vertex& b) const {
  std::set<std::pair<const Node*, std::uint32_t>> inputs;
  for (const Vertex* v : {&a, &b}) {
    for (const Node* head : heads(*v)) {
      for (const Read& read : reads(*head)) inputs.insert({read.value.node, read.value.index});
    }
  }
  return inputs.size();
}

Rows RegionFuser::common_rows(const Vertex& p, const Vertex& c) {
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

bool RegionFuser::in_row(const Node& reader, const Read& read, const Rows& rows) {
  const std::int64_t all = rows.rows * rows.columns;
  const bool whole = rows_of(reader) ? true : reader.results[0].elements() == all;
  if (read.value.type().elements() == (whole ? all : rows.rows) && read.at.same()) return true;
  return whole && read.value.type().elements() == rows.rows &&
         read.at.kind == Position::Kind::row && read.at.columns == rows.columns;
}

bool RegionFuser::runs_over_rows(const Vertex& v) {
  if (!v.rows) return false;
  return v.anchors.size() > 1 || std::any_of(v.roots.begin(), v.roots.end(), [&](const Node* root) {
           return root->results[0].elements() != v.rows.rows;
         });
}

std::string RegionFuser::obstacle(int producer, int consumer) {
  const Vertex& p = vertex(producer);
  const Vertex& c = vertex(consumer);
  if (p.other != nullptr || c.other != nullptr) return "not a kernel";
  const Rows rows = common_rows(p, c);
  if (!rows) {
    const bool products = together_ && p.anchors.size() == 1 && c.anchors.size() == 1 &&
                          may_share_kernel(*p.anchors[0], *c.anchors[0]);
    if (!c.anchors.empty() && !products) {
      return !p.anchors.empty() ? "each has an anchor"
                                : "the anchor's operand is stored for other readers";
    }
    if (p.elements != c.elements) return "they run over different numbers of elements";
    // common_rows() refused a complex value, which a kernel of rows does not keep.
    if (runs_over_rows(p) || runs_over_rows(c)) return "complex values are not part of rows";
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

void RegionFuser::unite(int keep, int drop) {
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

void RegionFuser::merge() {
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
  if (together_) merge_operand_sums();
  merge_siblings();
}

void RegionFuser::merge_operand_sums() {
  for (const Node* sum : region_.nodes) {
    if (!sum->is("sum") || info_[sum].vertex < 0) continue;
    const Vertex& own = vertex(info_[sum].vertex);
    if (own.anchors.size() != 1 || !own.roots.empty()) continue;
    const Value operand = sum->operands[0];
    if (!here(*operand.node)) continue;
    for (const Use& use : info_[operand.node].uses) {
      const Node* dot = use.user;
      if (!dot->is("dot") || !may_sum_operand(*dot, *sum) || info_[dot].vertex < 0) continue;
      const int a = info_[dot].vertex;
      const int b = info_[sum].vertex;
      if (vertex(a).anchors.size() != 1 || vertex(a).roots.size() >= maximum_outputs - 1) continue;
      if (vertex(a).successors.count(b) != 0 || vertex(b).successors.count(a) != 0) continue;
      if (reaches_around(a, b) || reaches_around(b, a)) continue;
      unite(a, b);
      vertex(a).operand_sum = sum;
      break;
    }
  }
}

std::string RegionFuser::sibling_obstacle(const Node& first, const Node& second) {
  const int a = info_[&first].vertex;
  const int b = info_[&second].vertex;
  const Vertex& one = vertex(a);
  const Vertex& other = vertex(b);
  if (!one.anchors.empty() || !other.anchors.empty()) {
    if (!common_rows(one, other))
      return "one has an anchor that does not run over the other's rows";
  } else if (!(first.results[0].shape == second.results[0].shape)) {
    return "they run over different shapes";
  }
  if (one.roots.size() + other.roots.size() > maximum_outputs) return "too many outputs";
  if (input_count(one, other) > maximum_inputs) return "too many arguments";
  if (one.successors.count(b) != 0 || other.successors.count(a) != 0) {
    return "one reads the other's result";
  }
  if (reaches_around(a, b) || reaches_around(b, a)) return "another kernel must run between them";
  return "";
}

void RegionFuser::merge_siblings() {
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::vector<std::pair<const Node*, Value>>>
      readers;
  for (const Node* node : region_.nodes) {
    if (!(pointwise(*node) || rows_of(*node)) || info_[node].vertex < 0) continue;
    for (const Read& read : reads(*node)) {
      if (!read.at.same()) continue;
      readers[{read.value.node->id, read.value.index}].emplace_back(node, read.value);
    }
  }
  for (const auto& [source, nodes] : readers) {
    const Node& first = *nodes[0].first;
    for (std::size_t i = 1; i < nodes.size(); ++i) {
      const auto& [node, value] = nodes[i];
      if (info_[&first].vertex == info_[node].vertex) continue;
      const std::string reason = sibling_obstacle(first, *node);
      if (reason.empty()) {
        unite(info_[&first].vertex, info_[node].vertex);
      } else {
        fused_.sibling_refusals.push_back({&first, node, value, reason});
      }
    }
  }
}

}  // namespace weft::compiler
