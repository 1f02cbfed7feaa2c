#include <array>
#include <bit>

#include "compiler/loop/interpret_value.h"
#include "tools/selftest/case_kernel.h"

/// Tensor copies, mbarriers and registers that warps hand over.
namespace weft::selftest {
namespace {

Ex word(loop::Arena& a, std::int64_t value) { return a.integer(Scalar::i32, value); }

/// A ring of stages in shared memory: for each one an mbarrier that completes when its bytes have
/// come, and one that completes when all who read it have arrived.
class Ring {
 public:
  Ring(CaseKernel& one, std::int64_t stages, std::int64_t readers)
      : a_(one.arena()),
        stages_(stages),
        readers_(readers),
        barriers_(one.kernel().shared("barriers", DType::i64, 2 * stages)) {}

  loop::Address full(Ex stage) const { return {barriers_, stage}; }
  loop::Address empty(Ex stage) const { return {barriers_, a_.add(stage, a_.integer(stages_))}; }
  Ex stage(Ex step) const { return a_.floor_mod(step, stages_); }

  /// By all threads of the block.
  void initialise(loop::Builder& b, Ex thread) const {
    b.condition(a_.equal(thread, a_.integer(0)), [&] {
      for (std::int64_t s = 0; s < stages_; ++s) {
        b.call(loop::intrinsic("mbarrier_initialise"), {word(a_, 1)}, {full(a_.integer(s))});
        b.call(loop::intrinsic("mbarrier_initialise"), {word(a_, readers_)},
               {empty(a_.integer(s))});
      }
      b.call(loop::intrinsic("mbarrier_fence"), {});
    });
    b.barrier();
  }
  void wait_empty(loop::Builder& b, Ex step) const {
    b.call(loop::intrinsic("mbarrier_wait"), {parity(a_.add(step, a_.integer(stages_)))},
           {empty(stage(step))});
  }
  void expect(loop::Builder& b, Ex step, std::int64_t bytes) const {
    b.call(loop::intrinsic("mbarrier_arrive_expect"), {word(a_, bytes)}, {full(stage(step))});
  }
  void wait_full(loop::Builder& b, Ex step) const {
    b.call(loop::intrinsic("mbarrier_wait"), {parity(step)}, {full(stage(step))});
  }
  /// By each thread that has read the stage, by ordinary loads or products.
  void release(loop::Builder& b, Ex step) const {
    b.call(loop::intrinsic("fence_async_shared"), {});
    b.call(loop::intrinsic("mbarrier_arrive"), {}, {empty(stage(step))});
  }

 private:
  Ex parity(Ex step) const {
    return a_.cast(a_.floor_mod(a_.floor_div(step, stages_), 2), Scalar::i32);
  }

