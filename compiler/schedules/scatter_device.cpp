#include <algorithm>

#include "compiler/schedules/divide.h"
#include "compiler/schedules/reduce.h"
#include "compiler/schedules/schedule.h"
#include "compiler/schedules/thread_indices.h"

/// scatter_add on a GPU without atomic operations, so that sums are always the same: rows of the
/// result have owners. A warp owns a range of rows and a strip of their columns, its lanes
/// neighbouring columns; it looks through all indices, 32 at a time, and adds the updates of its
/// own rows in the order of the indices. The row at hand stays in registers while updates of it
/// follow each other. Where that leaves too few warps the indices are cut into parts, whose sums a
/// second phase adds up in order; so are sums of 16-bit types, which are f32.
namespace weft::compiler {
namespace {

using ir::Node;
using ir::Value;
using loop::Binary;
using loop::Ex;
using loop::Role;
using loop::Scalar;
using ops::Element;

constexpr std::int64_t warps_a_block = 8;
constexpr std::int64_t threads = warp * warps_a_block;
/// Warps that keep a large GPU busy.
constexpr std::int64_t enough_warps = 4096;
constexpr std::int64_t most_parts = 64;
/// Indices that a part should have at least.
constexpr std::int64_t least_indices = 64;
/// Updates that are asked for before the first of them is added.
constexpr std::int64_t ahead = 4;
constexpr std::int64_t widest_access = 16;

class ScatterDevice {
 public:
  explicit ScatterDevice(GroupEmitter& emitter)
      : emitter_(emitter),
        a_(emitter.arena()),
        b_(emitter.builder()),
        node_(*emitter.group().anchor),
        result_{const_cast<Node*>(&node_), 0},
        type_(node_.results[0]),
        index_shape_(node_.operand_type(1).shape),
        count_(index_shape_.elements()),
        scalar_(register_of(type_.dtype)),
        halves_(is_complex(type_.dtype) ? 2 : 1) {
    const auto axis = static_cast<int>(node_.attributes.integer("axis"));
    for (int i = 0; i < axis; ++i) outer_.push_back(type_.shape[i]);
    for (int i = axis + 1; i < type_.rank(); ++i) inner_.push_back(type_.shape[i]);
    rows_ = type_.shape[axis];
    columns_ = inner_.elements();
    width_ =
        widest_access / std::max<std::int64_t>(4, static_cast<std::int64_t>(size_of(type_.dtype)));
    while (columns_ % width_ != 0) width_ /= 2;
    while (width_ > 1 && columns_ < warp * width_) width_ /= 2;
    strips_ = divide_up(columns_, warp * width_);
    const std::int64_t fixed = std::max<std::int64_t>(outer_.elements() * strips_, 1);
    owners_ = std::clamp<std::int64_t>(enough_warps / fixed, 1, std::max<std::int64_t>(rows_, 1));
    own_rows_ = divide_up(rows_, owners_);
    owners_ = own_rows_ == 0 ? 0 : divide_up(rows_, own_rows_);
    const std::int64_t wanted = enough_warps / std::max<std::int64_t>(fixed * owners_, 1);
    parts_ = std::clamp<std::int64_t>(std::min(wanted, count_ / least_indices), 1, most_parts);
    part_count_ = divide_up(count_, parts_);
    if (count_ > 0) parts_ = divide_up(count_, part_count_);
    const bool narrow = type_.dtype == DType::f16 || type_.dtype == DType::bf16;
    apart_ = parts_ > 1 || (narrow && count_ > 0);
  }

  void run() {
    if (type_.elements() == 0) {
      b_.phase(0, threads, [](Ex, Ex) {});
      return;
    }
    if (apart_)
      sums_ = emitter_.workspace(storage_of(scalar_), parts_ * type_.elements() * halves_);
    const Shape grid{parts_, outer_.elements(), owners_, strips_};
    const std::int64_t warps = grid.elements();
    b_.phase(divide_up(warps, warps_a_block), threads, [&](Ex block, Ex thread) {
      const Ex number =
          a_.add(a_.mul(block, a_.integer(warps_a_block)), a_.floor_div(thread, warp));
      const auto body = [&](Ex warp_number) {
        std::vector<Ex> at = a_.delinearize(warp_number, grid);
        for (Ex& e : at) e = b_.let(e);
        one_warp(at, b_.let(a_.floor_mod(thread, warp)));
      };
      if_below(b_, number, warps, body);
    });
    if (apart_) add_parts();
  }

