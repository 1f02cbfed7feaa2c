#include <gtest/gtest.h>

#include <cmath>

#include "compiler/passes/autocast.h"
#include "run.h"

// 16-bit values inside kernels, strict rounding, and products that are cast.
namespace weft::compiler {
namespace {

constexpr const char* chain = R"(graph @g {
  %x = state {name = "x", dtype = bf16, shape = [64]} : bf16[64]
  %y = state {name = "y", dtype = bf16, shape = [64]} : bf16[64]
  %a = mul %x, %y : bf16[64]
  %c = mul %a, %x : bf16[64]
  state_write %c {name = "c"}
})";

test::Values chain_inputs() {
  test::Values in = {{"x", {}}, {"y", {}}};
  for (int i = 0; i < 64; ++i) {
    // Exact in bf16; a product of three is exact in f32.
    in["x"].push_back(1 + static_cast<double>(i % 11) / 128);
    in["y"].push_back(1 + static_cast<double>(i % 7) / 64);
  }
  return in;
}

double bf16(double value) {
  int exponent = 0;
  const double fraction = std::frexp(value, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(fraction, 8)), exponent - 8);
}

TEST(MixedPrecision, StrictRoundsAfterEveryOp) {
  const test::Values in = chain_inputs();
  CompileOptions strict;
  strict.strict = true;
  const auto fused = test::run_compiled(test::parse(chain), in).at("c");
  const auto rounded = test::run_compiled(test::parse(chain), in, strict).at("c");
  CompileOptions alone;
  alone.fuse = false;
  const auto stored = test::run_compiled(test::parse(chain), in, alone).at("c");
  int differ = 0;
  for (std::size_t i = 0; i < 64; ++i) {
    const double x = in.at("x")[i];
    const double y = in.at("y")[i];
    EXPECT_EQ(fused[i], bf16(x * y * x));
    EXPECT_EQ(rounded[i], bf16(bf16(x * y) * x));
    EXPECT_EQ(stored[i], rounded[i]);
    differ += fused[i] != rounded[i] ? 1 : 0;
  }
  EXPECT_GT(differ, 0);
}

TEST(MixedPrecision, ScatteredSumsAreF32) {
  // 300 ones into one row: in bf16 the sum would stop at 256.
  const ir::Graph graph = test::parse(R"(graph @g {
  %x = state {name = "x", dtype = bf16, shape = [4, 3]} : bf16[4, 3]
  %i = constant {dtype = i32, shape = [300], value = 2} : i32[300]
  %u = constant {dtype = bf16, shape = [300, 3], value = 1.0} : bf16[300, 3]
  %s = scatter_add %x, %i, %u {axis = 0} : bf16[4, 3]
  state_write %s {name = "s"}
})");
  const test::Values out = test::run_compiled(graph, {});
  EXPECT_EQ(out.at("s"), (std::vector<double>{0, 0, 0, 0, 0, 0, 300, 300, 300, 0, 0, 0}));
}

/// The graph after autocast, which changes it once.
std::string narrowed(const char* text) {
  ir::Graph graph = test::parse(text);
  EXPECT_TRUE(autocast(graph, DType::bf16));
  EXPECT_FALSE(autocast(graph, DType::bf16));
  return ir::print(graph);
}

constexpr const char* product = R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [8, 32]} : f32[8, 32]
  %w = state {name = "w", dtype = f32, shape = [32, 8]} : f32[32, 8]
  %y = dot %x, %w {lhs_contract = [1], rhs_contract = [0], lhs_batch = [], rhs_batch = []} : f32[8, 8]
  state_write %y {name = "y"}
})";

TEST(MixedPrecision, AutocastRoundsOperandsOfProducts) {
  const std::string text = narrowed(product);
  EXPECT_NE(text.find("bf16[8, 32]"), std::string::npos) << text;

  const test::Values in = {{"x", test::random_values(256, 4)}, {"w", test::random_values(256, 5)}};
  const auto exact = test::run_reference(test::parse(product), in).at("y");
  CompileOptions options;
  options.autocast = DType::bf16;
  const double error =
      test::relative_error(test::run_compiled(test::parse(product), in, options).at("y"), exact);
  // Two operands and the result round to 8 bits.
  EXPECT_LT(error, 3 * 0x1p-9);
  EXPECT_GT(error, 0x1p-14);
}

constexpr const char* attention = R"(graph @g {
  %q = state {name = "q", dtype = f32, shape = [2, 16, 8]} : f32[2, 16, 8]
  %k = state {name = "k", dtype = f32, shape = [2, 16, 8]} : f32[2, 16, 8]
  %v = state {name = "v", dtype = f32, shape = [2, 16, 8]} : f32[2, 16, 8]
  %t = state {name = "t", dtype = f32, shape = [2, 16]} : f32[2, 16]
  %o, %l = attention %q, %k, %v {scale = 0.3, causal = true} : f32[2, 16, 8], f32[2, 16]
  %a, %b, %c = attention_backward %q, %k, %v, %l, %t, %o {scale = 0.3, causal = true} : f32[2, 16, 8], f32[2, 16, 8], f32[2, 16, 8]
  state_write %o {name = "o"}
  state_write %l {name = "l"}
  state_write %a {name = "a"}
})";

TEST(MixedPrecision, AutocastRoundsOperandsOfAttention) {
  const std::string text = narrowed(attention);
  EXPECT_NE(text.find(": bf16[2, 16, 8], f32[2, 16]\n"), std::string::npos) << text;
  EXPECT_NE(text.find(": bf16[2, 16, 8], bf16[2, 16, 8], bf16[2, 16, 8]\n"), std::string::npos)
      << text;

  const test::Values in = {{"q", test::random_values(256, 4)},
                           {"k", test::random_values(256, 5)},
                           {"v", test::random_values(256, 6)},
                           {"t", test::random_values(32, 7)}};
  const test::Values exact = test::run_reference(test::parse(attention), in);
  CompileOptions options;
  options.autocast = DType::bf16;
  const test::Values found = test::run_compiled(test::parse(attention), in, options);
  for (const char* name : {"o", "a"}) {
    const double error = test::relative_error(found.at(name), exact.at(name));
    // q and k round the scores, v the sums, and the results round: of 8 bits each.
    EXPECT_LT(error, 6 * 0x1p-9) << name;
    EXPECT_GT(error, 0x1p-14) << name;
  }
}

TEST(MixedPrecision, AutocastTakesSixteenBitTypes) {
  ir::Graph graph = test::parse(product);
  EXPECT_THROW(autocast(graph, DType::f64), Error);
}

}  // namespace
}  // namespace weft::compiler
