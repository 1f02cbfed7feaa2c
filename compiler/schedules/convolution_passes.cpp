#include "compiler/schedules/convolution_passes.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

namespace weft::compiler {

using loop::Ex;
using loop::Role;
using loop::Scalar;

// ---- plans --------------------------------------------------------------------------------------

namespace {

/// Larger ones do not leave the registers of a core (32 with AVX-512) enough room: a first pass of
/// radix 16 took 40 % longer than two of radix 4.
constexpr std::int64_t candidates[] = {2, 3, 4, 5, 6, 7, 8};
/// The last butterfly holds a spectrum beside its points, of one line or of two.
constexpr std::int64_t largest_last[] = {8, 4};

/// Cycles a point of one forward and one inverse pass whose blocks have `points`.
double pass_cycles(std::int64_t radix, std::int64_t points, bool first) {
  constexpr std::int64_t inner_cache = 224;   // points of a line in 16 lanes
  constexpr std::int64_t outer_cache = 6144;  // of two lines and their product
  double cycles = 2 * butterfly_cycles(radix);
  // The first pass turns all of its points, twice, and reads and writes operands and results at as
  // many places at a time as its radix.
  if (first) cycles += radix > 4 ? 6 : 2;
  if (points > inner_cache) cycles += 6;
  if (points > outer_cache) cycles += 10;
  return cycles;
}

/// Cycles a point for what passes do not change: the way from operands to results.
constexpr double memory_cycles = 16;

struct Search {
  std::int64_t lines = 1;
  ConvolutionPlan best;
  std::vector<std::int64_t> radices;

