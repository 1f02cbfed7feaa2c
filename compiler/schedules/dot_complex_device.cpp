#include <algorithm>

#include "compiler/schedules/divide.h"
#include "compiler/schedules/dot_product.h"
#include "compiler/schedules/schedule.h"
#include "compiler/schedules/thread_indices.h"

/// Matrix products of complex numbers on a GPU, in exact f32: a block computes a square tile of the
/// result from panels of both operands in shared memory, real and imaginary parts apart, each
/// thread a square of it in registers. What is fused before the product is evaluated once a panel.
namespace weft::compiler {
namespace {

using loop::Ex;
using loop::Role;
using loop::Scalar;
using ops::Element;

constexpr std::int64_t threads = 256;
constexpr std::int64_t side_threads = 16;
/// Steps of the contracted axis in a panel.
constexpr std::int64_t panel_steps = 8;
/// Neighbours of a thread: one access of shared memory.
constexpr std::int64_t piece = 2;
constexpr std::int64_t enough_blocks = 256;

class ComplexDevice {
 public:
  ComplexDevice(GroupEmitter& emitter, const Product& product)
      : a_(emitter.arena()), b_(emitter.builder()), p_(product), access_(emitter, p_) {
    const auto blocks = [&](std::int64_t tile) {
      return p_.batches() * divide_up(p_.rows(), tile) * divide_up(p_.columns(), tile);
    };
    const bool fits = p_.rows() >= 32 && p_.columns() >= 32;
    tile_ = fits && blocks(64) >= enough_blocks ? 64 : 32;
    own_ = tile_ / side_threads;
  }

  void run() {
    for (Panel* panel : {&rows_, &columns_}) {
      const std::string name = panel == &rows_ ? "rows" : "columns";
      panel->re = b_.kernel().shared(name + "_re", DType::f32, panel_steps * tile_);
      panel->im = b_.kernel().shared(name + "_im", DType::f32, panel_steps * tile_);
    }
    const Shape grid{p_.batches(), divide_up(p_.rows(), tile_), divide_up(p_.columns(), tile_)};
    b_.phase(grid.elements(), threads, [&](Ex block, Ex thread) {
      const std::vector<Ex> at = a_.delinearize(block, grid);
      thread_ = thread;
      batch_ = b_.let(at[0]);
      row_ = b_.let(a_.mul(at[1], a_.integer(tile_)));
      column_ = b_.let(a_.mul(at[2], a_.integer(tile_)));
      tile();
    });
  }

 private:
  struct Panel {
    const loop::Buffer* re = nullptr;  ///< [step][row or column]
    const loop::Buffer* im = nullptr;
  };
  struct Sum {
    loop::Accumulator* re;
    loop::Accumulator* im;
  };

  void tile() {
    const Ex thread_row = b_.let(a_.floor_div(thread_, side_threads));
    const Ex thread_column = b_.let(a_.floor_mod(thread_, side_threads));
    std::vector<Sum> sums;
    const Ex zero = a_.constant(Scalar::f32, 0);
    for (std::int64_t i = 0; i < own_ * own_; ++i) {
      sums.push_back({b_.declare(Scalar::f32, loop::Combine::add, zero),
                      b_.declare(Scalar::f32, loop::Combine::add, zero)});
    }
    const auto panels = [&](Ex panel) {
      const Ex first = a_.mul(panel, a_.integer(panel_steps));
      fill(rows_, false, row_, first);
      fill(columns_, true, column_, first);
      b_.barrier();
      b_.loop(panel_steps, Role::unrolled, 1, [&](Ex step) {
        std::vector<Element> x, y;
        for (std::int64_t i = 0; i < own_; ++i) {
          x.push_back(value(rows_, step, own_index(thread_row, i)));
          y.push_back(value(columns_, step, own_index(thread_column, i)));
        }
        for (std::int64_t i = 0; i < own_; ++i) {
          for (std::int64_t j = 0; j < own_; ++j) {
            add(sums[at(i, j)], x[static_cast<std::size_t>(i)], y[static_cast<std::size_t>(j)]);
          }
        }
      });
      b_.barrier();
    };
    if (p_.depth() > 0) b_.loop(a_.integer(divide_up(p_.depth(), panel_steps)), panels);
    for (std::int64_t i = 0; i < own_; ++i) {
      const Ex row = a_.add(row_, own_index(thread_row, i));
      for (std::int64_t j = 0; j < own_; ++j) {
        const Ex column = a_.add(column_, own_index(thread_column, j));
        const Ex inside = a_.logical_and(a_.less(row, a_.integer(p_.rows())),
                                         a_.less(column, a_.integer(p_.columns())));
        b_.condition(inside, [&] {
          const Sum& sum = sums[at(i, j)];
          access_.reset();
          access_.store(batch_, b_.let_within(row, 0, p_.rows() - 1),
                        b_.let_within(column, 0, p_.columns() - 1),
                        Element{b_.read(sum.re), b_.read(sum.im)});
        });
      }
    }
  }

