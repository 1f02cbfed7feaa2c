#include <algorithm>

#include "compiler/schedules/divide.h"
#include "compiler/schedules/fourier_sweeps.h"
#include "compiler/schedules/schedule.h"
#include "compiler/schedules/tno_direct.h"
#include "compiler/schedules/tno_direct_gradient.h"
#include "compiler/schedules/tno_lines.h"

/// The Toeplitz operator and its gradients on a GPU (tno_lines.h says which convolutions these
/// are; convolution_passes.h how 2N real elements are N points). The spectrum of t is computed
/// once, by a phase ahead; a block takes channels of x through the product with it to the result.
namespace weft::compiler {
namespace {

using ir::Node;
using loop::Ex;
using loop::Scalar;

FourierSweeps::Lines lines_of(const TnoExtents& e) { return {e.batch, e.groups, e.d}; }

FourierSweeps::Options options_of(const Node& node, const DeviceOptions& options) {
  FourierSweeps::Options own;
  own.element_bytes = static_cast<std::int64_t>(size_of(node.operand_type(0).dtype));
  own.shared_bytes = options.shared_bytes();
  own.processors = options.processors;
  return own;
}

class TnoDevice {
 public:
  TnoDevice(GroupEmitter& emitter, const DeviceOptions& options)
      : emitter_(emitter),
        a_(emitter.arena()),
        b_(emitter.builder()),
        node_(*emitter.group().anchor),
        e_(node_),
        processors_(options.processors),
        plan_(device_plan_from(e_.n)),
        lines_(emitter, plan_.length, false),
        sweeps_(emitter, plan_, true, lines_of(e_), options_of(node_, options)),
        coefficients_(sweeps_, {1, e_.groups, e_.d}) {
    const std::int64_t shared =
        std::max(sweeps_.shared_elements(), coefficients_.shared_elements());
    if (shared == 0) return;
    const loop::Buffer* points = b_.kernel().shared("points", DType::f32, shared);
    sweeps_.set_shared(points);
    coefficients_.set_shared(points);
  }

  /// tno: of x and t; tno_gradient_x: of g in reverse and t.
  void convolution() {
    const bool reverse = node_.is("tno_gradient_x");
    const std::int64_t base = sweeps_.spectrum_elements();
    allocate(base + std::max(sweeps_.lines_elements(), coefficients_.lines_elements()));
    transform_coefficients(base);
    const Source source = sequence(0, reverse);
    const Sink sink = result(reverse);
    sweeps_.forward(source, base);
    FourierTile& tile = sweeps_.rows_tile();
    sweeps_.for_rows([&](const Position& at) {
      tile.through(
          sweeps_.load(at, source, base),
          [&](const Butterfly& own, Values& values) { filter(at, own, values); },
          sweeps_.save(at, sink, base));
    });
    sweeps_.inverse(sink, base);
  }

