// Kernels that are moved for a GPU still run after what they read is written.
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>

#include "compiler/fusion/gather.h"
#include "tools/check/random_graph.h"

namespace weft::compiler {
namespace {

void expect_order(const FusedRegion& region,
                  std::set<std::pair<const ir::Node*, std::uint32_t>> known,
                  std::multiset<std::string>& kernels) {
  const auto key = [](ir::Value value) { return std::pair(value.node, value.index); };
  std::set<std::pair<const ir::Node*, std::uint32_t>> written;
  for (const Item& item : region.items) {
    for (const ir::Value value : item.writes) written.insert({value.node, value.index});
  }
  for (const Item& item : region.items) {
    for (const ir::Value value : item.reads) {
      EXPECT_TRUE(written.count(key(value)) == 0 || known.count(key(value)) == 1);
    }
    for (const Group* group : item.groups) kernels.insert(group->name);
    if (item.body != nullptr) expect_order(*item.body, known, kernels);
    for (const ir::Value value : item.writes) known.insert(key(value));
  }
}

TEST(GatheredGraphs, ReadersComeAfterWriters) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const ir::Graph graph = check::random_graph(seed);
    FusedGraph fused = fuse(graph);
    gather_equal(fused.body);
    std::multiset<std::string> kernels;
    expect_order(fused.body, {}, kernels);
    // Each kernel once.
    EXPECT_EQ(kernels.size(), fused.groups.size()) << seed;
    for (const Group& group : fused.groups) EXPECT_EQ(kernels.count(group.name), 1U) << seed;
  }
}

}  // namespace
}  // namespace weft::compiler
