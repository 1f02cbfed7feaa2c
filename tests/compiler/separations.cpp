#include "separations.h"

#include <gtest/gtest.h>

#include <set>
#include <tuple>

#include "compiler/compile.h"
#include "compiler/fusion/refusals.h"
#include "compiler/ir/text.h"

namespace weft::test {

int expect_reasons(const ir::Graph& traced, bool fuse) {
  compiler::CompileOptions options;
  options.fuse = fuse;
  const compiler::Compilation compilation = compiler::compile(traced, options);
  for (const compiler::FusionRefusal& refusal : compilation.refusals) {
    EXPECT_FALSE(refusal.reason.empty())
        << refusal.producer.name << " -> " << refusal.consumer.name;
  }
  const ir::Graph graph = ir::parse(compilation.simplified, ops::table());
  const compiler::FusedGraph fused = compiler::fuse(graph, fuse);
  using Use = std::tuple<const ir::Node*, const ir::Node*, const compiler::Group*>;
  std::set<Use> reasons;
  for (const compiler::Separation& entry : compiler::separations(fused, fuse)) {
    EXPECT_FALSE(entry.reason.empty());
    reasons.insert({entry.producer, entry.consumer, entry.consumer_group});
  }
  int separate = 0;
  for (const compiler::Group& group : fused.groups) {
    const std::set<const ir::Node*> members(group.members.begin(), group.members.end());
    for (const ir::Node* consumer : group.members) {
      for (const ir::Value operand : consumer->operands) {
        const ir::Node& producer = *operand.node;
        const bool computed = ops::is_pointwise(producer) || compiler::is_anchor(producer);
        if (!computed || compiler::is_immediate(producer) || compiler::is_source(producer)) {
          continue;
        }
        if (members.contains(&producer)) continue;
        ++separate;
        EXPECT_TRUE(reasons.contains({&producer, consumer, &group}))
            << producer.op->name << " -> " << consumer->op->name << " in " << group.name << " of\n"
            << compilation.simplified;
      }
    }
  }
  return separate;
}

}  // namespace weft::test
