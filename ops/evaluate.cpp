#include "ops/evaluate.h"

#include <memory>
#include <utility>

#include "ops/support.h"

namespace weft::ops {

namespace {

using Shared = std::shared_ptr<const Array>;

Shared share(Array array) { return std::make_shared<const Array>(std::move(array)); }

class Evaluation {
 public:
  Evaluation(const ir::Graph& graph, Environment& environment)
      : environment_(environment), values_(graph.node_count()) {}

  void run(const ir::Region& region, std::int64_t iteration) {
    for (const Node* node : region.nodes) {
      try {
        run(*node, iteration);
      } catch (const Error& error) {
        // An error from inside a body names its own node already.
        if (!node->regions.empty()) throw;
        throw Error(fmt::format("{}: {}", ir::describe(*node), error.what()), node->location);
      }
      observe(*node);
    }
  }

  void write_states() {
    for (auto& [name, array] : written_) environment_.state[name] = *array;
  }

 private:
  void run(const Node& node, std::int64_t iteration);
  void run_loop(const Node& node, std::int64_t iteration);
  void run_scan(const Node& node, std::int64_t iteration);
  Array read_state(const Node& node) const;
  Array feed(const Node& node, std::int64_t iteration) const;
  void receive(const Node& node, std::int64_t iteration) const;

  void set(const Node& node, std::vector<Shared> results) { values_[node.id] = std::move(results); }
  void set(const Node& node, Array result) {
    set(node, std::vector<Shared>{share(std::move(result))});
  }

  const Shared& get(Value value) const {
    const std::vector<Shared>& results = values_[value.node->id];
    if (value.index >= results.size()) fail("a value is used before it is computed");
    return results[value.index];
  }

  std::vector<Shared> get_all(std::span<const Value> values) const {
    std::vector<Shared> results;
    for (const Value value : values) results.push_back(get(value));
    return results;
  }

  void observe(const Node& node) const {
    if (!environment_.observe) return;
    std::vector<Array> results;
    for (const Shared& result : values_[node.id]) results.push_back(*result);
    environment_.observe(node, results);
  }

