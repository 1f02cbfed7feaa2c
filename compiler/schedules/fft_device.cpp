#include <algorithm>
#include <optional>

#include "compiler/schedules/fft_kernel.h"
#include "compiler/schedules/fourier_sweeps.h"
#include "compiler/schedules/schedule.h"

/// Fourier transforms on a GPU along any axis: channels are what follows it. Only forward passes
/// are needed: an inverse transform is the forward one of conjugates. Their last butterflies are
/// dealt out so that neighbouring threads have neighbouring bins, which are stored from registers.
/// Real lines of even length are complex ones of half the length where these fit in a block; other
/// real lines are complex ones. Lengths with prime factors that no butterfly has become Bluestein's
/// convolution.
namespace weft::compiler {
namespace {

using loop::Ex;
using loop::Scalar;

constexpr std::int64_t threads = 32;

class FftDevice {
 public:
  FftDevice(GroupEmitter& emitter, const DeviceOptions& options)
      : kernel_(emitter),
        emitter_(emitter),
        a_(emitter.arena()),
        b_(emitter.builder()),
        n_(kernel_.length()) {
    const std::int64_t half = n_ / 2;
    halved_ = kernel_.kind() != FftKind::complex && n_ % 2 == 0 &&
              FourierSweeps::in_one_sweep(half, kernel_.inner(), options.shared_bytes()) &&
              device_plan(half).has_value();
    points_ = halved_ ? half : n_;
    const std::optional<DevicePlan> plan = device_plan(points_);
    chirp_ = !plan.has_value();
    FourierSweeps::Options own;
    constexpr std::int64_t complex_bytes = 8;
    own.element_bytes = complex_bytes;
    own.shared_bytes = options.shared_bytes();
    own.processors = options.processors;
    own.natural = !chirp_;
    own.kept = halved_ && kernel_.kind() == FftKind::from_real;
    sweeps_.emplace(emitter, chirp_ ? device_plan_from(2 * points_ - 1) : *plan, false,
                    FourierSweeps::Lines{kernel_.outer(), 1, kernel_.inner()}, own);
  }

  void run() {
    if (chirp_) {
      convolve();
      return;
    }
    share(sweeps_->shared_elements());
    if (sweeps_->several()) allocate(sweeps_->lines_elements());
    const Source source{
        [this](Ex line, Ex channel, Ex position, Ex) { return input(line, channel, position); },
        points_};
    const Sink sink{[this](Ex line, Ex channel, Ex position, const ComplexEx& value) {
                      output(line, channel, position, value);
                    },
                    std::min(points_, kernel_.results())};
    sweeps_->forward(source, 0);
    FourierTile& tile = sweeps_->rows_tile();
    if (halved_ && kernel_.kind() == FftKind::from_real) {
      roots_.emplace(b_, n_, points_ + 1);
      sweeps_->for_rows([&](const FourierSweeps::Position& at) {
        tile.forward(sweeps_->load(at, source, 0), nullptr);
        tile.barrier();
        separate(at, tile);
      });
      return;
    }
    if (halved_) roots_.emplace(b_, n_, points_);
    sweeps_->for_rows([&](const FourierSweeps::Position& at) {
      tile.forward(sweeps_->load(at, source, 0), sweeps_->save_bins(at, sink));
    });
  }

 private:
  using Source = FourierSweeps::Source;
  using Sink = FourierSweeps::Sink;

  void share(std::int64_t elements) {
    if (elements > 0) sweeps_->set_shared(b_.kernel().shared("points", DType::f32, elements));
  }
  void allocate(std::int64_t elements) {
    sweeps_->set_workspace(emitter_.workspace(DType::f32, elements));
  }

  ComplexEx here(const ComplexEx& value) {
    return {value.re == nullptr ? nullptr : b_.let(value.re),
            value.im == nullptr ? nullptr : b_.let(value.im)};
  }
  ComplexEx turned(const ComplexEx& value) { return rotate(a_, value, 0, 1); }
  /// Without the imaginary part where `real`.
  ComplexEx real_where(Ex real, const ComplexEx& value) {
    if (value.im == nullptr) return value;
    return {value.re, a_.select(real, a_.constant(Scalar::f32, 0), value.im)};
  }

  // ---- operands and results ---------------------------------------------------------------------

