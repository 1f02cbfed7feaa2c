#include "compiler/schedules/fft_row.h"

#include <algorithm>

namespace weft::compiler {

using loop::Ex;
using loop::Role;
using loop::Scalar;

namespace {

using Complex = std::complex<double>;

/// Longer lines make their turns of two factors.
constexpr std::int64_t largest_table = 4096;

/// Time of vectors of `lanes` relative to whole ones: cores run narrow ones faster.
double width_share(std::int64_t lanes, int whole) {
  return lanes * 4 <= whole ? 0.4 : lanes * 2 <= whole ? 0.55 : 1;
}

}  // namespace

RowTransform::Choice RowTransform::choose(FftPlanner& planner, std::int64_t n, int lanes) {
  Choice best;
  constexpr double start = 40;
  for (std::int64_t radix = 1; radix <= std::min(n, largest_butterfly); ++radix) {
    if (n % radix != 0 || (radix == 1 && n > 1)) continue;
    const std::int64_t columns = n / radix;
    const std::int64_t whole = columns / lanes;
    const double vectors = static_cast<double>(whole) +
                           (columns % lanes > 0 ? width_share(columns % lanes, lanes) : 0);
    // With the transposition.
    const double first = static_cast<double>(radix) * (butterfly_cycles(radix) + 10) * vectors;
    const double second = planner.plan(columns)->cycles + static_cast<double>(columns) * 4;
    const double cycles = start + first + second * width_share(radix, lanes);
    if (best.radix == 0 || cycles < best.cycles) best = {radix, 0, cycles};
  }
  bool smooth = true;
  std::int64_t rest = n;
  for (std::int64_t factor = 2; factor <= rest; ++factor) {
    while (rest % factor == 0) {
      smooth = smooth && factor <= largest_butterfly;
      rest /= factor;
    }
  }
  if (smooth && best.radix > 0) return best;
  const std::int64_t padded = planner.convenient_length(2 * n - 1, lanes);
  const double points = static_cast<double>(padded) / lanes;
  const double cycles = 2 * choose(planner, padded, lanes).cycles + 20 * points;
  if (best.radix == 0 || cycles < best.cycles) best = {0, padded, cycles};
  return best;
}

double RowTransform::cycles(FftPlanner& planner, std::int64_t n, int lanes) {
  return choose(planner, n, lanes).cycles;
}

RowTransform::RowTransform(loop::Builder& builder, FftPlanner& planner, std::int64_t n, int lanes)
    : b_(builder), a_(builder.arena()), n_(n), lanes_(lanes) {
  const Choice choice = choose(planner, n, lanes);
  if (choice.radix == 0) {
    inner_ = std::make_unique<RowTransform>(builder, planner, choice.padded, lanes);
    const Chirp chirp = make_chirp(n, choice.padded);
    factors_ = planes("chirp", chirp.factors);
    filter_ = planes("chirp_spectrum", chirp.spectrum);
    spectrum_ = b_.kernel().local("spectrum", DType::f32, 2 * choice.padded);
    return;
  }
  radix_ = choice.radix;
  columns_ = n / radix_;
  second_ = planner.plan(columns_);
  lines_ = std::make_unique<FftLines>(builder, radix_);
  between_ = lines_->scratch("columns", columns_);
  make_turns();
}

const loop::Buffer* RowTransform::planes(const char* name, const std::vector<Complex>& values) {
  std::vector<double> parts;
  for (const Complex& value : values) parts.push_back(value.real());
  for (const Complex& value : values) parts.push_back(value.imag());
  return b_.kernel().table(name, DType::f32, std::move(parts));
}

ComplexEx RowTransform::planes(const loop::Buffer* table, std::int64_t extent, Ex position) {
  return {a_.load(table, position), a_.load(table, a_.add(position, a_.integer(extent)))};
}

/// exp(-2 pi i j k / n) for columns j and 0 < k < radix: of a strip's first column times that of
/// the distance from it.
void RowTransform::make_turns() {
  const bool divided = n_ > largest_table && columns_ % lanes_ == 0;
  strip_ = divided ? lanes_ : columns_;
  std::vector<double> fine;
  for (std::int64_t k = 1; k < radix_; ++k) {
    for (std::int64_t j = 0; j < strip_; ++j) fine.push_back(root_of_unity(j * k, n_).real());
    for (std::int64_t j = 0; j < strip_; ++j) fine.push_back(root_of_unity(j * k, n_).imag());
  }
  if (radix_ == 1 || columns_ == 1) return;
  fine_ = b_.kernel().table("turns", DType::f32, std::move(fine));
  if (!divided) return;
  const auto strips = [&](std::int64_t count, std::int64_t step) {
    std::vector<Complex> turns;
    for (std::int64_t strip = 0; strip < count; ++strip) {
      for (std::int64_t k = 1; k < radix_; ++k) {
        turns.push_back(root_of_unity(strip * step * strip_ * k, n_));
      }
    }
    return turns;
  };
  const std::int64_t count = columns_ / strip_;
  if (count * radix_ > largest_table) {
    while (group_ * group_ < count) group_ *= 2;
    coarsest_ = lines_->table("group_turns", strips((count + group_ - 1) / group_, group_));
  }
  coarse_ = lines_->table("strip_turns", strips(group_ > 1 ? group_ : count, 1));
}

ComplexEx RowTransform::turn(Ex strip, Ex lane, std::int64_t k) {
  const Ex re = a_.add(a_.integer(2 * (k - 1) * strip_), lane);
  const ComplexEx fine{a_.load(fine_, re), a_.load(fine_, a_.add(re, a_.integer(strip_)))};
  if (coarse_ == nullptr) return fine;
  const auto entry = [&](const loop::Buffer* table, Ex number) {
    return lines_->entry(table, a_.add(a_.mul(number, a_.integer(radix_ - 1)), a_.integer(k - 1)));
  };
  ComplexEx coarse;
  if (coarsest_ == nullptr) {
    coarse = entry(coarse_, strip);
  } else {
    coarse = multiply(a_, entry(coarse_, a_.floor_mod(strip, group_)),
                      entry(coarsest_, a_.floor_div(strip, group_)));
    coarse = {b_.let(coarse.re), b_.let(coarse.im)};
  }
  const ComplexEx product = multiply(a_, fine, coarse);
  return {b_.let(product.re), b_.let(product.im)};
}

void RowTransform::first_half(bool inverse, const Read& read) {
  b_.loop(columns_ / strip_, Role::serial, 1, [&](Ex strip) {
    b_.loop(strip_, Role::vector, lanes_, [&](Ex lane) {
      const Ex column = a_.add(a_.mul(strip, a_.integer(strip_)), lane);
      std::vector<ComplexEx> x;
      for (std::int64_t i = 0; i < radix_; ++i) {
        const ComplexEx value = read(a_.add(column, a_.integer(i * columns_)));
        x.push_back({value.re == nullptr ? nullptr : b_.let(value.re),
                     value.im == nullptr ? nullptr : b_.let(value.im)});
      }
      std::vector<ComplexEx> y = butterfly(a_, x, inverse, &b_);
      const Ex zero = a_.constant(Scalar::f32, 0);
      for (std::int64_t k = 0; k < radix_; ++k) {
        ComplexEx& value = y[static_cast<std::size_t>(k)];
        if (k > 0 && columns_ > 1) {
          const ComplexEx factor = turn(strip, lane, k);
          value = multiply(a_, value, inverse ? conjugate(a_, factor) : factor);
        }
        value = {value.re == nullptr ? zero : b_.let(value.re),
                 value.im == nullptr ? zero : b_.let(value.im)};
      }
      // Neighbouring stores, which are transposed.
      const Ex slot = a_.mul(column, a_.integer(2 * radix_));
      for (std::int64_t k = 0; k < radix_; ++k) {
        b_.store(between_, a_.add(slot, a_.integer(k)), y[static_cast<std::size_t>(k)].re);
      }
      for (std::int64_t k = 0; k < radix_; ++k) {
        b_.store(between_, a_.add(slot, a_.integer(radix_ + k)), y[static_cast<std::size_t>(k)].im);
      }
    });
  });
}

void RowTransform::second_half(bool inverse, const Write& write) {
  b_.loop(radix_, Role::vector, lanes_, [&](Ex lane) {
    lines_->begin(lane);
    lines_->run(
        *second_, inverse, [&](Ex column) { return lines_->load(between_, column); },
        [&](Ex row, const ComplexEx& value) {
          write(a_.add(a_.mul(row, a_.integer(radix_)), lane), value);
        });
  });
}

/// As FftLines does it for lines in lanes.
void RowTransform::convolve(bool inverse, const Read& read, const Write& write) {
  const std::int64_t padded = inner_->n_;
  const Ex zero = a_.constant(Scalar::f32, 0);
  const auto directed = [&](const ComplexEx& x) { return inverse ? conjugate(a_, x) : x; };
  inner_->run(
      false,
      [&](Ex position) -> ComplexEx {
        const Ex inside = a_.less(position, a_.integer(n_));
        const bool sure = inside->kind == loop::ExprKind::constant;
        if (sure && inside->integer == 0) return {};
        if (sure) return multiply(a_, read(position), directed(planes(factors_, n_, position)));
        // Lanes beyond the end read nothing.
        loop::Accumulator* re = b_.declare(Scalar::f32, loop::Combine::add, zero);
        loop::Accumulator* im = b_.declare(Scalar::f32, loop::Combine::add, zero);
        b_.condition(inside, [&] {
          const ComplexEx value =
              multiply(a_, read(position), directed(planes(factors_, n_, position)));
          if (value.re != nullptr) b_.assign(re, value.re);
          if (value.im != nullptr) b_.assign(im, value.im);
        });
        const Ex value = b_.read(re);
        return {value, b_.read(im)};
      },
      [&](Ex position, const ComplexEx& value) {
        const ComplexEx product = multiply(a_, value, directed(planes(filter_, padded, position)));
        b_.store(spectrum_, position, product.re);
        b_.store(spectrum_, a_.add(position, a_.integer(padded)), product.im);
      });
  inner_->run(
      true, [&](Ex position) { return planes(spectrum_, padded, position); },
      [&](Ex position, const ComplexEx& value) {
        b_.condition(a_.less(position, a_.integer(n_)), [&] {
          write(position, multiply(a_, value, directed(planes(factors_, n_, position))));
        });
      });
}

void RowTransform::run(bool inverse, const Read& read, const Write& write) {
  if (inner_ != nullptr) {
    convolve(inverse, read, write);
    return;
  }
  first_half(inverse, read);
  second_half(inverse, write);
}

}  // namespace weft::compiler