  Environment& environment_;
  std::vector<std::vector<Shared>> values_;  ///< by node id
  std::map<std::string, Shared> written_;
};

void check_type(const Array& array, const Type& expected) {
  require(array.type == expected, "the value given has type {}", array.type.text());
  const auto count = static_cast<std::size_t>(expected.elements());
  const bool real = is_differentiable(expected.dtype);
  require(array.re.size() == (real ? count : 0) && array.integers.size() == (real ? 0 : count) &&
              array.im.size() == (is_complex(expected.dtype) ? count : 0),
          "the value given does not have {} elements", count);
}

Array Evaluation::read_state(const Node& node) const {
  const auto found = environment_.state.find(node.attributes.text("name"));
  require(found != environment_.state.end(), "there is no state \"{}\"",
          node.attributes.text("name"));
  check_type(found->second, node.results[0]);
  return found->second;
}

Array Evaluation::feed(const Node& node, std::int64_t iteration) const {
  const std::string& name = node.attributes.text("name");
  require(static_cast<bool>(environment_.feed), "nothing feeds \"{}\"", name);
  Array array = environment_.feed(name, node.results[0], iteration);
  check_type(array, node.results[0]);
  return array;
}

void Evaluation::receive(const Node& node, std::int64_t iteration) const {
  if (!environment_.receive || iteration % node.attributes.integer("every") != 0) return;
  std::vector<Array> arrays;
  for (const Value operand : node.operands) arrays.push_back(*get(operand));
  environment_.receive(node.attributes.text("name"), iteration, arrays);
}

void Evaluation::run(const Node& node, std::int64_t iteration) {
  if (node.is("loop")) {
    run_loop(node, iteration);
  } else if (node.is("scan")) {
    run_scan(node, iteration);
  } else if (node.is("state")) {
    set(node, read_state(node));
  } else if (node.is("state_write")) {
    written_[node.attributes.text("name")] = get(node.operands[0]);
  } else if (node.is("state_carry")) {
    // What an exception would leave: there is none.
  } else if (node.is("scalar")) {
    const auto found = environment_.scalars.find(node.attributes.text("name"));
    const bool given = found != environment_.scalars.end();
    Array array(node.results[0]);
    array.set(0, round_to(DType::f32, given ? found->second : node.attributes.real("value")));
    set(node, std::move(array));
  } else if (node.is("feeder")) {
    set(node, feed(node, iteration));
  } else if (node.is("receiver")) {
    receive(node, iteration);
  } else {
    const std::vector<Shared> operands = get_all(node.operands);
    std::vector<const Array*> pointers;
    for (const Shared& operand : operands) pointers.push_back(operand.get());
    std::vector<Shared> results;
    const Op& op = row(node);
    require(static_cast<bool>(op.reference), "has no reference evaluation: {}",
            op.reference.absent);
    std::vector<Array> arrays(node.results.begin(), node.results.end());
    op.reference.function(node, pointers, arrays);
    for (Array& array : arrays) results.push_back(share(std::move(array)));
    set(node, std::move(results));
  }
}

Array index_array(std::int64_t index) {
  Array array(Type{DType::i64, {}});
  array.integers[0] = index;
  return array;
}

void Evaluation::run_loop(const Node& node, std::int64_t iteration) {
  const ir::Region& body = *node.regions[0];
  const std::int64_t count = node.attributes.integer("count");
  std::vector<Shared> carried = get_all(node.operands);
  for (std::int64_t i = 0; i < count; ++i) {
    set(*body.arguments[0], index_array(i));
    for (std::size_t c = 0; c < carried.size(); ++c) set(*body.arguments[c + 1], {carried[c]});
    run(body, iteration * count + i);
    carried = get_all(body.yields);
  }
  set(node, std::move(carried));
}

/// Slice `index` along the first axis.
Array take_slice(const Array& stacked, std::int64_t index) {
  Type type = stacked.type;
  type.shape.erase(0);
  Array slice(type);
  const std::int64_t count = slice.elements();
  for (std::int64_t i = 0; i < count; ++i) copy_element(stacked, index * count + i, slice, i);
  return slice;
}

void put_slice(const Array& slice, std::int64_t index, Array& stacked) {
  const std::int64_t count = slice.elements();
  for (std::int64_t i = 0; i < count; ++i) copy_element(slice, i, stacked, index * count + i);
}

void Evaluation::run_scan(const Node& node, std::int64_t iteration) {
  const ir::Region& body = *node.regions[0];
  const std::int64_t length = node.attributes.integer("length");
  const auto carried_count = static_cast<std::size_t>(node.attributes.integer("carried"));
  const bool reverse = node.attributes.flag("reverse");
  const std::vector<Shared> operands = get_all(node.operands);
  std::vector<Shared> carried(operands.begin(),
                              operands.begin() + static_cast<std::ptrdiff_t>(carried_count));
  std::vector<Array> stacked(node.results.begin() + static_cast<std::ptrdiff_t>(carried_count),
                             node.results.end());
  for (std::int64_t i = 0; i < length; ++i) {
    const std::int64_t index = reverse ? length - 1 - i : i;
    set(*body.arguments[0], index_array(index));
    for (std::size_t c = 0; c < operands.size(); ++c) {
      const Node& argument = *body.arguments[c + 1];
      if (c < carried_count) {
        set(argument, {carried[c]});
      } else {
        set(argument, take_slice(*operands[c], index));
      }
    }
    run(body, iteration * length + i);
    const std::vector<Shared> yields = get_all(body.yields);
    for (std::size_t y = 0; y < yields.size(); ++y) {
      if (y < carried_count) {
        carried[y] = yields[y];
      } else {
        put_slice(*yields[y], index, stacked[y - carried_count]);
      }
    }
  }
  for (Array& array : stacked) carried.push_back(share(std::move(array)));
  set(node, std::move(carried));
}

}  // namespace

void evaluate(const ir::Graph& graph, Environment& environment) {
  Evaluation evaluation(graph, environment);
  evaluation.run(graph.body(), environment.iteration);
  evaluation.write_states();
}

std::vector<Array> evaluate_node(const Node& node, std::span<const Array* const> operands) {
  const Op& op = row(node);
  if (!op.reference) {
    throw Error(
        fmt::format("{} has no reference evaluation: {}", ir::describe(node), op.reference.absent),
        node.location);
  }
  std::vector<Array> results(node.results.begin(), node.results.end());
  op.reference.function(node, operands, results);
  return results;
}

}  // namespace weft::ops
