#include <algorithm>

#include "compiler/schedules/fft_kernel.h"
#include "compiler/schedules/fft_row.h"

/// Fourier transforms along the innermost axis.
namespace weft::compiler {

using loop::Ex;
using loop::Role;
using loop::Scalar;

namespace {

// ---- rows in lanes ------------------------------------------------------------------------------

/// Strips of rows, transposed on their way in and out, each row in a lane of its own.
class RowStrips {
 public:
  RowStrips(FftKernel& kernel, FftPlanner& planner, int lanes)
      : kernel_(kernel),
        a_(kernel.arena()),
        b_(kernel.builder()),
        two_lines_(LineTransform::wants_two_lines(kernel.kind(), kernel.length()) &&
                   kernel.outer() % 2 == 0),
        parts_(two_lines_ ? 2 : 1),
        width_(std::min<std::int64_t>(lanes, kernel.outer() / parts_)),
        chunk_(lanes),
        transform_(b_, planner, kernel.kind(), kernel.length(), kernel.inverse(), width_,
                   two_lines_),
        operand_planes_(kernel.complex_operand() ? 2 : 1),
        result_planes_(kernel.complex_result() ? 2 : 1),
        operand_(b_.kernel().local("operand", DType::f32,
                                   kernel.points() * parts_ * operand_planes_ * width_)),
        result_(b_.kernel().local("result", DType::f32,
                                  kernel.results() * parts_ * result_planes_ * width_)),
        tile_(b_.kernel().local("tile", DType::f32, result_planes_ * width_ * chunk_)) {}

  /// Estimated cycles of all rows.
  static double cycles(const FftKernel& kernel, FftPlanner& planner, int lanes) {
    const std::int64_t n = kernel.length();
    const bool real = kernel.kind() != FftKind::complex;
    const bool two_lines =
        LineTransform::wants_two_lines(kernel.kind(), n) && kernel.outer() % 2 == 0;
    const std::int64_t strip = two_lines ? 2 * lanes : lanes;
    const std::int64_t strips = (kernel.outer() + strip - 1) / strip;
    double copies = real && n % 2 == 0 ? 18 : 40;
    constexpr std::int64_t inner_cache = 256;
    if (n > inner_cache) copies *= 1.5;
    return strips *
           (planner.plan(real && n % 2 == 0 ? n / 2 : n)->cycles + copies * static_cast<double>(n));
  }

  std::int64_t strip() const { return parts_ * width_; }

  /// `extent` rows from `first` on, a multiple of the lines in a lane.
  void run(Ex first, std::int64_t extent) {
    const std::int64_t rows = extent / parts_;
    for (int part = 0; part < parts_; ++part) {
      copy_in(a_.add(first, a_.integer(part * rows)), rows, part);
    }
    b_.loop(rows, Role::vector, static_cast<int>(width_), [&](Ex lane) {
      transform_.run(
          lane, [&](Ex position, int part) { return read(position, part, lane); },
          [&](Ex position, int part, const ComplexEx& value) {
            const auto at = [&](std::int64_t plane) {
              return a_.add(element(position, part, plane, result_planes_), lane);
            };
            const Ex zero = a_.constant(Scalar::f32, 0);
            b_.store(result_, at(0), value.re == nullptr ? zero : value.re);
            if (result_planes_ > 1) {
              b_.store(result_, at(1), value.im == nullptr ? zero : value.im);
            }
          });
    });
    for (int part = 0; part < parts_; ++part) {
      copy_out(a_.add(first, a_.integer(part * rows)), rows, part);
    }
  }

 private:
  Ex element(Ex position, int part, std::int64_t plane, std::int64_t planes) {
    const Ex line = a_.add(a_.mul(position, a_.integer(parts_)), a_.integer(part));
    const Ex row = a_.add(a_.mul(line, a_.integer(planes)), a_.integer(plane));
    return a_.mul(row, a_.integer(width_));
  }

