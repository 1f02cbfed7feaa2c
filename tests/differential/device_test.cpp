// Every op of the table, and random programs, compiled for a GPU: their plans run with kernels by
// the interpreter, against the reference evaluation. WEFT_FUZZ_SEEDS and WEFT_FUZZ_FIRST as in
// random_graph_test.cpp.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "compiler/ir/text.h"
#include "ops/build.h"
#include "runtime/plan/error.h"
#include "tests/compiler/ptxas.h"
#include "tools/check/bounds.h"
#include "tools/check/interpreted.h"
#include "tools/check/op_uses.h"
#include "tools/check/random_graph.h"

namespace weft::test {
namespace {

struct Compared {
  std::vector<std::string> lines;
  std::int64_t undetermined = 0, elements = 0;
};

/// What is wrong with a graph on a GPU.
Compared compared(const ir::Graph& graph, const check::Interface& interface,
                  const check::Inputs& inputs, const std::vector<check::Bounded>& expected,
                  bool fuse, std::uint64_t seed) {
  compiler::CompileOptions options;
  options.gpu = "sm_90a";
  options.fuse = fuse;
  options.keep_kernels = true;
  options.generate_code = false;
  options.threads = 1;
  try {
    const compiler::Compilation compilation = compiler::compile(graph, options);
    // Code generation makes narrower accesses of vectors that it cannot prove to be aligned.
    const check::Interpreted run = check::run_interpreted(
        compilation, interface, inputs, {.seed = seed, .vector_alignment = false});
    const check::Comparison comparison =
        check::compare(expected, check::tensors_of(run.outcome, interface));
    Compared result{run.reports, comparison.undetermined, comparison.elements};
    result.lines.insert(result.lines.end(), comparison.mismatches.begin(),
                        comparison.mismatches.end());
    if (!result.lines.empty()) result.lines.push_back(fmt::format("fuse {}", fuse));
    return result;
  } catch (const Error& error) {
    return Compared{{std::string("error: ") + error.what()}};
  }
}

class DeviceOp : public testing::TestWithParam<std::string> {
 protected:
  void check_uses(const check::OpUses& uses, const std::vector<bool>& modes) {
    const check::Interface interface = check::read_interface(uses.graph, 4);
    const std::vector<check::Bounded> expected = check::bound(uses.graph, interface, uses.inputs);
    for (const bool fuse : modes) {
      const Compared result = compared(uses.graph, interface, uses.inputs, expected, fuse, 7);
      EXPECT_LE(10 * result.undetermined, result.elements);
      EXPECT_TRUE(result.lines.empty()) << fmt::format("{}", fmt::join(result.lines, "\n"));
    }
  }
};

TEST_P(DeviceOp, AloneAndWithGradients) {
  const ops::Op& op = ops::op(GetParam());
  // Attention takes the interpreter long, and is tested in many shapes elsewhere.
  const bool once = (!op.derivative && !op.decompose) || op.pattern == ir::Pattern::attention;
  check_uses(check::uses_alone(op, 1), once ? std::vector{true} : std::vector{true, false});
}

INSTANTIATE_TEST_SUITE_P(Ops, DeviceOp, testing::ValuesIn(check::generated_ops()),
                         [](const auto& test) { return test.param; });

class DeviceOpInALoop : public DeviceOp {};

TEST_P(DeviceOpInALoop, Agrees) {
  check_uses(check::uses_in_loops(ops::op(GetParam()), 2), {true});
}

std::vector<std::string> ops_for_loops() {
  std::vector<std::string> names = check::generated_ops();
  std::erase_if(names, [](const std::string& name) {
    return ops::op(name).pattern == ir::Pattern::attention;
  });
  return names;
}

INSTANTIATE_TEST_SUITE_P(Ops, DeviceOpInALoop, testing::ValuesIn(ops_for_loops()),
                         [](const auto& test) { return test.param; });

std::uint64_t from_environment(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(DeviceGraphs, AgreeWithTheReference) {
  const std::uint64_t count = from_environment("WEFT_FUZZ_SEEDS", 24);
  const std::uint64_t first = from_environment("WEFT_FUZZ_FIRST", 0);
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    const ir::Graph graph = check::random_graph(seed);
    const check::Interface interface = check::read_interface(graph, 1);
    const check::Inputs inputs = check::random_inputs(graph, interface, 0);
    const std::vector<check::Bounded> expected = check::bound(graph, interface, inputs);
    for (const bool fuse : {true, false}) {
      const Compared result = compared(graph, interface, inputs, expected, fuse, seed);
      EXPECT_TRUE(result.lines.empty()) << "seed " << seed << ":\n"
                                        << fmt::format("{}", fmt::join(result.lines, "\n")) << "\n"
                                        << ir::print(graph).substr(0, 4000);
    }
  }
}

/// One use of an op alone.
ir::Graph single_use(const ops::Op& op, DType dtype, ops::Random& random) {
  ir::Graph graph;
  ops::Builder b(graph, graph.body());
  const ops::Sample sample = op.generate.function(random, dtype);
  std::vector<ir::Value> operands;
  for (const ops::Sample::Operand& operand : sample.operands) {
    const Shape& shape = operand.type.shape;
    operands.push_back(b.emit1("state", {},
                               {{"name", fmt::format("x{}", operands.size())},
                                {"dtype", operand.type.dtype},
                                {"shape", std::vector<std::int64_t>(shape.begin(), shape.end())}}));
  }
  const ir::Node* node = b.emit(op, operands, sample.attributes);
  for (std::uint32_t r = 0; r < node->results.size(); ++r) {
    const ir::Value value{const_cast<ir::Node*>(node), r};
    b.emit(ops::op("state_write"), {value}, {{"name", fmt::format("y{}", r)}});
  }
  return graph;
}

/// The code of every op for both processors: in f32 for one, in another of its types for the other,
/// which makes half of the code. Products and attention have tests of their own.
TEST(DeviceCode, OfEveryOpAssembles) {
  for (const bool older : {true, false}) {
    compiler::CompileOptions options;
    options.gpu = older ? "sm_80" : "sm_90a";
    ops::Random random(older ? 1 : 2);
    std::vector<std::string> modules;
    std::map<std::string, std::string> ops_of;
    std::size_t turn = 0;
    for (const std::string& name : check::generated_ops()) {
      const ops::Op& op = ops::op(name);
      if (op.pattern == ir::Pattern::attention) continue;
      const DType dtype = op.dtypes[older ? 0 : ++turn % op.dtypes.size()];
      try {
        compiler::Compilation compilation =
            compiler::compile(single_use(op, dtype, random), options);
        for (const plan::Kernel& kernel : compilation.plan.kernels) {
          for (const plan::Phase& phase : kernel.phases) ops_of[phase.symbol] = name;
        }
        for (plan::CodeObject& object : compilation.plan.objects) {
          modules.push_back(std::move(object.bytes));
        }
      } catch (const Error& error) {
        ADD_FAILURE() << name << ": " << error.what();
      }
    }
    EXPECT_GT(modules.size(), 60U);
    for (const std::string& line : spills(assemble(modules, options.gpu))) {
      ADD_FAILURE() << options.gpu << ", " << ops_of[line.substr(0, line.find(':'))] << ": "
                    << line;
    }
  }
}

}  // namespace
}  // namespace weft::test
