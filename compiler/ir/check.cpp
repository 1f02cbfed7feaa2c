#include "compiler/ir/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace weft::ir::check {

namespace {

/// The kind of each alternative of AttributeValue.
constexpr std::array<AttributeSpec::Kind, std::variant_size_v<AttributeValue>> kinds = {
    AttributeSpec::flag,  AttributeSpec::integer,  AttributeSpec::real, AttributeSpec::text,
    AttributeSpec::dtype, AttributeSpec::integers, AttributeSpec::reals};

bool matches(AttributeSpec::Kind wanted, AttributeSpec::Kind given) {
  using enum AttributeSpec::Kind;
  if (wanted == number) return given == integer || given == real;
  if (wanted == numbers) return given == integers || given == reals;
  return wanted == given;
}

void attributes(const Node& node) {
  const auto& specs = node.op->attributes;
  const auto& entries = node.attributes.entries();
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const std::string_view name = entries[i].first;
    const auto spec =
        std::find_if(specs.begin(), specs.end(), [&](const auto& row) { return row.name == name; });
    if (spec == specs.end()) throw Error(fmt::format("has no attribute '{}'", name));
    const AttributeSpec::Kind given = kinds[entries[i].second.index()];
    if (!matches(spec->kind, given)) {
      throw Error(
          fmt::format("attribute '{}' is {}, not {}", name, describe(given), describe(spec->kind)));
    }
    for (std::size_t j = 0; j < i; ++j) {
      if (entries[j].first == name) throw Error(fmt::format("attribute '{}' is set twice", name));
    }
  }
  for (const AttributeSpec& spec : specs) {
    if (spec.required && !node.attributes.has(spec.name)) {
      throw Error(fmt::format("attribute '{}' is missing", spec.name));
    }
  }
}

void body_argument(const Region& region, std::size_t index, const Type& expected) {
  const Type& type = region.arguments[index]->results[0];
  if (!(type == expected)) {
    throw Error(
        fmt::format("argument {} of the body is {}, not {}", index, type.text(), expected.text()));
  }
}

/// The slice of `operand` that one iteration of a scan of `length` sees.
Type scanned_slice(const Node& node, std::size_t operand, std::int64_t length) {
  Type type = node.operand_type(operand);
  if (type.rank() == 0 || type.shape[0] != length) {
    throw Error(fmt::format("scanned operand {} is {}, its first extent is not the length {}",
                            operand, type.text(), length));
  }
  type.shape.erase(0);
  return type;
}

std::string plural(std::int64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

}  // namespace

std::string_view describe(AttributeSpec::Kind kind) {
  switch (kind) {
    case AttributeSpec::flag:
      return "true or false";
    case AttributeSpec::integer:
      return "an integer";
    case AttributeSpec::real:
      return "a real";
    case AttributeSpec::text:
      return "a text";
    case AttributeSpec::dtype:
      return "a dtype";
    case AttributeSpec::integers:
      return "a list of integers";
    case AttributeSpec::reals:
      return "a list of reals";
    case AttributeSpec::number:
      return "a number";
    case AttributeSpec::numbers:
      return "a list of numbers";
  }
  return "unknown";
}

std::string describe(std::span<const Type> types) {
  std::string text;
  for (const Type& type : types) text += (text.empty() ? "" : ", ") + type.text();
  return text.empty() ? "no results" : text;
}

void interface(const Node& node) {
  const OpInfo& op = *node.op;
  const auto operands = static_cast<std::int64_t>(node.operands.size());
  if (operands < op.minimum_arity || (op.maximum_arity >= 0 && operands > op.maximum_arity)) {
    std::string takes = plural(op.minimum_arity, "operand");
    if (op.maximum_arity < 0) {
      takes += " or more";
    } else if (op.maximum_arity != op.minimum_arity) {
      takes = fmt::format("{} to {} operands", op.minimum_arity, op.maximum_arity);
    }
    throw Error(fmt::format("takes {}, has {}", takes, operands));
  }
  if (node.regions.size() != static_cast<std::size_t>(op.regions)) {
    throw Error(fmt::format("takes {}, has {}", plural(op.regions, "region"), node.regions.size()));
  }
  attributes(node);
}

