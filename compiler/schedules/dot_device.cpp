#include <algorithm>

#include "compiler/schedules/divide.h"
#include "compiler/schedules/dot_product.h"
#include "compiler/schedules/schedule.h"

/// Matrix products on a GPU in exact f32 or f64: a block computes a square tile of the result from
/// panels of both operands in shared memory, each thread a square of it in registers. Panels are
/// read once a block, so what is fused before the product is evaluated there.
namespace weft::compiler {
namespace {

using loop::Ex;
using loop::Role;
using ops::Element;

constexpr std::int64_t threads = 256;
constexpr std::int64_t side_threads = 16;
/// Steps of the contracted axis in a panel.
constexpr std::int64_t panel_steps = 16;
/// Neighbouring columns of a thread: one access of shared memory.
constexpr std::int64_t piece = 4;
/// Blocks that keep a large GPU busy: smaller tiles where larger ones are fewer.
constexpr std::int64_t enough_blocks = 256;

class TiledDevice {
 public:
  TiledDevice(GroupEmitter& emitter, const Product& product)
      : a_(emitter.arena()),
        b_(emitter.builder()),
        p_(product),
        access_(emitter, p_),
        scalar_(register_of(product.node->results[0].dtype)) {
    for (tile_ = 128; tile_ > 32; tile_ /= 2) {
      const bool fits = p_.rows() >= tile_ / 2 && p_.columns() >= tile_ / 2;
      if (fits && blocks(tile_) >= enough_blocks) break;
    }
    own_ = tile_ / side_threads;
  }

  void run() {
    const DType storage = scalar_ == loop::Scalar::f64 ? DType::f64 : DType::f32;
    rows_ = b_.kernel().shared("rows", storage, panel_steps * tile_);
    columns_ = b_.kernel().shared("columns", storage, panel_steps * tile_);
    const Shape grid{p_.batches(), divide_up(p_.rows(), tile_), divide_up(p_.columns(), tile_)};
    b_.phase(grid.elements(), threads, [&](Ex block, Ex thread) {
      const std::vector<Ex> at = a_.delinearize(block, grid);
      const Ex row = b_.let(a_.mul(at[1], a_.integer(tile_)));
      const Ex column = b_.let(a_.mul(at[2], a_.integer(tile_)));
      tile(b_.let(at[0]), row, column, thread);
    });
  }

 private:
  std::int64_t blocks(std::int64_t tile) const {
    return p_.batches() * divide_up(p_.rows(), tile) * divide_up(p_.columns(), tile);
  }

  void tile(Ex batch, Ex row, Ex column, Ex thread) {
    const Ex thread_row = b_.let(a_.floor_div(thread, side_threads));
    const Ex thread_column = b_.let(a_.floor_mod(thread, side_threads));
    std::vector<loop::Accumulator*> sums;
    for (std::int64_t i = 0; i < own_ * own_; ++i) {
      sums.push_back(b_.declare(scalar_, loop::Combine::add, a_.constant(scalar_, 0)));
    }
    b_.loop(a_.integer(divide_up(p_.depth(), panel_steps)), [&](Ex panel) {
      const Ex first = a_.mul(panel, a_.integer(panel_steps));
      fill(rows_, false, batch, row, first, thread);
      fill(columns_, true, batch, column, first, thread);
      b_.barrier();
      b_.loop(panel_steps, Role::unrolled, 1, [&](Ex step) {
        std::vector<Ex> x, y;
        for (std::int64_t i = 0; i < own_; ++i) {
          x.push_back(b_.let(value(rows_, step, own_index(thread_row, i))));
        }
        for (std::int64_t j = 0; j < own_; ++j) {
          y.push_back(b_.let(value(columns_, step, own_index(thread_column, j))));
        }
        for (std::int64_t i = 0; i < own_; ++i) {
          for (std::int64_t j = 0; j < own_; ++j) {
            loop::Accumulator* sum = sums[static_cast<std::size_t>(i * own_ + j)];
            b_.assign(sum, a_.fma(x[static_cast<std::size_t>(i)], y[static_cast<std::size_t>(j)],
                                  b_.read(sum)));
          }
        }
      });
      b_.barrier();
    });
    for (std::int64_t i = 0; i < own_; ++i) {
      const Ex own_row = a_.add(row, own_index(thread_row, i));
      store_row(batch, own_row, column, thread_column, &sums[static_cast<std::size_t>(i * own_)]);
    }
  }

