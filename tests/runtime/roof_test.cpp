#include "runtime/roof.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace weft::runtime {
namespace {

TEST(Roof, TheSlowerOfMemoryAndArithmeticCounts) {
  const Roof roof{.levels = {{1000, 1e6}, {100000, 1e5}}, .operations_a_second = 1e7};
  EXPECT_DOUBLE_EQ(roof.seconds(1000, 0), 1e-3);
  EXPECT_DOUBLE_EQ(roof.seconds(2000, 0), 2e-2);
  EXPECT_DOUBLE_EQ(roof.seconds(1000000, 0), 10);  // larger than all levels
  EXPECT_DOUBLE_EQ(roof.seconds(1000, 100000), 1e-2);
  EXPECT_DOUBLE_EQ(roof.share(1000, 100000, 4e-2), 0.25);
  EXPECT_EQ(roof.share(1000, 1000, 0), 0);
}

TEST(Roof, IsReadBackFromItsText) {
  const Roof roof{.levels = {{512, 1.25e11}, {1 << 20, 7.5e9}}, .operations_a_second = 2.5e11};
  const std::optional<Roof> read = Roof::parse(roof.text());
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->text(), roof.text());
  EXPECT_EQ(read->levels.size(), 2U);
}

TEST(Roof, OtherTextIsNone) {
  for (const char* text :
       {"", "operations", "operations 1e9", "operations x\nlevel 1 1\n",
        "operations -1\nlevel 1 1\n", "operations 1\nlevel 1 0\n", "operations 1\nlevel 1 -5\n",
        "operations 1\nlevel 1\n", "operations 1\nlevel 2 5\nlevel 1 5\n",
        "operations 1\nlevel 1 5\nnonsense", "operations nan\nlevel 1 5\n",
        "operations 1\nlevel 1 inf\n"}) {
    EXPECT_EQ(Roof::parse(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace weft::runtime
