#include "ops/support.h"

namespace weft::ops {

namespace {

using ir::AttributeSpec;

Op row(std::string_view name, int minimum, int maximum, std::vector<AttributeSpec> attributes,
       std::vector<Type> (*infer)(const Node&), Derivative derivative, const char* description) {
  return Op({name, Pattern::transfer, minimum, maximum, 0, std::move(attributes), infer}, {},
            derivative, Reference::none("needs the environment: see evaluate()"),
            Lower::none("is read from or written to memory"), Decompose::none("is primitive"),
            Generate::none("needs an environment"), 0, description);
}

void check_name(const Node& node) {
  require(!node.attributes.text("name").empty(), "the name is empty");
}

std::vector<Type> infer_source(const Node& node) {
  check_name(node);
  const DType dtype = node.attributes.dtype("dtype");
  return {{dtype, shape_attribute(node, "shape", dtype)}};
}

std::vector<Type> infer_write(const Node& node) {
  check_name(node);
  return {};
}

std::vector<Type> infer_scalar(const Node& node) {
  check_name(node);
  static_cast<void>(node.attributes.real("value"));
  return {{DType::f32, {}}};
}

std::vector<Type> infer_receiver(const Node& node) {
  check_name(node);
  const std::int64_t every = node.attributes.integer("every");
  require(every >= 1, "every is {}; expected at least 1", every);
  return {};
}

}  // namespace

std::span<const Op> transfer_ops() {
  const Derivative no_operands = Derivative::none("has no operands");
  const Derivative no_results = Derivative::none("has no results");
  static const Op rows[] = {
      row("state", 0, 0,
          {{"name", AttributeSpec::text},
           {"dtype", AttributeSpec::dtype},
           {"shape", AttributeSpec::integers}},
          infer_source, no_operands,
          "a tensor that outlives the run, as it was when the run began"),
      row("state_write", 1, 1, {{"name", AttributeSpec::text}}, infer_write, no_results,
          "the value that the state of that name has after the run"),
      row("state_carry", 1, 1, {{"name", AttributeSpec::text}}, infer_write, no_results,
          "between the iterations of the loop around it, the state of that name is its operand: an "
          "argument that the loop carries. What an exception leaves; after the run state_write "
          "says "
          "what the state is"),
      row("scalar", 0, 0, {{"name", AttributeSpec::text}, {"value", AttributeSpec::real}},
          infer_scalar, no_operands,
          "an f32 that can be changed between runs without compiling; value is its default"),
      row("feeder", 0, 0,
          {{"name", AttributeSpec::text},
           {"dtype", AttributeSpec::dtype},
           {"shape", AttributeSpec::integers}},
          infer_source, no_operands, "values from the program, new in each iteration"),
      row("receiver", 1, -1, {{"name", AttributeSpec::text}, {"every", AttributeSpec::integer}},
          infer_receiver, no_results,
          "hands its operands to the program in iterations 0, every, 2 every, ..."),
  };
  return rows;
}

}  // namespace weft::ops
