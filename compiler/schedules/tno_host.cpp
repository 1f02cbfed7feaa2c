#include <algorithm>

#include "compiler/schedules/schedule.h"
#include "compiler/schedules/tno_lines.h"

/// The Toeplitz operator and its gradients on a CPU (tno_lines.h). A channel is a vector lane, so
/// that x (..., n, d) is read and written as it lies.
namespace weft::compiler {
namespace {

using ir::Node;
using loop::Ex;
using loop::Role;
using loop::Scalar;

class TnoKernel {
 public:
  TnoKernel(GroupEmitter& emitter, int lanes)
      : emitter_(emitter),
        a_(emitter.arena()),
        b_(emitter.builder()),
        node_(*emitter.group().anchor),
        e_(node_),
        width_(static_cast<int>(std::min<std::int64_t>(lanes, e_.d))),
        strips_((e_.d + width_ - 1) / width_),
        // Elements that pass the end of the 2N that a line holds come back to the first ones. Where
        // t looks both ways these are not among the n that are wanted, n - 1 and after.
        plan_(plan_convolution(e_.n, node_.is("tno") || node_.is("tno_gradient_x") ? 1 : 2)),
        length_(plan_.length),
        passes_(b_, plan_, width_),
        streaming_(exceeds_caches(emitter.group())),
        lines_(emitter, length_, streaming_) {}

  /// tno: of x and t; tno_gradient_x: of g in reverse and t.
  void convolution() {
    const bool reverse = node_.is("tno_gradient_x");
    const loop::Buffer* scratch = passes_.scratch("line");
    workspace_ = emitter_.workspace(DType::f32, e_.groups * strips_ * passes_.elements());
    transform_coefficients(scratch);
    // Neighbouring blocks share a spectrum.
    constexpr std::int64_t points = 1024;  // worth a hand-over between threads
    const std::int64_t chunk = std::clamp<std::int64_t>(points / length_, 1, e_.batch);
    const Shape grid{e_.groups, strips_, (e_.batch + chunk - 1) / chunk};
    b_.phase(grid.elements(), [&](Ex block) {
      const std::vector<Ex> at = a_.delinearize(block, grid);
      for_lanes(at[1], [&](Ex lane, Ex channel) {
        const Ex spectrum = line_start(at[0], at[1]);
        for_rows(at[2], chunk, [&](Ex row, Ex) {
          const Sequence sequence{a_.add(a_.mul(row, a_.integer(e_.groups)), at[0]), channel,
                                  reverse};
          Signal line = read_sequence(0, scratch, sequence);
          lines_.write_sequence(line, sequence);
          const auto middle = [&](Ex slot, Points& values) {
            for (std::size_t q = 0; q < values[0].size(); ++q) {
              values[0][q] = here(multiply(a_, values[0][q], fetch(spectrum, slot, q, lane)));
            }
          };
          passes_.run({line}, middle, lane, [&](Ex position) {
            if (!streaming_) return;
            prefetch_epilogue(sequence, position);
            prefetch_next({0}, at[0], at[1], row, lane, position);
          });
        });
      });
    });
  }