  std::size_t at(std::int64_t i, std::int64_t j) const {
    return static_cast<std::size_t>(i * own_ + j);
  }

  void add(const Sum& sum, const Element& x, const Element& y) {
    const auto contract = [&](loop::Accumulator* to, Ex a, Ex b) {
      b_.assign(to, a_.fma(a, b, b_.read(to)));
    };
    contract(sum.re, x.re, y.re);
    contract(sum.im, x.re, y.im);
    contract(sum.re, a_.neg(x.im), y.im);
    contract(sum.im, x.im, y.re);
  }

  /// The i-th of a thread's rows or columns in the tile.
  Ex own_index(Ex thread, std::int64_t i) { return in_pieces(a_, thread, side_threads, piece, i); }

  Element value(const Panel& panel, Ex step, Ex index) {
    const Ex position = a_.add(a_.mul(step, a_.integer(tile_)), index);
    return {b_.let(a_.load(panel.re, position)), b_.let(a_.load(panel.im, position))};
  }

  /// Reads a panel. Neighbouring threads take neighbours along the axis that is contiguous.
  void fill(const Panel& panel, bool columns, Ex first_free, Ex first_step) {
    const OperandLayout layout = operand_layout(access_.group(), p_, columns);
    const std::int64_t extent = columns ? p_.columns() : p_.rows();
    // Of pairs of f32.
    const bool along_depth = layout.depth_stride == 2 && layout.free_stride != 2;
    for (std::int64_t i = 0; i < panel_steps * tile_ / threads; ++i) {
      const Ex number = a_.add(thread_, a_.integer(i * threads));
      const Ex step = along_depth ? a_.floor_mod(number, panel_steps) : a_.floor_div(number, tile_);
      const Ex index =
          along_depth ? a_.floor_div(number, panel_steps) : a_.floor_mod(number, tile_);
      // Rows and columns past the end are computed and not stored; steps past it count as zero.
      const Ex free = at_most_last(b_, a_.add(first_free, index), extent);
      const Ex depth = b_.let(a_.add(first_step, step));
      const Ex inside = at_most_last(b_, depth, p_.depth());
      access_.reset();
      const Element read = columns ? access_.column_operand(batch_, free, inside)
                                   : access_.row_operand(batch_, free, inside);
      const Ex there = a_.less(depth, a_.integer(p_.depth()));
      const Ex zero = a_.constant(Scalar::f32, 0);
      const Ex to = b_.let(a_.add(a_.mul(step, a_.integer(tile_)), index));
      const Ex re = b_.let(a_.select(there, read.re, zero));
      const Ex im = b_.let(a_.select(there, read.im, zero));
      b_.store(panel.re, to, re);
      b_.store(panel.im, to, im);
    }
  }

  loop::Arena& a_;
  loop::Builder& b_;
  Product p_;
  ProductAccess access_;
  std::int64_t tile_ = 0;  ///< rows, and columns, of a block
  std::int64_t own_ = 0;   ///< of a thread
  Panel rows_, columns_;
  Ex thread_ = nullptr, batch_ = nullptr, row_ = nullptr, column_ = nullptr;
};

}  // namespace

void schedule_dot_complex_device(GroupEmitter& emitter) {
  const Product p = analyse_product(*emitter.group().anchor);
  if (p.node->results[0].elements() == 0) {
    emitter.builder().phase(0, threads, [](Ex, Ex) {});
    return;
  }
  ComplexDevice(emitter, p).run();
}

}  // namespace weft::compiler
