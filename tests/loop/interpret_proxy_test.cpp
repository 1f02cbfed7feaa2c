#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>

#include "tests/loop/interpreted.h"

/// Memory that ordinary accesses and those of group products and tensor copies share: what the
/// former do is fenced by the thread that does it, before what orders the two.
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

constexpr std::uint64_t seeds = 12;

enum class Before : std::uint8_t { store, copy_async, load };
enum class Order : std::uint8_t { barrier, mbarrier };
enum class Use : std::uint8_t { product, copy };
enum class Fence : std::uint8_t {
  right,         ///< by all threads, between their accesses and what orders them
  none,          ///< no thread has one
  early,         ///< before the accesses, or before an asynchronous copy has been waited for
  late,          ///< by all threads, after what orders them
  some_threads,  ///< not by all that have accessed the tile
};

/// 128 threads access a tile of 64 by 64, and meet; then they multiply it, or one has a box copied
/// in its place.
struct Handover {
  static constexpr std::int64_t side = 64, elements = side * side, threads = 128, grid = 2;
  static constexpr std::int64_t piece = 8;  ///< elements of an asynchronous copy

  Kernel kernel;
  loop::Arena& a = kernel.arena;
  const Buffer* x = kernel.argument("x", DType::bf16, elements, false);
  const Buffer* y = kernel.argument("y", DType::f32, grid* threads, true);
  const Buffer* map = kernel.tensor_map("map", {.buffer = x,
                                                .offset = 0,
                                                .extents = {side, side},
                                                .strides = {1, side},
                                                .box = {side, side},
                                                .exchanged = true});
  const Buffer* tile = kernel.shared("tile", DType::bf16, elements);
  const Buffer* barriers = kernel.shared("barriers", DType::i64, 2);
  Builder b{kernel};
  Fence fences;
  Ex out = nullptr;  ///< where the thread puts its result

  Handover(Before before, Order order, Use use, Fence fence) : fences(fence) {
    kernel.name = "handover";
    b.phase(grid, threads, [&](Ex block, Ex thread) {
      out = b.let(a.add(a.mul(block, number(threads)), thread));
      b.condition(a.equal(thread, number(0)), [&] {
        b.call(intrinsic("mbarrier_initialise"), {word(1)}, {arrived()});
        b.call(intrinsic("mbarrier_initialise"), {word(threads)}, {ready()});
        b.call(intrinsic("mbarrier_fence"), {});
      });
      b.barrier();
      access(before, thread);
      if (fences == Fence::right) fence_all();
      if (fences == Fence::some_threads) {
        b.condition(a.less(thread, number(threads - 1)), [&] { fence_all(); });
      }
      if (order == Order::barrier) {
        b.barrier();
      } else {
        b.call(intrinsic("mbarrier_arrive"), {}, {ready()});
        b.call(intrinsic("mbarrier_wait"), {word(0)}, {ready()});
      }
      if (fences == Fence::late) fence_all();
      use == Use::product ? multiply() : overwrite(thread);
    });
  }

  Ex number(std::int64_t value) { return a.integer(value); }
  Ex word(std::int64_t value) { return a.integer(Scalar::i32, value); }
  loop::Address arrived() { return {barriers, number(0)}; }
  loop::Address ready() { return {barriers, number(1)}; }
  void fence_all() { b.call(intrinsic("fence_async_shared"), {}); }
  void each_element(Ex thread, const std::function<void(Ex at)>& body) {
    b.loop(number(elements / threads),
           [&](Ex i) { body(b.let(a.add(a.mul(i, number(threads)), thread))); });
  }

  void access(Before before, Ex thread) {
    if (before == Before::copy_async) {
      b.loop(number(elements / threads / piece), [&](Ex i) {
        const Ex at = b.let(a.mul(a.add(a.mul(i, number(threads)), thread), number(piece)));
        b.call(intrinsic("copy_async.16"), {a.boolean(true)}, {{tile, at}, {x, at}});
      });
      b.call(intrinsic("copy_commit"), {});
      if (fences == Fence::early) fence_all();
      b.call(intrinsic("copy_wait"), {word(0)});
      return;
    }
    const bool loads = before == Before::load;
    if (fences == Fence::early && !loads) fence_all();
    each_element(thread, [&](Ex at) { b.store(tile, at, a.load(x, at)); });
    if (!loads) return;
    fence_all();
    b.barrier();
    loop::Accumulator* sum = b.declare(Scalar::f32, loop::Combine::add, a.constant(Scalar::f32, 0));
    each_element(thread,
                 [&](Ex at) { b.accumulate(sum, a.load(tile, a.sub(number(elements - 1), at))); });
    b.store(y, out, b.read(sum));
  }

