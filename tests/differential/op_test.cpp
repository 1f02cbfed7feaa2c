// Every op of the table, compiled, against its reference: by itself, with its gradients, and in a
// loop that carries its operands and sums its results.

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "compiler/ir/text.h"
#include "ops/op.h"
#include "save.h"
#include "tools/check/bounds.h"
#include "tools/check/differences.h"
#include "tools/check/op_uses.h"

namespace weft::test {
namespace {

using check::Mode;

class DifferentialOp : public testing::TestWithParam<std::string> {
 protected:
  static void compare(const check::OpUses& uses, const std::string& what,
                      const std::vector<Mode>& modes) {
    const std::string text = ir::print(uses.graph);
    const check::Interface interface = check::read_interface(uses.graph, 4);
    const std::vector<check::Bounded> expected = check::bound(uses.graph, interface, uses.inputs);
    for (const Mode& mode : modes) {
      const check::Comparison comparison =
          check::differences(uses.graph, interface, uses.inputs, expected, mode);
      // Where rounding decides over most elements, nothing is compared.
      EXPECT_LE(10 * comparison.undetermined, comparison.elements) << what;
      if (comparison.mismatches.empty()) continue;
      ADD_FAILURE() << what << ", " << fmt::format("{}", fmt::join(comparison.mismatches, "\n"))
                    << "\n"
                    << save(fmt::format("{}_{}.weft", GetParam(), what), text);
    }
  }
};

const std::vector<int> threads = {1, 3};

TEST_P(DifferentialOp, AloneAndWithGradients) {
  const ops::Op& op = ops::op(GetParam());
  const check::OpUses uses = check::uses_alone(op, 1);
  std::vector<Mode> modes = {{.fuse = true, .threads = threads}};
  // A single op is the same kernel either way.
  if (op.derivative || op.decompose) modes.push_back({.fuse = false, .threads = threads});
  compare(uses, "direct", modes);
}

TEST_P(DifferentialOp, InALoop) {
  compare(check::uses_in_loops(ops::op(GetParam()), 2), "loop",
          {{.fuse = true, .threads = threads}, {.fuse = false, .threads = threads}});
}

INSTANTIATE_TEST_SUITE_P(Ops, DifferentialOp, testing::ValuesIn(check::generated_ops()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace weft::test
