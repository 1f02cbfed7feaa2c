#include "tests/ir/support.h"

#include <limits>
#include <map>

namespace weft::ir::test {

namespace {

std::vector<Type> same_types(const Node& node) {
  for (std::size_t i = 1; i < node.operands.size(); ++i) {
    if (!(node.operand_type(i) == node.operand_type(0))) {
      throw Error("shapes differ: " + node.operand_type(0).text() + " and " +
                  node.operand_type(i).text());
    }
  }
  return {node.operand_type(0)};
}

std::vector<Type> matmul_type(const Node& node) {
  const Type& lhs = node.operand_type(0);
  const Type& rhs = node.operand_type(1);
  if (lhs.rank() != 2 || rhs.rank() != 2 || lhs.shape[1] != rhs.shape[0]) {
    throw Error("cannot multiply " + lhs.text() + " and " + rhs.text());
  }
  return {{lhs.dtype, {lhs.shape[0], rhs.shape[1]}}};
}

std::vector<Type> stated_type(const Node& node) {
  return {{node.attributes.dtype("dtype"), Shape(node.attributes.integers("shape"))}};
}

std::vector<Type> no_types(const Node&) { return {}; }

std::vector<Type> scalar_types(const Node&) { return {{DType::i64, {}}, {DType::f32, {}}}; }

std::vector<Type> loop_types(const Node& node) {
  if (node.attributes.integer("count") < 0) throw Error("count is negative");
  std::vector<Type> types;
  for (const Value yielded : node.regions[0]->yields) types.push_back(yielded.type());
  return types;
}

std::vector<Type> scan_types(const Node& node) {
  std::vector<Type> types;
  const auto carried = static_cast<std::size_t>(node.attributes.integer("carried"));
  for (const Value yielded : node.regions[0]->yields) {
    types.push_back(yielded.type());
    if (types.size() > carried) types.back().shape.insert(0, node.attributes.integer("length"));
  }
  return types;
}

class Table : public OpTable {
 public:
  Table() {
    using enum AttributeSpec::Kind;
    const AttributeSpec name_spec{"name", text};
    add({"add", Pattern::elementwise, 2, 2, 0, {}, same_types});
    add({"exp", Pattern::elementwise, 1, 1, 0, {}, same_types});
    add({"matmul", Pattern::dot, 2, 2, 0, {}, matmul_type});
    add({"constant",
         Pattern::elementwise,
         0,
         0,
         0,
         {{"dtype", dtype}, {"shape", integers}, {"value", number}},
         stated_type});
    add({"fill",
         Pattern::elementwise,
         1,
         3,
         0,
         {{"factor", real, false},
          {"factors", reals, false},
          {"axes", integers, false},
          {"values", numbers, false},
          {"count", integer, false},
          {"exact", flag, false},
          {"note", text, false},
          {"as", dtype, false}},
         same_types});
    add({"iota2", Pattern::random, 0, 0, 0, {}, scalar_types});
    add({"state",
         Pattern::transfer,
         0,
         0,
         0,
         {name_spec, {"dtype", dtype}, {"shape", integers}},
         stated_type});
    add({"state_write", Pattern::transfer, 1, 1, 0, {name_spec}, no_types});
    add({"state_carry", Pattern::transfer, 1, 1, 0, {name_spec}, no_types});
    add({"receiver", Pattern::transfer, 0, -1, 0, {name_spec, {"every", integer}}, no_types});
    add({"loop", Pattern::control, 0, -1, 1, {{"count", integer}}, loop_types});
    add({"scan",
         Pattern::control,
         0,
         -1,
         1,
         {{"length", integer}, {"carried", integer}, {"reverse", flag}},
         scan_types});
    add({"argument", Pattern::control, 0, 0, 0, {}, no_types});
  }

  const OpInfo* find(std::string_view name) const override {
    const auto found = rows_.find(name);
    return found == rows_.end() ? nullptr : &found->second;
  }

 private:
  void add(OpInfo info) {
    const std::string_view name = info.name;
    rows_.emplace(name, std::move(info));
  }