  void multiply() {
    b.call(intrinsic("group_product_fence"), {});
    std::vector<Ex> operands = {a.boolean(false)};
    operands.insert(operands.end(), 32, a.constant(Scalar::f32, 0));
    std::vector<Ex> sums = b.call(intrinsic("group_product.n64.bf16.kk"), operands,
                                  {{tile, number(0)}, {tile, number(0)}});
    b.call(intrinsic("group_product_commit"), {});
    operands = {word(0)};
    operands.insert(operands.end(), sums.begin(), sums.end());
    sums = b.call(intrinsic("group_product_wait.n64"), operands);
    b.store(y, out, sums[0]);
  }

  void overwrite(Ex thread) {
    b.condition(a.equal(thread, number(0)), [&] {
      b.call(intrinsic("mbarrier_arrive_expect"), {word(2 * elements)}, {arrived()});
      b.call(intrinsic("copy_tensor.2"), {word(0), word(0)},
             {{tile, number(0)}, arrived(), {map, number(0)}});
    });
    b.call(intrinsic("mbarrier_wait"), {word(0)}, {arrived()});
    // What a copy has brought needs no fence.
    b.store(y, out, a.load(tile, thread));
  }
};

/// With every seed: nothing, or reports of this kind alone. Returns the last run's.
std::vector<Report> expect(const Kernel& kernel, const std::set<Kind>& wanted) {
  std::vector<Report> reports;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    tests::Arguments arguments(kernel);
    arguments.fill(0, [](std::int64_t i) { return i % 7; });
    reports = arguments.run({.seed = seed});
    EXPECT_EQ(kinds(reports), wanted) << "seed " << seed << ":\n" << all(reports);
  }
  return reports;
}

void expect_fences(Before before, Use use) {
  for (const Order order : {Order::barrier, Order::mbarrier}) {
    for (const Fence fence :
         {Fence::right, Fence::none, Fence::early, Fence::late, Fence::some_threads}) {
      SCOPED_TRACE(testing::Message()
                   << "order " << static_cast<int>(order) << ", fence " << static_cast<int>(fence));
      const Handover handover(before, order, use, fence);
      if (fence == Fence::right) {
        expect(handover.kernel, {});
        continue;
      }
      const std::vector<Report> reports = expect(handover.kernel, {Kind::proxy});
      ASSERT_FALSE(reports.empty());
      // Both statements.
      const bool product = use == Use::product;
      EXPECT_NE(reports[0].statement.find(product ? "group_product" : "copy_tensor"),
                std::string::npos)
          << reports[0].statement;
      const std::string& text = reports[0].text;
      EXPECT_NE(text.find(product ? "is read asynchronously" : "is written asynchronously"),
                std::string::npos)
          << text;
      EXPECT_NE(
          text.find(before == Before::load
                        ? " read it and has not called fence_async_shared since: r0 += tile["
                    : before == Before::store
                        ? " wrote it and has not called fence_async_shared since: tile["
                        : " wrote it and has not called fence_async_shared since: copy_async"),
          std::string::npos)
          << text;
    }
  }
}

TEST(InterpretProxy, GroupProductsOfWhatThreadsHaveWritten) {
  expect_fences(Before::store, Use::product);
  expect_fences(Before::copy_async, Use::product);
}

TEST(InterpretProxy, TensorCopiesOverWhatThreadsHaveWritten) {
  expect_fences(Before::store, Use::copy);
  expect_fences(Before::copy_async, Use::copy);
}

TEST(InterpretProxy, TensorCopiesOverWhatThreadsHaveRead) {
  expect_fences(Before::load, Use::copy);
}

TEST(InterpretProxy, ReadsNeedNoFenceBeforeReads) {
  for (const Order order : {Order::barrier, Order::mbarrier}) {
    for (const Fence fence : {Fence::right, Fence::none}) {
      expect(Handover(Before::load, order, Use::product, fence).kernel, {});
    }
  }
}

