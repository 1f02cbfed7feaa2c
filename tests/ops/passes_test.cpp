// Textual tests of the passes: a graph before and after.

#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "compiler/ir/text.h"
#include "compiler/passes/algebra.h"
#include "compiler/passes/cse.h"
#include "compiler/passes/dead_code.h"
#include "compiler/passes/decompose.h"
#include "compiler/passes/fold_constants.h"
#include "compiler/passes/hoist.h"
#include "compiler/passes/lower_scan.h"
#include "compiler/passes/movement.h"
#include "compiler/passes/simplify.h"
#include "gradient_check.h"
#include "support.h"

namespace weft::test {
namespace {

using Pass = bool (*)(ir::Graph& graph);

/// The text with the nodes numbered in order, whatever they were called.
std::string canonical(const ir::Graph& graph) {
  ir::Graph copy = graph.clone();
  const auto forget = [](ir::Node& node) {
    node.name.clear();
    for (const ir::Region* region : node.regions) {
      for (ir::Node* argument : region->arguments) argument->name.clear();
    }
  };
  ir::walk(copy.body(), forget);
  return ir::print(copy);
}

std::string graph_text(const std::string& nodes) { return "graph @main {\n" + nodes + "\n}\n"; }

/// Runs the pass, then removes dead code, and compares with `after`; a `before` equal to `after`
/// must be left unchanged.
void check(Pass pass, const std::string& before, const std::string& after) {
  SCOPED_TRACE(before);
  ir::Graph graph = ir::parse(graph_text(before), ops::table());
  const ir::Graph expected = ir::parse(graph_text(after), ops::table());
  const bool changed = pass(graph);
  EXPECT_EQ(changed, before != after);
  ASSERT_NO_THROW(ir::verify(graph, "the pass")) << ir::print(graph);
  compiler::dead_code(graph);
  ASSERT_NO_THROW(ir::verify(graph, "dead_code")) << ir::print(graph);
  EXPECT_EQ(canonical(graph), canonical(expected));
}

/// Of nodes after the declarations of x, y (f32[2, 3]), i, j (i32[4]) and c (bool[2, 3]).
const char* const inputs = R"(
  %x = state {name = "x", dtype = f32, shape = [2, 3]} : f32[2, 3]
  %y = state {name = "y", dtype = f32, shape = [2, 3]} : f32[2, 3]
  %i = state {name = "i", dtype = i32, shape = [4]} : i32[4]
  %j = state {name = "j", dtype = i32, shape = [4]} : i32[4]
  %c = state {name = "c", dtype = bool, shape = [2, 3]} : bool[2, 3]
  %h = state {name = "h", dtype = f16, shape = [2, 3]} : f16[2, 3]
  receiver %x, %y, %i, %j, %c, %h {name = "inputs", every = 1}
)";

void check_nodes(Pass pass, const std::string& before, const std::string& after) {
  check(pass, inputs + before, inputs + after);
}

std::string splat(const std::string& name, const std::string& value,
                  const std::string& type = "f32", const std::string& shape = "[2, 3]") {
  return "%" + name + " = constant {dtype = " + type + ", shape = " + shape + ", value = " + value +
         "} : " + type + shape + "\n";
}

std::string out(const std::string& name) {
  return "receiver %" + name + " {name = \"out\", every = 1}\n";
}

// ---- algebra ------------------------------------------------------------------------------------

void check_algebra(const std::string& before, const std::string& after) {
  check_nodes(compiler::algebra, before, after);
}

TEST(Algebra, NeutralElements) {
  const std::string zero = splat("k", "0.0");
  const std::string one = splat("k", "1.0");
  for (const char* node : {"add %x, %k", "add %k, %x", "sub %x, %k"}) {
    check_algebra(zero + "%r = " + node + " : f32[2, 3]\n" + out("r"), out("x"));
  }
  for (const char* node : {"mul %x, %k", "mul %k, %x", "div %x, %k", "pow %x, %k"}) {
    check_algebra(one + "%r = " + node + " : f32[2, 3]\n" + out("r"), out("x"));
  }
}

TEST(Algebra, ZeroAbsorbsIntegersOnly) {
  check_algebra(splat("k", "0", "i32", "[4]") + "%r = mul %i, %k : i32[4]\n" + out("r"),
                splat("k", "0", "i32", "[4]") + out("k"));
  check_algebra("%r = sub %i, %i : i32[4]\n" + out("r"), splat("k", "0", "i32", "[4]") + out("k"));
  for (const std::string& same : {splat("k", "0.0") + "%r = mul %x, %k : f32[2, 3]\n" + out("r"),
                                  "%r = sub %x, %x : f32[2, 3]\n" + out("r")}) {
    check_algebra(same, same);  // NaN and infinity go through
  }
}

TEST(Algebra, Signs) {
  const std::string n = "%n = neg %y : f32[2, 3]\n";
  check_algebra(n + "%r = neg %n : f32[2, 3]\n" + out("r"), out("y"));
  check_algebra(n + "%r = add %x, %n : f32[2, 3]\n" + out("r"),
                "%r = sub %x, %y : f32[2, 3]\n" + out("r"));
  check_algebra(n + "%r = sub %x, %n : f32[2, 3]\n" + out("r"),
                "%r = add %x, %y : f32[2, 3]\n" + out("r"));
  check_algebra(splat("k", "0.0") + "%r = sub %k, %x : f32[2, 3]\n" + out("r"),
                "%r = neg %x : f32[2, 3]\n" + out("r"));
  check_algebra(splat("k", "-1.0") + "%r = mul %k, %x : f32[2, 3]\n" + out("r"),
                "%r = neg %x : f32[2, 3]\n" + out("r"));
  check_algebra("%a = neg %x : f32[2, 3]\n" + n + "%r = mul %a, %n : f32[2, 3]\n" + out("r"),
                "%r = mul %x, %y : f32[2, 3]\n" + out("r"));
}

TEST(Algebra, FactorsAreFolded) {
  const std::string constants = splat("k", "6.0") + splat("l", "3.0");
  const std::map<std::string, std::pair<std::string, std::string>> products = {
      {"%a = mul %x, %k : f32[2, 3]\n%r = mul %l, %a : f32[2, 3]\n", {"18.0", "mul %x, %k"}},
      {"%a = mul %x, %k : f32[2, 3]\n%r = div %a, %l : f32[2, 3]\n", {"2.0", "mul %x, %k"}},
      {"%a = div %k, %x : f32[2, 3]\n%r = mul %a, %l : f32[2, 3]\n", {"18.0", "div %k, %x"}},
      {"%a = mul %x, %l : f32[2, 3]\n%r = div %k, %a : f32[2, 3]\n", {"2.0", "div %k, %x"}},
      {"%a = div %l, %x : f32[2, 3]\n%r = div %k, %a : f32[2, 3]\n", {"2.0", "mul %x, %k"}},
  };
  for (const auto& [before, after] : products) {
    check_algebra(constants + before + out("r"),
                  splat("k", after.first) + "%r = " + after.second + " : f32[2, 3]\n" + out("r"));
  }
  // A product out of f32's normal range is not formed.
  const std::string far = splat("k", "1e-30") + splat("l", "1e-20") +
                          "%a = mul %x, %k : f32[2, 3]\n%r = mul %a, %l : f32[2, 3]\n" + out("r");
  check_algebra(far, far);
  // Nor one of coarse 16-bit constants.
  const std::string half = splat("k", "6.0", "f16") + splat("l", "3.0", "f16") +
                           "%a = mul %h, %k : f16[2, 3]\n%r = mul %a, %l : f16[2, 3]\n" + out("r");
  check_algebra(half, half);
  // Nor a sum, whose rounding may be meant.
  const std::string sum = splat("k", "1e8") + splat("l", "1e8") +
                          "%a = add %x, %k : f32[2, 3]\n%r = sub %a, %l : f32[2, 3]\n" + out("r");
  check_algebra(sum, sum);
}

TEST(Algebra, DivisionByAPowerOfTwoIsAProduct) {
  check_algebra(splat("k", "8.0") + "%r = div %x, %k : f32[2, 3]\n" + out("r"),
                splat("k", "0.125") + "%r = mul %x, %k : f32[2, 3]\n" + out("r"));
  const std::string third = splat("k", "3.0") + "%r = div %x, %k : f32[2, 3]\n" + out("r");
  check_algebra(third, third);
}

TEST(Algebra, Powers) {
  check_algebra(splat("k", "2.0") + "%r = pow %x, %k : f32[2, 3]\n" + out("r"),
                "%r = mul %x, %x : f32[2, 3]\n" + out("r"));
  check_algebra(splat("k", "-1.0") + "%r = pow %x, %k : f32[2, 3]\n" + out("r"),
                "%r = reciprocal %x : f32[2, 3]\n" + out("r"));
  check_algebra("%s = sqrt %x : f32[2, 3]\n%r = reciprocal %s : f32[2, 3]\n" + out("r"),
                "%r = rsqrt %x : f32[2, 3]\n" + out("r"));
}

TEST(Algebra, SelectionAndLogic) {
  check_algebra("%r = where %c, %x, %x : f32[2, 3]\n" + out("r"), out("x"));
  check_algebra(splat("k", "1", "bool") + "%r = where %k, %x, %y : f32[2, 3]\n" + out("r"),
                out("x"));
  check_algebra("%n = logical_not %c : bool[2, 3]\n%r = where %n, %x, %y : f32[2, 3]\n" + out("r"),
                "%r = where %c, %y, %x : f32[2, 3]\n" + out("r"));
  check_algebra(splat("k", "1", "bool") + "%r = logical_and %c, %k : bool[2, 3]\n" + out("r"),
                out("c"));
  check_algebra("%r = maximum %x, %x : f32[2, 3]\n" + out("r"), out("x"));
}

TEST(Algebra, Casts) {
  const std::string wide = "%w = cast %h {dtype = f32} : f32[2, 3]\n";
  check_algebra(wide + "%r = cast %w {dtype = f16} : f16[2, 3]\n" + out("r"), out("h"));
  check_algebra(wide + "%r = cast %w {dtype = bf16} : bf16[2, 3]\n" + out("r"),
                "%r = cast %h {dtype = bf16} : bf16[2, 3]\n" + out("r"));
  // An explicit cast rounds.
  const std::string rounding =
      "%n = cast %x {dtype = f16} : f16[2, 3]\n"
      "%r = cast %n {dtype = f32} : f32[2, 3]\n" +
      out("r");
  check_algebra(rounding, rounding);
  // i32 to u8 wraps, f64 to u8 saturates.
  const std::string saturating =
      "%n = cast %i {dtype = f64} : f64[4]\n"
      "%r = cast %n {dtype = u8} : u8[4]\n" +
      out("r");
  check_algebra(saturating, saturating);
}

TEST(Algebra, StopGradientAndComplexPartsVanish) {
  check_algebra("%r = stop_gradient %x : f32[2, 3]\n" + out("r"), out("x"));
  check_algebra("%z = complex %x, %y : c64[2, 3]\n%r = imag %z : f32[2, 3]\n" + out("r"), out("y"));
  const std::string keep = "%r = keep %x : f32[2, 3]\n" + out("r");
  check_algebra(keep, keep);
}

// ---- constants ----------------------------------------------------------------------------------

void check_folding(const std::string& before, const std::string& after) {
  check_nodes(compiler::fold_constants, before, after);
}

TEST(FoldConstants, ElementwiseIsRoundedToTheType) {
  check_folding(splat("k", "1.0") + splat("l", "3.0") + "%r = div %k, %l : f32[2, 3]\n" + out("r"),
                splat("r", "0.3333333432674408") + out("r"));
  check_folding(splat("k", "7", "i32", "[4]") + splat("l", "-2", "i32", "[4]") +
                    "%r = mul %k, %l : i32[4]\n" + out("r"),
                splat("r", "-14", "i32", "[4]") + out("r"));
  check_folding(splat("k", "2.5") + "%r = cast %k {dtype = i32} : i32[2, 3]\n" + out("r"),
                splat("r", "2", "i32") + out("r"));
  check_folding(
      splat("k", "2.5") + splat("l", "2.0") + "%r = less %k, %l : bool[2, 3]\n" + out("r"),
      splat("r", "0", "bool") + out("r"));
}

TEST(FoldConstants, WhatIsNotFiniteStays) {
  const std::string log = splat("k", "0.0") + "%r = log %k : f32[2, 3]\n" + out("r");
  check_folding(log, log);
  const std::string large = splat("k", "1e38") + "%r = mul %k, %k : f32[2, 3]\n" + out("r");
  check_folding(large, large);
}

TEST(FoldConstants, MovementOfSplats) {
  check_folding(splat("k", "2.0") + "%r = permute %k {order = [1, 0]} : f32[3, 2]\n" + out("r"),
                splat("r", "2.0", "f32", "[3, 2]") + out("r"));
  check_folding(splat("k", "2.0", "f32", "[3]") +
                    "%r = pad %k {low = [1], high = [0], value = 2.0} : f32[4]\n" + out("r"),
                splat("r", "2.0", "f32", "[4]") + out("r"));
  const std::string other = splat("k", "2.0", "f32", "[3]") +
                            "%r = pad %k {low = [1], high = [0], value = 0.0} : f32[4]\n" +
                            out("r");
  check_folding(other, other);
}

TEST(FoldConstants, SumOfEqualElements) {
  check_folding(splat("k", "0.5") + "%r = sum %k {axes = [1], keep = false} : f32[2]\n" + out("r"),
                splat("r", "1.5", "f32", "[2]") + out("r"));
}

// ---- movement -----------------------------------------------------------------------------------

void check_movement(const std::string& before, const std::string& after) {
  check_nodes(compiler::movement, before, after);
}

TEST(Movement, IdentitiesVanish) {
  for (const char* node : {"reshape %x {shape = [2, 3]}", "permute %x {order = [0, 1]}",
                           "broadcast %x {shape = [2, 3]}",
                           "slice %x {start = [0, 0], limit = [2, 3], stride = [1, 1]}",
                           "pad %x {low = [0, 0], high = [0, 0], value = 0.0}",
                           "concat %x {axis = 0}", "sum %x {axes = [], keep = false}"}) {
    check_movement(std::string("%r = ") + node + " : f32[2, 3]\n" + out("r"), out("x"));
  }
}

TEST(Movement, NeighboursAreJoined) {
  check_movement(
      "%a = reshape %x {shape = [6]} : f32[6]\n"
      "%r = reshape %a {shape = [3, 2]} : f32[3, 2]\n" +
          out("r"),
      "%r = reshape %x {shape = [3, 2]} : f32[3, 2]\n" + out("r"));
  check_movement(
      "%a = permute %x {order = [1, 0]} : f32[3, 2]\n"
      "%r = permute %a {order = [1, 0]} : f32[2, 3]\n" +
          out("r"),
      out("x"));
  check_movement(
      "%a = broadcast %x {shape = [4, 2, 3]} : f32[4, 2, 3]\n"
      "%r = broadcast %a {shape = [5, 4, 2, 3]} : f32[5, 4, 2, 3]\n" +
          out("r"),
      "%r = broadcast %x {shape = [5, 4, 2, 3]} : f32[5, 4, 2, 3]\n" + out("r"));
  check_movement(
      "%a = slice %i {start = [1], limit = [4], stride = [1]} : i32[3]\n"
      "%r = slice %a {start = [0], limit = [3], stride = [2]} : i32[2]\n" +
          out("r"),
      "%r = slice %i {start = [1], limit = [4], stride = [2]} : i32[2]\n" + out("r"));
  check_movement(
      "%a = flip %x {axes = [0]} : f32[2, 3]\n"
      "%r = flip %a {axes = [1, 0]} : f32[2, 3]\n" +
          out("r"),
      "%r = flip %x {axes = [1]} : f32[2, 3]\n" + out("r"));
  check_movement(
      "%a = pad %i {low = [1], high = [2], value = 0.0} : i32[7]\n"
      "%r = pad %a {low = [0], high = [3], value = 0.0} : i32[10]\n" +
          out("r"),
      "%r = pad %i {low = [1], high = [5], value = 0.0} : i32[10]\n" + out("r"));
}

TEST(Movement, SliceLooksThroughPadAndConcat) {
  check_movement(
      "%a = pad %i {low = [2], high = [2], value = 0.0} : i32[8]\n"
      "%r = slice %a {start = [3], limit = [6], stride = [1]} : i32[3]\n" +
          out("r"),
      "%r = slice %i {start = [1], limit = [4], stride = [1]} : i32[3]\n" + out("r"));
  check_movement(
      "%a = concat %i, %j {axis = 0} : i32[8]\n"
      "%r = slice %a {start = [4], limit = [8], stride = [1]} : i32[4]\n" +
          out("r"),
      out("j"));
  const std::string across =
      "%a = concat %i, %j {axis = 0} : i32[8]\n"
      "%r = slice %a {start = [3], limit = [6], stride = [1]} : i32[3]\n" +
      out("r");
  check_movement(across, across);
}

TEST(Movement, AxesOfExtentOneAreReshaped) {
  const std::string a = "%a = reshape %x {shape = [2, 1, 3]} : f32[2, 1, 3]\n";
  check_movement(a +
                     "%e = exp %a : f32[2, 1, 3]\n"
                     "%r = permute %e {order = [1, 0, 2]} : f32[1, 2, 3]\n" +
                     out("r"),
                 a +
                     "%e = exp %a : f32[2, 1, 3]\n"
                     "%r = reshape %e {shape = [1, 2, 3]} : f32[1, 2, 3]\n" +
                     out("r"));
  check_movement(a +
                     "%e = exp %a : f32[2, 1, 3]\n"
                     "%r = sum %e {axes = [1, 2], keep = false} : f32[2]\n" +
                     out("r"),
                 a +
                     "%e = exp %a : f32[2, 1, 3]\n"
                     "%s = sum %e {axes = [2], keep = false} : f32[2, 1]\n"
                     "%r = reshape %s {shape = [2]} : f32[2]\n" +
                     out("r"));
}

TEST(Movement, ConstantStartsAreClampedSlices) {
  check_movement(
      "%s = constant {dtype = i32, shape = [], value = 3} : i32[]\n"
      "%r = dynamic_slice %i, %s {sizes = [2]} : i32[2]\n" +
          out("r"),
      "%r = slice %i {start = [2], limit = [4], stride = [1]} : i32[2]\n" + out("r"));
}

TEST(Movement, SumOfBroadcastIsAProduct) {
  check_movement(
      "%b = broadcast %x {shape = [4, 2, 3]} : f32[4, 2, 3]\n"
      "%r = sum %b {axes = [0], keep = false} : f32[2, 3]\n" +
          out("r"),
      splat("k", "4.0") + "%r = mul %x, %k : f32[2, 3]\n" + out("r"));
}

// ---- common subexpressions ----------------------------------------------------------------------

void check_cse(const std::string& before, const std::string& after) {
  check_nodes(compiler::common_subexpressions, before, after);
}

TEST(CommonSubexpressions, EqualNodesAreOne) {
  check_cse(
      "%a = add %x, %y : f32[2, 3]\n%b = add %y, %x : f32[2, 3]\n"
      "%r = mul %a, %b : f32[2, 3]\n" +
          out("r"),
      "%a = add %x, %y : f32[2, 3]\n%r = mul %a, %a : f32[2, 3]\n" + out("r"));
  const std::string differ =
      "%a = sub %x, %y : f32[2, 3]\n%b = sub %y, %x : f32[2, 3]\n"
      "%r = mul %a, %b : f32[2, 3]\n" +
      out("r");
  check_cse(differ, differ);
}

TEST(CommonSubexpressions, BodiesSeeEnclosingNodesButNotSiblings) {
  check_cse(
      "%a = exp %x : f32[2, 3]\n"
      "%l = loop %x {count = 2} (%t: i64[], %u: f32[2, 3]) {\n"
      "  %b = exp %x : f32[2, 3]\n %d = add %b, %u : f32[2, 3]\n yield %d\n} : f32[2, 3]\n"
      "%r = mul %a, %l : f32[2, 3]\n" +
          out("r"),
      "%a = exp %x : f32[2, 3]\n"
      "%l = loop %x {count = 2} (%t: i64[], %u: f32[2, 3]) {\n"
      "  %d = add %a, %u : f32[2, 3]\n yield %d\n} : f32[2, 3]\n"
      "%r = mul %a, %l : f32[2, 3]\n" +
          out("r"));
  const std::string siblings =
      "%l = loop %x {count = 2} (%t: i64[], %u: f32[2, 3]) {\n"
      "  %b = exp %y : f32[2, 3]\n %d = add %b, %u : f32[2, 3]\n yield %d\n} : f32[2, 3]\n"
      "%m = loop %x {count = 2} (%v: i64[], %w: f32[2, 3]) {\n"
      "  %e = exp %y : f32[2, 3]\n %f = mul %e, %w : f32[2, 3]\n yield %f\n} : f32[2, 3]\n"
      "%r = mul %l, %m : f32[2, 3]\n" +
      out("r");
  check_cse(siblings, siblings);
}

TEST(CommonSubexpressions, RandomIsAFunctionAndFeedersAreNot) {
  const std::string attributes = " {dtype = f32, shape = [3], seed = 1, stream = \"a\"} : f32[3]\n";
  const std::string t = "%t = constant {dtype = i64, shape = [], value = 5} : i64[]\n";
  check_cse(t + "%a = random_uniform %t" + attributes + "%b = random_uniform %t" + attributes +
                "%r = add %a, %b : f32[3]\n" + out("r"),
            t + "%a = random_uniform %t" + attributes + "%r = add %a, %a : f32[3]\n" + out("r"));
  const std::string feeder = " = feeder {name = \"f\", dtype = f32, shape = [3]} : f32[3]\n";
  const std::string fed = "%a" + feeder + "%b" + feeder + "%r = add %a, %b : f32[3]\n" + out("r");
  check_cse(fed, fed);
}

// ---- dead code ----------------------------------------------------------------------------------

void check_dead_code(const std::string& before, const std::string& after) {
  check_nodes(compiler::dead_code, before, after);
}

TEST(DeadCode, WhatNothingReadsIsRemoved) {
  check_dead_code("%a = exp %x : f32[2, 3]\n%b = exp %a : f32[2, 3]\n" + out("y"), out("y"));
  check_dead_code("%f = feeder {name = \"f\", dtype = f32, shape = [3]} : f32[3]\n", "");
  const std::string kept =
      "%r = exp %x : f32[2, 3]\n%k = keep %r : f32[2, 3]\n"
      "state_write %y {name = \"x\"}\n";
  check_dead_code(kept, kept);
}

TEST(DeadCode, UnusedCarriedValuesAreDropped) {
  check_dead_code(
      "%l, %m, %n = loop %x, %y, %x {count = 2} (%t: i64[], %a: f32[2, 3], %b: f32[2, 3], "
      "%d: f32[2, 3]) {\n"
      "  %e = exp %b : f32[2, 3]\n %f = add %d, %b : f32[2, 3]\n %g = sin %a : f32[2, 3]\n"
      "  yield %g, %e, %f\n} : f32[2, 3], f32[2, 3], f32[2, 3]\n" +
          out("n"),
      // The second is needed by the third, the first by nothing.
      "%m, %n = loop %y, %x {count = 2} (%t: i64[], %b: f32[2, 3], %d: f32[2, 3]) {\n"
      "  %e = exp %b : f32[2, 3]\n %f = add %d, %b : f32[2, 3]\n"
      "  yield %e, %f\n} : f32[2, 3], f32[2, 3]\n" +
          out("n"));
}

TEST(DeadCode, ReceiversKeepTheirLoop) {
  check_dead_code(
      "%l, %m = loop %x, %y {count = 2} (%t: i64[], %a: f32[2, 3], %b: f32[2, 3]) {\n"
      "  %e = exp %a : f32[2, 3]\n receiver %e {name = \"out\", every = 1}\n"
      "  %f = exp %b : f32[2, 3]\n yield %e, %f\n} : f32[2, 3], f32[2, 3]\n",
      "%l = loop %x {count = 2} (%t: i64[], %a: f32[2, 3]) {\n"
      "  %e = exp %a : f32[2, 3]\n receiver %e {name = \"out\", every = 1}\n"
      "  yield %e\n} : f32[2, 3]\n");
  check_dead_code(
      "%l = loop %x {count = 2} (%t: i64[], %a: f32[2, 3]) {\n"
      "  %e = exp %a : f32[2, 3]\n yield %e\n} : f32[2, 3]\n",
      "");
}

TEST(DeadCode, ScansLoseUnreadInputsAndResults) {
  check_dead_code(
      "%l, %m, %n = scan %i, %x, %y {length = 2, carried = 1, reverse = false} "
      "(%t: i64[], %a: i32[4], %b: f32[3], %d: f32[3]) {\n"
      "  %e = exp %b : f32[3]\n %f = exp %d : f32[3]\n %g = add %a, %a : i32[4]\n"
      "  yield %g, %e, %f\n} : i32[4], f32[2, 3], f32[2, 3]\n" +
          out("n"),
      "%n = scan %y {length = 2, carried = 0, reverse = false} (%t: i64[], %d: f32[3]) {\n"
      "  %f = exp %d : f32[3]\n yield %f\n} : f32[2, 3]\n" +
          out("n"));
}

// ---- invariants ---------------------------------------------------------------------------------

void check_hoist(const std::string& before, const std::string& after) {
  check_nodes(compiler::hoist_invariants, before, after);
}

TEST(Hoist, AnchorsAndWhatTheyNeedLeaveTheLoop) {
  check_hoist(
      "%l = loop %x {count = 2} (%t: i64[], %a: f32[2, 3]) {\n"
      "  %e = mul %y, %y : f32[2, 3]\n %s = sum %e {axes = [0, 1], keep = false} : f32[]\n"
      "  %b = broadcast %s {shape = [2, 3]} : f32[2, 3]\n %d = mul %a, %b : f32[2, 3]\n"
      "  yield %d\n} : f32[2, 3]\n" +
          out("l"),
      "%e = mul %y, %y : f32[2, 3]\n%s = sum %e {axes = [0, 1], keep = false} : f32[]\n"
      "%l = loop %x {count = 2} (%t: i64[], %a: f32[2, 3]) {\n"
      "  %b = broadcast %s {shape = [2, 3]} : f32[2, 3]\n %d = mul %a, %b : f32[2, 3]\n"
      "  yield %d\n} : f32[2, 3]\n" +
          out("l"));
}

TEST(Hoist, CheapAndVaryingNodesAndSingleStepsStay) {
  const auto loop = [](const std::string& count, const std::string& node) {
    return "%l = loop %x {count = " + count + "} (%t: i64[], %a: f32[2, 3]) {\n" + node +
           "  %d = mul %a, %e : f32[2, 3]\n yield %d\n} : f32[2, 3]\n" + out("l");
  };
  for (const std::string& same :
       {loop("2", "%e = add %y, %y : f32[2, 3]\n"), loop("2", "%e = exp %a : f32[2, 3]\n"),
        loop("1", "%e = exp %y : f32[2, 3]\n")}) {
    check_hoist(same, same);
  }
}

TEST(Hoist, UnchangedCarriedValuesAreCaptured) {
  check_hoist(
      "%l, %m = loop %x, %y {count = 2} (%t: i64[], %a: f32[2, 3], %b: f32[2, 3]) {\n"
      "  %d = mul %a, %b : f32[2, 3]\n yield %d, %b\n} : f32[2, 3], f32[2, 3]\n"
      "%r = add %l, %m : f32[2, 3]\n" +
          out("r"),
      "%l = loop %x {count = 2} (%t: i64[], %a: f32[2, 3]) {\n"
      "  %d = mul %a, %y : f32[2, 3]\n yield %d\n} : f32[2, 3]\n"
      "%r = add %l, %y : f32[2, 3]\n" +
          out("r"));
}

/// What a state is between iterations is kept, though the loop hands it on unchanged and nothing
/// reads it after.
TEST(Hoist, CarriedStatesStayCarried) {
  const std::string text =
      "%l, %m = loop %x, %y {count = 2} (%t: i64[], %a: f32[2, 3], %b: f32[2, 3]) {\n"
      "  state_carry %b {name = \"y\"}\n %d = mul %a, %b : f32[2, 3]\n"
      "  yield %d, %b\n} : f32[2, 3], f32[2, 3]\n" +
      out("l");
  check_hoist(text, text);
  check_dead_code(text, text);
}

TEST(Hoist, InvariantsLeaveAllLoops) {
  check_hoist(
      "%l = loop %x {count = 2} (%t: i64[], %a: f32[2, 3]) {\n"
      "  %m = loop %a {count = 3} (%u: i64[], %b: f32[2, 3]) {\n"
      "    %e = exp %y : f32[2, 3]\n %d = mul %b, %e : f32[2, 3]\n yield %d\n  } : f32[2, 3]\n"
      "  yield %m\n} : f32[2, 3]\n" +
          out("l"),
      "%e = exp %y : f32[2, 3]\n"
      "%l = loop %x {count = 2} (%t: i64[], %a: f32[2, 3]) {\n"
      "  %m = loop %a {count = 3} (%u: i64[], %b: f32[2, 3]) {\n"
      "    %d = mul %b, %e : f32[2, 3]\n yield %d\n  } : f32[2, 3]\n"
      "  yield %m\n} : f32[2, 3]\n" +
          out("l"));
}

// ---- scans --------------------------------------------------------------------------------------

TEST(LowerScan, BecomesALoopOverSlices) {
  check_nodes(compiler::lower_scan,
              "%z = constant {dtype = f32, shape = [3], value = 0.0} : f32[3]\n"
              "%l, %m = scan %z, %x {length = 2, carried = 1, reverse = true} "
              "(%t: i64[], %a: f32[3], %b: f32[3]) {\n"
              "  %d = add %a, %b : f32[3]\n yield %d, %a\n} : f32[3], f32[2, 3]\n"
              "receiver %l, %m {name = \"out\", every = 1}\n",
              "%z = constant {dtype = f32, shape = [3], value = 0.0} : f32[3]\n"
              "%o = constant {dtype = f32, shape = [2, 3], value = 0.0} : f32[2, 3]\n"
              "%l, %m = loop %z, %o {count = 2} (%t: i64[], %a: f32[3], %ys: f32[2, 3]) {\n"
              "  %last = constant {dtype = i64, shape = [], value = 1} : i64[]\n"
              "  %p = sub %last, %t : i64[]\n"
              "  %k = constant {dtype = i64, shape = [], value = 0} : i64[]\n"
              "  %w = dynamic_slice %x, %p, %k {sizes = [1, 3]} : f32[1, 3]\n"
              "  %b = reshape %w {shape = [3]} : f32[3]\n"
              "  %d = add %a, %b : f32[3]\n"
              "  %k2 = constant {dtype = i64, shape = [], value = 0} : i64[]\n"
              "  %s = reshape %a {shape = [1, 3]} : f32[1, 3]\n"
              "  %u = dynamic_update_slice %ys, %s, %p, %k2 : f32[2, 3]\n"
              "  yield %d, %u\n} : f32[3], f32[2, 3]\n"
              "receiver %l, %m {name = \"out\", every = 1}\n");
}

// ---- all of them --------------------------------------------------------------------------------

TEST(Simplify, RunsUntilNothingChanges) {
  // 2 * (x * 3) / 6 + 0 and its neighbour are one value, which is x.
  check_nodes(compiler::simplify,
              splat("k", "3.0") + splat("l", "2.0") + splat("m", "6.0") + splat("o", "0.0") +
                  "%a = mul %x, %k : f32[2, 3]\n%b = mul %l, %a : f32[2, 3]\n"
                  "%d = div %b, %m : f32[2, 3]\n%e = add %d, %o : f32[2, 3]\n"
                  "%f = reshape %e {shape = [6]} : f32[6]\n"
                  "%r = reshape %f {shape = [2, 3]} : f32[2, 3]\n" +
                  out("r"),
              out("x"));
}

TEST(Simplify, NamesAndLinesOfTheUserAreKept) {
  ir::Graph graph = ir::parse(graph_text(std::string(inputs) +
                                         "%n = neg %y : f32[2, 3]\n"
                                         "%loss = add %x, %n : f32[2, 3] @ \"model.cpp\":7\n" +
                                         out("loss")),
                              ops::table());
  EXPECT_TRUE(compiler::simplify(graph));
  EXPECT_FALSE(compiler::simplify(graph));
  const ir::Node* receiver = graph.body().nodes.back();
  const ir::Node* loss = receiver->operands[0].node;
  EXPECT_TRUE(loss->is("sub"));
  EXPECT_EQ(loss->name, "loss");
  EXPECT_EQ(loss->location.text(), "model.cpp:7");
}

}  // namespace
}  // namespace weft::test
