#include "ops/support.h"

namespace weft::ops {

namespace {

using ir::AttributeSpec;
using ir::Region;

Op row(std::string_view name, int maximum, int regions, std::vector<AttributeSpec> attributes,
       std::vector<Type> (*infer)(const Node&), Derivative derivative, const char* description) {
  return Op({name, Pattern::control, 0, maximum, regions, std::move(attributes), infer}, {},
            derivative, Reference::none("is structure: see evaluate()"),
            Lower::none("is structure: becomes steps of the plan"), Decompose::none("is structure"),
            Generate::none("needs a body"), 0, description);
}

const Region& body_of(const Node& node) {
  require(node.regions.size() == 1 && node.regions[0] != nullptr, "there is no body");
  return *node.regions[0];
}

/// Argument `position` of the body, counted from the one after the index.
void check_argument(const Region& body, std::size_t position, const Type& expected,
                    std::string_view what) {
  const Type& given = body.arguments[position + 1]->results[0];
  require(given == expected, "the body's argument {} has type {}; {} {}", position + 1,
          given.text(), what, expected.text());
}

/// The body takes an index and `count` more.
void check_argument_count(const Region& body, std::size_t count) {
  require(body.arguments.size() == count + 1,
          "the body has {} arguments; expected {}: the index and one for each operand",
          body.arguments.size(), count + 1);
  const Type index{DType::i64, {}};
  const Type& given = body.arguments[0]->results[0];
  require(given == index, "the body's argument 0, the index, has type {}; expected {}",
          given.text(), index.text());
}

void check_carried(const Node& node, const Region& body, std::size_t position) {
  const Type& expected = node.operand_type(position);
  check_argument(body, position, expected, "the carried value has");
  const Type& given = body.yields[position].type();
  require(given == expected, "the body yields {} for carried value {}, which has type {}",
          given.text(), position, expected.text());
}

std::vector<Type> infer_loop(const Node& node) {
  const std::int64_t count = node.attributes.integer("count");
  require(count >= 0, "count is {}", count);
  const Region& body = body_of(node);
  const std::size_t carried = node.operands.size();
  check_argument_count(body, carried);
  require(body.yields.size() == carried, "the body yields {} values; expected {}, the carried ones",
          body.yields.size(), carried);
  std::vector<Type> results;
  for (std::size_t i = 0; i < carried; ++i) {
    check_carried(node, body, i);
    results.push_back(node.operand_type(i));
  }
  return results;
}

std::vector<Type> infer_scan(const Node& node) {
  const std::int64_t length = node.attributes.integer("length");
  require(length >= 0, "length is {}", length);
  static_cast<void>(node.attributes.flag("reverse"));
  const std::int64_t given_carried = node.attributes.integer("carried");
  require(given_carried >= 0 && given_carried <= static_cast<std::int64_t>(node.operands.size()),
          "carried is {}, with {} operands", given_carried, node.operands.size());
  const auto carried = static_cast<std::size_t>(given_carried);
  const Region& body = body_of(node);
  check_argument_count(body, node.operands.size());
  require(body.yields.size() >= carried, "the body yields {} values; expected at least {}",
          body.yields.size(), carried);
  std::vector<Type> results;
  for (std::size_t i = 0; i < carried; ++i) {
    check_carried(node, body, i);
    results.push_back(node.operand_type(i));
  }
  for (std::size_t i = carried; i < node.operands.size(); ++i) {
    Type slice = node.operand_type(i);
    require(slice.rank() >= 1 && slice.shape[0] == length,
            "operand {} has type {}; expected {} slices along the first axis", i, slice.text(),
            length);
    slice.shape.erase(0);
    check_argument(body, i, slice, "a slice has");
  }
  for (std::size_t i = carried; i < body.yields.size(); ++i) {
    Type stacked = body.yields[i].type();
    require(stacked.rank() < Shape::max_rank, "the body yields {}, of which none can be stacked",
            stacked.text());
    stacked.shape.insert(0, length);
    results.push_back(stacked);
  }
  return results;
}

/// Arguments have the type that their region's owner gives them.
std::vector<Type> infer_argument(const Node& node) {
  require(node.results.size() == 1, "an argument has one result");
  return node.results;
}

}  // namespace

std::span<const Op> control_ops() {
  static const Op rows[] = {
      row("loop", -1, 1, {{"count", AttributeSpec::integer}}, infer_loop,
          Derivative::none("differentiation across a loop's boundary is not built"),
          "runs the body count times: (index, carried...) to carried...; the results are the last "
          "carried values"),
      row("scan", -1, 1,
          {{"length", AttributeSpec::integer},
           {"carried", AttributeSpec::integer},
           {"reverse", AttributeSpec::flag}},
          infer_scan, Derivative::none("is differentiated through its body, by gradients()"),
          "runs the body for each slice of the xs along their first axis: (index, carried..., "
          "slices...) to carried..., ys...; the results are the last carried values and the ys, "
          "stacked. Reverse: from the last slice to the first; the index is the slice's, and ys "
          "are stacked at it"),
      row("argument", 0, 0, {}, infer_argument, Derivative::none("has no operands"),
          "an argument of a body"),
  };
  return rows;
}

}  // namespace weft::ops
