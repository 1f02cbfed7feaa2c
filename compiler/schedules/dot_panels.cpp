#include "compiler/schedules/dot_panels.h"

#include <bit>

namespace weft::compiler {

using loop::Ex;
using loop::Role;

void for_part(loop::Builder& b, Ex block, std::int64_t part, std::int64_t total,
              const std::function<void(Ex)>& body) {
  loop::Arena& a = b.arena();
  if (part == 1) {
    body(block);
    return;
  }
  const Ex first = a.mul(block, a.integer(part));
  if (total % part == 0) {
    b.loop(part, Role::serial, 1, [&](Ex i) { body(a.add(first, i)); });
    return;
  }
  const Ex extent =
      a.binary(loop::Binary::minimum, a.integer(part), a.sub(a.integer(total), first));
  b.loop(extent, [&](Ex i) { body(b.let_within(a.add(first, i), 0, total - 1)); });
}

void for_panels(loop::Builder& b, const Panels& panels, Ex part, std::int64_t per_part,
                const PanelBody& body) {
  loop::Arena& a = b.arena();
  const std::int64_t full = (panels.total - panels.extra) / panels.size;
  const std::int64_t rest = panels.total - full * panels.size;
  const Ex first = a.mul(part, a.integer(per_part));
  if (full > 0) {
    const Ex extent =
        full % per_part == 0 && rest == 0
            ? a.integer(per_part)
            : a.binary(loop::Binary::minimum, a.integer(per_part), a.sub(a.integer(full), first));
    b.loop(extent,
           [&](Ex i) { body(b.let_within(a.add(first, i), 0, full - 1), i, panels.size, 0); });
  }
  if (rest == 0) return;
  const auto last = [&] {
    body(a.integer(full), a.sub(a.integer(full), first), rest, panels.extra);
  };
  if (full < per_part) {
    last();
  } else {
    b.condition(a.equal(part, a.integer(full / per_part)), last);
  }
}

PanelPacker::PanelPacker(GroupEmitter& emitter, ProductAccess& access, const Product& product,
                         const Blocking& blocking, int lanes)
    : a_(emitter.arena()),
      b_(emitter.builder()),
      access_(access),
      blocking_(blocking),
      whole_steps_(blocking.pairs ? product.depth() / 2 : product.depth()),
      lanes_(lanes) {}

Ex PanelPacker::fetch(const Panels& panels, std::size_t product, Ex batch, Ex free, Ex depth) {
  access_.reset();
  return panels.columns ? access_.column_operand(batch, free, depth, product).re
                        : access_.row_operand(batch, free, depth).re;
}

/// What a panel holds of one product for one step.
Ex PanelPacker::fetch_step(const Panels& panels, std::size_t product, Ex batch, Ex free, Ex step,
                           bool whole) {
  if (!blocking_.pairs) return fetch(panels, product, batch, free, step);
  const auto bits = [&](Ex depth) {
    const Ex value = fetch(panels, product, batch, free, depth);
    return a_.bits(
        panels.layouts[product].stored ? value : a_.unary(loop::Unary::round_bf16, value),
        loop::Scalar::i32);
  };
  const Ex first = a_.mul(step, a_.integer(2));
  const Ex low =
      a_.binary(loop::Binary::shift_right_logical, bits(first), a_.integer(loop::Scalar::i32, 16));
  if (!whole) return low;
  const Ex high = a_.binary(loop::Binary::bitwise_and, bits(a_.add(first, a_.integer(1))),
                            a_.integer(loop::Scalar::i32, -65536));
  return a_.binary(loop::Binary::bitwise_or, low, high);
}

/// The steps of a chunk that are whole.
Ex PanelPacker::whole_extent(Ex begin, Ex extent) {
  if (whole_steps_ == blocking_.steps) return extent;
  return a_.binary(loop::Binary::minimum, extent, a_.sub(a_.integer(whole_steps_), begin));
}

/// `body` with the last step's number in the chunk, if that is not whole and in this chunk.
void PanelPacker::for_last_step(Ex begin, Ex extent, const std::function<void(Ex step)>& body) {
  if (whole_steps_ == blocking_.steps) return;
  b_.condition(a_.equal(a_.add(begin, extent), a_.integer(blocking_.steps)),
               [&] { body(a_.sub(extent, a_.integer(1))); });
}

/// Whole steps of a chunk by as many as there are lanes. Chunks but the last are multiples of that.
void PanelPacker::for_groups(Ex begin, Ex extent,
                             const std::function<void(Ex from, std::int64_t steps)>& group) {
  const Ex whole = whole_extent(begin, extent);
  b_.loop(a_.floor_div(whole, lanes_), [&](Ex i) { group(a_.mul(i, a_.integer(lanes_)), lanes_); });
  const std::int64_t rest = whole_steps_ % lanes_;
  if (rest == 0) return;
  b_.condition(a_.equal(a_.add(begin, extent), a_.integer(blocking_.steps)),
               [&] { group(a_.sub(whole, a_.integer(rest)), rest); });
}

Ex PanelPacker::base(const Panels& panels, Ex batch, Ex panel, Ex local, Ex begin) {
  if (panels.place == Place::local) {
    return a_.mul(panels.one_at_a_time() ? a_.integer(0) : local, a_.integer(panels.room()));
  }
  const Ex index = a_.add(a_.mul(batch, a_.integer(panels.count())), panel);
  const Ex to = a_.add(a_.mul(index, a_.integer(panels.room())),
                       a_.mul(begin, a_.integer(panels.step_stride())));
  return a_.add(a_.integer(panels.offset), to);
}

Ex PanelPacker::within(const Panels& panels, Ex free, Ex step) {
  return a_.add(a_.mul(step, a_.integer(panels.step_stride())),
                a_.mul(free, a_.integer(panels.free_stride())));
}

/// The base of one product's values.
Ex PanelPacker::product_base(const Panels& panels, const Destination& to, Ex begin) {
  return a_.add(base(panels, to.batch, to.panel, to.local, begin),
                a_.integer(static_cast<std::int64_t>(to.product) * panels.size));
}

void PanelPacker::pack(const Panels& panels, Ex batch, Ex part, std::int64_t per_part, Ex begin,
                       Ex extent) {
  for (std::size_t product = 0; product < panels.products(); ++product) {
    pack_product(panels, product, batch, part, per_part, begin, extent);
  }
  for_panels(b_, panels, part, per_part, [&](Ex panel, Ex local, std::int64_t, std::int64_t) {
    fill_up(panels, base(panels, batch, panel, local, begin), begin, extent);
  });
}

void PanelPacker::pack_product(const Panels& panels, std::size_t product, Ex batch, Ex part,
                               std::int64_t per_part, Ex begin, Ex extent) {
  const auto each = [&](const std::function<void(const Destination&)>& body) {
    for_panels(b_, panels, part, per_part,
               [&](Ex panel, Ex local, std::int64_t count, std::int64_t extra) {
                 body({batch, panel, local, count - extra, product});
               });
  };
  if (!panels.layouts[product].free_contiguous) {
    each([&](const Destination& to) { transpose(panels, to, begin, extent); });
  } else if (panels.along) {
    each([&](const Destination& to) { transpose_rows(panels, to, begin, extent); });
  } else {
    // Along the memory of several panels at once.
    const auto step_copy = [&](Ex step, bool whole) {
      each([&](const Destination& to) { copy(panels, to, begin, step, whole); });
    };
    b_.loop(whole_extent(begin, extent), [&](Ex step) { step_copy(step, true); });
    for_last_step(begin, extent, [&](Ex step) { step_copy(step, false); });
  }
}

void PanelPacker::pack_one(const Panels& panels, Ex batch, Ex panel, std::int64_t count, Ex begin,
                           Ex extent) {
  for (std::size_t product = 0; product < panels.products(); ++product) {
    const Destination to{batch, panel, a_.integer(0), count, product};
    if (!panels.layouts[product].free_contiguous) {
      transpose(panels, to, begin, extent);
      continue;
    }
    b_.loop(whole_extent(begin, extent), [&](Ex step) { copy(panels, to, begin, step, true); });
    for_last_step(begin, extent, [&](Ex step) { copy(panels, to, begin, step, false); });
  }
  fill_up(panels, base(panels, batch, panel, a_.integer(0), begin), begin, extent);
}

/// One step of a panel whose neighbours are neighbours in memory.
void PanelPacker::copy(const Panels& panels, const Destination& to, Ex begin, Ex step, bool whole) {
  const Ex first = a_.mul(to.panel, a_.integer(panels.size));
  const Ex start = product_base(panels, to, begin);
  const auto width = static_cast<int>(std::bit_ceil(static_cast<std::uint64_t>(panels.size)));
  b_.loop(to.count, Role::vector, width, [&](Ex lane) {
    const Ex value =
        fetch_step(panels, to.product, to.batch, a_.add(first, lane), a_.add(begin, step), whole);
    b_.store(panels.buffer, a_.add(start, within(panels, lane, step)), value);
  });
}

/// Packs one panel by vectors along the contracted axis, which the stores transpose where
/// neighbours of a panel are to be neighbours.
void PanelPacker::transpose(const Panels& panels, const Destination& to, Ex begin, Ex extent) {
  const Ex first = a_.mul(to.panel, a_.integer(panels.size));
  const Ex start = product_base(panels, to, begin);
  for_groups(begin, extent, [&](Ex from, std::int64_t steps) {
    b_.loop(steps, Role::vector, lanes_, [&](Ex lane) {
      const Ex step = a_.add(from, lane);
      // As many at a time as a vector register holds.
      for (std::int64_t begin_row = 0; begin_row < to.count; begin_row += lanes_) {
        const std::int64_t end_row = std::min<std::int64_t>(to.count, begin_row + lanes_);
        std::vector<Ex> values;
        for (std::int64_t i = begin_row; i < end_row; ++i) {
          values.push_back(b_.let(fetch_step(panels, to.product, to.batch,
                                             a_.add(first, a_.integer(i)), a_.add(begin, step))));
        }
        for (std::int64_t i = begin_row; i < end_row; ++i) {
          b_.store(panels.buffer, a_.add(start, within(panels, a_.integer(i), step)),
                   values[static_cast<std::size_t>(i - begin_row)]);
        }
      }
    });
  });
  for_last_step(begin, extent, [&](Ex step) { copy(panels, to, begin, step, false); });
}

/// Packs one panel of lines from neighbours in memory: vectors of rows, which the stores transpose.
void PanelPacker::transpose_rows(const Panels& panels, const Destination& to, Ex begin, Ex extent) {
  const Ex first = a_.mul(to.panel, a_.integer(panels.size));
  const Ex start = product_base(panels, to, begin);
  for_groups(begin, extent, [&](Ex from, std::int64_t steps) {
    b_.loop(to.count, Role::vector, lanes_, [&](Ex lane) {
      std::vector<Ex> values;
      for (std::int64_t i = 0; i < steps; ++i) {
        values.push_back(b_.let(fetch_step(panels, to.product, to.batch, a_.add(first, lane),
                                           a_.add(begin, a_.add(from, a_.integer(i))))));
      }
      for (std::int64_t i = 0; i < steps; ++i) {
        const Ex step = a_.add(from, a_.integer(i));
        b_.store(panels.buffer, a_.add(start, within(panels, lane, step)),
                 values[static_cast<std::size_t>(i)]);
      }
    });
  });
  for_last_step(begin, extent, [&](Ex step) { copy(panels, to, begin, step, false); });
}

/// Zeros after the last step, up to where tile registers are full: both operands' must be finite.
void PanelPacker::fill_up(const Panels& panels, Ex base, Ex begin, Ex extent) {
  const std::int64_t missing = blocking_.tile_registers ? -blocking_.steps & 15 : 0;
  if (missing == 0) return;
  const Ex zero = a_.integer(loop::Scalar::i32, 0);
  b_.condition(a_.equal(a_.add(begin, extent), a_.integer(blocking_.steps)), [&] {
    if (panels.along) {
      b_.loop(panels.size, Role::serial, 1, [&](Ex row) {
        b_.loop(missing, Role::vector, lanes_, [&](Ex lane) {
          const Ex to = within(panels, row, a_.add(extent, lane));
          b_.store(panels.buffer, a_.add(base, to), zero);
        });
      });
      return;
    }
    b_.loop(missing, Role::serial, 1, [&](Ex i) {
      b_.loop(panels.step_values(), Role::vector, lanes_, [&](Ex lane) {
        const Ex to = within(panels, lane, a_.add(extent, i));
        b_.store(panels.buffer, a_.add(base, to), zero);
      });
    });
  });
}

}  // namespace weft::compiler
