#include "compiler/ir/check.h"
#include "ops/support.h"

namespace weft::ops {

namespace {

using ir::AttributeSpec;

Op row(std::string_view name, int maximum, int regions, std::vector<AttributeSpec> attributes,
       std::vector<Type> (*infer)(const Node&), Derivative derivative, const char* description) {
  return Op({name, Pattern::control, 0, maximum, regions, std::move(attributes), infer}, {},
            derivative, Reference::none("is structure: see evaluate()"),
            Lower::none("is structure: becomes steps of the plan"), Decompose::none("is structure"),
            Generate::none("needs a body"), 0, description);
}

std::vector<Type> infer_loop(const Node& node) {
  const std::int64_t count = node.attributes.integer("count");
  require(count >= 0, "count is {}", count);
  ir::check::body(node);
  std::vector<Type> results;
  for (const Value operand : node.operands) results.push_back(operand.type());
  return results;
}

std::vector<Type> infer_scan(const Node& node) {
  const std::int64_t length = node.attributes.integer("length");
  require(length >= 0, "length is {}", length);
  ir::check::body(node);
  const ir::Region& body = *node.regions[0];
  const auto carried = static_cast<std::size_t>(node.attributes.integer("carried"));
  std::vector<Type> results;
  for (std::size_t i = 0; i < body.yields.size(); ++i) {
    Type type = body.yields[i].type();
    if (i >= carried) {
      require(type.rank() < Shape::max_rank,
              "yield {} is {}, which has too many axes to be stacked", i, type.text());
      type.shape.insert(0, length);
    }
    results.push_back(type);
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
