#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "compiler/ir/text.h"
#include "compiler/passes/dead_code.h"
#include "ops/build.h"
#include "tools/check/random_graph.h"

namespace weft::check {

namespace {

using ir::Graph;
using ir::Node;
using ir::Region;
using ir::Value;

/// Calls visit(Value&) on every operand and yield of a graph.
template <typename Visit>
void for_each_use(Region& region, Visit&& visit) {
  for (Node* node : region.nodes) {
    for (Value& operand : node->operands) visit(operand);
    for (Region* nested : node->regions) for_each_use(*nested, visit);
  }
  for (Value& yield : region.yields) visit(yield);
}

void replace(Graph& graph, Value from, Value to) {
  for_each_use(graph.body(), [&](Value& use) {
    if (use == from) use = to;
  });
}

/// Numbers the ways to make a graph a little smaller, and takes the one with a given number.
class Reduction {
 public:
  Reduction(Graph& graph, std::size_t wanted) : graph_(graph), wanted_(wanted) {}

  /// Whether there was such a way.
  bool run() {
    outputs(graph_.body());
    if (!done_) loops(graph_.body());
    if (!done_) values(graph_.body());
    return done_;
  }

 private:
  bool is_wanted() {
    if (done_ || next_++ != wanted_) return false;
    done_ = true;
    return true;
  }

  void outputs(Region& region) {
    for (std::size_t i = 0; i < region.nodes.size() && !done_; ++i) {
      Node& node = *region.nodes[i];
      for (Region* nested : node.regions) outputs(*nested);
      if (!node.is("state_write") && !node.is("receiver")) continue;
      if (is_wanted()) {
        region.nodes.erase(region.nodes.begin() + static_cast<std::ptrdiff_t>(i));
      } else if (node.operands.size() > 1 && is_wanted()) {
        node.operands.pop_back();
      }
    }
  }

  void loops(Region& region) {
    for (Node* node : region.nodes) {
      if (done_) return;
      for (Region* nested : node->regions) loops(*nested);
      if (node->is("loop")) shorten(*node);
    }
  }

  void shorten(Node& loop) {
    const std::int64_t count = loop.attributes.integer("count");
    for (const std::int64_t fewer : {std::int64_t{1}, count - 1}) {
      if (fewer >= 0 && fewer < count && is_wanted()) loop.attributes.set("count", fewer);
    }
    for (std::size_t i = 0; i < loop.operands.size() && !done_; ++i) {
      if (is_wanted()) drop_carried(loop, i);
    }
  }

  /// Whoever used the carried value gets what it starts with.
  void drop_carried(Node& loop, std::size_t i) {
    Region& body = *loop.regions[0];
    const auto at = static_cast<std::ptrdiff_t>(i);
    const Value initial = loop.operands[i];
    replace(graph_, body.arguments[i + 1]->result(), initial);
    for_each_use(graph_.body(), [&](Value& use) {
      if (use.node != &loop || use.index < i) return;
      use = use.index == i ? initial : Value{&loop, use.index - 1};
    });
    loop.operands.erase(loop.operands.begin() + at);
    loop.results.erase(loop.results.begin() + at);
    body.arguments.erase(body.arguments.begin() + at + 1);
    body.yields.erase(body.yields.begin() + at);
  }

  void values(Region& region) {
    for (std::size_t n = region.nodes.size(); n-- > 0 && !done_;) {
      Node& node = *region.nodes[n];
      for (Region* nested : node.regions) values(*nested);
      for (std::uint32_t r = 0; r < node.results.size() && !done_; ++r) bypass(node.result(r));
    }
  }

  void bypass(Value value) {
    Node& node = *value.node;
    std::vector<Value> tried;
    for (const Value operand : node.operands) {
      const bool again = std::find(tried.begin(), tried.end(), operand) != tried.end();
      if (again || !(operand.type() == value.type())) continue;
      tried.push_back(operand);
      if (is_wanted()) return replace(graph_, value, operand);
    }
    if (node.is("state") || node.is("constant") || node.is("feeder")) return;
    if (is_wanted()) {
      ops::Builder b(graph_, graph_.body());
      const Shape& shape = value.shape();
      const Value fresh =
          b.emit1("state", {},
                  {{"name", fresh_name()},
                   {"dtype", value.dtype()},
                   {"shape", std::vector<std::int64_t>(shape.begin(), shape.end())}});
      std::vector<Node*>& nodes = graph_.body().nodes;
      std::rotate(nodes.begin(), nodes.end() - 1, nodes.end());
      replace(graph_, value, fresh);
    }
  }

  std::string fresh_name() const {
    int number = 0;
    ir::walk(std::as_const(graph_).body(), [&](const Node& node) {
      if (node.is("state")) ++number;
    });
    const auto taken = [&](const std::string& name) {
      bool found = false;
      ir::walk(std::as_const(graph_).body(), [&](const Node& node) {
        found = found || (node.attributes.has("name") && node.attributes.text("name") == name);
      });
      return found;
    };
    while (taken(fmt::format("s{}", number))) ++number;
    return fmt::format("s{}", number);
  }

  Graph& graph_;
  std::size_t wanted_;
  std::size_t next_ = 0;
  bool done_ = false;
};

bool is_valid(const Graph& graph) {
  try {
    ir::verify(graph, "shrink");
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace

Graph shrink(const Graph& graph, const std::function<bool(const Graph&)>& fails, double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  Graph smallest = graph.clone();
  bool progress = false;
  // What follows a step that was good is tried next; another sweep where a sweep found any.
  for (std::size_t step = 0; std::chrono::steady_clock::now() < end;) {
    Graph candidate = smallest.clone();
    if (!Reduction(candidate, step).run()) {
      if (!progress) break;
      progress = false;
      step = 0;
      continue;
    }
    compiler::dead_code(candidate);
    candidate = candidate.clone();
    if (is_valid(candidate) && fails(candidate)) {
      smallest = std::move(candidate);
      progress = true;
    } else {
      ++step;
    }
  }
  return smallest;
}

}  // namespace weft::check
