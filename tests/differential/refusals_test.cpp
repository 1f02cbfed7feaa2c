#include <gtest/gtest.h>

#include "tests/compiler/separations.h"
#include "tools/check/random_graph.h"

namespace weft::test {
namespace {

TEST(Refusals, RandomGraphsHaveReasons) {
  int separate = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    separate += expect_reasons(check::random_graph(seed));
  }
  EXPECT_GT(separate, 100);
}

}  // namespace
}  // namespace weft::test