  loop::Arena& a_;
  std::int64_t stages_;
  std::int64_t readers_;
  const Buffer* barriers_;
};

/// Boxes at random coordinates, inside of the extents, across their ends and outside: a warp starts
/// the copies, two others write out what comes, as it lies in shared memory.
IntrinsicCase boxes(const Intrinsic& row, DType dtype, bool exchanged) {
  constexpr std::int64_t stages = 2, steps = 5, blocks = 4, readers = 64;
  constexpr std::array<std::int64_t, 4> row_bytes = {64, 32, 32, 16};
  constexpr std::array<std::array<std::int64_t, 4>, 4> sides = {
      {{6, 1, 1, 1}, {3, 4, 1, 1}, {3, 2, 2, 1}, {3, 2, 2, 2}}};
  constexpr std::array<std::array<std::int64_t, 4>, 4> exchanged_sides = {
      {{8, 1, 1, 1}, {4, 2, 1, 1}, {2, 2, 2, 1}, {2, 2, 2, 1}}};
  constexpr std::array<std::int64_t, 4> extents = {13, 5, 4, 3};
  constexpr std::int64_t unit = 16;

  const std::size_t axes = row.operands.size();
  const auto size = static_cast<std::int64_t>(size_of(dtype));
  loop::TensorView view;
  view.offset = unit / size;
  view.exchanged = exchanged;
  const std::int64_t inner = (exchanged ? 128 : row_bytes[axes - 2]) / size;
  view.box = {inner};
  view.extents = {2 * inner + 1};
  view.strides = {1};
  // Rows start at multiples of 16 bytes, with a gap between them.
  std::int64_t stride = (view.extents[0] * size / unit + 2) * unit / size;
  for (std::size_t i = 0; i + 1 < axes; ++i) {
    view.box.push_back((exchanged ? exchanged_sides : sides)[axes - 2][i]);
    view.extents.push_back(extents[i]);
    view.strides.push_back(stride);
    stride *= extents[i];
  }
  const std::string name =
      fmt::format("{}/{}{}", row.name, weft::name(dtype), exchanged ? "/exchanged" : "");
  Operands random(name);
  CaseKernel one(name, row.capability);
  const auto total = static_cast<std::size_t>((view.offset + stride) * size);
  view.buffer = one.input(dtype, bytes_of(random.bits(total / 4)));
  const std::int64_t box_words = view.box_bytes() / 4;
  std::vector<std::uint32_t> places;
  for (std::int64_t i = 0; i < blocks * steps; ++i) {
    for (std::size_t axis = 0; axis < axes; ++axis) {
      const auto side = static_cast<int>(view.box[axis]);
      const auto extent = static_cast<int>(view.extents[axis]);
      // The first is whole where it can be.
      places.push_back(static_cast<std::uint32_t>(
          i == 0 ? 0 : random.integer(1 - side, std::max(extent - 1, extent - side + 1))));
    }
  }
  const Buffer* at = one.words(places);
  const Buffer* out = one.output(DType::i32, blocks * steps * box_words);
  const Buffer* map = one.kernel().tensor_map("map", view);
  const Buffer* tile = one.kernel().shared("tile", DType::i32, stages * box_words);
  const Ring ring(one, stages, readers);
  constexpr std::int64_t block_threads = warp + readers;
  one.phase(
      blocks * block_threads,
      [&](loop::Builder& b, Ex position, Ex thread) {
        loop::Arena& a = one.arena();
        const Ex block = b.let(a.floor_div(position, block_threads));
        ring.initialise(b, thread);
        const auto step_of_all = [&](Ex step) {
          return a.add(a.mul(block, a.integer(steps)), step);
        };
        b.condition(a.equal(thread, a.integer(0)), [&] {
          b.loop(a.integer(steps), [&](Ex step) {
            ring.wait_empty(b, step);
            ring.expect(b, step, view.box_bytes());
            std::vector<Ex> coordinates;
            for (std::size_t axis = 0; axis < axes; ++axis) {
              const auto count = static_cast<std::int64_t>(axes);
              coordinates.push_back(
                  b.let(a.load(at, a.add(a.mul(step_of_all(step), a.integer(count)),
                                         a.integer(static_cast<std::int64_t>(axis))))));
            }
            const Ex stage = b.let(ring.stage(step));
            b.call(row, coordinates,
                   {{tile, a.mul(stage, a.integer(box_words))},
                    ring.full(stage),
                    {map, a.integer(0)}});
          });
        });
        b.condition(a.less_equal(a.integer(warp), thread), [&] {
          const Ex own = b.let(a.sub(thread, a.integer(warp)));
          b.loop(a.integer(steps), [&](Ex step) {
            ring.wait_full(b, step);
            const Ex from = b.let(a.mul(ring.stage(step), a.integer(box_words)));
            const Ex to = b.let(a.mul(step_of_all(step), a.integer(box_words)));
            for (std::int64_t first = 0; first < box_words; first += readers) {
              const Ex element = a.add(own, a.integer(first));
              const auto move = [&] {
                b.store(out, a.add(to, element), a.load(tile, a.add(from, element)));
              };
              if (first + readers <= box_words) {
                move();
              } else {
                b.condition(a.less(element, a.integer(box_words)), move);
              }
            }
            ring.release(b, step);
          });
        });
      },
      block_threads);
  return one.take();
}

/// Group products of boxes whose pieces are exchanged, of whole numbers: 64 by 64 times 64 by 64,
/// both with the contracted axis in rows, in two steps of the ring.
IntrinsicCase product_of_boxes(const Intrinsic& row) {
  constexpr std::int64_t side = 64, steps = 2, group = 128, sums = side / 2, depth = 16;
  constexpr std::int64_t tile_elements = side * side;
  const std::string name = fmt::format("{}/group_product", row.name);
  Operands random(name);
  CaseKernel one(name, row.capability);
  one.one().specific = true;
  std::array<const Buffer*, 2> maps{}, tiles{};
  for (std::size_t i = 0; i < 2; ++i) {
    std::vector<std::uint16_t> values;
    for (std::int64_t e = 0; e < side * steps * side; ++e) {
      values.push_back(loop::interpreter::to_bf16(static_cast<float>(random.integer(-8, 8))));
    }
    loop::TensorView view;
    view.buffer = one.input(DType::bf16, bytes_of(values));
    view.extents = {steps * side, side};
    view.strides = {1, steps * side};
    view.box = {side, side};
    view.exchanged = true;
    maps[i] = one.kernel().tensor_map(fmt::format("map{}", i), view);
    tiles[i] = one.kernel().shared(fmt::format("tile{}", i), DType::bf16, steps * tile_elements);
  }
  const Buffer* out = one.output(DType::f32, group * sums);
  // A stage for each step; each warp reads.
  const Ring ring(one, steps, 4);
  one.phase(
      group + warp,
      [&](loop::Builder& b, Ex, Ex thread) {
        loop::Arena& a = one.arena();
        ring.initialise(b, thread);
        b.condition(a.equal(thread, a.integer(group)), [&] {
          b.loop(a.integer(steps), [&](Ex step) {
            ring.wait_empty(b, step);
            ring.expect(b, step, 2 * tile_elements * 2);
            const Ex column = b.let(a.cast(a.mul(step, a.integer(side)), Scalar::i32));
            const Ex stage = b.let(ring.stage(step));
            for (std::size_t i = 0; i < 2; ++i) {
              b.call(row, {column, word(a, 0)},
                     {{tiles[i], a.mul(stage, a.integer(tile_elements))},
                      ring.full(stage),
                      {maps[i], a.integer(0)}});
            }
          });
        });
        b.condition(a.less(thread, a.integer(group)), [&] {
          const Intrinsic& product = loop::intrinsic("group_product.n64.bf16.kk");
          std::vector<Ex> values(static_cast<std::size_t>(sums), a.constant(Scalar::f32, 0));
          b.call(loop::intrinsic("group_product_fence"), {});
          for (std::int64_t step = 0; step < steps; ++step) {
            ring.wait_full(b, a.integer(step));
            for (std::int64_t part = 0; part < side / depth; ++part) {
              std::vector<Ex> operands = {a.boolean(step > 0 || part > 0)};
              operands.insert(operands.end(), values.begin(), values.end());
              const Ex from = a.integer(step * tile_elements + part * depth);
              values = b.call(product, operands, {{tiles[0], from}, {tiles[1], from}});
            }
          }
          b.call(loop::intrinsic("group_product_commit"), {});
          std::vector<Ex> operands = {word(a, 0)};
          operands.insert(operands.end(), values.begin(), values.end());
          values = b.call(loop::intrinsic("group_product_wait.n64"), operands);
          b.condition(a.equal(a.floor_mod(thread, warp), a.integer(0)), [&] {
            for (std::int64_t step = 0; step < steps; ++step) ring.release(b, a.integer(step));
          });
          for (std::int64_t i = 0; i < sums; ++i) {
            b.store(out, a.add(a.mul(thread, a.integer(sums)), a.integer(i)),
                    values[static_cast<std::size_t>(i)]);
          }
        });
      },
      group + warp);
  return one.take();
}

}  // namespace

void add_tensor_copy(std::vector<IntrinsicCase>& cases, const Intrinsic& row) {
  for (const DType dtype :
       {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i64, DType::i32, DType::u8}) {
    cases.push_back(boxes(row, dtype, false));
  }
  for (const DType dtype : {DType::f32, DType::bf16}) cases.push_back(boxes(row, dtype, true));
  if (row.operands.size() == 2) cases.push_back(product_of_boxes(row));
}

/// One group of warps gives registers back; for the row that takes them two others do.
void add_registers(std::vector<IntrinsicCase>& cases, const Intrinsic& row) {
  constexpr std::int64_t group = 128, groups = 3, all = groups * group, terms = 64;
  const std::string name(row.name);
  Operands random(name);
  CaseKernel one(name, row.capability);
  one.one().specific = row.specific;
  const Buffer* in = one.words(random.bits(static_cast<std::size_t>(terms * all)));
  const Buffer* out = one.output(DType::i32, all);
  one.phase(
      all,
      [&](loop::Builder& b, Ex, Ex thread) {
        loop::Arena& a = one.arena();
        const auto combine = [&](std::int64_t count) {
          // All are loaded before the first is used.
          std::vector<Ex> values;
          for (std::int64_t i = 0; i < count; ++i) {
            values.push_back(b.let(a.load(in, a.add(thread, a.integer(i * all)))));
          }
          Ex sum = word(a, 0);
          for (const Ex value : values) {
            sum = a.binary(loop::Binary::bitwise_xor, a.mul(sum, word(a, 3)), value);
          }
          b.store(out, thread, sum);
        };
        const Ex gives = a.less(thread, a.integer(group));
        b.condition(gives, [&] {
          b.call(loop::intrinsic("registers_lower"), {word(a, 40)});
          combine(4);
        });
        b.condition(a.logical_not(gives), [&] {
          if (row.name == "registers_raise") b.call(row, {word(a, 232)});
          combine(terms);
        });
      },
      all);
  cases.push_back(one.take());
}

}  // namespace weft::selftest