  /// A point of the complex line; conjugated for an inverse transform.
  ComplexEx input(Ex line, Ex channel, Ex position) {
    switch (kernel_.kind()) {
      case FftKind::complex: {
        const ComplexEx value = kernel_.read(line, position, channel);
        return kernel_.inverse() ? conjugate(a_, value) : value;
      }
      case FftKind::from_real: {
        if (!halved_) return {kernel_.read(line, position, channel).re, nullptr};
        const Ex first = a_.mul(position, a_.integer(2));
        const ComplexEx even = here(kernel_.read(line, first, channel));
        const ComplexEx odd = kernel_.read(line, a_.add(first, a_.integer(1)), channel);
        return {even.re, odd.re};
      }
      case FftKind::to_real:
        break;
    }
    return halved_ ? paired_bins(line, channel, position) : mirrored_bin(line, channel, position);
  }

  /// Of all n bins, of which the operand has the first n / 2 + 1.
  ComplexEx mirrored_bin(Ex line, Ex channel, Ex position) {
    const Ex doubled = a_.mul(position, a_.integer(2));
    const Ex there = a_.less_equal(doubled, a_.integer(n_));
    const Ex other = a_.sub(a_.integer(n_), position);
    const Ex bin = b_.let_within(a_.select(there, position, other), 0, n_ / 2);
    const ComplexEx value = here(kernel_.read(line, bin, channel));
    if (value.im == nullptr) return value;
    const Ex real = a_.logical_or(a_.equal(bin, a_.integer(0)), a_.equal(doubled, a_.integer(n_)));
    return real_where(real, {value.re, a_.select(there, a_.neg(value.im), value.im)});
  }

  /// Point k of the line of half the length whose inverse transform has the real points 2j and
  /// 2j + 1 as its parts j, times two: the spectra of these from that of the whole line.
  ComplexEx paired_bins(Ex line, Ex channel, Ex k) {
    const Ex first = a_.equal(k, a_.integer(0));
    const ComplexEx x = here(real_where(first, kernel_.read(line, k, channel)));
    const Ex other = a_.sub(a_.integer(points_), k);
    const ComplexEx mirror =
        here(conjugate(a_, real_where(first, kernel_.read(line, other, channel))));
    const ComplexEx even = add(a_, x, mirror);
    const ComplexEx odd =
        multiply(a_, here(subtract(a_, x, mirror)), conjugate(a_, roots_->at(b_, k)));
    return conjugate(a_, here(add(a_, here(even), turned(here(odd)))));
  }

  void output(Ex line, Ex channel, Ex position, const ComplexEx& value) {
    ComplexEx result = value;
    if (kernel_.inverse()) {
      const Ex scale = a_.constant(Scalar::f32, 1.0 / static_cast<double>(n_));
      result = conjugate(a_, result);
      if (result.re != nullptr) result.re = a_.mul(result.re, scale);
      if (result.im != nullptr) result.im = a_.mul(result.im, scale);
      result = here(result);
    }
    if (kernel_.kind() == FftKind::to_real && halved_) {
      const Ex first = a_.mul(position, a_.integer(2));
      kernel_.write(line, first, channel, {result.re, nullptr});
      kernel_.write(line, a_.add(first, a_.integer(1)), channel, {result.im, nullptr});
      return;
    }
    kernel_.write(line, position, channel, result);
  }

  /// The bins of a real line from the spectrum of its even and odd points as one complex line.
  void separate(const FourierSweeps::Position& at, FourierTile& tile) {
    const Sink sink{[this](Ex line, Ex channel, Ex position, const ComplexEx& value) {
                      kernel_.write(line, position, channel, value);
                    },
                    points_ + 1};
    const std::int64_t bins = points_ + 1;
    const std::size_t levels = sweeps_->plan().levels();
    tile.for_numbers(tile.slow() * bins * tile.fast(), [&](Ex number) {
      const Ex fast = a_.floor_mod(number, tile.fast());
      const Ex rest = a_.floor_div(number, tile.fast());
      const Ex k = b_.let(a_.floor_mod(rest, bins));
      const Ex slow = a_.floor_div(rest, bins);
      const auto point = [&](Ex bin) {
        const Ex zero = a_.integer(0);
        const Ex own =
            b_.let_within(a_.select(a_.less(bin, a_.integer(points_)), bin, zero), 0, points_ - 1);
        return tile.point(slow, sweeps_->plan().slot(a_, 0, levels, own), fast);
      };
      const ComplexEx x = point(k);
      const ComplexEx mirror = conjugate(a_, point(a_.sub(a_.integer(points_), k)));
      const Ex half = a_.constant(Scalar::f32, 0.5);
      const ComplexEx sum = here(add(a_, x, mirror));
      const ComplexEx difference = here(subtract(a_, x, mirror));
      const ComplexEx odd = multiply(a_, rotate(a_, difference, 0, -1), roots_->at(b_, k));
      const ComplexEx all = here(add(a_, sum, here(odd)));
      sweeps_->put(at, {slow, k, fast}, k, here({a_.mul(all.re, half), a_.mul(all.im, half)}),
                   sink);
    });
  }

