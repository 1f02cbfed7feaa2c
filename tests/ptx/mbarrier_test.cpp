#include "tests/ptx/machine/mbarrier.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace weft::ptx {
namespace {

TEST(Mbarrier, ArrivalsCompleteAPhase) {
  std::uint64_t object = 0;
  mbarrier::init(object, 3);
  EXPECT_FALSE(mbarrier::test_parity(object, false));
  EXPECT_TRUE(mbarrier::test_parity(object, true));  // the phase before the first one
  const std::uint64_t first = mbarrier::arrive(object, 1);
  EXPECT_EQ(mbarrier::pending_count(first), 3U);
  EXPECT_FALSE(mbarrier::test_state(object, first));
  const std::uint64_t second = mbarrier::arrive(object, 2);
  EXPECT_EQ(mbarrier::pending_count(second), 2U);
  EXPECT_TRUE(mbarrier::test_state(object, first));
  EXPECT_TRUE(mbarrier::test_state(object, second));
  EXPECT_TRUE(mbarrier::test_parity(object, false));
  EXPECT_FALSE(mbarrier::test_parity(object, true));
  // The next phase expects as many.
  const std::uint64_t next = mbarrier::arrive(object, 2);
  EXPECT_EQ(mbarrier::pending_count(next), 3U);
  EXPECT_FALSE(mbarrier::test_state(object, next));
  mbarrier::arrive(object, 1);
  EXPECT_TRUE(mbarrier::test_state(object, next));
  EXPECT_FALSE(mbarrier::test_parity(object, false));
  EXPECT_TRUE(mbarrier::test_parity(object, true));
}

TEST(Mbarrier, BytesAreWaitedFor) {
  std::uint64_t object = 0;
  mbarrier::init(object, 1);
  mbarrier::expect_tx(object, 4096);
  mbarrier::arrive(object, 1);
  EXPECT_FALSE(mbarrier::test_parity(object, false));
  mbarrier::complete_tx(object, 4000);
  EXPECT_FALSE(mbarrier::test_parity(object, false));
  // Nobody may arrive once more: the phase waits for bytes alone.
  EXPECT_THROW(mbarrier::arrive(object, 1), std::logic_error);
  mbarrier::complete_tx(object, 96);
  EXPECT_TRUE(mbarrier::test_parity(object, false));
  // And the next phase expects none.
  mbarrier::arrive(object, 1);
  EXPECT_TRUE(mbarrier::test_parity(object, true));
}

TEST(Mbarrier, BytesMayComeBeforeTheyAreExpected) {
  std::uint64_t object = 0;
  mbarrier::init(object, 2);
  mbarrier::complete_tx(object, 128);
  mbarrier::arrive(object, 1);
  mbarrier::expect_tx(object, 128);
  EXPECT_FALSE(mbarrier::test_parity(object, false));
  mbarrier::arrive(object, 1);
  EXPECT_TRUE(mbarrier::test_parity(object, false));
}

TEST(Mbarrier, Drops) {
  std::uint64_t object = 0;
  mbarrier::init(object, 2);
  mbarrier::arrive_drop(object, 1);
  EXPECT_FALSE(mbarrier::test_parity(object, false));
  mbarrier::arrive(object, 1);
  EXPECT_TRUE(mbarrier::test_parity(object, false));
  mbarrier::arrive(object, 1);  // all that the second phase expects
  EXPECT_TRUE(mbarrier::test_parity(object, true));
}

TEST(Mbarrier, CountsHaveLimits) {
  std::uint64_t object = 0;
  EXPECT_THROW(mbarrier::init(object, 0), std::logic_error);
  EXPECT_THROW(mbarrier::init(object, mbarrier::kMaximumCount + 1), std::logic_error);
  mbarrier::init(object, mbarrier::kMaximumCount);
  EXPECT_THROW(mbarrier::arrive(object, 0), std::logic_error);
  mbarrier::arrive(object, mbarrier::kMaximumCount);
  EXPECT_TRUE(mbarrier::test_parity(object, false));
  mbarrier::expect_tx(object, mbarrier::kMaximumCount);
  EXPECT_THROW(mbarrier::expect_tx(object, 1), std::logic_error);
  mbarrier::complete_tx(object, mbarrier::kMaximumCount);
  mbarrier::complete_tx(object, mbarrier::kMaximumCount);
  EXPECT_THROW(mbarrier::complete_tx(object, 1), std::logic_error);
}

TEST(Mbarrier, NoCompleteMustNotComplete) {
  std::uint64_t object = 0;
  mbarrier::init(object, 2);
  EXPECT_EQ(mbarrier::pending_count(mbarrier::arrive_no_complete(object, 1)), 2U);
  EXPECT_THROW(mbarrier::arrive_no_complete(object, 1), std::logic_error);
}

TEST(Mbarrier, OtherBytesAreNone) {
  std::uint64_t object = ~std::uint64_t{0};  // as shared memory begins
  EXPECT_THROW(mbarrier::arrive(object, 1), std::logic_error);
  EXPECT_THROW(mbarrier::test_parity(object, false), std::logic_error);
  object = 0;
  EXPECT_THROW(mbarrier::expect_tx(object, 1), std::logic_error);
  mbarrier::init(object, 1);
  mbarrier::invalidate(object);
  EXPECT_THROW(mbarrier::complete_tx(object, 1), std::logic_error);
  EXPECT_THROW(mbarrier::invalidate(object), std::logic_error);
}

}  // namespace
}  // namespace weft::ptx