  /// tno_gradient_t: of x and g in reverse, summed over the batch; with tno_gradients also that of
  /// g in reverse and t, from the same transforms.
  void gradients() {
    const bool both = node_.is("tno_gradients");
    FourierTile& tile = sweeps_.rows_tile();
    const std::int64_t chunk = rows_in_turn();
    const std::int64_t parts = divide_up(divide_up(e_.batch, tile.slow()), chunk);
    const std::int64_t sums = parts * tile.slow();
    // A thread leaves its points of the spectrum of x in memory, that is in the L2 cache, while it
    // transforms g: registers for both would be too many.
    const std::int64_t own_elements = 2 * tile.slow() * tile.points() * tile.fast();
    const std::int64_t sums_base = both ? sweeps_.spectrum_elements() : 0;
    const std::int64_t kept_base = sums_base + sums * sweeps_.spectrum_elements();
    const std::int64_t x_base = kept_base + parts * sweeps_.blocks() * own_elements;
    const std::int64_t g_base = x_base + sweeps_.lines_elements();
    // The lines of t, before and after: there is no x yet, or no longer.
    allocate(x_base + std::max(2 * sweeps_.lines_elements(), coefficients_.lines_elements()));
    if (both) transform_coefficients(x_base);
    const Source x = sequence(0, false);
    const Source g = sequence(both ? 2 : 1, true);
    const Sink sink = result(true);
    sweeps_.forward(x, x_base);
    sweeps_.forward(g, g_base);
    const auto body = [&](const Position& at) {
      const auto kept_at = [&](const Butterfly& own, std::int64_t q) {
        const Ex point = a_.add(own.number, a_.integer(q * tile.last_butterflies()));
        return a_.add(a_.add(a_.integer(kept_base), a_.mul(at.block, a_.integer(own_elements))),
                      a_.mul(point, a_.integer(2)));
      };
      tile.through(
          sweeps_.load(at, x, x_base),
          [&](const Butterfly& own, Values& values) {
            for (std::size_t i = 0; i < values.size(); ++i) {
              sweeps_.store(kept_at(own, static_cast<std::int64_t>(i)), values[i]);
            }
          },
          nullptr);
      tile.barrier();
      tile.through(
          sweeps_.load(at, g, g_base),
          [&](const Butterfly& own, Values& values) {
            // Some loads at a time, before the stores that they might otherwise wait for, and no
            // more of them than there are registers for.
            const std::size_t together = chunk > 1 ? 4 : 8;
            for (std::size_t first = 0; first < values.size(); first += together) {
              const std::size_t end = std::min(first + together, values.size());
              std::vector<ComplexEx> products;
              for (std::size_t i = first; i < end; ++i) {
                products.push_back(sweeps_.fetch(kept_at(own, static_cast<std::int64_t>(i))));
              }
              std::vector<ComplexEx> sums_before(products.size());
              const Ex later = a_.less(a_.integer(0), at.index);
              for (std::size_t i = first; chunk > 1 && i < end; ++i) {
                sums_before[i - first] =
                    sweeps_.fetch(sum_at(sums_base, at, own, static_cast<std::int64_t>(i)), later);
              }
              for (std::size_t i = first; i < end; ++i) {
                ComplexEx& product = products[i - first];
                product = multiply(a_, values[i], product);
                product = add(a_, product, sums_before[i - first]);
                product = {b_.let(product.re), b_.let(product.im)};
              }
              for (std::size_t i = first; i < end; ++i) {
                sweeps_.store(sum_at(sums_base, at, own, static_cast<std::int64_t>(i)),
                              products[i - first]);
              }
            }
            if (both) filter(at, own, values);
          },
          both ? sweeps_.save(at, sink, g_base) : FourierTile::Save());
    };
    sweeps_.for_rows(body, chunk);
    if (both) sweeps_.inverse(sink, g_base);
    add_up(sums_base, sums, x_base);
  }

 private:
  using Position = FourierSweeps::Position;
  using Source = FourierSweeps::Source;
  using Sink = FourierSweeps::Sink;
  using Butterfly = FourierTile::Butterfly;
  using Values = std::vector<ComplexEx>;

  void allocate(std::int64_t elements) {
    const loop::Buffer* workspace = emitter_.workspace(DType::f32, elements);
    sweeps_.set_workspace(workspace);
    coefficients_.set_workspace(workspace);
  }

  /// Blocks of rows that a block sums over in turn: fewer parts are fewer sums to add up, but a
  /// machine should be occupied, and its last blocks start with the others.
  std::int64_t rows_in_turn() {
    const FourierTile& tile = sweeps_.rows_tile();
    const std::int64_t rows = divide_up(e_.batch, tile.slow());
    constexpr std::int64_t many_threads = 512;
    const std::int64_t places = processors_ * (tile.threads() < many_threads ? 2 : 1);
    std::int64_t best = rows;
    std::int64_t least = 0;
    for (std::int64_t parts = 1; parts <= std::min(rows, places); ++parts) {
      const std::int64_t chunk = divide_up(rows, parts);
      const std::int64_t cost =
          divide_up(sweeps_.blocks() * divide_up(rows, chunk), places) * chunk;
      if (least != 0 && cost >= least) continue;
      least = cost;
      best = chunk;
    }
    return best;
  }

  Source sequence(std::size_t operand, bool reverse) {
    return {[=, this](Ex line, Ex channel, Ex position, Ex inside) {
              return lines_.read_sequence(operand, {line, channel, reverse}).read(position, inside);
            },
            e_.n};
  }

  Sink result(bool reverse) {
    return {[=, this](Ex line, Ex channel, Ex position, const ComplexEx& value) {
              TnoLines::Signal signal;
              lines_.write_sequence(signal, {line, channel, reverse});
              signal.write(position, value);
            },
            e_.causal ? e_.n : plan_.length};
  }

  /// Products with the spectrum of t, which is the first thing in the workspace.
  void filter(const Position& at, const Butterfly& own, Values& values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const ComplexEx factor =
          sweeps_.fetch(sweeps_.spectrum_at(at, own, static_cast<std::int64_t>(i)));
      const ComplexEx product = multiply(a_, values[i], factor);
      values[i] = {b_.let(product.re), b_.let(product.im)};
    }
  }

  /// With the scale of the inverse transform.
  ComplexEx scaled(const ComplexEx& value) {
    const Ex scale = a_.constant(Scalar::f32, 1.0 / static_cast<double>(plan_.length));
    return {b_.let(a_.mul(sweeps_.part(value.re), scale)),
            b_.let(a_.mul(sweeps_.part(value.im), scale))};
  }