  // ---- Bluestein's convolution ------------------------------------------------------------------

  /// exp(-pi i j^2 / n)
  ComplexEx chirp(Ex j) { return roots_->at(b_, b_.let(a_.floor_mod(a_.mul(j, j), 2 * points_))); }

  /// With jk = (j^2 + k^2 - (k - j)^2) / 2 the transform is a convolution with the conjugates of
  /// the chirp, whose spectrum is the first thing in the workspace.
  void convolve() {
    roots_.emplace(b_, 2 * points_, 2 * points_);
    FourierSweeps filter(*sweeps_, {1, 1, 1});
    share(std::max(sweeps_->shared_elements(), filter.shared_elements()));
    const std::int64_t length = sweeps_->plan().length;
    const std::int64_t base = filter.spectrum_elements();
    const loop::Buffer* workspace = emitter_.workspace(
        DType::f32, base + std::max(sweeps_->lines_elements(), filter.lines_elements()));
    sweeps_->set_workspace(workspace);
    filter.set_workspace(workspace);
    filter.set_shared(sweeps_->shared());
    const Ex none = a_.constant(Scalar::f32, 0);
    const auto where = [this, none](Ex inside, const ComplexEx& value) {
      return ComplexEx{value.re == nullptr ? nullptr : a_.select(inside, value.re, none),
                       value.im == nullptr ? nullptr : a_.select(inside, value.im, none)};
    };
    const Source around_zero{
        [=, this](Ex, Ex, Ex position, Ex) {
          const Ex after = a_.less(position, a_.integer(points_));
          const Ex before = a_.less(a_.integer(length - points_), position);
          const Ex inside = a_.logical_or(after, before);
          const Ex distance = a_.select(after, position, a_.sub(a_.integer(length), position));
          const Ex j = b_.let_within(a_.select(inside, distance, a_.integer(0)), 0, points_ - 1);
          return where(inside, conjugate(a_, chirp(j)));
        },
        length};
    filter.forward(around_zero, base);
    filter.for_rows([&](const FourierSweeps::Position& at) {
      filter.rows_tile().through(
          filter.load(at, around_zero, base),
          [&](const FourierTile::Butterfly& own, std::vector<ComplexEx>& values) {
            const Ex scale = a_.constant(Scalar::f32, 1.0 / static_cast<double>(length));
            for (std::size_t i = 0; i < values.size(); ++i) {
              filter.store(filter.spectrum_at(at, own, static_cast<std::int64_t>(i)),
                           {a_.mul(filter.part(values[i].re), scale),
                            a_.mul(filter.part(values[i].im), scale)});
            }
          },
          nullptr);
    });
    const Source source{
        [=, this](Ex line, Ex channel, Ex position, Ex inside) {
          Ex j = position;
          if (inside != nullptr) {
            j = b_.let_within(a_.select(inside, position, a_.integer(0)), 0, points_ - 1);
          }
          const ComplexEx value = multiply(a_, here(input(line, channel, j)), chirp(j));
          return inside == nullptr ? value : where(inside, value);
        },
        points_};
    const Sink sink{[this](Ex line, Ex channel, Ex position, const ComplexEx& value) {
                      output(line, channel, position, here(multiply(a_, value, chirp(position))));
                    },
                    std::min(points_, kernel_.results())};
    sweeps_->forward(source, base);
    sweeps_->for_rows([&](const FourierSweeps::Position& at) {
      sweeps_->rows_tile().through(
          sweeps_->load(at, source, base),
          [&](const FourierTile::Butterfly& own, std::vector<ComplexEx>& values) {
            for (std::size_t i = 0; i < values.size(); ++i) {
              const Ex place = sweeps_->spectrum_at(at, own, static_cast<std::int64_t>(i), false);
              values[i] = here(multiply(a_, values[i], sweeps_->fetch(place)));
            }
          },
          sweeps_->save(at, sink, base));
    });
    sweeps_->inverse(sink, base);
  }

  FftKernel kernel_;
  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  std::int64_t n_;           ///< of the transform
  std::int64_t points_ = 1;  ///< of the complex lines
  bool halved_ = false;
  bool chirp_ = false;
  std::optional<FourierSweeps> sweeps_;
  std::optional<RootTable> roots_;
};

}  // namespace

void schedule_fft_device(GroupEmitter& emitter, const DeviceOptions& options) {
  const FftKernel kernel(emitter);
  if (kernel.outer() * kernel.results() * kernel.inner() == 0) {
    emitter.builder().phase(0, threads, [](Ex, Ex) {});
    return;
  }
  FftDevice(emitter, options).run();
}

}  // namespace weft::compiler
