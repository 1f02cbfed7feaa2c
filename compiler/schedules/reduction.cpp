#include <algorithm>
#include <stdexcept>

#include "compiler/schedules/reduce.h"
#include "compiler/schedules/reduction_space.h"
#include "compiler/schedules/schedule.h"

namespace weft::compiler {
namespace {

using ir::Node;
using loop::Combine;
using loop::Ex;
using loop::Role;
using loop::Scalar;
using ops::Element;

/// Serial loops over the reduced axes [first, first + extent) (axis 0) and all of the others but,
/// if `inner_lanes`, the last, which runs in vector lanes.
void reduce_loops(GroupEmitter& emitter, const Reduction& r, Ex first, std::int64_t extent,
                  std::span<const Ex> kept, const Reducer& sum, int inner_lanes) {
  std::vector<Ex> reduced;
  loop::Arena& a = emitter.arena();
  const int rank = static_cast<int>(r.reduced.size());
  const std::function<void(int)> nest = [&](int depth) {
    if (depth == rank) {
      emitter.reset();
      accumulate(emitter, sum, emitter.value(r.node->operands[0], input_index(r, kept, reduced)));
      return;
    }
    const std::int64_t length = depth == 0 ? extent : r.reduced_shape[depth];
    const bool vector = inner_lanes > 0 && depth == rank - 1;
    emitter.builder().loop(length, vector ? Role::vector : Role::serial, vector ? inner_lanes : 1,
                           [&](Ex i) {
                             reduced.push_back(depth == 0 ? a.add(first, i) : i);
                             nest(depth + 1);
                             reduced.pop_back();
                           });
  };
  nest(0);
}

/// Loops over kept positions of a block; inside, `body(kept index)`; the last kept axis in vector
/// lanes where `vector`.
void for_kept(GroupEmitter& emitter, const Reduction& r, bool vector, int lanes,
              std::int64_t work_per_result, std::int64_t split,
              const std::function<void(std::span<const Ex> kept, Ex part)>& body) {
  loop::Arena& a = emitter.arena();
  const int rank = r.kept_shape.rank();
  const std::int64_t inner = vector ? r.kept_shape[rank - 1] : 1;
  Shape outer = r.kept_shape;
  if (vector) outer.erase(rank - 1);
  // Columns are handed out in strips so that few long columns still make several blocks.
  const std::int64_t strip = vector ? std::min<std::int64_t>(inner, 4L * lanes) : 1;
  const std::int64_t strips = vector ? (inner + strip - 1) / strip : 1;
  const std::int64_t units = outer.elements();
  const std::int64_t unit_work = std::max<std::int64_t>(work_per_result * strip, 1);
  const std::int64_t chunk = std::clamp<std::int64_t>(block_elements / unit_work, 1, units);
  const std::int64_t chunks = (units + chunk - 1) / chunk;
  emitter.builder().phase(split * chunks * strips, [&](Ex block) {
    const Shape grid{split, chunks, strips};
    const std::vector<Ex> at = a.delinearize(block, grid);
    const auto run = [&](Ex first, std::int64_t extent, Ex column, std::int64_t columns) {
      emitter.builder().loop(extent, Role::serial, 1, [&](Ex u) {
        std::vector<Ex> kept = a.delinearize(a.add(first, u), outer);
        if (!vector) {
          body(kept, at[0]);
          return;
        }
        const int width = static_cast<int>(std::min<std::int64_t>(columns, 4L * lanes));
        emitter.builder().loop(columns, Role::vector, width, [&](Ex c) {
          std::vector<Ex> full = kept;
          full.push_back(a.add(column, c));
          body(full, at[0]);
        });
      });
    };
    for_chunk(emitter, at[1], units, chunk, [&](Ex first, std::int64_t extent) {
      for_chunk(emitter, at[2], inner, strip,
                [&](Ex column, std::int64_t columns) { run(first, extent, column, columns); });
    });
  });
}

}  // namespace

void schedule_reduction(GroupEmitter& emitter, const HostTarget& target) {
  const Reduction r = analyse_reduction(*emitter.group().anchor);
  loop::Arena& a = emitter.arena();
  const std::int64_t results = r.kept_shape.elements();
  if (results == 0) {
    emitter.builder().phase(0, [](Ex) {});
    return;
  }
  if (r.reduced.empty() || r.reduced_shape.elements() == 0) {
    // Nothing to combine: each result is the operand itself, or the identity.
    for_kept(emitter, r, false, 1, 1, 1, [&](std::span<const Ex> kept, Ex) {
      const Reducer sum = declare(emitter, *r.node);
      if (r.reduced.empty()) {
        emitter.reset();
        accumulate(emitter, sum, emitter.value(r.node->operands[0], kept));
      }
      finish_reduction(emitter, r, kept, read(emitter, sum));
    });
    return;
  }
  const int lanes = target.vector_lanes(
      r.node->operand_type(0).dtype == DType::c64 ? DType::f32 : r.node->operand_type(0).dtype);
  const int last = r.input.rank() - 1;
  // Lanes run along the axis that is contiguous in memory: over results where it is kept, over
  // terms of the sum where it is reduced.
  const bool columns = !r.kept.empty() && r.kept.back() == last && r.input[last] >= lanes / 2;
  const std::int64_t terms = r.reduced_shape.elements();
  const std::int64_t first_extent = r.reduced_shape[0];
  // Four registers of partial sums hide the latency of an addition.
  const std::int64_t inner = r.reduced_shape[r.reduced_shape.rank() - 1];
  const int inner_lanes =
      columns || r.reduced.back() != last || inner < lanes
          ? 0
          : static_cast<int>(std::min<std::int64_t>(4L * lanes, inner / lanes * lanes));
  // Few results of many terms: the first reduced axis is split, and a second phase combines.
  const std::int64_t parallel = columns ? (results + 4 * lanes - 1) / (4 * lanes) : results;
  std::int64_t split = 1;
  if (parallel < 8 && terms * results > 8 * block_elements && first_extent >= 16) {
    split = std::clamp<std::int64_t>(terms * results / block_elements, 2, 32);
    split = std::min(split, first_extent / 8);
  }
  if (split == 1) {
    for_kept(emitter, r, columns, lanes, terms, 1, [&](std::span<const Ex> kept, Ex) {
      const Reducer sum = declare(emitter, *r.node);
      reduce_loops(emitter, r, a.integer(0), first_extent, kept, sum, inner_lanes);
      finish_reduction(emitter, r, kept, read(emitter, sum));
    });
    return;
  }
  const std::int64_t chunk = (first_extent + split - 1) / split;
  split = (first_extent + chunk - 1) / chunk;
  const int parts = r.complex ? 2 : 1;
  const DType storage = storage_of(r.type);
  const loop::Buffer* partial = emitter.workspace(storage, split * results * parts);
  const auto slot = [&](Ex part, std::span<const Ex> kept, int which) {
    const Ex row = a.add(a.mul(part, a.integer(parts)), a.integer(which));
    return a.add(a.mul(row, a.integer(results)), a.linearize(kept, r.kept_shape));
  };
  for_kept(emitter, r, columns, lanes, terms / split, split,
           [&](std::span<const Ex> kept, Ex part) {
             for_chunk(emitter, part, first_extent, chunk, [&](Ex first, std::int64_t extent) {
               const Reducer sum = declare(emitter, *r.node);
               reduce_loops(emitter, r, first, extent, kept, sum, inner_lanes);
               const Element element = read(emitter, sum);
               emitter.builder().store(partial, slot(part, kept, 0), element.re);
               if (r.complex) emitter.builder().store(partial, slot(part, kept, 1), element.im);
             });
           });
  for_kept(emitter, r, columns, lanes, split, 1, [&](std::span<const Ex> kept, Ex) {
    const Reducer sum = declare(emitter, *r.node);
    emitter.builder().loop(split, Role::serial, 1, [&](Ex part) {
      accumulate(emitter, sum,
                 {a.load(partial, slot(part, kept, 0)),
                  r.complex ? a.load(partial, slot(part, kept, 1)) : nullptr});
    });
    finish_reduction(emitter, r, kept, read(emitter, sum));
  });
}

void schedule_argmax(GroupEmitter& emitter, const HostTarget& target) {
  const Node& node = *emitter.group().anchor;
  const Reduction r = analyse_reduction(node);
  loop::Arena& a = emitter.arena();
  if (r.kept_shape.elements() == 0) {
    emitter.builder().phase(0, [](Ex) {});
    return;
  }
  const int lanes = target.vector_lanes(DType::f32);
  const int last = r.input.rank() - 1;
  const bool columns = r.reduced[0] != last && r.input[last] >= lanes / 2;
  for_kept(emitter, r, columns, lanes, r.reduced_shape[0], 1, [&](std::span<const Ex> kept, Ex) {
    // The first element starts as the best, so that a row of equal elements gives 0.
    const Ex zero = a.integer(0);
    emitter.reset();
    const Ex start = emitter.value(node.operands[0], input_index(r, kept, {&zero, 1})).re;
    loop::Accumulator* best = emitter.builder().declare(r.type, Combine::maximum, start);
    loop::Accumulator* where = emitter.builder().declare(Scalar::i64, Combine::maximum, zero);
    emitter.builder().loop(r.reduced_shape[0], Role::serial, 1, [&](Ex i) {
      emitter.reset();
      const Ex candidate = emitter.value(node.operands[0], input_index(r, kept, {&i, 1})).re;
      const Ex value = emitter.builder().let(candidate);
      const Ex old = emitter.builder().read(best);
      const Ex better = emitter.builder().let(larger(a, value, old));
      const Ex position = emitter.builder().read(where);
      emitter.builder().assign(best, a.select(better, value, old));
      emitter.builder().assign(where, a.select(better, i, position));
    });
    finish_reduction(emitter, r, kept, {emitter.builder().read(where), nullptr});
  });
}

}  // namespace weft::compiler
