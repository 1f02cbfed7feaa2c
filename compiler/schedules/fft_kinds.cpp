#include "compiler/schedules/fft_kinds.h"

#include <algorithm>
#include <utility>

namespace weft::compiler {

using loop::Ex;
using loop::Role;
using loop::Scalar;

namespace {

using Complex = std::complex<double>;

/// Longer tables are replaced by two short ones.
constexpr std::int64_t largest_table = 4096;

}  // namespace

LineTransform::LineTransform(loop::Builder& builder, FftPlanner& planner, FftKind kind,
                             std::int64_t n, bool inverse, std::int64_t width, bool two_lines)
    : b_(builder),
      a_(builder.arena()),
      kind_(kind),
      n_(n),
      inverse_(inverse),
      two_lines_(two_lines),
      halved_(kind != FftKind::complex && n % 2 == 0),
      plan_(planner.plan(halved_ ? n / 2 : n)),
      lines_(builder, width) {
  if (!halved_ && !two_lines_) return;
  // Two columns at a time, as mirrored bins are in mirrored columns.
  const bool split = plan_->kind == FftPlan::Kind::split;
  const std::int64_t columns = !split                        ? 1
                               : kind_ == FftKind::from_real ? plan_->first->length
                                                             : plan_->second->length;
  const std::int64_t rows = plan_->length / columns;
  mirror_ = lines_.scratch("mirrored", rows * (columns > 2 ? 2 : 1));
  if (!halved_) return;
  if (kind_ == FftKind::from_real) {
    make_factors({0, -0.5}, false, columns, rows, columns);
  } else {
    make_factors({0, 1 / static_cast<double>(n)}, true, columns, rows, columns);
  }
}

ComplexEx LineTransform::here(const ComplexEx& value) {
  return {value.re == nullptr ? nullptr : b_.let(value.re),
          value.im == nullptr ? nullptr : b_.let(value.im)};
}

void LineTransform::make_factors(Complex scale, bool conjugated, std::int64_t row_step,
                                 std::int64_t rows, std::int64_t columns) {
  const auto root = [&](std::int64_t k) {
    const Complex value = root_of_unity(k, n_);
    return conjugated ? std::conj(value) : value;
  };
  std::vector<Complex> values;
  if (rows * columns <= largest_table) {
    for (std::int64_t k = 0; k < rows * columns; ++k) values.push_back(scale * root(k));
    factors_ = lines_.table("factors", values);
    return;
  }
  for (std::int64_t row = 0; row < rows; ++row) values.push_back(root(row * row_step));
  factors_ = lines_.table("row_factors", values);
  values.clear();
  for (std::int64_t column = 0; column <= columns / 2; ++column) {
    values.push_back(scale * root(column));
  }
  column_factors_ = lines_.table("column_factors", values);
}

ComplexEx LineTransform::factor(const Mirrored& bin) {
  if (column_factors_ == nullptr) return here(lines_.entry(factors_, bin.k));
  return here(multiply(a_, here(lines_.entry(factors_, bin.row)),
                       here(lines_.entry(column_factors_, bin.column))));
}

// ---- mirrored columns ---------------------------------------------------------------------------

/// Transforms what is read, and hands over each bin k with its mirror, length - k: both once, where
/// they differ.
void LineTransform::columns_after(
    const FftLines::Read& read,
    const std::function<void(const Mirrored& bin, const ComplexEx& value, const ComplexEx& mirror)>&
        body) {
  const bool split = plan_->kind == FftPlan::Kind::split;
  const std::int64_t columns = split ? plan_->first->length : 1;
  const std::int64_t rows = plan_->length / columns;
  const Ex zero = a_.integer(0);
  if (split) {
    b_.loop(rows, Role::serial, 1, [&](Ex column) {
      lines_.first(*plan_, false, column,
                   [&](Ex row) { return read(a_.add(a_.mul(row, a_.integer(rows)), column)); });
    });
  }
  b_.loop(columns / 2 + 1, Role::serial, 1, [&](Ex column) {
    const Ex head = a_.equal(column, zero);
    const Ex other = a_.select(head, zero, a_.sub(a_.integer(columns), column));
    const Ex alone = a_.equal(other, column);
    if (split) {
      b_.loop(a_.select(alone, a_.integer(1), a_.integer(columns > 2 ? 2 : 1)), [&](Ex side) {
        const Ex chosen = a_.select(a_.equal(side, zero), column, other);
        lines_.second(*plan_, false, b_.let_within(chosen, 0, columns - 1),
                      [&](Ex row, const ComplexEx& value) {
                        lines_.save(mirror_, a_.add(a_.mul(side, a_.integer(rows)), row), value);
                      });
      });
    } else {
      lines_.run(*plan_, false, read,
                 [&](Ex row, const ComplexEx& value) { lines_.save(mirror_, row, value); });
    }
    const Ex among_itself = a_.select(head, a_.integer(rows / 2 + 1), a_.integer((rows + 1) / 2));
    b_.loop(a_.select(alone, among_itself, a_.integer(rows)), [&](Ex i) {
      const Ex row = b_.let_within(i, 0, rows - 1);
      const Ex up = a_.sub(a_.integer(rows), row);
      const Ex mirror_row =
          a_.select(head, a_.select(a_.equal(row, zero), zero, up), a_.sub(up, a_.integer(1)));
      const Ex slot = a_.add(a_.select(alone, zero, a_.integer(rows)), mirror_row);
      const ComplexEx value = here(lines_.load(mirror_, row));
      const ComplexEx mirror = here(lines_.load(mirror_, slot));
      body({a_.add(a_.mul(row, a_.integer(columns)), column), row, column}, value, mirror);
    });
  });
}

/// The same the other way round: takes each bin with its mirror, and transforms all of them.
void LineTransform::columns_before(
    bool inverse, const std::function<std::pair<ComplexEx, ComplexEx>(const Mirrored& bin)>& body,
    const FftLines::Write& write) {
  const bool split = plan_->kind == FftPlan::Kind::split;
  const std::int64_t columns = split ? plan_->second->length : 1;
  const std::int64_t rows = plan_->length / columns;
  const Ex zero = a_.integer(0);
  b_.loop(columns / 2 + 1, Role::serial, 1, [&](Ex column) {
    const Ex head = a_.equal(column, zero);
    const Ex other = a_.select(head, zero, a_.sub(a_.integer(columns), column));
    const Ex alone = a_.equal(other, column);
    const Ex among_itself = a_.select(head, a_.integer(rows / 2 + 1), a_.integer((rows + 1) / 2));
    b_.loop(a_.select(alone, among_itself, a_.integer(rows)), [&](Ex i) {
      const Ex row = b_.let_within(i, 0, rows - 1);
      const Ex up = a_.sub(a_.integer(rows), row);
      const Ex mirror_row =
          a_.select(head, a_.select(a_.equal(row, zero), zero, up), a_.sub(up, a_.integer(1)));
      const Ex slot = a_.add(a_.select(alone, zero, a_.integer(rows)), mirror_row);
      const auto [value, mirror] =
          body({a_.add(a_.mul(row, a_.integer(columns)), column), row, column});
      const ComplexEx at_bin = here(value);
      const ComplexEx at_mirror = here(mirror);
      // A bin that is its own mirror keeps the first.
      lines_.save(mirror_, slot, at_mirror);
      lines_.save(mirror_, row, at_bin);
    });
    if (split) {
      b_.loop(a_.select(alone, a_.integer(1), a_.integer(columns > 2 ? 2 : 1)), [&](Ex side) {
        const Ex chosen = a_.select(a_.equal(side, zero), column, other);
        lines_.first(*plan_, inverse, b_.let_within(chosen, 0, columns - 1), [&](Ex row) {
          return lines_.load(mirror_, a_.add(a_.mul(side, a_.integer(rows)), row));
        });
      });
    } else {
      lines_.run(*plan_, inverse, [&](Ex row) { return lines_.load(mirror_, row); }, write);
    }
  });
  if (!split) return;
  b_.loop(rows, Role::serial, 1, [&](Ex column) {
    lines_.second(*plan_, inverse, column, [&](Ex row, const ComplexEx& value) {
      write(a_.add(a_.mul(row, a_.integer(rows)), column), value);
    });
  });
}

// ---- kinds --------------------------------------------------------------------------------------

/// z_j = x_2j + i x_(2j+1) of half the length h has Z_k = E_k + i O_k, of the spectra of even and
/// odd points, and X_k = E_k + w^k O_k with w = exp(-2 pi i / n).
void LineTransform::from_even(const Read& read, const Write& write) {
  const Ex half = a_.integer(n_ / 2);
  const auto pair = [&](Ex j) -> ComplexEx {
    const Ex even = a_.mul(j, a_.integer(2));
    return {read(even, 0).re, read(a_.add(even, a_.integer(1)), 0).re};
  };
  columns_after(pair, [&](const Mirrored& bin, const ComplexEx& z, const ComplexEx& mirror) {
    const ComplexEx reflected = conjugate(a_, mirror);
    const ComplexEx sum = here(add(a_, z, reflected));
    const ComplexEx turned = here(multiply(a_, here(subtract(a_, z, reflected)), factor(bin)));
    const Ex scale = a_.constant(Scalar::f32, 0.5);
    const ComplexEx low{b_.let(a_.fma(scale, sum.re, turned.re)),
                        b_.let(a_.fma(scale, sum.im, turned.im))};
    const Ex minus = a_.constant(Scalar::f32, -0.5);
    const ComplexEx high{b_.let(a_.fma(scale, sum.re, a_.neg(turned.re))),
                         b_.let(a_.fma(minus, sum.im, turned.im))};
    write(bin.k, 0, low);
    b_.condition(a_.logical_not(a_.equal(a_.mul(bin.k, a_.integer(2)), half)),
                 [&] { write(a_.sub(half, bin.k), 0, high); });
  });
}

/// The inverse of from_even: Z_k = ((X_k + conj X_(h-k)) + i w^-k (X_k - conj X_(h-k))) / 2.
void LineTransform::to_even(const Read& read, const Write& write) {
  const Ex half = a_.integer(n_ / 2);
  const Ex zero = a_.constant(Scalar::f32, 0);
  columns_before(
      true,
      [&](const Mirrored& bin) {
        ComplexEx x = read(bin.k, 0);
        ComplexEx mirror = read(a_.sub(half, bin.k), 0);
        // The first and the last bin are real.
        const Ex edge = a_.equal(bin.k, a_.integer(0));
        x = here({x.re, a_.select(edge, zero, x.im)});
        mirror = here({mirror.re, a_.select(edge, zero, a_.neg(mirror.im))});
        const ComplexEx sum = here(add(a_, x, mirror));
        const ComplexEx turned = here(multiply(a_, here(subtract(a_, x, mirror)), factor(bin)));
        const Ex scale = a_.constant(Scalar::f32, 1 / static_cast<double>(n_));
        const Ex minus = a_.neg(scale);
        return std::pair<ComplexEx, ComplexEx>{
            {a_.fma(scale, sum.re, turned.re), a_.fma(scale, sum.im, turned.im)},
            {a_.fma(scale, sum.re, a_.neg(turned.re)), a_.fma(minus, sum.im, turned.im)}};
      },
      [&](Ex j, const ComplexEx& z) {
        const Ex even = a_.mul(j, a_.integer(2));
        write(even, 0, {z.re, nullptr});
        write(a_.add(even, a_.integer(1)), 0, {z.im, nullptr});
      });
}

/// x + i y of two lines has Z_k = X_k + i Y_k, and conj Z_(n-k) = X_k - i Y_k.
void LineTransform::from_two(const Read& read, const Write& write) {
  const Ex n = a_.integer(n_);
  const auto pair = [&](Ex j) -> ComplexEx { return {read(j, 0).re, read(j, 1).re}; };
  columns_after(pair, [&](const Mirrored& bin, const ComplexEx& z, const ComplexEx& mirror) {
    const Ex low = a_.less_equal(bin.k, a_.integer(n_ / 2));
    const Ex position = b_.let_within(a_.select(low, bin.k, a_.sub(n, bin.k)), 0, n_ / 2);
    const ComplexEx reflected = conjugate(a_, mirror);
    const ComplexEx sum = add(a_, z, reflected);
    const ComplexEx difference = subtract(a_, z, reflected);
    const Ex scale = a_.constant(Scalar::f32, 0.5);
    // Of a bin above the middle, the conjugate is wanted.
    const Ex turned = b_.let(a_.select(low, scale, a_.neg(scale)));
    const ComplexEx x = here({a_.mul(sum.re, scale), a_.mul(sum.im, turned)});
    const ComplexEx y = here({a_.mul(difference.im, scale), a_.mul(a_.neg(difference.re), turned)});
    write(position, 0, x);
    write(position, 1, y);
  });
}

void LineTransform::to_two(const Read& read, const Write& write) {
  const Ex n = a_.integer(n_);
  const Ex scale = a_.constant(Scalar::f32, 1 / static_cast<double>(n_));
  columns_before(
      true,
      [&](const Mirrored& bin) {
        const Ex low = a_.less_equal(bin.k, a_.integer(n_ / 2));
        const Ex position = b_.let_within(a_.select(low, bin.k, a_.sub(n, bin.k)), 0, n_ / 2);
        // Of a bin above the middle, the conjugate; the first one is real.
        const Ex turned =
            b_.let(a_.select(a_.equal(bin.k, a_.integer(0)), a_.constant(Scalar::f32, 0),
                             a_.select(low, scale, a_.neg(scale))));
        const auto directed = [&](const ComplexEx& value) {
          return here({a_.mul(value.re, scale), a_.mul(value.im, turned)});
        };
        const ComplexEx x = directed(read(position, 0));
        const ComplexEx y = directed(read(position, 1));
        return std::pair<ComplexEx, ComplexEx>{{a_.sub(x.re, y.im), a_.add(x.im, y.re)},
                                               {a_.add(x.re, y.im), a_.sub(y.re, x.im)}};
      },
      [&](Ex j, const ComplexEx& z) {
        write(j, 0, {z.re, nullptr});
        write(j, 1, {z.im, nullptr});
      });
}

void LineTransform::run(Ex lane, const Read& read, const Write& write) {
  lines_.begin(lane);
  if (kind_ == FftKind::from_real && (halved_ || two_lines_)) {
    halved_ ? from_even(read, write) : from_two(read, write);
    return;
  }
  if (kind_ == FftKind::to_real && (halved_ || two_lines_)) {
    halved_ ? to_even(read, write) : to_two(read, write);
    return;
  }
  const Ex bins = a_.integer(n_ / 2 + 1);
  FftLines::Read points = [&](Ex position) { return read(position, 0); };
  if (kind_ == FftKind::to_real) {
    // X_(n-k) = conj X_k; the first bin is real.
    points = [&](Ex position) -> ComplexEx {
      const Ex upper = a_.less_equal(bins, position);
      const Ex bin = a_.select(upper, a_.sub(a_.integer(n_), position), position);
      const ComplexEx x = read(b_.let_within(bin, 0, n_ / 2), 0);
      const Ex first = a_.equal(position, a_.integer(0));
      const Ex im = a_.select(upper, a_.neg(x.im), x.im);
      return {x.re, a_.select(first, a_.constant(Scalar::f32, 0), im)};
    };
  }
  lines_.run(*plan_, inverse_, points, [&](Ex position, const ComplexEx& result) {
    ComplexEx value = result;
    if (inverse_) {
      const Ex scale = a_.constant(Scalar::f32, 1 / static_cast<double>(n_));
      if (value.re != nullptr) value.re = a_.mul(value.re, scale);
      if (value.im != nullptr) value.im = a_.mul(value.im, scale);
    }
    if (kind_ == FftKind::to_real) value.im = nullptr;
    if (kind_ != FftKind::from_real) {
      write(position, 0, value);
      return;
    }
    value = here(value);
    b_.condition(a_.less(position, bins),
                 [&] { write(b_.let_within(position, 0, n_ / 2), 0, value); });
  });
}

}  // namespace weft::compiler