 private:
  void vectors(const std::function<void(Ex lane)>& body) {
    b_.loop(width_, Role::vector, static_cast<int>(width_), body);
  }

  /// The element of the result in a row, at a column of this lane.
  Ex position(Ex row, Ex lane) {
    const Ex whole = a_.add(a_.mul(outside_, a_.integer(rows_)), row);
    return a_.add(a_.mul(whole, a_.integer(columns_)), a_.add(column_, lane));
  }

  /// Where sums are kept: the result itself, or a part of the workspace.
  Ex place(Ex row, Ex lane, std::int64_t half) {
    Ex at = position(row, lane);
    if (apart_) at = a_.add(a_.mul(part_, a_.integer(type_.elements())), at);
    return halves_ == 1 ? at : a_.add(a_.mul(at, a_.integer(2)), a_.integer(half));
  }

  const loop::Buffer* target() const { return apart_ ? sums_ : emitter_.output_buffer(result_); }

  void one_warp(const std::vector<Ex>& at, Ex lane) {
    part_ = at[0];
    outside_ = at[1];
    first_row_ = b_.let(a_.mul(at[2], a_.integer(own_rows_)));
    lane_ = lane;
    const Ex first =
        a_.add(a_.mul(at[3], a_.integer(warp * width_)), a_.mul(lane, a_.integer(width_)));
    has_columns_ = columns_ % (warp * width_) == 0 ? a_.boolean(true)
                                                   : b_.let(a_.less(first, a_.integer(columns_)));
    column_ = b_.let_within(a_.binary(Binary::minimum, first, a_.integer(columns_ - width_)), 0,
                            columns_ - width_);
    start_rows();
    if (count_ == 0) return;
    for (std::int64_t h = 0; h < halves_; ++h) {
      row_sums_[h] = b_.kernel().local("row_sums", storage_of(scalar_), width_);
      updates_[h] = b_.kernel().local("updates", storage_of(scalar_), width_ * ahead);
      vectors([&](Ex i) { b_.store(row_sums_[h], i, a_.constant(scalar_, 0)); });
    }
    current_ = b_.declare(Scalar::i64, loop::Combine::maximum, a_.integer(-1));
    const Ex begin = b_.let(a_.mul(part_, a_.integer(part_count_)));
    const Ex end = b_.let(
        a_.binary(Binary::minimum, a_.add(begin, a_.integer(part_count_)), a_.integer(count_)));
    b_.loop(a_.floor_div(a_.add(a_.sub(end, begin), a_.integer(warp - 1)), warp),
            [&](Ex step) { look(a_.add(begin, a_.mul(step, a_.integer(warp))), end); });
    put_row();
  }

  /// Rows of this warp begin as x, or in a part as zeros.
  void start_rows() {
    b_.loop(row_count(), [&](Ex i) {
      const Ex row = b_.let_within(a_.add(first_row_, i), 0, rows_ - 1);
      b_.condition(has_columns_, [&] {
        vectors([&](Ex lane) {
          Element element{a_.constant(scalar_, 0), a_.constant(scalar_, 0)};
          if (!apart_) {
            emitter_.reset();
            const Ex at = position(row, lane);
            element = emitter_.value(node_.operands[0], a_.delinearize(at, type_.shape));
          }
          b_.store(target(), place(row, lane, 0), element.re);
          if (halves_ == 2) b_.store(target(), place(row, lane, 1), element.im);
        });
      });
    });
  }

  Ex row_count() {
    if (rows_ % own_rows_ == 0) return a_.integer(own_rows_);
    return a_.binary(Binary::minimum, a_.integer(own_rows_), a_.sub(a_.integer(rows_), first_row_));
  }

