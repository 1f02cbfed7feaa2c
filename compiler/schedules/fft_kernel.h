#pragma once

#include <cstdint>
#include <vector>

#include "compiler/schedules/fft_kinds.h"
#include "compiler/schedules/schedule.h"

namespace weft::compiler {

/// A kernel's transform, as lines along an axis of an operand (outer, points, inner), and how they
/// are read through its prologue and written through its epilogue.
class FftKernel {
 public:
  using Ex = loop::Ex;

  explicit FftKernel(GroupEmitter& emitter);

  FftKind kind() const { return kind_; }
  bool inverse() const { return inverse_; }
  std::int64_t length() const { return length_; }
  std::int64_t outer() const { return outer_.elements(); }
  std::int64_t inner() const { return inner_.elements(); }
  /// Points that are read of each line; further ones are zero.
  std::int64_t points() const { return points_; }
  /// Points of each line of the result.
  std::int64_t results() const { return results_; }
  bool complex_operand() const { return kind_ != FftKind::from_real; }
  bool complex_result() const { return kind_ != FftKind::to_real; }
  /// Whether the transform is all that is stored, in result_buffer().
  bool plain() const;
  const loop::Buffer* result_buffer() const;

  /// Point `position` below length() of the line at (outer, inner); null parts where it is zero.
  ComplexEx read(Ex outer, Ex position, Ex inner);
  /// Asks for what read() will need of the next column of lines beyond the caches.
  void prefetch(Ex outer, Ex position, Ex inner);
  void write(Ex outer, Ex position, Ex inner, const ComplexEx& value);

  GroupEmitter& emitter() { return emitter_; }
  loop::Builder& builder() { return emitter_.builder(); }
  loop::Arena& arena() { return emitter_.arena(); }

 private:
  std::vector<Ex> index(Ex outer, Ex position, Ex inner);

  GroupEmitter& emitter_;
  const ir::Node& node_;
  bool streaming_;
  FftKind kind_ = FftKind::complex;
  bool inverse_ = false;
  std::int64_t length_ = 1;
  std::int64_t points_ = 0;
  std::int64_t results_ = 0;
  Shape outer_;
  Shape inner_;
};

/// Lines along the innermost axis.
void schedule_innermost_fft(FftKernel& kernel, const HostTarget& target);

}  // namespace weft::compiler