void body(const Node& node) {
  const bool scan = node.is("scan");
  if (!scan && !node.is("loop")) return;
  const Region& region = *node.regions.at(0);
  const std::size_t operands = node.operands.size();
  std::size_t carried = operands;
  if (scan) {
    const std::int64_t count = node.attributes.integer("carried");
    if (count < 0 || static_cast<std::size_t>(count) > operands) {
      throw Error(fmt::format("carries {} of {}", count,
                              plural(static_cast<std::int64_t>(operands), "operand")));
    }
    carried = static_cast<std::size_t>(count);
  }
  if (region.arguments.size() != operands + 1) {
    throw Error(fmt::format("the body has {} and needs {}: the index and one for each operand",
                            plural(static_cast<std::int64_t>(region.arguments.size()), "argument"),
                            operands + 1));
  }
  body_argument(region, 0, {DType::i64, {}});
  const std::int64_t length = scan ? node.attributes.integer("length") : 0;
  for (std::size_t i = 0; i < operands; ++i) {
    body_argument(region, i + 1,
                  i < carried ? node.operand_type(i) : scanned_slice(node, i, length));
  }
  const std::size_t yields = region.yields.size();
  if (scan ? yields < carried : yields != carried) {
    throw Error(fmt::format("the body yields {} and carries {}",
                            plural(static_cast<std::int64_t>(yields), "value"), carried));
  }
  for (std::size_t i = 0; i < carried; ++i) {
    if (!(region.yields[i].type() == node.operand_type(i))) {
      throw Error(fmt::format("yield {} is {}, the carried value is {}", i,
                              region.yields[i].type().text(), node.operand_type(i).text()));
    }
  }
}

void type(const Type& type) {
  for (const std::int64_t extent : type.shape) {
    if (extent < 0) throw Error(fmt::format("type {} has a negative extent", type.text()));
  }
  static_cast<void>(type.elements());  // throws where there are too many
}

std::vector<Type> infer(const Node& node) {
  std::vector<Type> types = node.op->infer(node);
  for (const Type& result : types) type(result);
  return types;
}

/// An argument that the loop around the node carries. Of a scan's, the slices are not: lower_scan
/// puts other values in their place.
void carried_argument(const Node& node) {
  const Node& argument = *node.operands.at(0).node;
  const std::vector<Node*>* arguments = node.parent == nullptr ? nullptr : &node.parent->arguments;
  if (arguments == nullptr || arguments->empty() || argument.parent != node.parent ||
      !argument.is("argument") || arguments->front() == &argument) {
    throw Error("its operand is no argument that the loop around it carries");
  }
}

void States::visit(const Node& node, bool top_level) {
  if (node.is("state_carry")) carried_argument(node);
  const bool write = node.is("state_write");
  const bool carry = node.is("state_carry");
  if (!write && !carry && !node.is("state")) return;
  const std::string& name = node.attributes.text("name");
  if (write && !top_level) {
    throw Error(
        fmt::format("writes state '{}' in a body; states are written on the top level "
                    "only",
                    name));
  }
  const Type& type = write || carry ? node.operand_type(0) : node.results.at(0);
  const auto [place, fresh] = states_.try_emplace(name, Entry{type, write});
  if (fresh) return;
  Entry& entry = place->second;
  if (!(entry.type == type)) {
    throw Error(
        fmt::format("state '{}' is {} here and {} before", name, type.text(), entry.type.text()));
  }
  if (write && entry.written) throw Error(fmt::format("state '{}' is written twice", name));
  entry.written = entry.written || write;
}

}  // namespace weft::ir::check
