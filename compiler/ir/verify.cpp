#include <fmt/format.h>

#include <cstdint>
#include <vector>

#include "compiler/ir/check.h"
#include "compiler/ir/text.h"

namespace weft::ir {

namespace {

class Verifier {
 public:
  Verifier(const Graph& graph, std::string_view when) : when_(when), seen_(graph.node_count()) {}

  void region(const Region& region, const Node* owner) {
    if (region.owner != owner) fail(owner, "owns a region whose owner is another node");
    if (owner == nullptr && !region.arguments.empty()) {
      fail(nullptr, "the top level has arguments");
    }
    if (owner == nullptr && !region.yields.empty()) fail(nullptr, "the top level yields values");
    for (const Node* argument : region.arguments) {
      enter(argument, region, owner);
      if (!argument->is("argument")) fail(argument, "stands among a body's arguments");
      if (argument->results.size() != 1) fail(argument, "a body's argument needs one type");
      guard(*argument, [&] {
        check::interface(*argument);
        check::type(argument->results[0]);
      });
      define(*argument);
    }
    for (const Node* child : region.nodes) {
      enter(child, region, owner);
      node(*child, owner == nullptr);
      define(*child);
    }
    for (std::size_t i = 0; i < region.yields.size(); ++i) {
      value(region.yields[i], owner, "yield", i);
    }
    for (const Node* argument : region.arguments) leave(*argument);
    for (const Node* child : region.nodes) leave(*child);
  }

 private:
  enum class State : std::uint8_t { unseen, entered, visible, out_of_scope };
  struct Seen {
    const Node* node = nullptr;
    State state = State::unseen;
  };

  [[noreturn]] void fail(const Node* node, std::string_view problem) const {
    if (node == nullptr) throw Error(fmt::format("{}: {}", when_, problem));
    throw Error(fmt::format("{}: {}: {}", when_, describe(*node), problem), node->location);
  }

  /// Runs a check that names neither pass nor node, and adds both to what it throws.
  template <typename Check>
  void guard(const Node& node, const Check& check) const {
    try {
      check();
    } catch (const Error& error) {
      fail(&node, error.what());
    }
  }

  void enter(const Node* node, const Region& region, const Node* owner) {
    if (node == nullptr) fail(owner, "a null node in a region");
    if (node->op == nullptr) fail(node, "has no op");
    if (node->id >= seen_.size()) fail(node, "belongs to another graph");
    Seen& seen = seen_[node->id];
    if (seen.node == node) fail(node, "stands twice in the graph");
    if (seen.node != nullptr) fail(node, "shares its id with another node");
    if (node->parent != &region) fail(node, "its parent is not the region that it stands in");
    seen = {node, State::entered};
  }
  void define(const Node& node) { seen_[node.id].state = State::visible; }
  void leave(const Node& node) { seen_[node.id].state = State::out_of_scope; }

  void value(Value value, const Node* user, std::string_view what, std::size_t index) const {
    if (!value) fail(user, fmt::format("{} {} is null", what, index));
    const bool known = value.node->id < seen_.size() && seen_[value.node->id].node == value.node;
    const State state = known ? seen_[value.node->id].state : State::unseen;
    if (state == State::out_of_scope) {
      fail(user, fmt::format("{} {}, {}, belongs to a region that does not enclose its use", what,
                             index, describe(*value.node)));
    }
    if (state != State::visible) {
      fail(user, fmt::format("{} {} is not defined before its use", what, index));
    }
    if (value.index >= value.node->results.size()) {
      fail(user, fmt::format("{} {} is result {} of {}, which has {}", what, index, value.index,
                             describe(*value.node), value.node->results.size()));
    }
  }

  void node(const Node& node, bool top_level) {
    if (node.is("argument")) fail(&node, "stands among the nodes of a region");
    for (std::size_t i = 0; i < node.operands.size(); ++i) {
      value(node.operands[i], &node, "operand", i);
    }
    guard(node, [&] { check::interface(node); });
    for (const Region* nested : node.regions) {
      if (nested == nullptr) fail(&node, "has a null region");
      region(*nested, &node);
    }
    guard(node, [&] {
      check::body(node);
      const std::vector<Type> types = check::infer(node);
      if (types != node.results) {
        throw Error(fmt::format("has {}, its shape rule gives {}", check::describe(node.results),
                                check::describe(types)));
      }
      states_.visit(node, top_level);
    });
  }

  std::string_view when_;
  std::vector<Seen> seen_;  ///< by node id
  check::States states_;
};

}  // namespace

void verify(const Graph& graph, std::string_view when) {
  Verifier(graph, when).region(graph.body(), nullptr);
}

}  // namespace weft::ir