  /// tno_gradient_t: of x and g in reverse, summed over the batch; with tno_gradients also that of
  /// g in reverse and t, from the same transforms.
  void gradients() {
    const bool both = node_.is("tno_gradients");
    const std::size_t gradient = both ? 2 : 1;
    const loop::Buffer* x_scratch = passes_.scratch("x");
    const loop::Buffer* g_scratch = passes_.scratch("g");
    // Blocks that sum over parts of the batch; few lines alone would not occupy a machine.
    constexpr std::int64_t wanted_blocks = 8;
    const std::int64_t blocks = std::max<std::int64_t>(wanted_blocks / (e_.groups * strips_), 1);
    const std::int64_t chunk = (e_.batch + blocks - 1) / blocks;
    const std::int64_t parts = (e_.batch + chunk - 1) / chunk;
    const Shape grid{e_.groups, strips_, parts};
    const std::int64_t first_sum = both ? e_.groups * strips_ : 0;
    workspace_ = emitter_.workspace(DType::f32, (first_sum + grid.elements()) * passes_.elements());
    const auto sum_start = [&](Ex group, Ex strip, Ex part) {
      const std::vector<Ex> index{group, strip, part};
      return a_.mul(a_.add(a_.linearize(index, grid), a_.integer(first_sum)),
                    a_.integer(passes_.elements()));
    };
    if (both) transform_coefficients(x_scratch);
    b_.phase(grid.elements(), [&](Ex block) {
      const std::vector<Ex> at = a_.delinearize(block, grid);
      for_lanes(at[1], [&](Ex lane, Ex channel) {
        const Ex spectrum = line_start(at[0], at[1]);
        const Ex sum = sum_start(at[0], at[1], at[2]);
        for_rows(at[2], chunk, [&](Ex row, Ex index) {
          const auto middle = [&](Ex slot, Points& values) {
            for (std::size_t q = 0; q < values[0].size(); ++q) {
              ComplexEx value = multiply(a_, values[0][q], values[1][q]);
              if (chunk > 1) {
                const Ex later = a_.less(a_.integer(0), index);
                value = add(a_, value, fetch(sum, slot, q, lane, later));
              }
              store(sum, slot, q, lane, value);
              if (!both) continue;
              values[1][q] = here(multiply(a_, values[1][q], fetch(spectrum, slot, q, lane)));
            }
          };
          const Ex line = a_.add(a_.mul(row, a_.integer(e_.groups)), at[0]);
          const Signal x = read_sequence(0, x_scratch, {line, channel, false});
          Signal g = read_sequence(gradient, g_scratch, {line, channel, true});
          if (both) lines_.write_sequence(g, {line, channel, true});
          passes_.run({x, g}, middle, lane, [&](Ex position) {
            if (!streaming_) return;
            if (both) prefetch_epilogue({line, channel, true}, position);
            prefetch_next({0, gradient}, at[0], at[1], row, lane, position);
          });
        });
      });
    });
    const Shape lines{e_.groups, strips_};
    b_.phase(lines.elements(), [&](Ex block) {
      const std::vector<Ex> at = a_.delinearize(block, lines);
      for_lanes(at[1], [&](Ex lane, Ex channel) {
        Signal line;
        line.scratch = x_scratch;
        lines_.write_coefficients(line, at[0], channel);
        const auto middle = [&](Ex slot, Points& values) {
          const Ex scale = a_.constant(Scalar::f32, 1.0 / static_cast<double>(length_));
          for (std::size_t q = 0; q < values[0].size(); ++q) {
            ComplexEx total;
            for (std::int64_t part = 0; part < parts; ++part) {
              total =
                  add(a_, total, fetch(sum_start(at[0], at[1], a_.integer(part)), slot, q, lane));
            }
            values[0][q] = here({a_.mul(total.re, scale), a_.mul(total.im, scale)});
          }
        };
        passes_.run({line}, middle, lane);
      });
    });
  }

 private:
  using Signal = ConvolutionPasses::Signal;
  using Sequence = TnoLines::Sequence;
  using Points = std::vector<std::vector<ComplexEx>>;

  ComplexEx here(const ComplexEx& value) { return {b_.let(value.re), b_.let(value.im)}; }

  /// Where the spectrum of a group's strip starts.
  Ex line_start(Ex group, Ex strip) {
    const Ex line = a_.add(a_.mul(group, a_.integer(strips_)), strip);
    return a_.mul(line, a_.integer(passes_.elements()));
  }

  void for_lanes(Ex strip, const std::function<void(Ex lane, Ex channel)>& body) {
    for_chunk(emitter_, strip, e_.d, width_, [&](Ex column, std::int64_t columns) {
      b_.loop(columns, Role::vector, width_, [&](Ex lane) { body(lane, a_.add(column, lane)); });
    });
  }

  /// The rows of a chunk of the batch; `index` counts from 0.
  void for_rows(Ex block, std::int64_t chunk, const std::function<void(Ex row, Ex index)>& body) {
    const Ex first = a_.mul(block, a_.integer(chunk));
    if (chunk == 1) {
      body(first, a_.integer(0));
      return;
    }
    const Ex rest = a_.sub(a_.integer(e_.batch), first);
    b_.loop(a_.binary(loop::Binary::minimum, a_.integer(chunk), rest),
            [&](Ex index) { body(a_.add(first, index), index); });
  }