  /// The indices from `base` on, one in each lane: updates of own rows are added.
  void look(Ex base, Ex end) {
    const Ex j = b_.let(a_.add(base, lane_));
    const Ex there = b_.let(a_.less(j, end));
    const Ex inside = at_most_last(b_, j, count_);
    emitter_.reset();
    const Ex named = emitter_.value(node_.operands[1], a_.delinearize(inside, index_shape_)).re;
    const Ex clamped = a_.binary(
        Binary::minimum, a_.binary(Binary::maximum, a_.cast(named, Scalar::i64), a_.integer(0)),
        a_.integer(rows_ - 1));
    const Ex row = b_.let(a_.cast(a_.sub(clamped, first_row_), Scalar::i32));
    const Ex zero = a_.integer(Scalar::i32, 0);
    const Ex below = a_.less(row, a_.integer(Scalar::i32, own_rows_));
    const Ex own = a_.logical_and(there, a_.logical_and(a_.less_equal(zero, row), below));
    const Ex found = b_.call(loop::intrinsic("ballot"), {b_.let(own)})[0];
    loop::Accumulator* left = b_.declare(Scalar::i32, loop::Combine::add, found);
    const Ex total = b_.let(a_.cast(ones(found), Scalar::i64));
    b_.loop(a_.floor_div(a_.add(total, a_.integer(ahead - 1)), ahead), [&](Ex) {
      struct Found {
        Ex there, row;
      };
      std::vector<Found> some;
      for (std::int64_t i = 0; i < ahead; ++i) {
        const Ex bits = b_.read(left);
        const Ex lowest = b_.let(a_.binary(Binary::bitwise_and, bits, a_.neg(bits)));
        const Ex valid = b_.let(a_.binary(Binary::not_equal, bits, zero));
        const Ex which = b_.let(ones(a_.sub(lowest, a_.integer(Scalar::i32, 1))));
        b_.assign(left, a_.binary(Binary::bitwise_xor, bits, lowest));
        const Ex of_lane = b_.call(loop::intrinsic("shuffle_index.i32"), {row, which})[0];
        some.push_back({valid, b_.let(a_.cast(of_lane, Scalar::i64))});
        const Ex at = a_.add(base, a_.cast(which, Scalar::i64));
        read_update(i, at_most_last(b_, at, count_), b_.let(a_.logical_and(valid, has_columns_)));
      }
      for (std::int64_t i = 0; i < ahead; ++i) {
        const auto& [valid, at] = some[static_cast<std::size_t>(i)];
        b_.condition(valid, [&] { add_update(i, at); });
      }
    });
  }

  /// How many bits are set.
  Ex ones(Ex bits) {
    const auto constant = [&](std::uint32_t value) {
      return a_.integer(Scalar::i32, static_cast<std::int32_t>(value));
    };
    const auto masked = [&](Ex x, std::uint32_t mask) {
      return a_.binary(Binary::bitwise_and, x, constant(mask));
    };
    const auto shifted = [&](Ex x, std::uint32_t by) {
      return a_.binary(Binary::shift_right_logical, x, constant(by));
    };
    Ex x = a_.sub(bits, masked(shifted(bits, 1), 0x55555555U));
    x = a_.add(masked(x, 0x33333333U), masked(shifted(x, 2), 0x33333333U));
    x = masked(a_.add(x, shifted(x, 4)), 0x0f0f0f0fU);
    return shifted(a_.mul(x, constant(0x01010101U)), 24);
  }

  void read_update(std::int64_t number, Ex j, Ex valid) {
    const std::vector<Ex> outside = a_.delinearize(outside_, outer_);
    const std::vector<Ex> where = a_.delinearize(j, index_shape_);
    vectors([&](Ex lane) {
      emitter_.reset();
      const std::vector<Ex> inside = a_.delinearize(a_.add(column_, lane), inner_);
      std::vector<Ex> from = outside;
      from.insert(from.end(), where.begin(), where.end());
      from.insert(from.end(), inside.begin(), inside.end());
      const Element update = emitter_.value(node_.operands[2], from, valid);
      const Ex slot = a_.add(a_.integer(number * width_), lane);
      b_.store(updates_[0], slot, update.re);
      if (halves_ == 2) b_.store(updates_[1], slot, update.im);
    });
  }