  void copy_in(Ex first, std::int64_t rows, int part) {
    b_.loop(kernel_.points(), Role::vector, static_cast<int>(chunk_), [&](Ex position) {
      std::vector<ComplexEx> values;
      for (std::int64_t i = 0; i < rows; ++i) {
        const ComplexEx value = kernel_.read(a_.add(first, a_.integer(i)), position, a_.integer(0));
        values.push_back({b_.let(value.re), operand_planes_ > 1 ? b_.let(value.im) : nullptr});
      }
      for (std::int64_t plane = 0; plane < operand_planes_; ++plane) {
        const Ex at = element(position, part, plane, operand_planes_);
        for (std::int64_t i = 0; i < rows; ++i) {
          const ComplexEx& value = values[static_cast<std::size_t>(i)];
          b_.store(operand_, a_.add(at, a_.integer(i)), plane == 0 ? value.re : value.im);
        }
      }
    });
  }

  ComplexEx read(Ex position, int part, Ex lane) {
    if (kernel_.points() == 0) return {};
    Ex inside = nullptr;
    if (kernel_.points() < kernel_.length() && kernel_.kind() == FftKind::from_real) {
      inside = a_.less(position, a_.integer(kernel_.points()));
      if (inside->kind == loop::ExprKind::constant) {
        if (inside->integer == 0) return {};
        inside = nullptr;
      }
    }
    const auto at = [&](std::int64_t plane) {
      return a_.load(operand_, a_.add(element(position, part, plane, operand_planes_), lane),
                     inside);
    };
    return {at(0), operand_planes_ > 1 ? at(1) : nullptr};
  }

  void copy_out(Ex first, std::int64_t rows, int part) {
    const std::int64_t full = kernel_.results() / chunk_;
    b_.loop(full, Role::serial, 1,
            [&](Ex i) { tile_out(first, rows, part, a_.mul(i, a_.integer(chunk_)), chunk_); });
    const std::int64_t rest = kernel_.results() % chunk_;
    if (rest > 0) tile_out(first, rows, part, a_.integer(full * chunk_), rest);
  }

  void tile_out(Ex first, std::int64_t rows, int part, Ex position, std::int64_t count) {
    const auto place = [&](Ex row, std::int64_t plane) {
      return a_.mul(a_.add(row, a_.integer(plane * width_)), a_.integer(chunk_));
    };
    b_.loop(rows, Role::vector, static_cast<int>(width_), [&](Ex lane) {
      for (std::int64_t plane = 0; plane < result_planes_; ++plane) {
        std::vector<Ex> values;
        for (std::int64_t i = 0; i < count; ++i) {
          const Ex at = element(a_.add(position, a_.integer(i)), part, plane, result_planes_);
          values.push_back(b_.let(a_.load(result_, a_.add(at, lane))));
        }
        for (std::int64_t i = 0; i < count; ++i) {
          b_.store(tile_, a_.add(place(lane, plane), a_.integer(i)),
                   values[static_cast<std::size_t>(i)]);
        }
      }
    });
    b_.loop(rows, Role::serial, 1, [&](Ex row) {
      b_.loop(count, Role::vector, static_cast<int>(chunk_), [&](Ex i) {
        ComplexEx value{a_.load(tile_, a_.add(place(row, 0), i)), nullptr};
        if (result_planes_ > 1) value.im = a_.load(tile_, a_.add(place(row, 1), i));
        kernel_.write(a_.add(first, row), a_.add(position, i), a_.integer(0), value);
      });
    });
  }

