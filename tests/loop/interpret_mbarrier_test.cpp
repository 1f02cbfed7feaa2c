#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>

#include "tests/loop/interpreted.h"

/// Tensor copies and mbarriers: a ring of two stages between a warp that starts copies and two that
/// read what came, right in every order of events, and each way to get it wrong.
namespace weft {
namespace {

using loop::Buffer;
using loop::Builder;
using loop::Ex;
using loop::intrinsic;
using loop::Kernel;
using loop::Report;
using loop::Scalar;
using tests::all;
using tests::kinds;
using Kind = loop::Report::Kind;

constexpr std::uint64_t seeds = 24;

enum class Mistake : std::uint8_t {
  none,
  no_wait_for_full,
  wait_for_full_by_one_lane,
  no_wait_for_empty,
  release_before_reading,
  no_fence_after_reading,
  one_consumer_keeps,
  too_few_bytes_expected,
  too_many_bytes_expected,
  no_fence,
  no_barrier_after_initialising,
  initialised_twice,
  not_initialised,
  arrives_twice,
  wrong_parity,
  misaligned,
  outside_of_shared,
  last_copy_not_awaited,
  reads_an_mbarrier
};

/// Boxes of 8 by 16 of a matrix go through two stages; two warps write them out.
struct Ring {
  static constexpr std::int64_t rows = 40, columns = 24;
  static constexpr std::int64_t box_rows = 8, box_columns = 16, box = box_rows * box_columns;
  static constexpr std::int64_t first_row = -4, first_column = 12;
  static constexpr std::int64_t steps = 7, stages = 2, consumers = 64, grid = 2;

  Kernel kernel;
  loop::Arena& a = kernel.arena;
  const Buffer* x = kernel.argument("x", DType::f32, rows* columns, false);
  const Buffer* y = kernel.argument("y", DType::f32, grid* steps* box, true);
  const Buffer* map = kernel.tensor_map("boxes", {.buffer = x,
                                                  .offset = 0,
                                                  .extents = {columns, rows},
                                                  .strides = {1, columns},
                                                  .box = {box_columns, box_rows}});
  const Buffer* tile = kernel.shared("tile", DType::f32, stages* box);
  const Buffer* barriers = kernel.shared("barriers", DType::i64, 2 * stages);
  Builder b{kernel};
  Mistake mistake;

  explicit Ring(Mistake made = Mistake::none) : mistake(made) {
    kernel.name = "ring";
    b.phase(grid, 32 + consumers, [&](Ex block, Ex thread) {
      b.condition(a.equal(thread, number(0)), [&] { initialise(); });
      if (mistake != Mistake::no_barrier_after_initialising) b.barrier();
      b.condition(a.equal(thread, number(0)), [&] { produce(); });
      b.condition(a.less_equal(number(32), thread), [&] { consume(block, thread); });
    });
  }

  Ex number(std::int64_t value) { return a.integer(value); }
  Ex word(std::int64_t value) { return a.integer(Scalar::i32, value); }
  loop::Address full(Ex stage) { return {barriers, stage}; }
  loop::Address empty(Ex stage) { return {barriers, a.add(stage, number(stages))}; }
  Ex stage_of(Ex step) { return a.floor_mod(step, stages); }
  Ex parity_of(Ex step, std::int64_t plus) {
    return a.cast(a.floor_mod(a.add(a.floor_div(step, stages), number(plus)), 2), Scalar::i32);
  }

  void initialise() {
    for (std::int64_t s = 0; s < stages; ++s) {
      b.call(intrinsic("mbarrier_initialise"), {word(1)}, {full(number(s))});
      if (mistake == Mistake::not_initialised) continue;
      b.call(intrinsic("mbarrier_initialise"), {word(consumers)}, {empty(number(s))});
    }
    if (mistake == Mistake::initialised_twice) {
      b.call(intrinsic("mbarrier_initialise"), {word(1)}, {full(number(0))});
    }
    if (mistake != Mistake::no_fence) b.call(intrinsic("mbarrier_fence"), {});
  }

