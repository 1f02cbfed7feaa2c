#include "runtime/cuda/dependences.h"

#include <gtest/gtest.h>

#include <random>

// Which nodes wait for which, by the memory that they touch.
namespace weft::runtime::testing {
namespace {

using cuda::Dependences;
using cuda::Touch;
using Nodes = std::vector<std::uint32_t>;

Nodes add(Dependences& dependences, const std::vector<Touch>& touches) {
  const Nodes after = dependences.wanted(touches);
  dependences.add(after, touches);
  return after;
}

TEST(Dependences, OfReadsAndWrites) {
  Dependences d;
  EXPECT_EQ(add(d, {{0, 64, true}}), Nodes{});
  EXPECT_EQ(add(d, {{64, 64, true}}), Nodes{});
  EXPECT_EQ(add(d, {{0, 64, false}}), Nodes{0});
  EXPECT_EQ(add(d, {{32, 64, false}}), (Nodes{0, 1}));
  // A write waits for all reads since the last one, which waited for that.
  EXPECT_EQ(add(d, {{0, 64, true}}), (Nodes{2, 3}));
  EXPECT_EQ(add(d, {{64, 32, false}, {256, 8, true}}), Nodes{1});
  EXPECT_EQ(add(d, {{96, 32, true}}), Nodes{1});
  EXPECT_EQ(add(d, {{64, 32, true}}), (Nodes{3, 5}));
}

TEST(Dependences, WhatOthersImplyIsLeftOut) {
  Dependences d;
  add(d, {{0, 8, true}});
  EXPECT_EQ(add(d, {{0, 8, false}, {8, 8, true}}), Nodes{0});
  EXPECT_EQ(add(d, {{0, 8, false}, {8, 8, false}, {16, 8, true}}), Nodes{1});
  EXPECT_EQ(add(d, {{0, 24, true}}), Nodes{2});
  EXPECT_EQ(add(d, {{100, 0, true}, {0, 0, false}}), Nodes{});
}

/// Against the definition: all pairs that conflict are ordered, and each edge is between two that
/// do and is not implied by others.
TEST(Dependences, OfRandomWork) {
  for (const std::uint32_t seed : {1U, 2U, 3U, 4U}) {
    std::mt19937 random(seed);
    const auto below = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
    Dependences d;
    constexpr std::size_t count = 300;
    std::vector<std::vector<Touch>> touches(count);
    std::vector<Nodes> after;
    for (std::vector<Touch>& of : touches) {
      for (std::uint32_t i = below(4); i < 4; ++i) {
        of.push_back({below(200), 1 + below(seed % 2 == 0 ? 8 : 60), below(3) == 0});
      }
      after.push_back(add(d, of));
    }
    const auto conflict = [&](std::size_t i, std::size_t j) {
      for (const Touch& a : touches[i]) {
        for (const Touch& b : touches[j]) {
          const bool apart = a.address + static_cast<std::uint64_t>(a.bytes) <= b.address ||
                             b.address + static_cast<std::uint64_t>(b.bytes) <= a.address;
          if (!apart && (a.writes || b.writes)) return true;
        }
      }
      return false;
    };
    std::vector<std::vector<bool>> before(count, std::vector<bool>(count));
    std::size_t edges = 0;
    for (std::size_t i = 0; i < count; ++i) {
      for (const std::uint32_t node : after[i]) {
        ++edges;
        ASSERT_LT(node, i);
        EXPECT_TRUE(conflict(node, i));
        for (const std::uint32_t other : after[i]) EXPECT_FALSE(before[other][node]);
        before[i][node] = true;
        for (std::size_t k = 0; k < node; ++k) before[i][k] = before[i][k] || before[node][k];
      }
      for (std::size_t k = 0; k < i; ++k) EXPECT_TRUE(before[i][k] || !conflict(k, i));
    }
    EXPECT_GT(edges, count / 2);
  }
}

/// Far more nodes than it looks back over.
TEST(Dependences, OfALongChainBesideAnother) {
  Dependences d;
  add(d, {{1000, 8, true}});
  constexpr std::uint32_t count = 40000;
  for (std::uint32_t i = 1; i < count; ++i) {
    const Nodes after = add(d, {{i % 2 == 0 ? 0U : 8U, 8, true}});
    if (i > 2) {
      ASSERT_EQ(after, Nodes{i - 2});
    }
  }
  EXPECT_EQ(add(d, {{1000, 8, false}, {0, 8, false}}), (Nodes{0, count - 2}));
  // What is too far back to be known for implied stays.
  EXPECT_EQ(add(d, {{1000, 8, false}, {0, 8, false}}).back(), count - 2);
}

}  // namespace
}  // namespace weft::runtime::testing