  std::map<std::string_view, OpInfo> rows_;
};

}  // namespace

const OpTable& table() {
  static const Table instance;
  return instance;
}

const OpInfo* op(std::string_view name) {
  const OpInfo* info = table().find(name);
  if (info == nullptr) throw std::logic_error("no op " + std::string(name));
  return info;
}

Node* append(Graph& graph, Region& region, std::string_view op_name, std::vector<Value> operands,
             Attributes attributes, std::vector<Region*> regions) {
  Node* node = graph.new_node(op(op_name));
  node->operands = std::move(operands);
  node->attributes = std::move(attributes);
  node->regions = std::move(regions);
  for (Region* nested : node->regions) nested->owner = node;
  node->parent = &region;
  node->results = node->op->infer(*node);
  region.nodes.push_back(node);
  return node;
}

Node* argument(Graph& graph, Region& region, const Type& type, std::string name) {
  Node* node = graph.new_node(op("argument"));
  node->parent = &region;
  node->results = {type};
  node->name = std::move(name);
  region.arguments.push_back(node);
  return node;
}

Node* state(Graph& graph, std::string_view name, const Type& type) {
  const std::vector<std::int64_t> shape(type.shape.begin(), type.shape.end());
  Node* node = append(graph, graph.body(), "state", {},
                      {{"name", std::string(name)}, {"dtype", type.dtype}, {"shape", shape}});
  node->name = name;
  return node;
}

Graph example() {
  Graph graph("train step");
  Region& body = graph.body();
  const Type matrix{DType::f32, {2, 2}};
  const Value w = state(graph, "0.weight", matrix)->result();
  const Value m = state(graph, "moment \"1\"\n", matrix)->result();

  Region* inner = graph.new_region(nullptr);
  argument(graph, *inner, {DType::i64, {}}, "i");
  const Value carried_w = argument(graph, *inner, matrix, "0.weight")->result();
  const Value carried_m = argument(graph, *inner, matrix)->result();
  const Value product =
      append(graph, *inner, "matmul", {carried_w, w}, {})->result();  // w: of the enclosing region
  Node* filled = append(
      graph, *inner, "fill", {product},
      {{"factor", -0.0},
       {"factors", std::vector<double>{1, 0.1, 1e300, std::numeric_limits<double>::infinity()}},
       {"axes", std::vector<std::int64_t>{}},
       {"values", std::vector<double>{1, 2}},
       {"count", std::numeric_limits<std::int64_t>::min()},
       {"exact", true},
       {"note", std::string("tab\t quote\" back\\ \x01 end")},
       {"as", DType::bf16}});
  filled->name = "12";  // a name, not a number
  const Value sum = append(graph, *inner, "add", {filled->result(), carried_m})->result();
  inner->yields = {sum, carried_m};
  Node* loop = append(graph, body, "loop", {w, m}, {{"count", std::int64_t{1000}}}, {inner});
  loop->name = "steps";
  append(graph, body, "iota2", {});
  append(graph, body, "state_write", {loop->result(0)}, {{"name", std::string("0.weight")}});
  append(graph, body, "receiver", {loop->result(1), w},
         {{"name", std::string("saving")}, {"every", std::int64_t{1}}});
  return graph;
}

const char* const example_text = R"(graph @"train step" {
  %0.weight = state {name = "0.weight", dtype = f32, shape = [2, 2]} : f32[2, 2]
  %"moment \"1\"\n" = state {name = "moment \"1\"\n", dtype = f32, shape = [2, 2]} : f32[2, 2]
  %steps#0, %steps#1 = loop %0.weight, %"moment \"1\"\n" {count = 1000} (%i: i64[], %0.weight~2: f32[2, 2], %5: f32[2, 2]) {
    %6 = matmul %0.weight~2, %0.weight : f32[2, 2]
    %"12" = fill %6 {factor = -0.0, factors = [1.0, 0.1, 1e+300, inf], axes = [], values = [1.0, 2.0], count = -9223372036854775808, exact = true, note = "tab\t quote\" back\\ \x01 end", as = bf16} : f32[2, 2]
    %8 = add %"12", %5 : f32[2, 2]
    yield %8, %5
  } : f32[2, 2], f32[2, 2]
  %9#0, %9#1 = iota2 : i64[], f32[]
  state_write %steps#0 {name = "0.weight"}
  receiver %steps#1, %0.weight {name = "saving", every = 1}
}
)";

}  // namespace weft::ir::test
