#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "compiler/loop/kernel.h"
#include "compiler/schedules/butterfly.h"

/// Fourier transforms on a GPU, for convolutions.
namespace weft::compiler {

/// A transform of `length` points in passes: product of the radices, in order.
struct DevicePlan {
  std::int64_t length = 1;
  std::vector<std::int64_t> radices;
  double cost = 0;  ///< estimated instructions a line and thread

  std::size_t levels() const { return radices.size(); }
  /// Points of a block of a level; of the level past the last: 1.
  std::int64_t size(std::size_t level) const;
  /// Where the forward passes of levels [first, last) leave bin `bin` of their transform.
  std::int64_t slot(std::size_t first, std::size_t last, std::int64_t bin) const;
  loop::Ex slot(loop::Arena& arena, std::size_t first, std::size_t last, loop::Ex bin) const;
};

/// The cheapest plan of exactly `length` points; nothing where it has too large prime factors.
std::optional<DevicePlan> device_plan(std::int64_t length);
/// The cheapest plan of at least `minimum` points.
DevicePlan device_plan_from(std::int64_t minimum);

/// Factors exp(-2 pi i j / period), from tables in the code.
class RootTable {
 public:
  using Ex = loop::Ex;
  RootTable(loop::Builder& builder, std::int64_t period, std::int64_t count);
  ComplexEx at(loop::Builder& builder, Ex j) const;  ///< j in [0, count)

 private:
  std::int64_t split_;  ///< of j into two parts; 1: not split
  const loop::Buffer* low_;
  const loop::Buffer* high_ = nullptr;
};

/// The factors between a plan's passes, for all tiles of a kernel. `twisted`: point j of a line is
/// multiplied by w^j, w = exp(pi i / 2N), before the forward transform, and by its conjugate after
/// the inverse one (convolution_passes.h says what for).
class DeviceTurns {
 public:
  DeviceTurns(loop::Builder& builder, const DevicePlan& plan, bool twisted);
  bool twisted() const { return twist_.has_value(); }
  const RootTable& root(std::size_t level) const { return roots_[level]; }
  const RootTable& twist() const { return *twist_; }

 private:
  std::vector<RootTable> roots_;
  std::optional<RootTable> twist_;
};

/// What the threads of a block transform together, in shared memory: some levels of a plan for
/// `slow` times `fast` lines, point e of line (s, f) at (s * points + e) * fast + f. Forward passes
/// decimate in frequency and work in place, inverse ones decimate in time, so that nothing is
/// reordered between the two. Each thread has a butterfly in registers at a time; the first pass
/// takes its points from where the caller says, the last one gives them to where it says.
///
/// Levels that follow the tile's are other tiles': the lines of `fast` are then neighbouring points
/// of one line, whose number within a block of the level past the tile's last is `low`.
class FourierTile {
 public:
  using Ex = loop::Ex;
  struct Place {
    Ex slow;
    Ex element;  ///< a point; after the forward transform a slot, see DevicePlan::slot()
    Ex fast;
    Ex bin = nullptr;  ///< of the slot, in the last forward pass of a tile in natural order
  };
  using Load = std::function<ComplexEx(const Place& place)>;
  using Save = std::function<void(const Place& place, const ComplexEx& value)>;
  using Low = std::function<Ex(Ex fast)>;

  /// A butterfly of a pass.
  struct Butterfly {
    Ex number;  ///< in [0, butterflies of the pass)
    std::vector<Place> places;
  };
  /// Works on the points of the last level's butterflies.
  using Middle = std::function<void(const Butterfly& at, std::vector<ComplexEx>& values)>;

  struct Extents {
    std::size_t first = 0;  ///< level
    std::size_t last = 0;   ///< past the last level
    std::int64_t slow = 1;
    std::int64_t fast = 1;
    std::int64_t threads = 32;
    /// The last forward pass gives neighbouring threads neighbouring bins.
    bool natural = false;
    /// The results are also kept in shared memory, for point().
    bool kept = false;
  };
  FourierTile(loop::Builder& builder, const DevicePlan& plan, const DeviceTurns& turns,
              const Extents& extents);

  std::int64_t points() const { return points_; }
  std::int64_t threads() const { return e_.threads; }
  std::int64_t slow() const { return e_.slow; }
  std::int64_t fast() const { return e_.fast; }
  /// Elements of f32 in shared memory; 0 where registers are enough.
  std::int64_t shared_elements() const;
  std::int64_t last_butterflies() const { return butterflies(e_.last - 1); }
  /// Accesses of shared memory by half warps in a forward and an inverse transform, and how many
  /// passes over the banks they take.
  struct Banks {
    std::int64_t accesses = 0;
    std::int64_t cycles = 0;
  };
  Banks banks() const { return banks(false); }

  /// In each phase before the passes.
  void start(Ex thread, const loop::Buffer* shared, Low low = nullptr);
  /// All of the tile's levels. Without `save` (of a kept tile) the spectrum stays in slots.
  void forward(const Load& load, const Save& save);
  void inverse(const Load& load, const Save& save);
  /// With the plan's last level. Without `load` there is no forward transform, without `save` no
  /// inverse one.
  void through(const Load& load, const Middle& middle, const Save& save);
  /// Where what follows uses the shared memory again.
  void barrier();
  /// What is kept in a slot.
  ComplexEx point(Ex slow, Ex slot, Ex fast);
  /// Numbers in [0, total), neighbours for neighbouring threads.
  void for_numbers(std::int64_t total, const std::function<void(Ex number)>& body);

 private:
  std::int64_t last_radix() const { return plan_.radices[e_.last - 1]; }
  bool in_shared() const { return e_.kept || e_.last - e_.first > 1; }
  std::int64_t butterflies(std::size_t level) const {
    return e_.slow * points_ * e_.fast / plan_.radices[level];
  }
  /// Points of a block of the tile that follows a level.
  std::int64_t below(std::size_t level) const {
    return plan_.size(level + 1) / plan_.size(e_.last);
  }
  Ex permuted(Ex number);
  std::int64_t permuted(std::int64_t number) const;
  /// After every `period` units `count` are left out.
  struct Pad {
    std::int64_t period;
    std::int64_t count;
  };
  Butterfly butterfly_at(std::size_t level, Ex number);
  Ex unit(std::size_t level, Ex number, std::int64_t q);
  Ex address(Ex unit);
  std::int64_t address(std::int64_t unit) const;
  /// `some`: of a few butterflies of each pass.
  Banks banks(bool some) const;
  void count(std::size_t level, bool some, Banks& banks) const;
  void choose_padding();
  ComplexEx here(const ComplexEx& value);
  ComplexEx fetch(std::size_t level, Ex number, std::int64_t q);
  void keep(std::size_t level, Ex number, std::int64_t q, const ComplexEx& value);
  ComplexEx twist(const ComplexEx& x, std::int64_t q, bool back);
  /// For each point k of a butterfly the factor between its level and the next; null where it is 1.
  void for_turns(std::size_t level, Ex number,
                 const std::function<void(std::int64_t k, const ComplexEx* factor)>& body);
  void forward_pass(std::size_t level, const Load* load, const Save* save);
  void inverse_pass(std::size_t level, const Load* load, const Save* save);

  loop::Builder& b_;
  loop::Arena& a_;
  const DevicePlan& plan_;
  const DeviceTurns& turns_;
  Extents e_;
  std::int64_t points_;
  std::vector<Pad> pads_;
  Ex thread_ = nullptr;
  const loop::Buffer* shared_ = nullptr;
  Low low_;
};

}  // namespace weft::compiler
