#include "compiler/schedules/fft_lines.h"

#include <array>

namespace weft::compiler {

using loop::Ex;
using loop::Role;
using loop::Scalar;

namespace {

using Complex = std::complex<double>;

/// Splits of more points make their turns of two factors: the table of all of them would push what
/// is transformed out of the caches.
constexpr std::int64_t largest_table = 8192;

}  // namespace

// ---- memory -------------------------------------------------------------------------------------

const loop::Buffer* FftLines::scratch(const char* name, std::int64_t slots) {
  return b_.kernel().local(name, DType::f32, slots * 2 * width_);
}

ComplexEx FftLines::load(const loop::Buffer* buffer, Ex slot) {
  const Ex re = a_.add(a_.mul(slot, a_.integer(2 * width_)), lane_);
  return {a_.load(buffer, re), a_.load(buffer, a_.add(re, a_.integer(width_)))};
}

void FftLines::save(const loop::Buffer* buffer, Ex slot, const ComplexEx& value) {
  const Ex zero = a_.constant(Scalar::f32, 0);
  const Ex re = a_.add(a_.mul(slot, a_.integer(2 * width_)), lane_);
  b_.store(buffer, re, value.re == nullptr ? zero : value.re);
  b_.store(buffer, a_.add(re, a_.integer(width_)), value.im == nullptr ? zero : value.im);
}

const loop::Buffer* FftLines::table(const char* name, const std::vector<Complex>& values) {
  std::vector<double> parts;
  for (const Complex& value : values) {
    parts.push_back(value.real());
    parts.push_back(value.imag());
  }
  return b_.kernel().table(name, DType::f32, std::move(parts));
}

ComplexEx FftLines::entry(const loop::Buffer* table, Ex position) {
  const Ex re = a_.mul(position, a_.integer(2));
  return {a_.load(table, re), a_.load(table, a_.add(re, a_.integer(1)))};
}

ComplexEx FftLines::here(const ComplexEx& value) {
  return {value.re == nullptr ? nullptr : b_.let(value.re),
          value.im == nullptr ? nullptr : b_.let(value.im)};
}

// ---- splits -------------------------------------------------------------------------------------

FftLines::Node& FftLines::node(const FftPlan& plan) {
  const auto found = nodes_.find(&plan);
  if (found != nodes_.end()) return found->second;
  Node made;
  if (plan.kind == FftPlan::Kind::split) made = make_split(plan);
  if (plan.kind == FftPlan::Kind::chirp) made = make_chirp_node(plan);
  if (plan.kind == FftPlan::Kind::definition) made = make_definition(plan);
  return nodes_[&plan] = made;
}

FftLines::Node FftLines::make_split(const FftPlan& plan) {
  // Slots that many bytes apart share few sets of a cache.
  constexpr std::int64_t aliasing_bytes = 2048;
  Node node;
  const std::int64_t rows = plan.first->length;
  const std::int64_t columns = plan.second->length;
  node.pitch = rows;
  if (rows * 8 * width_ % aliasing_bytes == 0) ++node.pitch;
  node.between = scratch("between", columns * node.pitch);
  if (plan.length > largest_table) {
    while (node.fine_columns * node.fine_columns < columns) node.fine_columns *= 2;
  }
  std::vector<Complex> coarse;
  for (std::int64_t column = 0; column < columns; column += node.fine_columns) {
    for (std::int64_t row = 0; row < rows; ++row) {
      coarse.push_back(root_of_unity(column * row, plan.length));
    }
  }
  node.coarse = table("turns", coarse);
  if (node.fine_columns == 1) return node;
  std::vector<Complex> fine;
  for (std::int64_t column = 0; column < node.fine_columns; ++column) {
    for (std::int64_t row = 0; row < rows; ++row) {
      fine.push_back(root_of_unity(column * row, plan.length));
    }
  }
  node.fine = table("fine_turns", fine);
  return node;
}

ComplexEx FftLines::turn(const FftPlan& plan, bool inverse, Ex column, Ex row) {
  const Node& split = node(plan);
  const Ex rows = a_.integer(plan.first->length);
  ComplexEx factor;
  if (split.fine == nullptr) {
    factor = entry(split.coarse, a_.add(a_.mul(column, rows), row));
  } else {
    const Ex coarse = a_.floor_div(column, split.fine_columns);
    const Ex fine = a_.floor_mod(column, split.fine_columns);
    factor = here(multiply(a_, entry(split.coarse, a_.add(a_.mul(coarse, rows), row)),
                           entry(split.fine, a_.add(a_.mul(fine, rows), row))));
  }
  return inverse ? conjugate(a_, factor) : factor;
}

void FftLines::first(const FftPlan& plan, bool inverse, Ex column, const Read& read) {
  const Node& split = node(plan);
  run(*plan.first, inverse, read, [&](Ex row, const ComplexEx& value) {
    const bool unturned = row->kind == loop::ExprKind::constant && row->integer == 0;
    const Ex slot = a_.add(a_.mul(column, a_.integer(split.pitch)), row);
    save(split.between, slot,
         unturned ? value : multiply(a_, value, turn(plan, inverse, column, row)));
  });
}

void FftLines::second(const FftPlan& plan, bool inverse, Ex column, const Write& write) {
  const Node& split = node(plan);
  const auto read = [&](Ex row) {
    return load(split.between, a_.add(a_.mul(row, a_.integer(split.pitch)), column));
  };
  run(*plan.second, inverse, read, write);
}

void FftLines::run(const FftPlan& plan, bool inverse, const Read& read, const Write& write) {
  switch (plan.kind) {
    case FftPlan::Kind::butterfly: {
      std::vector<ComplexEx> x;
      for (std::int64_t i = 0; i < plan.length; ++i) x.push_back(here(read(a_.integer(i))));
      const std::vector<ComplexEx> y = butterfly(a_, x, inverse, &b_);
      for (std::int64_t k = 0; k < plan.length; ++k) {
        write(a_.integer(k), y[static_cast<std::size_t>(k)]);
      }
      return;
    }
    case FftPlan::Kind::definition:
      definition(plan, inverse, read, write);
      return;
    case FftPlan::Kind::chirp:
      chirp(plan, inverse, read, write);
      return;
    case FftPlan::Kind::split:
      break;
  }
  const Ex rows = a_.integer(plan.first->length);
  const Ex columns = a_.integer(plan.second->length);
  b_.loop(plan.second->length, Role::serial, 1, [&](Ex column) {
    first(plan, inverse, column,
          [&](Ex row) { return read(a_.add(a_.mul(row, columns), column)); });
  });
  b_.loop(plan.first->length, Role::serial, 1, [&](Ex column) {
    second(plan, inverse, column, [&](Ex row, const ComplexEx& value) {
      write(a_.add(a_.mul(row, rows), column), value);
    });
  });
}

// ---- primes -------------------------------------------------------------------------------------

FftLines::Node FftLines::make_definition(const FftPlan& plan) {
  Node node;
  const std::int64_t half = plan.length / 2;
  node.between = scratch("sums", half);
  node.minus = scratch("differences", half);
  std::vector<Complex> factors;
  for (std::int64_t k = 1; k <= half; ++k) {
    for (std::int64_t j = 1; j <= half; ++j) factors.push_back(root_of_unity(j * k, plan.length));
  }
  node.coarse = table("roots", factors);
  return node;
}

/// Pairs x_j +- x_(n-j), so that each product serves two results.
void FftLines::definition(const FftPlan& plan, bool inverse, const Read& read, const Write& write) {
  const Node& state = node(plan);
  const std::int64_t n = plan.length;
  const std::int64_t half = n / 2;
  const Ex zero = a_.constant(Scalar::f32, 0);
  const auto whole = [&](const ComplexEx& x) {
    return ComplexEx{x.re == nullptr ? zero : x.re, x.im == nullptr ? zero : x.im};
  };
  const ComplexEx x0 = here(whole(read(a_.integer(0))));
  loop::Accumulator* total_re = b_.declare(Scalar::f32, loop::Combine::add, x0.re);
  loop::Accumulator* total_im = b_.declare(Scalar::f32, loop::Combine::add, x0.im);
  b_.loop(half, Role::serial, 1, [&](Ex j) {
    const ComplexEx u = here(whole(read(a_.add(j, a_.integer(1)))));
    const ComplexEx v = here(whole(read(a_.sub(a_.integer(n - 1), j))));
    const ComplexEx sum = here(add(a_, u, v));
    save(state.between, j, sum);
    save(state.minus, j, subtract(a_, u, v));
    b_.accumulate(total_re, sum.re);
    b_.accumulate(total_im, sum.im);
  });
  const Ex re = b_.read(total_re);
  write(a_.integer(0), {re, b_.read(total_im)});
  // Some results at a time, which share what they read.
  const auto results = [&](Ex first, std::int64_t count) {
    std::vector<std::array<loop::Accumulator*, 4>> sums(static_cast<std::size_t>(count));
    for (auto& sum : sums) {
      for (std::size_t i = 0; i < 4; ++i) {
        sum[i] = b_.declare(Scalar::f32, loop::Combine::add,
                            i == 0   ? x0.re
                            : i == 1 ? x0.im
                                     : zero);
      }
    }
    b_.loop(half, Role::serial, 1, [&](Ex j) {
      const ComplexEx plus = here(load(state.between, j));
      const ComplexEx minus = here(load(state.minus, j));
      for (std::int64_t i = 0; i < count; ++i) {
        const Ex row = a_.add(first, a_.integer(i));
        const ComplexEx w = entry(state.coarse, a_.add(a_.mul(row, a_.integer(half)), j));
        const auto& sum = sums[static_cast<std::size_t>(i)];
        b_.accumulate(sum[0], a_.mul(w.re, plus.re));
        b_.accumulate(sum[1], a_.mul(w.re, plus.im));
        b_.accumulate(sum[2], a_.mul(w.im, minus.re));
        b_.accumulate(sum[3], a_.mul(w.im, minus.im));
      }
    });
    for (std::int64_t i = 0; i < count; ++i) {
      std::array<Ex, 4> value{};
      for (std::size_t part = 0; part < 4; ++part) {
        value[part] = b_.read(sums[static_cast<std::size_t>(i)][part]);
      }
      const ComplexEx even{value[0], value[1]};
      const ComplexEx odd = rotate(a_, {value[2], value[3]}, 0, inverse ? -1 : 1);
      const Ex k = a_.add(first, a_.integer(i + 1));
      write(k, add(a_, even, odd));
      write(a_.sub(a_.integer(n), k), subtract(a_, even, odd));
    }
  };
  constexpr std::int64_t group = 4;
  b_.loop(half / group, Role::serial, 1,
          [&](Ex g) { results(a_.mul(g, a_.integer(group)), group); });
  if (half % group > 0) results(a_.integer(half / group * group), half % group);
}

FftLines::Node FftLines::make_chirp_node(const FftPlan& plan) {
  Node node;
  const Chirp values = make_chirp(plan.length, plan.first->length);
  node.between = scratch("spectrum", plan.first->length);
  node.coarse = table("chirp", values.factors);
  node.fine = table("chirp_spectrum", values.spectrum);
  return node;
}

/// With c_j = exp(-pi i j^2 / n): y_k = c_k sum_j (x_j c_j) conj(c_(k-j)).
void FftLines::chirp(const FftPlan& plan, bool inverse, const Read& read, const Write& write) {
  const Node& state = node(plan);
  const std::int64_t n = plan.length;
  const auto directed = [&](const ComplexEx& x) { return inverse ? conjugate(a_, x) : x; };
  const auto padded = [&](Ex position) -> ComplexEx {
    const Ex inside = a_.less(position, a_.integer(n));
    if (inside->kind == loop::ExprKind::constant && inside->integer == 0) return {};
    const bool sure = inside->kind == loop::ExprKind::constant;
    // Beyond the end the last element is read and not used.
    const Ex at = sure
                      ? position
                      : b_.let_within(a_.binary(loop::Binary::minimum, position, a_.integer(n - 1)),
                                      0, n - 1);
    ComplexEx value = multiply(a_, here(read(at)), directed(entry(state.coarse, at)));
    if (sure) return value;
    const Ex zero = a_.constant(Scalar::f32, 0);
    if (value.re != nullptr) value.re = a_.select(inside, value.re, zero);
    if (value.im != nullptr) value.im = a_.select(inside, value.im, zero);
    return value;
  };
  // The chirp is even, so that the spectrum of its conjugate is the conjugate of its spectrum.
  run(*plan.first, false, padded, [&](Ex k, const ComplexEx& value) {
    save(state.between, k, multiply(a_, value, directed(entry(state.fine, k))));
  });
  run(
      *plan.first, true, [&](Ex k) { return load(state.between, k); },
      [&](Ex k, const ComplexEx& value) {
        b_.condition(a_.less(k, a_.integer(n)), [&] {
          const Ex at = b_.let_within(k, 0, n - 1);
          write(at, multiply(a_, value, directed(entry(state.coarse, at))));
        });
      });
}

}  // namespace weft::compiler
