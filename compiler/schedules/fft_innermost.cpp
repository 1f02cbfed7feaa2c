#include <algorithm>

#include "compiler/schedules/fft_kernel.h"

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

}  // namespace

void schedule_innermost_fft(FftKernel& kernel, const HostTarget& target) {
  loop::Builder& b = kernel.builder();
  FftPlanner planner;
  RowStrips strips(kernel, planner, target.vector_lanes(DType::f32));
  const std::int64_t strip = strips.strip();
  b.phase((kernel.outer() + strip - 1) / strip, [&](Ex block) {
    for_chunk(kernel.emitter(), block, kernel.outer(), strip,
              [&](Ex first, std::int64_t extent) { strips.run(first, extent); });
  });
}

}  // namespace weft::compiler