  /// The i-th of a thread's rows or columns in the tile: pieces of neighbours, the threads' pieces
  /// side by side, so that a warp reads neighbouring banks.
  Ex own_index(Ex thread, std::int64_t i) {
    const std::int64_t length = std::min(piece, own_);
    return a_.add(a_.mul(thread, a_.integer(length)),
                  a_.integer(i / length * length * side_threads + i % length));
  }

  Ex value(const loop::Buffer* panel, Ex step, Ex index) {
    return a_.load(panel, a_.add(a_.mul(step, a_.integer(tile_)), index));
  }

  /// Reads a panel. Neighbouring threads take neighbours along the axis that is contiguous.
  void fill(const loop::Buffer* panel, bool columns, Ex batch, Ex first_free, Ex first_step,
            Ex thread) {
    const OperandLayout layout = operand_layout(access_.group(), p_, columns);
    const std::int64_t extent = columns ? p_.columns() : p_.rows();
    const std::int64_t count = panel_steps * tile_ / threads;
    for (std::int64_t i = 0; i < count; ++i) {
      const Ex number = a_.add(thread, a_.integer(i * threads));
      const Ex step = layout.depth_contiguous && !layout.free_contiguous
                          ? a_.floor_mod(number, panel_steps)
                          : a_.floor_div(number, tile_);
      const Ex index = layout.depth_contiguous && !layout.free_contiguous
                           ? a_.floor_div(number, panel_steps)
                           : a_.floor_mod(number, tile_);
      // Rows and columns past the end are computed and not stored; steps past it count as zero.
      const Ex free = last_at(a_.add(first_free, index), extent);
      const Ex depth = a_.add(first_step, step);
      access_.reset();
      const Ex read = columns ? access_.column_operand(batch, free, last_at(depth, p_.depth())).re
                              : access_.row_operand(batch, free, last_at(depth, p_.depth())).re;
      const Ex kept =
          p_.depth() % panel_steps == 0
              ? read
              : a_.select(a_.less(depth, a_.integer(p_.depth())), read, a_.constant(scalar_, 0));
      b_.store(panel, a_.add(a_.mul(step, a_.integer(tile_)), index), kept);
    }
  }

  Ex last_at(Ex index, std::int64_t extent) {
    if (index->maximum < extent) return index;
    return b_.let_within(a_.binary(loop::Binary::minimum, index, a_.integer(extent - 1)), 0,
                         extent - 1);
  }

  void store_row(Ex batch, Ex row, Ex column, Ex thread_column, loop::Accumulator* const* sums) {
    const auto store = [&](Ex at, std::int64_t j) {
      const Element result{b_.read(sums[j]), nullptr};
      access_.store(batch, b_.let_within(row, 0, p_.rows() - 1),
                    b_.let_within(at, 0, p_.columns() - 1), result);
    };
    const std::int64_t length = std::min(piece, own_);
    const bool whole_pieces = p_.columns() % length == 0;
    const auto inside = [&](Ex at) {
      Ex condition = a_.less(at, a_.integer(p_.columns()));
      return a_.logical_and(condition, a_.less(row, a_.integer(p_.rows())));
    };
    for (std::int64_t start = 0; start < own_; start += length) {
      const auto position = [&](std::int64_t j) {
        return a_.add(column, own_index(thread_column, j));
      };
      const auto all = [&] {
        for (std::int64_t j = start; j < start + length; ++j) store(position(j), j);
      };
      if (whole_pieces) {
        b_.condition(inside(position(start)), all);
        continue;
      }
      for (std::int64_t j = start; j < start + length; ++j) {
        b_.condition(inside(position(j)), [&] { store(position(j), j); });
      }
    }
  }

  loop::Arena& a_;
  loop::Builder& b_;
  Product p_;
  ProductAccess access_;
  loop::Scalar scalar_;
  std::int64_t tile_ = 0;                  ///< rows, and columns, of a block
  std::int64_t own_ = 0;                   ///< of a thread
  const loop::Buffer* rows_ = nullptr;     ///< [step][row]
  const loop::Buffer* columns_ = nullptr;  ///< [step][column]
};

}  // namespace

void schedule_dot_device(GroupEmitter& emitter) {
  const Product p = analyse_product(*emitter.group().anchor);
  if (p.node->results[0].elements() == 0) {
    emitter.builder().phase(0, threads, [](Ex, Ex) {});
    return;
  }
  TiledDevice(emitter, p).run();
}

}  // namespace weft::compiler