  FftKernel& kernel_;
  loop::Arena& a_;
  loop::Builder& b_;
  bool two_lines_;
  int parts_;
  std::int64_t width_;
  std::int64_t chunk_;
  LineTransform transform_;
  std::int64_t operand_planes_;
  std::int64_t result_planes_;
  const loop::Buffer* operand_;
  const loop::Buffer* result_;
  const loop::Buffer* tile_;
};

// ---- one row at a time --------------------------------------------------------------------------

/// Rows one after the other, each in whole vectors.
class SingleRows {
 public:
  SingleRows(FftKernel& kernel, FftPlanner& planner, int lanes)
      : kernel_(kernel),
        a_(kernel.arena()),
        b_(kernel.builder()),
        lanes_(lanes),
        n_(kernel.length()),
        halved_(kernel.kind() != FftKind::complex && n_ % 2 == 0),
        points_(halved_ ? n_ / 2 : n_),
        pitch_(points_ + 1),
        row_(b_, planner, points_, lanes) {
    if (kernel.kind() == FftKind::complex) return;
    bins_ = b_.kernel().local("bins", DType::f32, 2 * pitch_);
    if (!halved_) return;
    if (kernel.kind() == FftKind::to_real && !kernel.plain()) {
      line_ = b_.kernel().local("line", DType::f32, n_);
    }
    make_factors();
  }

  static double cycles(const FftKernel& kernel, FftPlanner& planner, int lanes) {
    const std::int64_t n = kernel.length();
    if (kernel.kind() == FftKind::complex) return RowTransform::cycles(planner, n, lanes);
    const std::int64_t points = n % 2 == 0 ? n / 2 : n;
    const std::int64_t vectors = points / lanes + 1;
    return RowTransform::cycles(planner, points, lanes) + 20 * static_cast<double>(vectors);
  }

  void run(Ex row) {
    switch (kernel_.kind()) {
      case FftKind::complex:
        complex(row);
        break;
      case FftKind::from_real:
        from_real(row);
        break;
      case FftKind::to_real:
        to_real(row);
        break;
    }
  }

 private:
  ComplexEx load(const loop::Buffer* planes, Ex position) {
    return {b_.let(a_.load(planes, position)),
            b_.let(a_.load(planes, a_.add(position, a_.integer(pitch_))))};
  }
  void save(Ex position, const ComplexEx& value) {
    const Ex zero = a_.constant(Scalar::f32, 0);
    b_.store(bins_, position, value.re == nullptr ? zero : value.re);
    b_.store(bins_, a_.add(position, a_.integer(pitch_)), value.im == nullptr ? zero : value.im);
  }
  ComplexEx scaled(const ComplexEx& value) {
    const Ex scale = a_.constant(Scalar::f32, 1 / static_cast<double>(n_));
    return {a_.mul(value.re, scale), a_.mul(value.im, scale)};
  }

  /// The factors of LineTransform, for bins 0 to points_: of long lines, one of the distance from
  /// the first of a chunk of bins times one of this.
  void make_factors() {
    constexpr std::int64_t largest_table = 4096;
    constexpr std::int64_t long_chunk = 512;
    chunk_ = points_ + 1 > largest_table ? long_chunk : points_ + 1;
    const bool from_real = kernel_.kind() == FftKind::from_real;
    const std::complex<double> scale(0, from_real ? -0.5 : 1 / static_cast<double>(n_));
    const auto root = [&](std::int64_t k) {
      const std::complex<double> value = root_of_unity(k, n_);
      return from_real ? value : std::conj(value);
    };
    std::vector<double> re;
    std::vector<double> im;
    for (std::int64_t k = 0; k < chunk_; ++k) {
      const std::complex<double> factor = scale * root(k);
      re.push_back(factor.real());
      im.push_back(factor.imag());
    }
    re.insert(re.end(), im.begin(), im.end());
    factors_ = b_.kernel().table("factors", DType::f32, std::move(re));
    if (chunk_ > points_) return;
    std::vector<double> coarse;
    for (std::int64_t k = 0; k <= points_; k += chunk_) {
      const std::complex<double> factor = root(k);
      coarse.push_back(factor.real());
      coarse.push_back(factor.imag());
    }
    chunk_factors_ = b_.kernel().table("chunk_factors", DType::f32, std::move(coarse));
  }