  void produce() {
    b.loop(number(steps), [&](Ex step) {
      const Ex stage = b.let(stage_of(step));
      if (mistake != Mistake::no_wait_for_empty) {
        b.call(intrinsic("mbarrier_wait"), {parity_of(step, 1)}, {empty(stage)});
      }
      std::int64_t bytes = box * 4;
      if (mistake == Mistake::too_few_bytes_expected) bytes -= 16;
      if (mistake == Mistake::too_many_bytes_expected) bytes += 16;
      b.call(intrinsic("mbarrier_arrive_expect"), {word(bytes)}, {full(stage)});
      if (mistake == Mistake::arrives_twice)
        b.call(intrinsic("mbarrier_arrive"), {}, {full(stage)});
      const Ex row = a.cast(a.add(a.mul(step, number(box_rows)), number(first_row)), Scalar::i32);
      Ex to = a.mul(stage, number(box));
      if (mistake == Mistake::misaligned) to = a.add(to, number(4));
      if (mistake == Mistake::outside_of_shared) to = a.add(to, number(box));
      b.call(intrinsic("copy_tensor.2"), {word(first_column), row},
             {{tile, to}, full(stage), {map, number(0)}});
    });
  }

  void consume(Ex block, Ex thread) {
    const Ex own = b.let(a.sub(thread, number(32)));
    const std::int64_t last = mistake == Mistake::last_copy_not_awaited ? steps - 1 : steps;
    b.loop(number(last), [&](Ex step) {
      const Ex stage = b.let(stage_of(step));
      const auto wait = [&] {
        const std::int64_t plus = mistake == Mistake::wrong_parity ? 1 : 0;
        b.call(intrinsic("mbarrier_wait"), {parity_of(step, plus)}, {full(stage)});
      };
      const auto release = [&] {
        const Ex releases = mistake == Mistake::one_consumer_keeps
                                ? a.less(own, number(consumers - 1))
                                : a.boolean(true);
        if (mistake != Mistake::no_fence_after_reading) {
          b.call(intrinsic("fence_async_shared"), {});
        }
        b.condition(releases, [&] { b.call(intrinsic("mbarrier_arrive"), {}, {empty(stage)}); });
      };
      if (mistake == Mistake::wait_for_full_by_one_lane) {
        b.condition(a.equal(a.floor_mod(own, 32), number(0)), wait);
      } else if (mistake != Mistake::no_wait_for_full) {
        wait();
      }
      if (mistake == Mistake::release_before_reading) release();
      for (std::int64_t part = 0; part < box / consumers; ++part) {
        const Ex at = a.add(own, number(part * consumers));
        const Ex to = a.add(a.mul(a.add(a.mul(block, number(steps)), step), number(box)), at);
        b.store(y, to, a.load(tile, a.add(a.mul(stage, number(box)), at)));
      }
      if (mistake == Mistake::reads_an_mbarrier) b.let(a.load(barriers, stage));
      if (mistake != Mistake::release_before_reading) release();
    });
  }

  std::vector<Report> run(std::uint64_t seed, bool check = false) {
    tests::Arguments arguments(kernel);
    arguments.fill(0, [](std::int64_t i) { return i + 1; });
    std::vector<Report> reports = arguments.run({.seed = seed});
    for (std::int64_t i = 0; check && i < y->elements; ++i) {
      const std::int64_t step = i / box % steps, at = i % box;
      const std::int64_t row = first_row + step * box_rows + at / box_columns;
      const std::int64_t column = first_column + at % box_columns;
      const bool inside = row >= 0 && row < rows && column < columns;
      const std::int64_t value = inside ? row * columns + column + 1 : 0;
      EXPECT_EQ(arguments.get(1, i), static_cast<double>(value)) << "seed " << seed << ", " << i;
    }
    return reports;
  }
};

TEST(InterpretMbarrier, RingIsRightInEveryOrder) {
  Ring ring;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    EXPECT_EQ(all(ring.run(seed, true)), "") << seed;
  }
}

/// Expects all of these kinds with any seed, and besides them only those that follow from them;
/// returns what was reported.
std::string expect(Mistake mistake, const std::set<Kind>& wanted,
                   const std::set<Kind>& following = {}) {
  std::string said;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    Ring ring(mistake);
    const std::vector<Report> reports = ring.run(seed);
    const std::set<Kind> found = kinds(reports);
    for (const Kind kind : wanted) {
      EXPECT_TRUE(found.contains(kind)) << name(kind) << ", seed " << seed << ":\n" << all(reports);
    }
    for (const Kind kind : found) {
      EXPECT_TRUE(wanted.contains(kind) || following.contains(kind)) << all(reports);
    }
    said += all(reports);
  }
  return said;
}