  void transform_coefficients(std::int64_t base) {
    const Source source{[this](Ex group, Ex channel, Ex position, Ex inside) {
                          return lines_.read_coefficients(group, channel).read(position, inside);
                        },
                        std::min(plan_.length, e_.lags())};
    coefficients_.forward(source, base);
    coefficients_.for_rows([&](const Position& at) {
      coefficients_.rows_tile().through(
          coefficients_.load(at, source, base),
          [&](const Butterfly& own, Values& values) {
            for (std::size_t i = 0; i < values.size(); ++i) {
              const auto q = static_cast<std::int64_t>(i);
              coefficients_.store(coefficients_.spectrum_at(at, own, q), scaled(values[i]));
            }
          },
          nullptr);
    });
  }

  /// A part of the sum over the batch: of a block of rows, and a row of the block.
  Ex sum_at(std::int64_t base, const Position& at, const Butterfly& own, std::int64_t q) {
    const Ex part = a_.add(a_.mul(at.part, a_.integer(at.tile->slow())), own.places[0].slow);
    const Ex start = a_.mul(part, a_.integer(sweeps_.spectrum_elements()));
    return a_.add(a_.add(a_.integer(base), start), sweeps_.spectrum_at(at, own, q));
  }

  /// The gradient of t: the parts are added up in order.
  void add_up(std::int64_t sums_base, std::int64_t sums, std::int64_t base) {
    const Sink sink{[this](Ex group, Ex channel, Ex position, const ComplexEx& value) {
                      TnoLines::Signal signal;
                      lines_.write_coefficients(signal, group, channel);
                      signal.write(position, value);
                    },
                    std::min(plan_.length, e_.lags())};
    coefficients_.for_rows([&](const Position& at) {
      coefficients_.rows_tile().through(
          nullptr,
          [&](const Butterfly& own, Values& values) {
            std::vector<loop::Accumulator*> totals;
            for (std::size_t i = 0; i < 2 * values.size(); ++i) {
              totals.push_back(
                  b_.declare(Scalar::f32, loop::Combine::add, a_.constant(Scalar::f32, 0)));
            }
            b_.loop(a_.integer(sums), [&](Ex number) {
              const Ex start = a_.add(a_.integer(sums_base),
                                      a_.mul(number, a_.integer(sweeps_.spectrum_elements())));
              for (std::size_t i = 0; i < values.size(); ++i) {
                const Ex place = coefficients_.spectrum_at(at, own, static_cast<std::int64_t>(i));
                const ComplexEx value = coefficients_.fetch(a_.add(start, place));
                b_.accumulate(totals[2 * i], value.re);
                b_.accumulate(totals[2 * i + 1], value.im);
              }
            });
            for (std::size_t i = 0; i < values.size(); ++i) {
              values[i] = scaled({b_.read(totals[2 * i]), b_.read(totals[2 * i + 1])});
            }
          },
          coefficients_.save(at, sink, base));
    });
    coefficients_.inverse(sink, base);
  }

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  const Node& node_;
  TnoExtents e_;
  std::int64_t processors_;
  DevicePlan plan_;
  TnoLines lines_;
  FourierSweeps sweeps_;
  FourierSweeps coefficients_;  ///< of t
};

bool computes_x(const Node& node) { return !node.is("tno_gradient_t"); }
bool computes_t(const Node& node) { return node.is("tno_gradient_t") || node.is("tno_gradients"); }

/// Both parts of a node with two go the same way.
bool goes_by_products(const Node& node, const DeviceOptions& options) {
  const bool of_x = computes_x(node);
  const bool of_t = computes_t(node);
  if ((of_x && !tno_may_be_direct(node, options)) ||
      (of_t && !tno_gradient_t_may_be_direct(node, options))) {
    return false;
  }
  if (options.tno_by_products) return options.tno_by_products(node);
  return (!of_x || tno_is_direct(node, options)) &&
         (!of_t || tno_gradient_t_is_direct(node, options));
}

}  // namespace

void schedule_tno_device(GroupEmitter& emitter, const DeviceOptions& options) {
  const Node& node = *emitter.group().anchor;
  if (goes_by_products(node, options)) {
    if (computes_x(node)) emit_tno_direct(emitter, options);
    if (computes_t(node)) emit_tno_direct_gradient(emitter, options);
    return;
  }
  TnoDevice kernel(emitter, options);
  if (node.is("tno") || node.is("tno_gradient_x")) {
    kernel.convolution();
  } else {
    kernel.gradients();
  }
}

bool has_tno_device_schedule(const Node& node) {
  // Sums over nothing are left to the primitives.
  return node.operand_type(0).elements() > 0;
}

}  // namespace weft::compiler