  /// Calls body(k, factor) for bins below `count` in vectors.
  void for_bins(std::int64_t count,
                const std::function<void(Ex k, const ComplexEx& factor)>& body) {
    const auto part = [&](Ex number, std::int64_t extent) {
      b_.loop(extent, Role::vector, lanes_, [&](Ex i) {
        ComplexEx factor{b_.let(a_.load(factors_, i)),
                         b_.let(a_.load(factors_, a_.add(i, a_.integer(chunk_))))};
        if (chunk_factors_ != nullptr) {
          const Ex at = a_.mul(number, a_.integer(2));
          factor = multiply(
              a_, factor,
              {a_.load(chunk_factors_, at), a_.load(chunk_factors_, a_.add(at, a_.integer(1)))});
          factor = {b_.let(factor.re), b_.let(factor.im)};
        }
        body(a_.add(a_.mul(number, a_.integer(chunk_)), i), factor);
      });
    };
    const std::int64_t full = count / chunk_;
    b_.loop(full, Role::serial, 1, [&](Ex number) { part(number, chunk_); });
    if (count % chunk_ > 0) part(a_.integer(full), count % chunk_);
  }

  void complex(Ex row) {
    const Ex none = a_.integer(0);
    row_.run(
        kernel_.inverse(), [&](Ex j) { return kernel_.read(row, j, none); },
        [&](Ex k, const ComplexEx& value) {
          kernel_.write(row, k, none, kernel_.inverse() ? scaled(value) : value);
        });
  }

  void from_real(Ex row) {
    const Ex none = a_.integer(0);
    row_.run(
        false,
        [&](Ex j) -> ComplexEx {
          if (!halved_) return kernel_.read(row, j, none);
          const Ex even = a_.mul(j, a_.integer(2));
          return {kernel_.read(row, even, none).re,
                  kernel_.read(row, a_.add(even, a_.integer(1)), none).re};
        },
        [&](Ex k, const ComplexEx& value) { save(k, value); });
    if (!halved_) {
      b_.loop(kernel_.results(), Role::vector, lanes_,
              [&](Ex k) { kernel_.write(row, k, none, load(bins_, k)); });
      return;
    }
    save(a_.integer(points_), load(bins_, none));
    for_bins(points_ + 1, [&](Ex k, const ComplexEx& factor) {
      const ComplexEx z = load(bins_, k);
      const ComplexEx mirror = conjugate(a_, load(bins_, a_.sub(a_.integer(points_), k)));
      const ComplexEx sum = add(a_, z, mirror);
      const ComplexEx turned = multiply(a_, subtract(a_, z, mirror), factor);
      const Ex scale = a_.constant(Scalar::f32, 0.5);
      kernel_.write(row, k, none,
                    {a_.fma(scale, sum.re, turned.re), a_.fma(scale, sum.im, turned.im)});
    });
  }