bool says(const std::string& said, const std::string& text) {
  return said.find(text) != std::string::npos;
}

TEST(InterpretMbarrier, ReadsOfCopiesThatWereNotAwaited) {
  const std::string none =
      expect(Mistake::no_wait_for_full, {Kind::race},
             {Kind::uninitialised, Kind::in_flight, Kind::mbarrier, Kind::stuck});
  EXPECT_TRUE(says(none, "is read; a tensor copy that has not been waited for wrote it")) << none;
  // A lane's wait is its own.
  expect(Mistake::wait_for_full_by_one_lane, {Kind::race});
}

TEST(InterpretMbarrier, StagesThatAreOverwrittenBeforeTheirRelease) {
  const std::string none = expect(Mistake::no_wait_for_empty, {Kind::race},
                                  {Kind::mbarrier, Kind::stuck, Kind::in_flight});
  EXPECT_TRUE(says(none, "tile[0] is written; a tensor copy that has not been waited for wrote it"))
      << none;
  const std::string early = expect(Mistake::release_before_reading, {Kind::race});
  EXPECT_TRUE(says(early, "read it and nothing orders the two")) << early;
  const std::string unfenced = expect(Mistake::no_fence_after_reading, {Kind::proxy});
  EXPECT_TRUE(says(unfenced, "read it and has not called fence_async_shared since: y["))
      << unfenced;
}

TEST(InterpretMbarrier, MissingArrivalsAndBytesAreReportedNotAwaited) {
  const std::string kept = expect(Mistake::one_consumer_keeps, {Kind::stuck});
  EXPECT_TRUE(says(kept,
                   "barriers[2] is waited for with parity 0, and its phase 0 lacks 1 of 64 "
                   "arrivals and 0 bytes, which nothing brings any more"))
      << kept;
  const std::string bytes = expect(Mistake::too_many_bytes_expected, {Kind::stuck});
  EXPECT_TRUE(says(bytes, "lacks 0 of 1 arrivals and 16 bytes")) << bytes;
  expect(Mistake::wrong_parity, {Kind::stuck},
         {Kind::race, Kind::in_flight, Kind::uninitialised, Kind::mbarrier});
}

TEST(InterpretMbarrier, MoreThanAPhaseExpects) {
  const std::string bytes = expect(Mistake::too_few_bytes_expected, {Kind::mbarrier, Kind::stuck});
  EXPECT_TRUE(says(bytes, "barriers[0] gets 16 bytes more than its phase 0 expects")) << bytes;
  const std::string arrivals = expect(Mistake::arrives_twice, {Kind::mbarrier});
  EXPECT_TRUE(says(arrivals,
                   "barriers[0] has had all 1 arrivals of its phase 0, which waits for "
                   "512 bytes"))
      << arrivals;
}

TEST(InterpretMbarrier, InitialisationComesFirstAndOnce) {
  EXPECT_TRUE(says(expect(Mistake::no_fence, {Kind::mbarrier}), "no mbarrier_fence"));
  EXPECT_TRUE(says(expect(Mistake::initialised_twice, {Kind::mbarrier}),
                   "barriers[0] is initialised a second time"));
  const std::string none =
      expect(Mistake::not_initialised, {Kind::mbarrier}, {Kind::race, Kind::stuck});
  EXPECT_TRUE(says(none, "barriers[2] is not initialised")) << none;
  expect(Mistake::no_barrier_after_initialising, {Kind::race},
         {Kind::mbarrier, Kind::stuck, Kind::uninitialised, Kind::in_flight});
  expect(Mistake::reads_an_mbarrier, {Kind::mbarrier}, {Kind::uninitialised});
}