  /// Adds the passes of blocks of `points`, of which `total` are in the line.
  void extend(std::int64_t total, std::int64_t points, double cycles) {
    const double scale = static_cast<double>(total);
    if (!best.radices.empty() && (cycles + memory_cycles) * scale >= best.cycles) return;
    if (points <= largest_last[lines - 1] && !radices.empty()) {
      const double whole = (cycles + 2 * butterfly_cycles(points) + memory_cycles) * scale;
      if (best.radices.empty() || whole < best.cycles) {
        best.length = total;
        best.cycles = whole;
        best.radices = radices;
        best.radices.push_back(points);
      }
    }
    for (const std::int64_t radix : candidates) {
      if (points % radix != 0 || points == radix) continue;
      radices.push_back(radix);
      extend(total, points / radix, cycles + pass_cycles(radix, points, radices.size() == 1));
      radices.pop_back();
    }
  }
};

}  // namespace

ConvolutionPlan plan_convolution(std::int64_t minimum, int lines) {
  Search search{lines, {}, {}};
  const std::int64_t first = std::max<std::int64_t>(minimum, 4);
  // A power of two is below twice the minimum; what is longer costs more.
  for (std::int64_t length = first; length <= first + first / 2 || search.best.radices.empty();
       ++length) {
    std::int64_t rest = length;
    for (const std::int64_t factor : {2, 3, 5, 7}) {
      while (rest % factor == 0) rest /= factor;
    }
    if (rest == 1) search.extend(length, length, 0);
  }
  return search.best;
}

// ---- passes -------------------------------------------------------------------------------------

ConvolutionPasses::ConvolutionPasses(loop::Builder& builder, const ConvolutionPlan& plan, int width)
    : b_(builder), a_(builder.arena()), plan_(plan), width_(width) {
  constexpr std::int64_t aliasing_bytes = 2048;
  const std::size_t levels = plan_.radices.size();
  constexpr int line_bytes = 64;
  direct_ = 4 * width >= line_bytes;
  size_.resize(levels + 1, 1);
  pitch_.resize(levels + 1, 1);
  dense_.resize(levels + 1, true);
  for (std::size_t level = levels; level-- > 0;) {
    size_[level] = size_[level + 1] * radix(level);
    dense_[level] = dense_[level + 1] && pitch_[level + 1] == size_[level + 1];
    std::int64_t slots = pitch_[level + 1] * radix(level);
    const std::int64_t slot_bytes = 8L * width_;
    if (level > 0 && slots * slot_bytes % aliasing_bytes == 0) ++slots;
    pitch_[level] = slots;
  }
  slots_ = pitch_[0];
  // Runs of neighbours: the largest divisor of a part without gaps up to a page of narrow rows.
  constexpr std::int64_t longest_run = 16;
  std::size_t run = 1;
  while (!dense_[run]) ++run;
  for (std::int64_t columns = 1; columns <= longest_run; ++columns) {
    if (size_[run] % columns == 0) tile_columns_ = columns;
  }
  for (std::size_t level = 0; level + 1 < levels; ++level) {
    // exp(-2 pi i j k / points) for j below the next size and k < radix; in the first pass times
    // w^j.
    std::vector<double> values;
    for (std::int64_t j = 0; j < size_[level + 1]; ++j) {
      for (std::int64_t k = level == 0 ? 0 : 1; k < radix(level); ++k) {
        // In quarters of a turn over the points.
        const std::int64_t quarters = 4 * (j * k % size_[level]) - (level == 0 ? j : 0);
        const double angle = std::numbers::pi / 2 * static_cast<double>(quarters) /
                             static_cast<double>(size_[level]);
        values.push_back(std::cos(angle));
        values.push_back(-std::sin(angle));
      }
    }
    turns_.push_back(b_.kernel().table("turns", DType::f32, std::move(values)));
  }
}

const loop::Buffer* ConvolutionPasses::scratch(const char* name) {
  return b_.kernel().local(name, DType::f32, elements());
}

Ex ConvolutionPasses::element(Ex slot, int part, Ex lane) {
  const Ex row = a_.add(a_.mul(slot, a_.integer(2)), a_.integer(part));
  return a_.add(a_.mul(row, a_.integer(width_)), lane);
}

ComplexEx ConvolutionPasses::load(const loop::Buffer* scratch, Ex slot) {
  return {b_.let(a_.load(scratch, element(slot, 0, lane_))),
          b_.let(a_.load(scratch, element(slot, 1, lane_)))};
}

void ConvolutionPasses::save(const loop::Buffer* scratch, Ex slot, const ComplexEx& value) {
  const Ex zero = a_.constant(Scalar::f32, 0);
  b_.store(scratch, element(slot, 0, lane_), value.re == nullptr ? zero : value.re);
  b_.store(scratch, element(slot, 1, lane_), value.im == nullptr ? zero : value.im);
}

/// The factor between the first butterflies of a pass's two levels; null parts where it is 1.
ComplexEx ConvolutionPasses::turn(std::size_t level, Ex position, std::int64_t k) {
  const std::int64_t first = level == 0 ? 0 : 1;
  const Ex row = a_.mul(position, a_.integer(2 * (radix(level) - first)));
  return {a_.load(turns_[level], a_.add(row, a_.integer(2 * (k - first)))),
          a_.load(turns_[level], a_.add(row, a_.integer(2 * (k - first) + 1)))};
}

/// w^(q m) for the rows of m points of the first pass.
ComplexEx ConvolutionPasses::twist(const ComplexEx& x, std::int64_t q, bool back) {
  if (q == 0) return x;
  const double angle =
      std::numbers::pi / 2 * static_cast<double>(q) / static_cast<double>(radix(0));
  return rotate(a_, x, std::cos(angle), back ? -std::sin(angle) : std::sin(angle));
}

/// The positions of a block of `level`, with their slots from that of the block on.
void ConvolutionPasses::for_each(std::size_t level, Ex position, Ex slot,
                                 const std::function<void(Ex position, Ex slot)>& body) {
  if (dense_[level]) {
    b_.loop(size_[level], Role::serial, 1,
            [&](Ex i) { body(a_.add(position, i), a_.add(slot, i)); });
    return;
  }
  b_.loop(radix(level), Role::serial, 1, [&](Ex q) {
    for_each(level + 1, a_.add(position, a_.mul(q, a_.integer(size_[level + 1]))),
             a_.add(slot, a_.mul(q, a_.integer(pitch_[level + 1]))), body);
  });
}

/// The positions of a block of `level` in runs of tile_columns_ that have neighbouring slots.
void ConvolutionPasses::for_tiles(std::size_t level, Ex position, Ex slot,
                                  const std::function<void(Ex position, Ex slot)>& body) {
  const std::int64_t count = dense_[level] ? size_[level] / tile_columns_ : radix(level);
  b_.loop(count, Role::serial, 1, [&](Ex q) {
    if (dense_[level]) {
      const Ex first = a_.mul(q, a_.integer(tile_columns_));
      body(a_.add(position, first), a_.add(slot, first));
    } else {
      for_tiles(level + 1, a_.add(position, a_.mul(q, a_.integer(size_[level + 1]))),
                a_.add(slot, a_.mul(q, a_.integer(pitch_[level + 1]))), body);
    }
  });
}

/// Operands and results lie far apart between the rows of the first and last pass, at distances
/// that map to few sets of the caches. Where lanes are less than a line of a cache, which then
/// must stay until its other parts are asked for, they are moved in runs of neighbours, through a
/// tile.
const loop::Buffer* ConvolutionPasses::tile() {
  if (tile_ == nullptr) {
    tile_ = b_.kernel().local("tile", DType::f32, radix(0) * tile_columns_ * 2 * width_);
  }
  return tile_;
}

Ex ConvolutionPasses::tile_element(Ex row, Ex column, int part) {
  return element(a_.add(a_.mul(row, a_.integer(tile_columns_)), column), part, lane_);
}

/// The rows of a tile, the last of which may be wanted in part.
void ConvolutionPasses::for_rows(
    std::int64_t wanted, Ex first,
    const std::function<void(Ex row, Ex column, Ex position, Ex inside)>& body) {
  const std::int64_t m = size_[1];
  const std::int64_t full = wanted / m;
  b_.loop(full, Role::serial, 1, [&](Ex row) {
    b_.loop(tile_columns_, Role::serial, 1, [&](Ex column) {
      body(row, column, a_.add(a_.mul(row, a_.integer(m)), a_.add(first, column)), nullptr);
    });
  });
  if (wanted % m == 0) return;
  b_.loop(tile_columns_, Role::serial, 1, [&](Ex column) {
    const Ex j = a_.add(first, column);
    body(a_.integer(full), column, a_.add(j, a_.integer(full * m)),
         a_.less(j, a_.integer(wanted % m)));
  });
}

/// Whether the position of column j in row q is below `wanted`: null where all of the row are.
Ex ConvolutionPasses::inside(std::int64_t wanted, std::int64_t q, Ex j) {
  const std::int64_t rest = wanted - q * size_[1];
  return rest >= size_[1] ? nullptr : a_.less(j, a_.integer(rest));
}

void ConvolutionPasses::first_pass(const Signal& signal) {
  const std::int64_t r = radix(0);
  const std::int64_t m = size_[1];
  for_tiles(1, a_.integer(0), a_.integer(0), [&](Ex first, Ex slot) {
    if (!direct_) {
      for_rows(signal.extent, first, [&](Ex row, Ex column, Ex position, Ex predicate) {
        const ComplexEx value = signal.read(position, predicate);
        b_.store(tile(), tile_element(row, column, 0), value.re);
        if (!signal.real) b_.store(tile(), tile_element(row, column, 1), value.im);
      });
    }
    b_.loop(tile_columns_, Role::serial, 1, [&](Ex column) {
      const Ex j = a_.add(first, column);
      // The next tile comes while this one is transformed.
      for (std::int64_t q = 0; signal.ahead_of_read && q * m < signal.extent; ++q) {
        signal.ahead_of_read(a_.add(j, a_.integer(q * m + tile_columns_)));
      }
      std::vector<ComplexEx> x(static_cast<std::size_t>(r));
      for (std::int64_t q = 0; q * m < signal.extent; ++q) {
        ComplexEx value;
        if (direct_) {
          value = signal.read(a_.add(j, a_.integer(q * m)), inside(signal.extent, q, j));
        } else {
          value.re = a_.load(tile(), tile_element(a_.integer(q), column, 0));
          if (!signal.real) value.im = a_.load(tile(), tile_element(a_.integer(q), column, 1));
        }
        value = twist(value, q, false);
        value.re = b_.let(value.re);
        if (value.im != nullptr) value.im = b_.let(value.im);
        x[static_cast<std::size_t>(q)] = value;
      }
      const std::vector<ComplexEx> y = butterfly(a_, x, false, &b_);
      for (std::int64_t k = 0; k < r; ++k) {
        save(signal.scratch, a_.add(a_.add(slot, column), a_.integer(k * pitch_[1])),
             multiply(a_, y[static_cast<std::size_t>(k)], turn(0, j, k)));
      }
    });
  });
}

void ConvolutionPasses::last_pass(const Signal& signal) {
  const std::int64_t r = radix(0);
  const std::int64_t m = size_[1];
  const auto write = [&](Ex position, Ex predicate, const ComplexEx& value) {
    if (predicate == nullptr) {
      signal.write(position, value);
    } else {
      b_.condition(predicate, [&] { signal.write(position, value); });
    }
  };
  for_tiles(1, a_.integer(0), a_.integer(0), [&](Ex first, Ex slot) {
    b_.loop(tile_columns_, Role::serial, 1, [&](Ex column) {
      const Ex j = a_.add(first, column);
      for (std::int64_t q = 0; signal.ahead_of_write && q * m < signal.wanted; ++q) {
        signal.ahead_of_write(a_.add(j, a_.integer(q * m)));
      }
      std::vector<ComplexEx> x;
      for (std::int64_t k = 0; k < r; ++k) {
        const ComplexEx value =
            load(signal.scratch, a_.add(a_.add(slot, column), a_.integer(k * pitch_[1])));
        const ComplexEx turned = multiply(a_, value, conjugate(a_, turn(0, j, k)));
        x.push_back({b_.let(turned.re), b_.let(turned.im)});
      }
      const std::vector<ComplexEx> y = butterfly(a_, x, true, &b_);
      for (std::int64_t q = 0; q * m < signal.wanted; ++q) {
        const ComplexEx value = twist(y[static_cast<std::size_t>(q)], q, true);
        if (direct_) {
          write(a_.add(j, a_.integer(q * m)), inside(signal.wanted, q, j), value);
          continue;
        }
        b_.store(tile(), tile_element(a_.integer(q), column, 0), value.re);
        if (!signal.real_part) b_.store(tile(), tile_element(a_.integer(q), column, 1), value.im);
      }
    });
    if (direct_) return;
    for_rows(signal.wanted, first, [&](Ex row, Ex column, Ex position, Ex predicate) {
      write(position, predicate,
            {a_.load(tile(), tile_element(row, column, 0)),
             signal.real_part ? nullptr : a_.load(tile(), tile_element(row, column, 1))});
    });
  });
}

void ConvolutionPasses::forward(std::size_t level, const Signal& signal, Ex base) {
  const std::int64_t r = radix(level);
  for_each(level + 1, a_.integer(0), base, [&](Ex j, Ex slot) {
    const auto at = [&](std::int64_t q) { return a_.add(slot, a_.integer(q * pitch_[level + 1])); };
    std::vector<ComplexEx> x;
    for (std::int64_t q = 0; q < r; ++q) x.push_back(load(signal.scratch, at(q)));
    const std::vector<ComplexEx> y = butterfly(a_, x, false, &b_);
    save(signal.scratch, at(0), y[0]);
    for (std::int64_t k = 1; k < r; ++k) {
      const ComplexEx& value = y[static_cast<std::size_t>(k)];
      save(signal.scratch, at(k), multiply(a_, value, turn(level, j, k)));
    }
  });
}

void ConvolutionPasses::inverse(std::size_t level, const Signal& signal, Ex base) {
  const std::int64_t r = radix(level);
  for_each(level + 1, a_.integer(0), base, [&](Ex j, Ex slot) {
    const auto at = [&](std::int64_t q) { return a_.add(slot, a_.integer(q * pitch_[level + 1])); };
    std::vector<ComplexEx> x = {load(signal.scratch, at(0))};
    for (std::int64_t k = 1; k < r; ++k) {
      const ComplexEx value = load(signal.scratch, at(k));
      const ComplexEx turned = multiply(a_, value, conjugate(a_, turn(level, j, k)));
      x.push_back({b_.let(turned.re), b_.let(turned.im)});
    }
    const std::vector<ComplexEx> y = butterfly(a_, x, true, &b_);
    for (std::int64_t q = 0; q < r; ++q) {
      save(signal.scratch, at(q), y[static_cast<std::size_t>(q)]);
    }
  });
}

void ConvolutionPasses::descend(std::size_t level, const std::vector<Signal>& signals,
                                const Middle& middle, Ex base, Ex position, const Ahead& ahead) {
  if (level < last()) {
    if (level > 0) {
      for (const Signal& signal : signals) {
        if (signal.read) forward(level, signal, base);
      }
    }
    b_.loop(radix(level), Role::serial, 1, [&](Ex k) {
      descend(level + 1, signals, middle, a_.add(base, a_.mul(k, a_.integer(pitch_[level + 1]))),
              a_.add(position, a_.mul(k, a_.integer(size_[level + 1]))), ahead);
    });
    if (level > 0) {
      for (const Signal& signal : signals) {
        if (signal.write) inverse(level, signal, base);
      }
    }
    return;
  }
  const std::int64_t r = radix(level);
  for (std::int64_t q = 0; ahead && q < r; ++q) ahead(a_.add(position, a_.integer(q)));
  std::vector<std::vector<ComplexEx>> values;
  for (const Signal& signal : signals) {
    std::vector<ComplexEx> x(static_cast<std::size_t>(r));
    if (signal.read) {
      for (std::int64_t q = 0; q < r; ++q) {
        x[static_cast<std::size_t>(q)] = load(signal.scratch, a_.add(base, a_.integer(q)));
      }
      x = butterfly(a_, x, false, &b_);
    }
    values.push_back(std::move(x));
  }
  middle(base, values);
  for (std::size_t s = 0; s < signals.size(); ++s) {
    if (!signals[s].write) continue;
    const std::vector<ComplexEx> y = butterfly(a_, values[s], true, &b_);
    for (std::int64_t q = 0; q < r; ++q) {
      save(signals[s].scratch, a_.add(base, a_.integer(q)), y[static_cast<std::size_t>(q)]);
    }
  }
}

void ConvolutionPasses::run(const std::vector<Signal>& signals, const Middle& middle, Ex lane,
                            const Ahead& ahead) {
  lane_ = lane;
  const Ex base = a_.integer(0);
  for (const Signal& signal : signals) {
    if (signal.read) first_pass(signal);
  }
  descend(0, signals, middle, base, base, ahead);
  for (const Signal& signal : signals) {
    if (signal.write) last_pass(signal);
  }
}

}  // namespace weft::compiler
