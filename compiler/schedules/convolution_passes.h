#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "compiler/loop/kernel.h"
#include "compiler/schedules/butterfly.h"

namespace weft::compiler {

/// How convolutions of some length are transformed.
struct ConvolutionPlan {
  std::int64_t length = 1;
  std::vector<std::int64_t> radices;  ///< of the forward passes, in order; product: length

  /// Estimated cycles of one forward and one inverse transform of a line in each vector lane.
  double cycles = 0;
};

/// The cheapest plan of at least `minimum` points, of two passes or more, for kernels that
/// transform one or two lines at a time.
ConvolutionPlan plan_convolution(std::int64_t minimum, int lines);

/// Passes of transforms for convolutions of real sequences, a line a vector lane.
///
/// With w = exp(pi i / 2N) the N products v_j w^j are transformed, v being complex: the product of
/// two such spectra is that of the convolution in which what passes the end comes back multiplied
/// by w^N = i. A real sequence of up to 2N elements is the line v_j = s_j + i s_(j+N), and the line
/// of a convolution holds its elements in the same places, up to 2N of them: neither padding nor
/// the halves of symmetric spectra are stored or transformed.
///
/// The forward passes (decimation in frequency) work in place and leave the spectrum in the order
/// of their digits, the inverse ones (decimation in time) take it in that order, so that nothing is
/// ever reordered. After the first pass the parts are independent: each is transformed, multiplied
/// and transformed back while it is in the nearest cache that holds it, down to a last butterfly
/// that stays in registers from the forward transform through the product to the inverse one.
///
/// Points of a line in scratch have slots: re and im of `width` lanes each. Where passes would move
/// over slots at distances of powers of two, which share few sets of a cache, slots are left out.
class ConvolutionPasses {
 public:
  using Ex = loop::Ex;

  /// One line for each lane.
  struct Signal {
    const loop::Buffer* scratch = nullptr;
    /// v_j at a position j below `extent`; further ones are zero. `predicate` (may be null): where
    /// false nothing is read and the value is zero. Null: no forward transform.
    std::function<ComplexEx(Ex position, Ex predicate)> read;
    std::int64_t extent = 0;
    bool real = false;  ///< v has no imaginary part
    /// Takes v_j at a position j below `wanted` of the inverse transform, not scaled; without its
    /// imaginary part where `real_part`. Null: no inverse transform.
    std::function<void(Ex position, const ComplexEx& value)> write;
    std::int64_t wanted = 0;
    bool real_part = false;
    /// Ask for the memory of what read and write will need, some positions ahead; may be null.
    std::function<void(Ex position)> ahead_of_read;
    std::function<void(Ex position)> ahead_of_write;
  };
  /// Works on the points in the registers of the last butterfly: for each signal one for each slot
  /// `first` + i.
  using Middle = std::function<void(Ex first, std::vector<std::vector<ComplexEx>>& values)>;

  using Ahead = std::function<void(Ex position)>;

  ConvolutionPasses(loop::Builder& builder, const ConvolutionPlan& plan, int width);

  /// Elements of a line's scratch (for all lanes).
  std::int64_t elements() const { return slots_ * 2 * width_; }
  const loop::Buffer* scratch(const char* name);
  /// The element of a slot's part (0: re, 1: im) in a lane.
  Ex element(Ex slot, int part, Ex lane);

  /// All passes of some signals; to be called in the body of a vector loop over `lane`.
  /// Between the first and the last pass `ahead`, where given, is called once for each point, to
  /// ask for memory that is wanted later.
  void run(const std::vector<Signal>& signals, const Middle& middle, Ex lane,
           const Ahead& ahead = nullptr);

 private:
  std::size_t last() const { return plan_.radices.size() - 1; }
  std::int64_t radix(std::size_t level) const { return plan_.radices[level]; }
  ComplexEx load(const loop::Buffer* scratch, Ex slot);
  void save(const loop::Buffer* scratch, Ex slot, const ComplexEx& value);
  ComplexEx twist(const ComplexEx& x, std::int64_t q, bool back);
  ComplexEx turn(std::size_t level, Ex position, std::int64_t k);
  void for_each(std::size_t level, Ex position, Ex slot,
                const std::function<void(Ex position, Ex slot)>& body);
  void for_tiles(std::size_t level, Ex position, Ex slot,
                 const std::function<void(Ex position, Ex slot)>& body);
  Ex inside(std::int64_t wanted, std::int64_t q, Ex j);
  void for_rows(std::int64_t wanted, Ex first,
                const std::function<void(Ex row, Ex column, Ex position, Ex inside)>& body);
  const loop::Buffer* tile();
  Ex tile_element(Ex row, Ex column, int part);
  void first_pass(const Signal& signal);
  void last_pass(const Signal& signal);
  void forward(std::size_t level, const Signal& signal, Ex base);
  void inverse(std::size_t level, const Signal& signal, Ex base);
  void descend(std::size_t level, const std::vector<Signal>& signals, const Middle& middle, Ex base,
               Ex position, const Ahead& ahead);

  loop::Builder& b_;
  loop::Arena& a_;
  ConvolutionPlan plan_;
  int width_;
  std::vector<std::int64_t> size_;   ///< points of a block of each level
  std::vector<std::int64_t> pitch_;  ///< slots from one block of a level to the next
  std::vector<bool> dense_;          ///< whether the slots of a block are without gaps
  std::int64_t slots_ = 0;
  bool direct_ = false;  ///< operands and results are moved without a tile
  std::vector<const loop::Buffer*> turns_;
  std::int64_t tile_columns_ = 1;
  const loop::Buffer* tile_ = nullptr;
  Ex lane_ = nullptr;
};

}  // namespace weft::compiler