  Ex lane_element(Ex start, Ex slot, std::size_t q, int part, Ex lane) {
    const Ex at = a_.add(slot, a_.integer(static_cast<std::int64_t>(q)));
    return a_.add(start, passes_.element(at, part, lane));
  }
  ComplexEx fetch(Ex start, Ex slot, std::size_t q, Ex lane, Ex predicate = nullptr) {
    return {a_.load(workspace_, lane_element(start, slot, q, 0, lane), predicate),
            a_.load(workspace_, lane_element(start, slot, q, 1, lane), predicate)};
  }
  void store(Ex start, Ex slot, std::size_t q, Ex lane, const ComplexEx& value) {
    const ComplexEx parts = here(value);
    b_.store(workspace_, lane_element(start, slot, q, 0, lane), parts.re);
    b_.store(workspace_, lane_element(start, slot, q, 1, lane), parts.im);
  }

  /// Asks for a position of the row that comes next.
  void prefetch_next(const std::vector<std::size_t>& operands, Ex group, Ex strip, Ex row, Ex lane,
                     Ex position) {
    const Shape order{e_.groups, strips_, e_.batch};
    const std::vector<Ex> now{group, strip, row};
    const Ex next = a_.add(a_.linearize(now, order), a_.integer(1));
    const std::vector<Ex> at = a_.delinearize(next, order);
    const Ex line = a_.add(a_.mul(at[2], a_.integer(e_.groups)), at[0]);
    const Ex channel = a_.add(a_.mul(at[1], a_.integer(width_)), lane);
    for (const std::size_t operand : operands) {
      emitter_.prefetch(node_.operands[operand],
                        lines_.index(e_.x_leading, line, position, channel));
    }
  }

  void prefetch_epilogue(Sequence of, Ex position) {
    emitter_.prefetch_epilogue(lines_.index(e_.x_leading, of.row, position, of.channel),
                               node_.results[0].shape);
  }

  Signal read_sequence(std::size_t operand, const loop::Buffer* scratch, Sequence from) {
    Signal signal = lines_.read_sequence(operand, from);
    signal.scratch = scratch;
    return signal;
  }

  /// A phase that transforms t; with the scale of the inverse transform.
  void transform_coefficients(const loop::Buffer* scratch) {
    const Shape lines{e_.groups, strips_};
    b_.phase(lines.elements(), [&](Ex block) {
      const std::vector<Ex> at = a_.delinearize(block, lines);
      for_lanes(at[1], [&](Ex lane, Ex channel) {
        const Ex start = line_start(at[0], at[1]);
        const auto middle = [&](Ex slot, Points& values) {
          const Ex scale = a_.constant(Scalar::f32, 1.0 / static_cast<double>(length_));
          for (std::size_t q = 0; q < values[0].size(); ++q) {
            const ComplexEx& value = values[0][q];
            store(start, slot, q, lane, {a_.mul(value.re, scale), a_.mul(value.im, scale)});
          }
        };
        Signal line = lines_.read_coefficients(at[0], channel);
        line.scratch = scratch;
        passes_.run({line}, middle, lane);
      });
    });
  }

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  const Node& node_;
  TnoExtents e_;
  int width_;
  std::int64_t strips_;
  ConvolutionPlan plan_;
  std::int64_t length_;
  ConvolutionPasses passes_;
  bool streaming_;
  TnoLines lines_;
  const loop::Buffer* workspace_ = nullptr;  ///< spectra of t, then sums over parts of the batch
};

}  // namespace

bool has_tno_schedule(const Node& node) {
  // Sums over nothing are left to the primitives.
  if (node.operand_type(0).elements() == 0) return false;
  const TnoExtents e(node);
  // With few channels most lanes would idle where other axes could fill them.
  constexpr std::int64_t fewest_channels = 4;
  return e.d >= fewest_channels || e.batch * e.groups == 1;
}

void schedule_tno(GroupEmitter& emitter, const HostTarget& target) {
  const Node& node = *emitter.group().anchor;
  TnoKernel kernel(emitter, target.vector_lanes(DType::f32));
  if (node.is("tno") || node.is("tno_gradient_x")) {
    kernel.convolution();
  } else {
    kernel.gradients();
  }
}

}  // namespace weft::compiler