/// A box's stage, and what one thread does with it before it asks for the box.
struct OneBox {
  static constexpr std::int64_t columns = 32, rows = 8, elements = columns * rows;

  Kernel kernel;
  loop::Arena& a = kernel.arena;
  const Buffer* x = kernel.argument("x", DType::f32, elements, true);
  const Buffer* y = kernel.argument("y", DType::f32, elements, true);
  const Buffer* map = kernel.tensor_map("map", {.buffer = x,
                                                .offset = 0,
                                                .extents = {columns, rows},
                                                .strides = {1, columns},
                                                .box = {columns, rows}});
  const Buffer* tile = kernel.shared("tile", DType::f32, elements);
  const Buffer* barrier = kernel.shared("barrier", DType::i64, 1);
  Builder b{kernel};

  OneBox() { kernel.name = "box"; }
  Ex number(std::int64_t value) { return a.integer(value); }

  void phase(const std::function<void(Ex thread)>& before, const std::function<void()>& first) {
    b.phase(1, elements, [&](Ex, Ex thread) {
      b.condition(a.equal(thread, number(0)), [&] {
        b.call(intrinsic("mbarrier_initialise"), {a.integer(Scalar::i32, 1)},
               {{barrier, number(0)}});
        b.call(intrinsic("mbarrier_fence"), {});
      });
      before(thread);
      b.barrier();
      b.condition(a.equal(thread, number(0)), [&] {
        first();
        b.call(intrinsic("mbarrier_arrive_expect"), {a.integer(Scalar::i32, 4 * elements)},
               {{barrier, number(0)}});
        b.call(intrinsic("copy_tensor.2"), {a.integer(Scalar::i32, 0), a.integer(Scalar::i32, 0)},
               {{tile, number(0)}, {barrier, number(0)}, {map, number(0)}});
      });
      b.call(intrinsic("mbarrier_wait"), {a.integer(Scalar::i32, 0)}, {{barrier, number(0)}});
      b.store(y, thread, a.load(tile, thread));
      // After the wait there is nothing to fence: threads may write what the copy has written.
      b.store(tile, thread, a.constant(Scalar::f32, 1));
    });
  }
};

TEST(InterpretProxy, TheThreadThatAsksFencesItsOwnAccesses) {
  for (const bool fenced : {true, false}) {
    OneBox box;
    box.phase([](Ex) {},
              [&] {
                box.b.store(box.tile, box.number(5), box.a.constant(Scalar::f32, 1));
                if (fenced) box.b.call(intrinsic("fence_async_shared"), {});
              });
    expect(box.kernel, fenced ? std::set<Kind>{} : std::set{Kind::proxy});
  }
}

TEST(InterpretProxy, AtomicSumsAreWrites) {
  for (const bool fenced : {true, false}) {
    OneBox box;
    box.phase(
        [&](Ex thread) {
          box.b.store(box.tile, thread, box.a.constant(Scalar::f32, 1));
          box.b.call(intrinsic("fence_async_shared"), {});
          box.b.barrier();
          box.b.call(intrinsic("atomic_add.shared.f32"), {box.a.constant(Scalar::f32, 1)},
                     {{box.tile, box.a.floor_mod(thread, 8)}});
          if (fenced) box.b.call(intrinsic("fence_async_shared"), {});
        },
        [] {});
    expect(box.kernel, fenced ? std::set<Kind>{} : std::set{Kind::proxy});
  }
}

TEST(InterpretProxy, NoFenceIsOfGlobalMemory) {
  const auto write = [](OneBox& box, Ex thread) {
    box.b.store(box.x, thread, box.a.constant(Scalar::f32, 1));
  };
  OneBox one;
  one.phase(
      [&](Ex thread) {
        write(one, thread);
        one.b.call(intrinsic("fence_async_shared"), {});
      },
      [] {});
  const std::vector<Report> reports = expect(one.kernel, {Kind::proxy});
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_NE(reports[0].text.find("no fence orders the two in global memory: x["), std::string::npos)
      << reports[0].text;
  // A launch later there is nothing to fence.
  OneBox two;
  two.b.phase(1, OneBox::elements, [&](Ex, Ex thread) { write(two, thread); });
  two.phase([](Ex) {}, [] {});
  expect(two.kernel, {});
}

}  // namespace
}  // namespace weft