  void to_real(Ex row) {
    const Ex none = a_.integer(0);
    const Ex zero = a_.constant(Scalar::f32, 0);
    const Ex end = a_.integer(points_);
    b_.loop(kernel_.points(), Role::vector, lanes_, [&](Ex k) {
      const ComplexEx value = kernel_.read(row, k, none);
      const ComplexEx bin{b_.let(value.re), b_.let(value.im)};
      save(k, bin);
      if (!halved_) save(a_.sub(end, k), conjugate(a_, bin));
    });
    // The first bin is real, and the last one of an even length.
    b_.store(bins_, a_.integer(pitch_), zero);
    if (halved_) b_.store(bins_, a_.integer(pitch_ + points_), zero);
    if (!halved_) {
      row_.run(
          true, [&](Ex k) { return load(bins_, k); },
          [&](Ex j, const ComplexEx& value) {
            kernel_.write(row, j, none, {scaled(value).re, nullptr});
          });
      return;
    }
    const auto joined = [&](Ex k, const ComplexEx& factor) -> ComplexEx {
      const ComplexEx x = load(bins_, k);
      const ComplexEx mirror = conjugate(a_, load(bins_, a_.sub(end, k)));
      const ComplexEx sum = add(a_, x, mirror);
      const ComplexEx turned = multiply(a_, subtract(a_, x, mirror), factor);
      const Ex scale = a_.constant(Scalar::f32, 1 / static_cast<double>(n_));
      return {a_.fma(scale, sum.re, turned.re), a_.fma(scale, sum.im, turned.im)};
    };
    const bool ahead = chunk_factors_ != nullptr;
    if (ahead) {
      if (joined_ == nullptr) joined_ = b_.kernel().local("joined", DType::f32, 2 * pitch_);
      for_bins(points_, [&](Ex k, const ComplexEx& factor) {
        const ComplexEx value = joined(k, factor);
        b_.store(joined_, k, value.re);
        b_.store(joined_, a_.add(k, a_.integer(pitch_)), value.im);
      });
    }
    row_.run(
        true,
        [&](Ex k) {
          if (ahead) return load(joined_, k);
          return joined(k,
                        {a_.load(factors_, k), a_.load(factors_, a_.add(k, a_.integer(chunk_)))});
        },
        [&](Ex j, const ComplexEx& value) {
          const Ex even = a_.mul(j, a_.integer(2));
          const ComplexEx pair{b_.let(value.re), b_.let(value.im)};
          const loop::Buffer* to = line_;
          Ex at = even;
          if (to == nullptr) {
            to = kernel_.result_buffer();
            at = a_.add(a_.mul(row, a_.integer(n_)), even);
          }
          b_.store(to, at, pair.re);
          b_.store(to, a_.add(at, a_.integer(1)), pair.im);
        });
    if (line_ == nullptr) return;
    b_.loop(n_, Role::vector, lanes_,
            [&](Ex j) { kernel_.write(row, j, none, {a_.load(line_, j), nullptr}); });
  }

  FftKernel& kernel_;
  loop::Arena& a_;
  loop::Builder& b_;
  int lanes_;
  std::int64_t n_;
  bool halved_;  ///< of points_ = n / 2 pairs
  std::int64_t points_;
  std::int64_t pitch_;  ///< from the real parts to the imaginary ones
  RowTransform row_;
  const loop::Buffer* bins_ = nullptr;
  const loop::Buffer* line_ = nullptr;
  const loop::Buffer* joined_ = nullptr;
  std::int64_t chunk_ = 1;  ///< bins that share a factor of chunk_factors_, where there are any
  const loop::Buffer* factors_ = nullptr;
  const loop::Buffer* chunk_factors_ = nullptr;
};

}  // namespace

void schedule_innermost_fft(FftKernel& kernel, const HostTarget& target) {
  loop::Builder& b = kernel.builder();
  loop::Arena& a = kernel.arena();
  FftPlanner planner;
  const int lanes = target.vector_lanes(DType::f32);
  const std::int64_t rows = kernel.outer();
  if (static_cast<double>(rows) * SingleRows::cycles(kernel, planner, lanes) <=
      RowStrips::cycles(kernel, planner, lanes)) {
    SingleRows single(kernel, planner, lanes);
    const std::int64_t chunk = std::clamp<std::int64_t>(
        block_elements / std::max<std::int64_t>(kernel.length(), 1), 1, rows);
    b.phase((rows + chunk - 1) / chunk, [&](Ex block) {
      const Ex first = a.mul(block, a.integer(chunk));
      const Ex left = a.sub(a.integer(rows), first);
      b.loop(a.binary(loop::Binary::minimum, left, a.integer(chunk)),
             [&](Ex i) { single.run(b.let_within(a.add(first, i), 0, rows - 1)); });
    });
    return;
  }
  RowStrips strips(kernel, planner, lanes);
  const std::int64_t strip = strips.strip();
  b.phase((rows + strip - 1) / strip, [&](Ex block) {
    for_chunk(kernel.emitter(), block, rows, strip,
              [&](Ex first, std::int64_t extent) { strips.run(first, extent); });
  });
}

}  // namespace weft::compiler
