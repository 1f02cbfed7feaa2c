#pragma once

#include <complex>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "compiler/loop/kernel.h"
#include "compiler/schedules/butterfly.h"
#include "compiler/schedules/fft_plan.h"

namespace weft::compiler {

/// Complex transforms of several lines at once, one in each lane of the vector loop around: no step
/// moves data between lanes. What is between two halves of a split is kept in scratch, in slots of
/// re and im of `width` lanes each; halves are divided further down to butterflies in registers,
/// and each part is finished while it is in the nearest cache that holds it.
class FftLines {
 public:
  using Ex = loop::Ex;
  /// Point `position` of a line; null parts are zero.
  using Read = std::function<ComplexEx(Ex position)>;
  using Write = std::function<void(Ex position, const ComplexEx& value)>;

  FftLines(loop::Builder& builder, std::int64_t width)
      : b_(builder), a_(builder.arena()), width_(width) {}

  std::int64_t width() const { return width_; }
  /// To be called in the body of a vector loop over `lane`, ahead of what follows.
  void begin(Ex lane) { lane_ = lane; }

  /// Reads each point before anything is written. The inverse is not scaled.
  void run(const FftPlan& plan, bool inverse, const Read& read, const Write& write);

  /// The halves of a split into n1 = first->length by n2: `first` transforms the points
  /// column + n2 j, j < n1, of a column below n2, `second` finishes points column + n1 k, k < n2,
  /// of a column below n1. All of the former come before all of the latter.
  void first(const FftPlan& plan, bool inverse, Ex column, const Read& read);
  void second(const FftPlan& plan, bool inverse, Ex column, const Write& write);

  /// Scratch of as many slots, and their values.
  const loop::Buffer* scratch(const char* name, std::int64_t slots);
  ComplexEx load(const loop::Buffer* buffer, Ex slot);
  void save(const loop::Buffer* buffer, Ex slot, const ComplexEx& value);
  /// A table of complex numbers, and one of them.
  const loop::Buffer* table(const char* name, const std::vector<std::complex<double>>& values);
  ComplexEx entry(const loop::Buffer* table, Ex position);

 private:
  struct Node {
    const loop::Buffer* between = nullptr;
    std::int64_t pitch = 0;  ///< slots from one column to the next
    const loop::Buffer* coarse = nullptr;
    const loop::Buffer* fine = nullptr;  ///< null: all turns are in `coarse`
    std::int64_t fine_columns = 1;
    const loop::Buffer* minus = nullptr;
  };
  Node& node(const FftPlan& plan);
  Node make_split(const FftPlan& plan);
  Node make_chirp_node(const FftPlan& plan);
  Node make_definition(const FftPlan& plan);
  ComplexEx turn(const FftPlan& plan, bool inverse, Ex column, Ex row);
  ComplexEx here(const ComplexEx& value);
  void definition(const FftPlan& plan, bool inverse, const Read& read, const Write& write);
  void chirp(const FftPlan& plan, bool inverse, const Read& read, const Write& write);

  loop::Builder& b_;
  loop::Arena& a_;
  std::int64_t width_;
  std::map<const FftPlan*, Node> nodes_;
  Ex lane_ = nullptr;
};

}  // namespace weft::compiler
