#pragma once

#include "compiler/schedules/convolution_passes.h"
#include "compiler/schedules/emitter.h"

namespace weft::compiler {

/// Extents of the Toeplitz operator or one of its gradients with leading axes merged: x is [batch,
/// groups, n, d], t is [groups, lags, d].
struct TnoExtents {
  Shape x_leading;
  Shape t_leading;
  std::int64_t batch = 1;
  std::int64_t groups = 1;
  std::int64_t n = 1;
  std::int64_t d = 1;
  bool causal = true;

  explicit TnoExtents(const ir::Node& node);
  std::int64_t lags() const { return causal ? n : 2 * n - 1; }
};

/// The lines that the operator and its gradients transform, on any target. With all lags in a row,
/// s_k = t_(k-(n-1)) where t looks both ways and s = t where it is causal, the operator is a
/// convolution of x with s, of which it takes n elements. So are the gradients, with the result's
/// gradient g read from its end: that of x in reverse is the operator's value for g in reverse,
/// and that of t in reverse are the first elements of the convolution of x and g in reverse, summed
/// over the batch.
class TnoLines {
 public:
  using Ex = loop::Ex;
  using Signal = ConvolutionPasses::Signal;

  /// One channel of a row of the batch (with the groups inside), from its end where `reverse`.
  struct Sequence {
    Ex row;
    Ex channel;
    bool reverse;
  };

  /// `length`: complex points of a line. `streaming`: results are not read again soon.
  TnoLines(GroupEmitter& emitter, std::int64_t length, bool streaming);

  const TnoExtents& extents() const { return e_; }
  std::vector<Ex> index(const Shape& leading, Ex row, Ex position, Ex channel);
  Ex from_end(Ex position, bool reverse);

  Signal read_sequence(std::size_t operand, Sequence from);
  /// Lets the inverse transform end in the first result.
  void write_sequence(Signal& signal, Sequence to);
  /// Element i of the first result's sequence.
  void write_element(Sequence to, Ex i, Ex value);
  /// Elements of it, several sequences' or positions': what is fused after them is loaded for all
  /// before any is stored.
  struct Element {
    Sequence to;
    Ex i;
    Ex value;
  };
  void write_elements(const std::vector<Element>& elements);
  /// t, which is the node's second operand.
  Signal read_coefficients(Ex group, Ex channel);
  /// One of t's n or 2n - 1 coefficients; zero where `inside` (may be null) is false.
  Ex coefficient(Ex group, Ex number, Ex channel, Ex inside);
  /// Lets the inverse transform end in the gradient of t, the last result.
  void write_coefficients(Signal& signal, Ex group, Ex channel);
  /// One of t's n or 2n - 1 in its gradient.
  void write_lag(Ex group, Ex lag, Ex channel, Ex value);

 private:
  bool has_second_half() const { return e_.lags() > length_; }
  Ex element(std::size_t operand, const std::vector<Ex>& index, Ex predicate);

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  const ir::Node& node_;
  TnoExtents e_;
  std::int64_t length_;
  bool streaming_;
};

}  // namespace weft::compiler