TEST(InterpretMbarrier, WhereBoxesGo) {
  expect(Mistake::misaligned, {Kind::misaligned, Kind::stuck}, {Kind::out_of_range});
  expect(Mistake::outside_of_shared, {Kind::out_of_range, Kind::stuck}, {Kind::uninitialised});
  const std::string last = expect(Mistake::last_copy_not_awaited, {Kind::in_flight});
  EXPECT_TRUE(says(last, "is not waited for by any thread of the block, which has ended")) << last;
}

/// One box is copied; all of shared memory is written out.
struct OneBox {
  Kernel kernel;
  loop::Arena& a = kernel.arena;
  Builder b{kernel};

  OneBox(DType dtype, std::int64_t elements, loop::TensorView view,
         const std::vector<std::int64_t>& coordinates) {
    kernel.name = "box";
    const Buffer* x = kernel.argument("x", dtype, elements, false);
    view.buffer = x;
    const std::int64_t box = view.box_bytes() / static_cast<std::int64_t>(size_of(dtype));
    const Buffer* y = kernel.argument("y", dtype, box, true);
    const Buffer* map = kernel.tensor_map("map", view);
    const Buffer* tile = kernel.shared("tile", dtype, box);
    const Buffer* barrier = kernel.shared("barrier", DType::i64, 1);
    b.phase(1, 64, [&](Ex, Ex thread) {
      const Ex zero = a.integer(0);
      b.condition(a.equal(thread, zero), [&] {
        b.call(intrinsic("mbarrier_initialise"), {a.integer(Scalar::i32, 1)}, {{barrier, zero}});
        b.call(intrinsic("mbarrier_fence"), {});
      });
      b.barrier();
      b.condition(a.equal(thread, zero), [&] {
        std::vector<Ex> operands;
        for (const std::int64_t at : coordinates) operands.push_back(a.integer(Scalar::i32, at));
        b.call(intrinsic("copy_tensor." + std::to_string(operands.size())), operands,
               {{tile, zero}, {barrier, zero}, {map, zero}});
        b.call(intrinsic("mbarrier_arrive_expect"), {a.integer(Scalar::i32, view.box_bytes())},
               {{barrier, zero}});
      });
      b.call(intrinsic("mbarrier_wait"), {a.integer(Scalar::i32, 0)}, {{barrier, zero}});
      b.loop(a.integer((box + 63) / 64), [&](Ex i) {
        const Ex at = b.let(a.add(a.mul(i, a.integer(64)), thread));
        b.condition(a.less(at, a.integer(box)), [&] { b.store(y, at, a.load(tile, at)); });
      });
    });
  }
};

TEST(InterpretMbarrier, BoxesOfFiveAxes) {
  const loop::TensorView view{.buffer = nullptr,
                              .offset = 8,
                              .extents = {6, 3, 5, 2, 4},
                              .strides = {1, 8, 24, 400, 120},
                              .box = {4, 2, 3, 2, 2},
                              .exchanged = false};
  for (const std::vector<std::int64_t>& at :
       {std::vector<std::int64_t>{0, 0, 0, 0, 0}, {4, 2, -1, 1, 3}, {-2, -1, 4, -1, 0}}) {
    OneBox box(DType::f32, 1000, view, at);
    tests::Arguments arguments(box.kernel);
    arguments.fill(0, [](std::int64_t i) { return i + 1; });
    arguments.run_clean({.seed = 1});
    std::int64_t element = 0;
    for (std::int64_t e = 0; e < 2; ++e) {
      for (std::int64_t d = 0; d < 2; ++d) {
        for (std::int64_t c = 0; c < 3; ++c) {
          for (std::int64_t r = 0; r < 2; ++r) {
            for (std::int64_t i = 0; i < 4; ++i) {
              const std::int64_t index[] = {at[0] + i, at[1] + r, at[2] + c, at[3] + d, at[4] + e};
              std::int64_t from = view.offset;
              bool inside = true;
              for (std::size_t axis = 0; axis < 5; ++axis) {
                from += index[axis] * view.strides[axis];
                inside = inside && index[axis] >= 0 && index[axis] < view.extents[axis];
              }
              const auto value = static_cast<double>(inside ? from + 1 : 0);
              EXPECT_EQ(arguments.get(1, element++), value);
            }
          }
        }
      }
    }
  }
}

