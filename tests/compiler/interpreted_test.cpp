#include "interpreted.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdint>

// Schedules by the interpreter: nothing to report, and the results of reference evaluation and of
// machine code.
namespace weft::test {
namespace {

const char* const pointwise = R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [30, 64]} : f32[30, 64]
  %b = state {name = "b", dtype = f32, shape = [64]} : f32[64]
  %c = broadcast %b {shape = [30, 64]} : f32[30, 64]
  %y = add %x, %c : f32[30, 64]
  %z = silu %y : f32[30, 64]
  %t = permute %z {order = [1, 0]} : f32[64, 30]
  %h = cast %t {dtype = bf16} : bf16[64, 30]
  state_write %z {name = "z"}
  state_write %h {name = "h"}
})";

/// Rows of a matrix of 16-bit elements whose length is odd, against the order of memory.
const char* const odd = R"(graph @g {
  %x = state {name = "x", dtype = f16, shape = [7, 33]} : f16[7, 33]
  %t = permute %x {order = [1, 0]} : f16[33, 7]
  %y = exp %t : f16[33, 7]
  state_write %y {name = "y"}
})";

const char* const sums = R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [37, 70]} : f32[37, 70]
  %a = sum %x {axes = [0], keep = false} : f32[70]
  %b = sum %x {axes = [1], keep = false} : f32[37]
  %c = max %x {axes = [0, 1], keep = false} : f32[]
  state_write %a {name = "a"}
  state_write %b {name = "b"}
  state_write %c {name = "c"}
})";

const char* const product = R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [48, 40]} : f32[48, 40]
  %w = state {name = "w", dtype = f32, shape = [40, 56]} : f32[40, 56]
  %d = dot %x, %w {lhs_contract = [1], rhs_contract = [0], lhs_batch = [], rhs_batch = []} : f32[48, 56]
  %y = gelu %d : f32[48, 56]
  state_write %y {name = "y"}
})";

std::string softmax(int rows, int columns, const std::string& dtype) {
  return fmt::format(R"(graph @g {{
  %x = state {{name = "x", dtype = {2}, shape = [{0}, {1}]}} : {2}[{0}, {1}]
  %m = max %x {{axes = [1], keep = true}} : {2}[{0}, 1]
  %n = broadcast %m {{shape = [{0}, {1}]}} : {2}[{0}, {1}]
  %d = sub %x, %n : {2}[{0}, {1}]
  %e = exp %d : {2}[{0}, {1}]
  %s = sum %e {{axes = [1], keep = true}} : {2}[{0}, 1]
  %b = broadcast %s {{shape = [{0}, {1}]}} : {2}[{0}, {1}]
  %y = div %e, %b : {2}[{0}, {1}]
  state_write %y {{name = "y"}}
}})",
                     rows, columns, dtype);
}

Values inputs_of(const ir::Graph& graph) {
  Values inputs;
  unsigned seed = 1;
  ir::walk(graph.body(), [&](const ir::Node& node) {
    if (!node.is("state")) return;
    const auto elements = static_cast<std::size_t>(node.results[0].elements());
    inputs[node.attributes.text("name")] = random_values(elements, seed++);
  });
  return inputs;
}

void expect_close(const Values& found, const Values& wanted, double tolerance) {
  for (const auto& [name, values] : wanted) {
    EXPECT_LE(relative_error(found.at(name), values), tolerance) << name;
  }
}

/// A unit in the last place of the result's type and a few of f32 for what stands before it.
double tolerance(DType result, std::int64_t length) {
  return epsilon(result) + static_cast<double>(length + 16) * epsilon(DType::f32);
}

TEST(Interpreted, PointwiseKernelsOfTheHostGiveTheBitsOfMachineCode) {
  for (const char* text : {pointwise, odd}) {
    const ir::Graph graph = parse(text);
    const Values inputs = inputs_of(graph);
    const Values found = run_interpreted(graph, inputs, on_host);
    EXPECT_EQ(found, run_compiled(graph, inputs));
    expect_close(found, run_reference(graph, inputs), tolerance(DType::bf16, 0));
  }
}

TEST(Interpreted, ReductionsAndProductsOfTheHost) {
  for (const char* text : {sums, product}) {
    const ir::Graph graph = parse(text);
    const Values inputs = inputs_of(graph);
    const Values found = run_interpreted(graph, inputs, on_host);
    expect_close(found, run_compiled(graph, inputs), tolerance(DType::f32, 70));
    expect_close(found, run_reference(graph, inputs), tolerance(DType::f32, 70));
  }
}

TEST(Interpreted, PointwiseKernelsOfADevice) {
  for (const char* text : {pointwise, odd}) {
    const ir::Graph graph = parse(text);
    const Values inputs = inputs_of(graph);
    for (const Values& found : run_device(graph, inputs, on_device, 3)) {
      expect_close(found, run_reference(graph, inputs), tolerance(DType::bf16, 0));
    }
  }
}

/// Batches, a transposed operand, edges of tiles and what is fused before and after.
const char* const batched = R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [3, 21, 33]} : f32[3, 21, 33]
  %w = state {name = "w", dtype = f32, shape = [3, 45, 33]} : f32[3, 45, 33]
  %u = tanh %x : f32[3, 21, 33]
  %d = dot %u, %w {lhs_contract = [2], rhs_contract = [2], lhs_batch = [0], rhs_batch = [0]} : f32[3, 21, 45]
  %y = exp %d : f32[3, 21, 45]
  state_write %y {name = "y"}
})";

TEST(Interpreted, ProductsOfADevice) {
  for (const char* text : {product, batched}) {
    const ir::Graph graph = parse(text);
    const Values inputs = inputs_of(graph);
    for (const Values& found : run_device(graph, inputs, on_device, 5)) {
      expect_close(found, run_reference(graph, inputs), tolerance(DType::f32, 40));
    }
  }
}

TEST(Interpreted, RowsOfADevice) {
  for (const auto& [rows, columns] : {std::pair{33, 256}, {3, 7}, {5, 1001}, {2, 4096}}) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      SCOPED_TRACE(fmt::format("{} x {} {}", rows, columns, name(dtype)));
      const ir::Graph graph = parse(softmax(rows, columns, std::string(name(dtype))));
      const Values inputs = inputs_of(graph);
      for (const std::uint64_t seed : {1, 2, 3}) {
        // The reference rounds each of seven values to 16 bits.
        const double roundings = dtype == DType::f32 ? 1 : 8;
        for (const Values& found : run_device(graph, inputs, on_device, seed)) {
          expect_close(found, run_reference(graph, inputs), roundings * tolerance(dtype, columns));
        }
      }
    }
  }
}

}  // namespace
}  // namespace weft::test
