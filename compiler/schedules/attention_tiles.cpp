#include "compiler/schedules/attention_tiles.h"
#include "compiler/schedules/divide.h"

#include <algorithm>
#include <numeric>

#include "compiler/schedules/access.h"

namespace weft::compiler {

using ir::Node;
using ir::Value;
using loop::Ex;
using loop::Role;

namespace {

/// The longest rows that a tile's registers and a strip's local buffers are meant for.
constexpr std::int64_t longest_row = 256;
/// Fewer queries would leave most lanes idle.
constexpr std::int64_t fewest_queries = 8;
constexpr std::int64_t element_bytes = 4;

}  // namespace

bool has_attention_schedule(const Node& node) {
  const AttentionExtents x(node);
  return node.operand_type(0).dtype != DType::f64 && x.batches > 0 && x.n >= fewest_queries &&
         x.d >= 1 && x.d <= longest_row && x.e >= 1 && x.e <= longest_row;
}

AttentionExtents::AttentionExtents(const Node& node)
    : scale(node.attributes.real("scale")), causal(node.attributes.flag("causal")) {
  const Shape& q = node.operand_type(0).shape;
  const Shape& v = node.operand_type(2).shape;
  for (int axis = 0; axis < q.rank() - 2; ++axis) leading.push_back(q[axis]);
  batches = leading.elements();
  n = q[q.rank() - 2];
  d = q[q.rank() - 1];
  m = v[v.rank() - 2];
  e = v[v.rank() - 1];
}

AttentionTiles::AttentionTiles(GroupEmitter& emitter, const HostTarget& target,
                               const AttentionExtents& extents, std::int64_t rows)
    : emitter_(emitter),
      a_(emitter.arena()),
      b_(emitter.builder()),
      node_(*emitter.group().anchor),
      x_(extents),
      rows_(rows),
      lanes_(target.vector_lanes(DType::f32)) {
  // 32 registers hold 24 of sums, 16 hold 12.
  const int sums = target.vector_bits >= 512 ? 24 : 12;
  const std::int64_t vectors = divide_up(rows, lanes_);
  // A strip of two vectors takes fewer loads, but may waste one.
  const bool single = vectors % 2 == 1 && vectors <= 3;
  width_ = single ? lanes_ : 2 * lanes_;
  tile_ = single ? sums : sums / 2;
}

std::int64_t AttentionTiles::even_tile(std::int64_t total) const {
  return divide_up(total, divide_up(total, tile_));
}

std::vector<Ex> AttentionTiles::index(Ex batch, Ex row, Ex column) {
  std::vector<Ex> at = a_.delinearize(batch, x_.leading);
  at.push_back(row);
  at.push_back(column);
  return at;
}

Ex AttentionTiles::read(Value value, Ex batch, Ex row, Ex column, Ex predicate) {
  emitter_.reset();
  return emitter_.value(value, index(batch, row, column), predicate).re;
}

// ---- operands -----------------------------------------------------------------------------------

namespace {

/// An operand's element in an emitter of its own, at variables.
struct Probe {
  Probe(const Group& group, const AttentionExtents& x, const AttentionRows& operand)
      : emitter(kernel, group) {
    loop::Arena& a = emitter.arena();
    const auto axis = [&](std::int64_t extent) {
      return a.variable(loop::Scalar::i64, 0, std::max<std::int64_t>(extent - 1, 0));
    };
    const Ex batch = axis(x.batches);
    row = axis(operand.rows);
    column = axis(operand.columns);
    std::vector<Ex> index = a.delinearize(batch, x.leading);
    index.push_back(row);
    index.push_back(column);
    element = emitter.value(operand.value, index).re;
  }