TEST(InterpretMbarrier, TrafficOfBoxes) {
  // Rows of 64 bytes that start 16 bytes into a sector: three sectors each, where two would do. One
  // row is outside.
  OneBox box(DType::f32, 1000,
             {.buffer = nullptr,
              .offset = 4,
              .extents = {24, 9},
              .strides = {1, 24},
              .box = {16, 8},
              .exchanged = false},
             {0, 2});
  std::vector<loop::Traffic> traffic;
  tests::Arguments arguments(box.kernel);
  arguments.run_clean({.traffic = &traffic});
  std::size_t seen = 0;
  for (const loop::Traffic& one : traffic) {
    if (one.statement.find("copy_tensor") == std::string::npos) continue;
    ++seen;
    EXPECT_EQ(one.requests, 1);
    EXPECT_EQ(one.buffer, one.write ? "tile" : "x");
    EXPECT_EQ(one.transactions, one.write ? 4 : 7 * 3) << print(one);
    EXPECT_EQ(one.least, one.write ? 4 : 7 * 2) << print(one);
  }
  EXPECT_EQ(seen, 2U);
}

TEST(InterpretMbarrier, ExchangedBoxesAreAsGroupProductsReadThem) {
  constexpr std::int64_t rows = 24, columns = 64;
  OneBox box(DType::bf16, rows * columns,
             {.buffer = nullptr,
              .offset = 0,
              .extents = {columns, rows},
              .strides = {1, columns},
              .box = {columns, rows},
              .exchanged = true},
             {0, 0});
  tests::Arguments arguments(box.kernel);
  arguments.fill(0, [](std::int64_t i) { return i % 251; });
  arguments.run_clean();
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t column = 0; column < columns; ++column) {
      const std::int64_t at = row * columns + 8 * ((column / 8) ^ (row % 8)) + column % 8;
      EXPECT_EQ(arguments.get(1, at), static_cast<double>((row * columns + column) % 251));
    }
  }
}

enum class ProductMistake : std::uint8_t {
  none,
  waits_after_issuing,
  releases_before_the_end,
  one_release_for_all_warps
};

