#include "compiler/schedules/fourier_tile.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "compiler/schedules/divide.h"
#include "compiler/schedules/thread_indices.h"

namespace weft::compiler {

using loop::Ex;

namespace {

/// Lanes whose accesses of eight bytes pass over the banks together, and pairs of banks.
constexpr std::int64_t half_warp = 16;

}  // namespace

FourierTile::FourierTile(loop::Builder& builder, const DevicePlan& plan, const DeviceTurns& turns,
                         const Extents& extents)
    : b_(builder),
      a_(builder.arena()),
      plan_(plan),
      turns_(turns),
      e_(extents),
      points_(plan.size(extents.first) / plan.size(extents.last)) {
  choose_padding();
}

// ---- places in shared memory --------------------------------------------------------------------

std::int64_t FourierTile::address(std::int64_t unit) const {
  std::int64_t place = unit;
  for (const Pad& pad : pads_) place += unit / pad.period * pad.count;
  return place;
}

Ex FourierTile::address(Ex unit) {
  Ex place = unit;
  for (const Pad& pad : pads_) {
    place = a_.add(place, a_.mul(a_.floor_div(unit, pad.period), a_.integer(pad.count)));
  }
  return place;
}

std::int64_t FourierTile::shared_elements() const {
  if (!in_shared()) return 0;
  return 2 * (address(e_.slow * points_ * e_.fast - 1) + 1);
}

void FourierTile::count(std::size_t level, bool some, Banks& banks) const {
  const std::int64_t radix = plan_.radices[level];
  const std::int64_t stride = below(level) * e_.fast;
  const std::int64_t total = butterflies(level);
  const bool outer = level == e_.first || level + 1 == e_.last;
  const std::int64_t times = outer ? 2 : 4;
  constexpr std::int64_t sample = 12;
  const std::int64_t groups = divide_up(total, half_warp);
  const std::int64_t step = some ? divide_up(groups, sample) : 1;
  for (std::int64_t group = 0; group < groups; group += step) {
    const std::int64_t first = group * half_warp;
    const std::int64_t end = std::min(first + half_warp, total);
    for (std::int64_t q = 0; q < radix; ++q) {
      std::array<std::int64_t, half_warp> uses{};
      std::int64_t most = 0;
      for (std::int64_t own = first; own < end; ++own) {
        const std::int64_t number = e_.natural && level + 1 == e_.last ? permuted(own) : own;
        const std::int64_t unit = number / stride * radix * stride + number % stride + q * stride;
        most = std::max(most, ++uses[static_cast<std::size_t>(address(unit) % half_warp)]);
      }
      banks.accesses += times;
      banks.cycles += times * most;
    }
  }
}

FourierTile::Banks FourierTile::banks(bool some) const {
  Banks banks;
  for (std::size_t level = e_.first; level < e_.last && in_shared(); ++level) {
    count(level, some, banks);
  }
  return banks;
}

/// The least that is left out, from one place or two, for the fewest passes over the banks.
void FourierTile::choose_padding() {
  if (!in_shared()) return;
  std::vector<std::vector<Pad>> candidates = {{}};
  std::vector<Pad> pads;
  for (std::int64_t period = 1024; period >= 8; period /= 2) {
    for (std::int64_t count = 1; count <= 8 && 8 * count <= period; count *= 2) {
      pads.push_back({period, count});
    }
  }
  for (const Pad& pad : pads) candidates.push_back({pad});
  for (const Pad& first : pads) {
    for (const Pad& second : pads) {
      if (first.period < second.period) candidates.push_back({first, second});
    }
  }
  std::vector<Pad> best;
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  for (const std::vector<Pad>& candidate : candidates) {
    pads_ = candidate;
    const Banks found = banks(true);
    if (found.cycles >= least) continue;
    least = found.cycles;
    best = candidate;
    if (found.cycles == found.accesses) break;
  }
  pads_ = best;
}

// ---- butterflies --------------------------------------------------------------------------------

void FourierTile::for_numbers(std::int64_t total, const std::function<void(Ex number)>& body) {
  for_own_numbers(b_, thread_, e_.threads, total, body);
}

std::int64_t FourierTile::permuted(std::int64_t number) const {
  const std::int64_t count = points_ / last_radix();
  const std::int64_t line = number / e_.fast;
  const std::int64_t place = plan_.slot(e_.first, e_.last - 1, line % count);
  return (line / count * count + place) * e_.fast + number % e_.fast;
}

/// The butterfly of the last level whose first bin is a number's.
Ex FourierTile::permuted(Ex number) {
  const std::int64_t count = points_ / last_radix();
  const Ex line = a_.floor_div(number, e_.fast);
  const Ex place = plan_.slot(a_, e_.first, e_.last - 1, a_.floor_mod(line, count));
  const Ex block = a_.add(a_.mul(a_.floor_div(line, count), a_.integer(count)), place);
  return a_.add(a_.mul(block, a_.integer(e_.fast)), a_.floor_mod(number, e_.fast));
}

Ex FourierTile::unit(std::size_t level, Ex number, std::int64_t q) {
  const std::int64_t stride = below(level) * e_.fast;
  const Ex block = a_.floor_div(number, stride);
  const Ex rest = a_.floor_mod(number, stride);
  const Ex first = a_.add(a_.mul(block, a_.integer(plan_.radices[level] * stride)), rest);
  return a_.add(first, a_.integer(q * stride));
}

FourierTile::Butterfly FourierTile::butterfly_at(std::size_t level, Ex number) {
  Butterfly at{number, {}};
  for (std::int64_t q = 0; q < plan_.radices[level]; ++q) {
    const Ex own = unit(level, number, q);
    const Ex line = a_.floor_div(own, e_.fast);
    at.places.push_back(
        {a_.floor_div(line, points_), a_.floor_mod(line, points_), a_.floor_mod(own, e_.fast)});
  }
  return at;
}

ComplexEx FourierTile::here(const ComplexEx& value) {
  return {value.re == nullptr ? nullptr : b_.let(value.re),
          value.im == nullptr ? nullptr : b_.let(value.im)};
}

ComplexEx FourierTile::fetch(std::size_t level, Ex number, std::int64_t q) {
  const Ex at = a_.mul(address(unit(level, number, q)), a_.integer(2));
  return here({a_.load(shared_, at), a_.load(shared_, a_.add(at, a_.integer(1)))});
}

void FourierTile::keep(std::size_t level, Ex number, std::int64_t q, const ComplexEx& value) {
  const Ex at = a_.mul(address(unit(level, number, q)), a_.integer(2));
  const Ex zero = a_.constant(loop::Scalar::f32, 0);
  const Ex re = value.re == nullptr ? zero : b_.let(value.re);
  const Ex im = value.im == nullptr ? zero : b_.let(value.im);
  b_.store(shared_, at, re);
  b_.store(shared_, a_.add(at, a_.integer(1)), im);
}

/// w^(q m) for the rows of m points of a line's first pass.
ComplexEx FourierTile::twist(const ComplexEx& x, std::int64_t q, bool back) {
  if (q == 0) return x;
  const double angle =
      std::numbers::pi / 2 * static_cast<double>(q) / static_cast<double>(plan_.radices[0]);
  return rotate(a_, x, std::cos(angle), back ? -std::sin(angle) : std::sin(angle));
}

void FourierTile::for_turns(std::size_t level, Ex number,
                            const std::function<void(std::int64_t, const ComplexEx*)>& body) {
  const std::int64_t radix = plan_.radices[level];
  if (plan_.size(level + 1) == 1) {
    for (std::int64_t k = 0; k < radix; ++k) body(k, nullptr);
    return;
  }
  const Ex rest = a_.floor_mod(number, below(level) * e_.fast);
  Ex j = a_.mul(a_.floor_div(rest, e_.fast), a_.integer(plan_.size(e_.last)));
  if (low_) j = a_.add(j, low_(a_.floor_mod(rest, e_.fast)));
  // A factor for each bit of k; the others are one product from one that is there: few loads, and
  // few of them in registers at a time.
  std::vector<ComplexEx> steps = {turns_.root(level).at(b_, j)};
  const std::function<void(std::int64_t, const ComplexEx*, std::size_t)> visit =
      [&](std::int64_t k, const ComplexEx* factor, std::size_t bits) {
        body(k, factor);
        for (std::size_t bit = 0; bit < bits; ++bit) {
          const std::int64_t next = k + (std::int64_t{1} << bit);
          if (next >= radix) return;
          if (steps.size() == bit) {
            const ComplexEx step = steps.back();
            steps.push_back(here(multiply(a_, step, step)));
          }
          const ComplexEx step = steps[bit];
          const ComplexEx own = factor == nullptr ? step : here(multiply(a_, *factor, step));
          visit(next, &own, bit);
        }
      };
  std::size_t bits = 0;
  while ((std::int64_t{1} << bits) < radix) ++bits;
  if (level == 0 && turns_.twisted()) {
    const ComplexEx start = conjugate(a_, turns_.twist().at(b_, j));
    visit(0, &start, bits);
  } else {
    visit(0, nullptr, bits);
  }
}

// ---- passes -------------------------------------------------------------------------------------

void FourierTile::start(Ex thread, const loop::Buffer* shared, Low low) {
  thread_ = thread;
  shared_ = shared;
  low_ = std::move(low);
}

void FourierTile::barrier() {
  if (in_shared()) b_.barrier();
}

void FourierTile::forward_pass(std::size_t level, const Load* load, const Save* save) {
  const std::int64_t radix = plan_.radices[level];
  const bool twisted = level == 0 && turns_.twisted();
  const bool natural = e_.natural && level + 1 == e_.last;
  for_numbers(butterflies(level), [&](Ex own) {
    const Ex number = natural ? b_.let_within(permuted(own), 0, butterflies(level) - 1) : own;
    Butterfly at = butterfly_at(level, number);
    const std::int64_t count = points_ / radix;
    for (std::int64_t q = 0; q < radix && natural; ++q) {
      at.places[static_cast<std::size_t>(q)].bin =
          a_.add(a_.floor_mod(a_.floor_div(own, e_.fast), count), a_.integer(q * count));
    }
    std::vector<ComplexEx> x;
    for (std::int64_t q = 0; q < radix; ++q) {
      x.push_back(load == nullptr ? fetch(level, number, q)
                                  : here((*load)(at.places[static_cast<std::size_t>(q)])));
    }
    for (std::int64_t q = 0; q < radix && twisted; ++q) {
      ComplexEx& value = x[static_cast<std::size_t>(q)];
      value = here(twist(value, q, false));
    }
    const std::vector<ComplexEx> y = butterfly(a_, x, false, &b_);
    for_turns(level, number, [&](std::int64_t k, const ComplexEx* factor) {
      const auto place = static_cast<std::size_t>(k);
      const ComplexEx value = factor == nullptr ? y[place] : multiply(a_, y[place], *factor);
      if (save == nullptr) {
        keep(level, number, k, value);
      } else {
        (*save)(at.places[place], here(value));
      }
    });
  });
}

void FourierTile::inverse_pass(std::size_t level, const Load* load, const Save* save) {
  const std::int64_t radix = plan_.radices[level];
  const bool twisted = level == 0 && turns_.twisted();
  for_numbers(butterflies(level), [&](Ex number) {
    const Butterfly at = butterfly_at(level, number);
    std::vector<ComplexEx> x;
    for (std::int64_t k = 0; k < radix; ++k) {
      x.push_back(load == nullptr ? fetch(level, number, k)
                                  : here((*load)(at.places[static_cast<std::size_t>(k)])));
    }
    for_turns(level, number, [&](std::int64_t k, const ComplexEx* factor) {
      ComplexEx& value = x[static_cast<std::size_t>(k)];
      if (factor != nullptr) value = here(multiply(a_, value, conjugate(a_, *factor)));
    });
    const std::vector<ComplexEx> y = butterfly(a_, x, true, &b_);
    for (std::int64_t q = 0; q < radix; ++q) {
      const auto place = static_cast<std::size_t>(q);
      const ComplexEx value = twisted ? twist(y[place], q, true) : y[place];
      if (save == nullptr) {
        keep(level, number, q, value);
      } else {
        (*save)(at.places[place], value);
      }
    }
  });
}

void FourierTile::forward(const Load& load, const Save& save) {
  for (std::size_t level = e_.first; level < e_.last; ++level) {
    if (level > e_.first) b_.barrier();
    forward_pass(level, level == e_.first ? &load : nullptr,
                 level + 1 == e_.last && save ? &save : nullptr);
  }
}

ComplexEx FourierTile::point(Ex slow, Ex slot, Ex fast) {
  const Ex line = a_.add(a_.mul(slow, a_.integer(points_)), slot);
  const Ex unit = a_.add(a_.mul(line, a_.integer(e_.fast)), fast);
  const Ex at = a_.mul(address(unit), a_.integer(2));
  return here({a_.load(shared_, at), a_.load(shared_, a_.add(at, a_.integer(1)))});
}

void FourierTile::inverse(const Load& load, const Save& save) {
  for (std::size_t level = e_.last; level-- > e_.first;) {
    if (level + 1 < e_.last) b_.barrier();
    inverse_pass(level, level + 1 == e_.last ? &load : nullptr,
                 level == e_.first ? &save : nullptr);
  }
}

void FourierTile::through(const Load& load, const Middle& middle, const Save& save) {
  const std::size_t level = e_.last - 1;
  const bool alone = level == e_.first;
  const bool twisted = level == 0 && turns_.twisted();
  if (load) {
    for (std::size_t i = e_.first; i < level; ++i) {
      forward_pass(i, i == e_.first ? &load : nullptr, nullptr);
      b_.barrier();
    }
  }
  for_numbers(butterflies(level), [&](Ex number) {
    const Butterfly at = butterfly_at(level, number);
    const std::size_t radix = at.places.size();
    std::vector<ComplexEx> values(radix);
    if (load) {
      for (std::size_t q = 0; q < radix; ++q) {
        const auto place = static_cast<std::int64_t>(q);
        values[q] = alone ? here(load(at.places[q])) : fetch(level, number, place);
      }
      for (std::size_t q = 0; q < radix && twisted; ++q) {
        values[q] = here(twist(values[q], static_cast<std::int64_t>(q), false));
      }
      values = butterfly(a_, values, false, &b_);
    }
    middle(at, values);
    if (!save) return;
    values = butterfly(a_, values, true, &b_);
    for (std::size_t q = 0; q < radix; ++q) {
      const auto place = static_cast<std::int64_t>(q);
      if (alone) {
        save(at.places[q], twisted ? twist(values[q], place, true) : values[q]);
      } else {
        keep(level, number, place, values[q]);
      }
    }
  });
  if (!save) return;
  for (std::size_t i = level; i-- > e_.first;) {
    b_.barrier();
    inverse_pass(i, nullptr, i == e_.first ? &save : nullptr);
  }
}

}  // namespace weft::compiler