  loop::Kernel kernel;
  GroupEmitter emitter;
  Ex row = nullptr;
  Ex column = nullptr;
  Ex element = nullptr;
};

}  // namespace

bool AttentionTiles::is_costly(const AttentionRows& operand) {
  const Probe probe(emitter_.group(), x_, operand);
  const Ex e = probe.element;
  if (e->kind != loop::ExprKind::load || e->arguments[1] != nullptr) return true;
  if (e->buffer->dtype != DType::f32) return true;
  const Ex axes[] = {probe.row, probe.column};
  const auto strides = strides_of(e->arguments[0], axes);
  if (!strides || ((*strides)[1] != 1 && operand.columns > 1)) return true;
  // Rows of a tile whose lines share the sets of a first-level cache of 8 ways.
  constexpr std::int64_t way_bytes = 4096;
  constexpr std::int64_t most_ways = 6;
  const std::int64_t stride = (*strides)[0] * element_bytes;
  const std::int64_t ways = tile_ * std::gcd(stride, way_bytes) / way_bytes;
  return ways > most_ways && operand.rows > 1;
}

bool AttentionTiles::rows_are_neighbours(Value value, std::int64_t rows, std::int64_t columns) {
  const Probe probe(emitter_.group(), x_, {value, rows, columns});
  return contiguous_along(probe.element, probe.row);
}

std::int64_t AttentionTiles::pack(std::vector<AttentionRows*> operands, std::int64_t further) {
  std::erase_if(operands, [&](const AttentionRows* operand) { return !is_costly(*operand); });
  constexpr std::int64_t line = 64;
  std::int64_t elements = 0;
  for (AttentionRows* operand : operands) {
    operand->offset = elements;
    elements += divide_up(x_.batches * operand->rows * operand->columns, line) * line;
  }
  if (elements + further > 0) workspace_ = emitter_.workspace(DType::f32, elements + further);
  for (AttentionRows* operand : operands) {
    const std::int64_t chunk =
        std::clamp<std::int64_t>(block_elements / operand->columns, 1, x_.batches * operand->rows);
    const std::int64_t total = x_.batches * operand->rows;
    b_.phase(divide_up(total, chunk), [&](Ex block) {
      for_chunk(emitter_, block, total, chunk, [&](Ex first, std::int64_t extent) {
        b_.loop(extent, Role::serial, 1, [&](Ex i) {
          const Ex position = b_.let_within(a_.add(first, i), 0, total - 1);
          const std::vector<Ex> at = a_.delinearize(position, {x_.batches, operand->rows});
          const Ex to =
              a_.add(a_.integer(operand->offset), a_.mul(position, a_.integer(operand->columns)));
          b_.loop(operand->columns, Role::vector, lanes_, [&](Ex column) {
            b_.store(workspace_, a_.add(to, column),
                     read(operand->value, at[0], at[1], column, nullptr));
          });
        });
      });
    });
    operand->packed = workspace_;
  }
  return elements;
}

Ex AttentionTiles::element(const AttentionRows& operand, Ex batch, Ex row, Ex column) {
  if (operand.packed == nullptr) return read(operand.value, batch, row, column, nullptr);
  const Ex index = a_.add(a_.mul(batch, a_.integer(operand.rows)), row);
  const Ex position = a_.add(a_.mul(index, a_.integer(operand.columns)), column);
  return a_.load(operand.packed, a_.add(a_.integer(operand.offset), position));
}

void AttentionTiles::transpose(const loop::Buffer* to, Value operand, Ex batch, Ex first,
                               double factor) {
  const std::int64_t columns = operand.shape()[operand.type().rank() - 1];
  const auto value = [&](Ex row, Ex column) {
    const Ex inside = rows_ % width_ == 0 ? nullptr : a_.less(row, a_.integer(rows_));
    const Ex element = read(operand, batch, row, column, inside);
    return factor == 1 ? element : a_.mul(element, real(factor));
  };
  if (rows_are_neighbours(operand, rows_, columns)) {
    b_.loop(columns, Role::serial, 1, [&](Ex column) {
      for_lanes([&](Ex lane) {
        b_.store(to, in_strip(column, lane), value(a_.add(first, lane), column));
      });
    });
    return;
  }
  b_.loop(columns, Role::vector, lanes_, [&](Ex column) {
    b_.loop(width_ / lanes_, Role::serial, 1, [&](Ex group) {
      const Ex start = a_.mul(group, a_.integer(lanes_));
      std::vector<Ex> values;
      for (int i = 0; i < lanes_; ++i) {
        const Ex row = a_.add(first, a_.add(start, a_.integer(i)));
        values.push_back(b_.let(value(row, column)));
      }
      const Ex base = a_.add(a_.mul(column, a_.integer(width_)), start);
      for (int i = 0; i < lanes_; ++i) {
        b_.store(to, a_.add(base, a_.integer(i)), values[static_cast<std::size_t>(i)]);
      }
    });
  });
}

// ---- results ------------------------------------------------------------------------------------

void AttentionTiles::store_result(std::uint32_t result, Ex batch, Ex row, Ex column, Ex value) {
  const Value output{const_cast<Node*>(&node_), result};
  const std::vector<Ex> at = index(batch, row, column);
  emitter_.reset();
  if (result == 0) {
    emitter_.bind(output, {value, nullptr});
    emitter_.store_outputs(at, output.shape());
  } else if (emitter_.is_output(output)) {
    emitter_.store(output, a_.linearize(at, output.shape()), {value, nullptr});
  }
  emitter_.reset();
}

void AttentionTiles::store_transposed(const loop::Buffer* from, const loop::Buffer* scratch,
                                      std::uint32_t result, Ex batch, Ex first,
                                      const std::function<Ex(Ex lane)>& factor) {
  const Shape& shape = node_.results[result].shape;
  const std::int64_t columns = shape[shape.rank() - 1];
  b_.loop(width_, Role::vector, lanes_, [&](Ex lane) {
    const Ex scale = b_.let(factor(lane));
    const auto copy = [&](Ex column, std::int64_t count) {
      std::vector<Ex> values;
      for (std::int64_t i = 0; i < count; ++i) {
        const Ex value = a_.load(from, in_strip(a_.add(column, a_.integer(i)), lane));
        values.push_back(b_.let(a_.mul(value, scale)));
      }
      const Ex base = a_.add(a_.mul(lane, a_.integer(columns)), column);
      for (std::int64_t i = 0; i < count; ++i) {
        b_.store(scratch, a_.add(base, a_.integer(i)), values[static_cast<std::size_t>(i)]);
      }
    };
    for_tiles(columns, lanes_, copy);
  });
  const Ex rows = rows_ % width_ == 0
                      ? a_.integer(width_)
                      : smaller(a_.integer(width_), a_.sub(a_.integer(rows_), first));
  b_.loop(rows, [&](Ex i) {
    const Ex row = b_.let_within(a_.add(first, i), 0, rows_ - 1);
    b_.loop(columns, Role::vector, lanes_, [&](Ex column) {
      const Ex position = a_.add(a_.mul(i, a_.integer(columns)), column);
      store_result(result, batch, row, column, a_.load(scratch, position));
    });
  });
}

void AttentionTiles::fill(const loop::Buffer* buffer, std::int64_t columns, Ex value) {
  b_.loop(columns, Role::serial, 1, [&](Ex column) {
    for_lanes([&](Ex lane) { b_.store(buffer, in_strip(column, lane), value); });
  });
}

// ---- loops --------------------------------------------------------------------------------------

void AttentionTiles::for_parts(std::int64_t parts, std::int64_t work,
                               const std::function<void(Ex batch, Ex part)>& body) {
  const std::int64_t total = x_.batches * parts;
  const std::int64_t chunk =
      std::clamp<std::int64_t>(attention_block_work / std::max<std::int64_t>(work, 1), 1, total);
  b_.phase(divide_up(total, chunk), [&](Ex block) {
    const auto unit = [&](Ex position) {
      const std::vector<Ex> at = a_.delinearize(position, {x_.batches, parts});
      Ex part = at[1];
      if (x_.causal && parts > 2) {
        const Ex half = a_.floor_div(part, 2);
        const Ex odd = a_.equal(a_.floor_mod(part, 2), a_.integer(1));
        part = a_.select(odd, a_.sub(a_.integer(parts - 1), half), half);
      }
      body(b_.let(at[0]), b_.let_within(part, 0, parts - 1));
    };
    if (chunk == 1) {
      unit(block);
      return;
    }
    const Ex first = a_.mul(block, a_.integer(chunk));
    const Ex extent = total % chunk == 0
                          ? a_.integer(chunk)
                          : smaller(a_.integer(chunk), a_.sub(a_.integer(total), first));
    b_.loop(extent, [&](Ex i) { unit(b_.let_within(a_.add(first, i), 0, total - 1)); });
  });
}

void AttentionTiles::for_lanes(const std::function<void(Ex lane)>& body) {
  b_.loop(width_, Role::vector, width_, body);
}

void AttentionTiles::for_tiles(std::int64_t total, std::int64_t size,
                               const std::function<void(Ex first, std::int64_t count)>& body) {
  b_.loop(total / size, Role::serial, 1,
          [&](Ex tile) { body(a_.mul(tile, a_.integer(size)), size); });
  if (total % size > 0) body(a_.integer(total / size * size), total % size);
}

void AttentionTiles::for_tiles_within(
    Ex begin, Ex end, std::int64_t part, std::int64_t total, std::int64_t size,
    const std::function<void(Ex first, std::int64_t count)>& body) {
  const std::int64_t full = total / size;
  const Ex wanted = a_.floor_div(a_.add(a_.sub(end, begin), a_.integer(size - 1)), size);
  const Ex left = a_.sub(a_.integer(full), a_.floor_div(begin, size));
  const Ex limit = a_.integer(divide_up(part, size));
  if (full > 0) {
    b_.loop(b_.let(smaller(limit, smaller(wanted, left))), [&](Ex tile) {
      body(a_.mul(b_.let_within(tile, 0, std::max<std::int64_t>(full - 1, 0)), a_.integer(size)),
           size);
    });
  }
  if (total % size == 0) return;
  b_.condition(a_.logical_and(a_.less(left, wanted), a_.less(left, limit)),
               [&] { body(a_.mul(b_.let(left), a_.integer(size)), total % size); });
}

void AttentionTiles::multiply(const Multiply& m) {
  b_.loop(m.lanes > 0 ? m.lanes : width_, Role::vector, width_, [&](Ex lane) {
    std::vector<loop::Accumulator*> sums;
    for (std::int64_t r = 0; r < m.rows; ++r) {
      sums.push_back(b_.declare(loop::Scalar::f32, loop::Combine::add, zero()));
      if (m.initial) b_.assign(sums.back(), m.initial(r, lane));
    }
    b_.loop(m.steps, [&](Ex step) {
      const Ex y = b_.let(m.y(step, lane));
      for (std::int64_t r = 0; r < m.rows; ++r) {
        loop::Accumulator* sum = sums[static_cast<std::size_t>(r)];
        b_.assign(sum, a_.fma(m.x(r, step), y, b_.read(sum)));
      }
    });
    std::vector<Ex> values;
    for (loop::Accumulator* sum : sums) values.push_back(b_.read(sum));
    m.finish(lane, values);
  });
}

}  // namespace weft::compiler