/// Four warps multiply two boxes, release them, and a fifth has others copied in their place.
std::vector<Report> product_of_boxes(ProductMistake mistake, std::uint64_t seed) {
  constexpr std::int64_t side = 64, group = 128, elements = side * side;
  Kernel kernel;
  kernel.name = "products";
  loop::Arena& a = kernel.arena;
  const Buffer* x = kernel.argument("x", DType::bf16, elements, false);
  const Buffer* y = kernel.argument("y", DType::f32, group, true);
  const Buffer* map = kernel.tensor_map("map", {.buffer = x,
                                                .offset = 0,
                                                .extents = {side, side},
                                                .strides = {1, side},
                                                .box = {side, side},
                                                .exchanged = true});
  const Buffer* tile = kernel.shared("tile", DType::bf16, elements);
  const Buffer* barriers = kernel.shared("barriers", DType::i64, 2);
  const Ex zero = a.integer(0);
  const auto word = [&](std::int64_t value) { return a.integer(Scalar::i32, value); };
  const loop::Address full{barriers, zero}, empty{barriers, a.integer(1)};
  const bool one_release = mistake == ProductMistake::one_release_for_all_warps;
  Builder b(kernel);
  b.phase(1, group + 32, [&](Ex, Ex thread) {
    b.condition(a.equal(thread, zero), [&] {
      b.call(intrinsic("mbarrier_initialise"), {word(1)}, {full});
      b.call(intrinsic("mbarrier_initialise"), {word(one_release ? 1 : 4)}, {empty});
      b.call(intrinsic("mbarrier_fence"), {});
    });
    b.barrier();
    b.condition(a.equal(thread, a.integer(group)), [&] {
      for (std::int64_t step = 0; step < 2; ++step) {
        b.call(intrinsic("mbarrier_wait"), {word(1 - step)}, {empty});
        b.call(intrinsic("mbarrier_arrive_expect"), {word(2 * elements)}, {full});
        b.call(intrinsic("copy_tensor.2"), {word(0), word(0)}, {{tile, zero}, full, {map, zero}});
      }
      b.call(intrinsic("mbarrier_wait"), {word(1)}, {full});
    });
    b.condition(a.less(thread, a.integer(group)), [&] {
      const auto wait = [&] { b.call(intrinsic("mbarrier_wait"), {word(0)}, {full}); };
      const auto release = [&] {
        const Ex releases =
            one_release ? a.equal(thread, zero) : a.equal(a.floor_mod(thread, 32), zero);
        b.condition(releases, [&] { b.call(intrinsic("mbarrier_arrive"), {}, {empty}); });
      };
      if (mistake != ProductMistake::waits_after_issuing) wait();
      b.call(intrinsic("group_product_fence"), {});
      std::vector<Ex> operands = {a.boolean(false)};
      operands.insert(operands.end(), 32, a.constant(Scalar::f32, 0));
      std::vector<Ex> sums =
          b.call(intrinsic("group_product.n64.bf16.kk"), operands, {{tile, zero}, {tile, zero}});
      b.call(intrinsic("group_product_commit"), {});
      if (mistake == ProductMistake::waits_after_issuing) wait();
      if (mistake == ProductMistake::releases_before_the_end) release();
      operands = {word(0)};
      operands.insert(operands.end(), sums.begin(), sums.end());
      sums = b.call(intrinsic("group_product_wait.n64"), operands);
      if (mistake != ProductMistake::releases_before_the_end) release();
      b.store(y, thread, sums[0]);
    });
  });
  tests::Arguments arguments(kernel);
  arguments.fill(0, [](std::int64_t i) { return i % 7; });
  return arguments.run({.seed = seed});
}

TEST(InterpretMbarrier, GroupProductsReadFromTheirCallToTheirWait) {
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    EXPECT_EQ(all(product_of_boxes(ProductMistake::none, seed)), "") << seed;
    for (const ProductMistake mistake :
         {ProductMistake::waits_after_issuing, ProductMistake::releases_before_the_end,
          ProductMistake::one_release_for_all_warps}) {
      const std::vector<Report> reports = product_of_boxes(mistake, seed);
      EXPECT_TRUE(kinds(reports).contains(Kind::race)) << seed << ": " << all(reports);
    }
  }
}

TEST(InterpretMbarrier, RegistersGoByGroupsOfFourWarps) {
  for (const bool whole : {true, false}) {
    Kernel kernel;
    kernel.name = "registers";
    loop::Arena& a = kernel.arena;
    Builder b(kernel);
    b.phase(1, 256, [&](Ex, Ex thread) {
      b.condition(a.less(thread, a.integer(whole ? 128 : 96)),
                  [&] { b.call(intrinsic("registers_lower"), {a.integer(Scalar::i32, 40)}); });
      b.condition(a.less_equal(a.integer(128), thread),
                  [&] { b.call(intrinsic("registers_raise"), {a.integer(Scalar::i32, 208)}); });
    });
    tests::Arguments arguments(kernel);
    EXPECT_EQ(kinds(arguments.run()), whole ? std::set<Kind>{} : std::set{Kind::partial_warp});
  }
}

