#include "tools/check/inputs.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <random>
#include <set>
#include <string_view>
#include <utility>

#include "runtime/state.h"

namespace weft::check {

namespace {

using ir::Node;
using ir::Value;

bool one_of(const Node& node, std::initializer_list<std::string_view> names) {
  return std::any_of(names.begin(), names.end(),
                     [&](std::string_view name) { return node.is(name); });
}

/// Narrows the range of one input by following its value to where it is used.
class RangeFinder {
 public:
  explicit RangeFinder(const ir::Graph& graph) {
    ir::walk(graph.body(), [&](const Node& node) {
      for (std::size_t i = 0; i < node.operands.size(); ++i) {
        users_[key(node.operands[i])].push_back({&node, i});
      }
      for (const ir::Region* region : node.regions) {
        for (std::size_t i = 0; i < region->yields.size(); ++i) {
          yielded_[key(region->yields[i])].push_back({&node, i});
        }
      }
    });
  }

  Range find(const Node& input) {
    const DType dtype = input.results[0].dtype;
    visited_.clear();
    range_ = is_integer(dtype) ? Range{0, 9} : dtype == DType::boolean ? Range{0, 1} : Range{};
    is_state_ = input.is("state");
    is_integer_ = is_integer(dtype);
    follow({const_cast<Node*>(&input), 0}, true);
    return range_;
  }

 private:
  using Key = std::pair<std::uint32_t, std::uint32_t>;
  struct Use {
    const Node* node;
    std::size_t operand;
  };

  static Key key(Value value) { return {value.node->id, value.index}; }

  void within(std::int64_t extent) {
    range_.high = std::min(range_.high, static_cast<double>(std::max<std::int64_t>(extent, 1) - 1));
  }
  void positive() { range_ = is_integer_ ? Range{1, 9} : Range{0.125, 1}; }

  /// `moved`: only movement lies between the input and this value.
  void follow(Value value, bool moved) {
    if (!visited_.insert(key(value)).second) return;
    if (const auto found = users_.find(key(value)); found != users_.end()) {
      for (const Use& use : found->second) visit(use, moved);
    }
    if (const auto found = yielded_.find(key(value)); found != yielded_.end()) {
      for (const Use& use : found->second) {
        // Carried values come back as the body's arguments, which follow the index.
        const Node& loop = *use.node;
        for (const ir::Region* region : loop.regions) {
          if (use.operand + 1 < region->arguments.size()) {
            follow({region->arguments[use.operand + 1], 0}, moved);
          }
        }
        if (use.operand < loop.results.size()) {
          follow({const_cast<Node*>(&loop), static_cast<std::uint32_t>(use.operand)}, moved);
        }
      }
    }
  }

  void visit(const Use& use, bool moved) {
    const Node& node = *use.node;
    if (node.op->pattern == ir::Pattern::control) {
      for (const ir::Region* region : node.regions) {
        if (use.operand + 1 < region->arguments.size()) {
          follow({region->arguments[use.operand + 1], 0}, moved);
        }
      }
      return;
    }
    if (is_integer_) {
      if (one_of(node, {"gather", "scatter_add"}) && use.operand == 1) {
        const auto axis = static_cast<int>(node.attributes.integer("axis"));
        within(node.operand_type(0).shape[axis]);
      } else if (node.is("cross_entropy") && use.operand == 1) {
        const Shape& logits = node.operand_type(0).shape;
        within(logits[logits.rank() - 1]);
      } else if (one_of(node, {"div", "remainder"}) && use.operand == 1) {
        positive();
      }
    } else if (one_of(node, {"sqrt", "rsqrt", "log", "log2", "reciprocal"}) ||
               (node.is("pow") && use.operand == 0) || (node.is("div") && use.operand == 1)) {
      positive();
    } else if (node.is("dot") && is_state_ && moved) {
      const bool lhs = use.operand == 0;
      std::int64_t length = 1;
      for (const std::int64_t axis :
           node.attributes.integers(lhs ? "lhs_contract" : "rhs_contract")) {
        length *= node.operand_type(use.operand).shape[static_cast<int>(axis)];
      }
      const double bound = std::sqrt(3.0 / static_cast<double>(std::max<std::int64_t>(length, 3)));
      if (range_.low < 0) range_ = {-bound, bound};
    }
    const bool keeps_place =
        node.op->pattern == ir::Pattern::movement || one_of(node, {"cast", "keep"});
    if (keeps_place || one_of(node, {"add", "mul", "div", "maximum", "where", "stop_gradient"})) {
      for (std::size_t i = 0; i < node.results.size(); ++i) {
        follow({const_cast<Node*>(&node), static_cast<std::uint32_t>(i)}, moved && keeps_place);
      }
    }
  }

  std::map<Key, std::vector<Use>> users_;
  std::map<Key, std::vector<Use>> yielded_;
  std::set<Key> visited_;
  Range range_;
  bool is_state_ = false;
  bool is_integer_ = false;
};

}  // namespace

std::map<std::string, Range> input_ranges(const ir::Graph& graph) {
  RangeFinder finder(graph);
  std::map<std::string, Range> ranges;
  ir::walk(graph.body(), [&](const Node& node) {
    if (!one_of(node, {"state", "feeder"})) return;
    const Range range = finder.find(node);
    const auto [entry, added] = ranges.emplace(node.attributes.text("name"), range);
    if (!added) {
      entry->second.low = std::max(entry->second.low, range.low);
      entry->second.high = std::max(entry->second.low, std::min(entry->second.high, range.high));
    }
  });
  return ranges;
}

std::vector<double> random_values(const Type& type, const Range& range, std::uint64_t seed,
                                  const std::string& name, std::int64_t iteration) {
  std::vector<std::uint32_t> words;
  for (const std::uint64_t part : {seed, static_cast<std::uint64_t>(iteration)}) {
    words.push_back(static_cast<std::uint32_t>(part));
    words.push_back(static_cast<std::uint32_t>(part >> 32));
  }
  for (const char c : name) words.push_back(static_cast<unsigned char>(c));
  std::seed_seq sequence(words.begin(), words.end());
  std::mt19937_64 random(sequence);

  const bool integers = is_integer(type.dtype) || type.dtype == DType::boolean;
  const auto n = static_cast<std::size_t>(type.elements());
  std::vector<double> values(is_complex(type.dtype) ? 2 * n : n);
  for (double& value : values) {
    const double unit = std::ldexp(static_cast<double>(random() >> 11), -53);
    value = integers ? range.low + std::floor(unit * (range.high - range.low + 1))
                     : range.low + unit * (range.high - range.low);
  }
  // Both sides of a comparison start from what the type can hold.
  std::vector<std::byte> bytes(static_cast<std::size_t>(type.bytes()));
  from_doubles(type.dtype, values.data(), type.elements(), bytes.data());
  to_doubles(type.dtype, bytes.data(), type.elements(), values.data());
  return values;
}

ops::Array to_array(const Type& type, const std::vector<double>& values) {
  ops::Array array(type);
  for (std::int64_t i = 0; i < array.elements(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (is_complex(type.dtype)) {
      array.re[at] = values[2 * at];
      array.im[at] = values[2 * at + 1];
    } else {
      array.set(i, values[at]);
    }
  }
  return array;
}

std::vector<double> to_values(const ops::Array& array) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < array.elements(); ++i) {
    values.push_back(array.at(i));
    if (is_complex(array.type.dtype)) values.push_back(array.im[static_cast<std::size_t>(i)]);
  }
  return values;
}

}  // namespace weft::check