  void add_update(std::int64_t number, Ex row) {
    b_.condition(a_.binary(Binary::not_equal, row, b_.read(current_)), [&] {
      put_row();
      b_.assign(current_, row);
      take_row(row);
    });
    vectors([&](Ex lane) {
      const Ex slot = a_.add(a_.integer(number * width_), lane);
      for (std::int64_t h = 0; h < halves_; ++h) {
        b_.store(row_sums_[h], lane,
                 a_.add(a_.load(row_sums_[h], lane), a_.load(updates_[h], slot)));
      }
    });
  }

  Ex own_row(Ex number) { return b_.let_within(a_.add(first_row_, number), 0, rows_ - 1); }

  void take_row(Ex number) {
    b_.condition(has_columns_, [&] {
      const Ex row = own_row(number);
      vectors([&](Ex lane) {
        for (std::int64_t h = 0; h < halves_; ++h) {
          b_.store(row_sums_[h], lane, a_.load(target(), place(row, lane, h)));
        }
      });
    });
  }

  /// Stores the sums of the row at hand, if there is one.
  void put_row() {
    const Ex number = b_.read(current_);
    b_.condition(a_.logical_and(a_.less_equal(a_.integer(0), number), has_columns_), [&] {
      const Ex row = own_row(number);
      vectors([&](Ex lane) {
        for (std::int64_t h = 0; h < halves_; ++h) {
          b_.store(target(), place(row, lane, h), a_.load(row_sums_[h], lane));
        }
      });
    });
  }

  /// x and the parts' sums, in order.
  void add_parts() {
    const std::int64_t total = type_.elements();
    b_.phase(divide_up(total, threads), threads, [&](Ex block, Ex thread) {
      const Ex number = a_.add(a_.mul(block, a_.integer(threads)), thread);
      const auto body = [&](Ex at) {
        emitter_.reset();
        const Element x = emitter_.value(node_.operands[0], a_.delinearize(at, type_.shape));
        Element sum;
        for (std::int64_t h = 0; h < halves_; ++h) {
          loop::Accumulator* parts = b_.declare(scalar_, loop::Combine::add, h == 0 ? x.re : x.im);
          b_.loop(a_.integer(parts_), [&](Ex part) {
            const Ex slot = a_.add(a_.mul(part, a_.integer(total)), at);
            b_.accumulate(parts,
                          a_.load(sums_, a_.add(a_.mul(slot, a_.integer(halves_)), a_.integer(h))));
          });
          (h == 0 ? sum.re : sum.im) = b_.read(parts);
        }
        emitter_.store(result_, at, sum);
      };
      if (total % threads == 0) {
        body(number);
      } else {
        b_.condition(a_.less(number, a_.integer(total)),
                     [&] { body(b_.let_within(number, 0, total - 1)); });
      }
    });
  }

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  const Node& node_;
  Value result_;
  const Type& type_;
  const Shape& index_shape_;
  std::int64_t count_;   ///< of indices
  Scalar scalar_;        ///< of sums
  std::int64_t halves_;  ///< 2: complex
  Shape outer_, inner_;  ///< axes before and after the indexed one
  std::int64_t rows_ = 0, columns_ = 0;
  std::int64_t width_ = 1;     ///< columns of a lane
  std::int64_t strips_ = 1;    ///< of columns, a warp's each
  std::int64_t owners_ = 1;    ///< ranges of rows
  std::int64_t own_rows_ = 1;  ///< of each but the last
  std::int64_t parts_ = 1;     ///< of the indices
  std::int64_t part_count_ = 0;
  bool apart_ = false;  ///< sums are in the workspace, parts side by side
  const loop::Buffer* sums_ = nullptr;
  const loop::Buffer* row_sums_[2] = {};
  const loop::Buffer* updates_[2] = {};
  loop::Accumulator* current_ = nullptr;  ///< the row in row_sums_, from the first own one; or -1
  Ex part_ = nullptr, outside_ = nullptr, first_row_ = nullptr, column_ = nullptr;
  Ex lane_ = nullptr, has_columns_ = nullptr;
};

}  // namespace

void schedule_scatter_device(GroupEmitter& emitter) { ScatterDevice(emitter).run(); }

}  // namespace weft::compiler