TEST(TensorMap, WhatTheHardwareRefuses) {
  Kernel kernel;
  kernel.name = "test";
  const Buffer* x = kernel.argument("x", DType::bf16, 64 * 128, false);
  const loop::TensorView good{.buffer = x,
                              .offset = 0,
                              .extents = {128, 64},
                              .strides = {1, 128},
                              .box = {64, 64},
                              .exchanged = true};
  EXPECT_EQ(refusal(good), std::nullopt);
  const auto refuses = [&](const std::function<void(loop::TensorView&)>& change) {
    loop::TensorView view = good;
    change(view);
    EXPECT_NE(refusal(view), std::nullopt);
    EXPECT_THROW(kernel.tensor_map("map", view), std::logic_error);
  };
  refuses([&](auto& view) { view.buffer = kernel.shared("tile", DType::bf16, 64 * 128); });
  refuses([](auto& view) { view.offset = 4; });
  refuses([](auto& view) { view.strides = {2, 128}; });
  refuses([](auto& view) { view.strides = {1, 124}; });
  refuses([](auto& view) { view.strides = {1}; });
  refuses([](auto& view) { view.extents = {128, 65}; });
  refuses([](auto& view) { view.extents = {128, 0}; });
  refuses([](auto& view) { view.box = {64, 257}; });
  refuses([](auto& view) { view.box = {32, 64}; });
  refuses([](auto& view) {
    view.exchanged = false;
    view.box = {12, 8};
  });
  // Rows and pieces that are left as they are may be of other lengths.
  loop::TensorView plain = good;
  plain.exchanged = false;
  plain.box = {32, 8};
  const Buffer* map = kernel.tensor_map("map", plain);
  EXPECT_EQ(map->index, 0);
  const plan::TensorMap planned = tensor_map(kernel.tensor_maps[0]);
  EXPECT_EQ(planned.strides, std::vector<std::int64_t>{256});
  EXPECT_NE(print(kernel).find("tensor map map: x[128, 64] from 0 by 1, 128, boxes of 32 x 8\n"),
            std::string::npos)
      << print(kernel);
  // Kernels that differ in a view differ.
  const std::string before = canonical(kernel);
  kernel.tensor_maps[0].box = {32, 16};
  EXPECT_NE(canonical(kernel), before);
}

TEST(TensorMap, CallsNameThemWhole) {
  Kernel kernel;
  kernel.name = "test";
  loop::Arena& a = kernel.arena;
  const Buffer* x = kernel.argument("x", DType::f32, 64 * 64, false);
  const Buffer* map = kernel.tensor_map(
      "map", {.buffer = x, .offset = 0, .extents = {64, 64}, .strides = {1, 64}, .box = {32, 8}});
  const Buffer* tile = kernel.shared("tile", DType::f32, 256);
  const Buffer* barrier = kernel.shared("barrier", DType::i64, 1);
  Builder b(kernel);
  const Ex zero = a.integer(0), word = a.integer(Scalar::i32, 0);
  EXPECT_THROW(a.load(map, zero), std::logic_error);
  b.phase(1, 32, [&](Ex, Ex) {
    const std::vector<loop::Address> places = {{tile, zero}, {barrier, zero}, {map, zero}};
    b.call(intrinsic("copy_tensor.2"), {word, word}, places);
    EXPECT_THROW(b.call(intrinsic("copy_tensor.3"), {word, word, word}, places), std::logic_error);
    EXPECT_THROW(b.call(intrinsic("copy_tensor.2"), {word, word},
                        {{tile, zero}, {barrier, zero}, {map, a.integer(1)}}),
                 std::logic_error);
    EXPECT_THROW(b.call(intrinsic("registers_lower"), {a.integer(Scalar::i32, 20)}),
                 std::logic_error);
    EXPECT_THROW(b.call(intrinsic("registers_lower"), {a.integer(Scalar::i32, 100)}),
                 std::logic_error);
  });
}

}  // namespace
}  // namespace weft
