#include <algorithm>
#include <array>
#include <map>

#include "compiler/schedules/fft_plan.h"
#include "compiler/schedules/fourier_tile.h"

/// How transforms on a GPU are divided into passes, and the factors between them.
namespace weft::compiler {

using loop::Ex;

namespace {

/// Larger butterflies than this would not stay in the registers of 512 threads.
constexpr std::int64_t largest_radix = 16;

/// Instructions a point of a pass, forward or inverse. A warp's access of a complex number in
/// shared memory takes two cycles of a multiprocessor, which starts four warps' instructions in
/// each: eight, of which some run beside the arithmetic.
double pass_cost(std::int64_t radix) {
  static const std::vector<ButterflyOperations> table = [] {
    std::vector<ButterflyOperations> all(largest_radix + 1);
    for (std::int64_t r = 2; r <= largest_radix; ++r) {
      all[static_cast<std::size_t>(r)] = butterfly_operations(r);
    }
    return all;
  }();
  constexpr double access = 5;
  constexpr double barrier = 3;
  const ButterflyOperations& own = table[static_cast<std::size_t>(radix)];
  const auto points = static_cast<double>(radix);
  // Each factor and the product with it are one complex product each.
  const double turns = 8 * (points - 1) / points;
  return (own.sums + own.products) / points + turns + 2 * access + barrier;
}

/// Plans of the lengths below one that have been asked for.
class Planner {
 public:
  /// Null where a prime factor is too large.
  const DevicePlan* plan(std::int64_t length) {
    if (const auto found = plans_.find(length); found != plans_.end()) {
      return found->second.length == 0 ? nullptr : &found->second;
    }
    DevicePlan best;
    best.length = 0;
    const auto points = static_cast<double>(length);
    for (std::int64_t radix = std::min(length, largest_radix); radix > 1; --radix) {
      if (length % radix != 0) continue;
      double cost = pass_cost(radix) * points;
      std::vector<std::int64_t> radices = {radix};
      if (radix < length) {
        const DevicePlan* rest = plan(length / radix);
        if (rest == nullptr) continue;
        // Larger ones first: the last butterflies stay in registers beside a spectrum.
        if (rest->radices[0] > radix) continue;
        radices.insert(radices.end(), rest->radices.begin(), rest->radices.end());
        cost += rest->cost * static_cast<double>(radix);
      }
      if (best.length == 0 || cost < best.cost) best = {length, radices, cost};
    }
    DevicePlan& kept = plans_[length];
    kept = best;
    return kept.length == 0 ? nullptr : &kept;
  }

 private:
  std::map<std::int64_t, DevicePlan> plans_;
};

std::int64_t power_of_two_from(std::int64_t minimum) {
  std::int64_t power = 1;
  while (power < minimum) power *= 2;
  return power;
}

}  // namespace

std::int64_t DevicePlan::size(std::size_t level) const {
  std::int64_t points = 1;
  for (std::size_t i = level; i < radices.size(); ++i) points *= radices[i];
  return points;
}

std::int64_t DevicePlan::slot(std::size_t first, std::size_t last, std::int64_t bin) const {
  std::int64_t slot = 0;
  for (std::size_t level = first; level < last; ++level) {
    slot = slot * radices[level] + bin % radices[level];
    bin /= radices[level];
  }
  return slot;
}

Ex DevicePlan::slot(loop::Arena& a, std::size_t first, std::size_t last, Ex bin) const {
  Ex slot = a.integer(0);
  for (std::size_t level = first; level < last; ++level) {
    slot = a.add(a.mul(slot, a.integer(radices[level])), a.floor_mod(bin, radices[level]));
    bin = a.floor_div(bin, radices[level]);
  }
  return slot;
}

std::optional<DevicePlan> device_plan(std::int64_t length) {
  if (length == 1) return DevicePlan{1, {1}, 0};
  Planner planner;
  const DevicePlan* found = planner.plan(length);
  return found == nullptr ? std::nullopt : std::optional(*found);
}

DevicePlan device_plan_from(std::int64_t minimum) {
  if (minimum <= 1) return {1, {1}, 0};
  Planner planner;
  // A power of two is always there.
  const std::int64_t last = power_of_two_from(minimum);
  DevicePlan best = *planner.plan(last);
  // Numbers without a prime factor above 7: products of three powers times powers of two.
  for (std::int64_t seven = 1; seven < last; seven *= 7) {
    for (std::int64_t five = seven; five < last; five *= 5) {
      for (std::int64_t three = five; three < last; three *= 3) {
        std::int64_t length = three;
        while (length < minimum) length *= 2;
        if (length >= last) continue;
        const DevicePlan* plan = planner.plan(length);
        if (plan != nullptr && plan->cost < best.cost) best = *plan;
      }
    }
  }
  return best;
}

RootTable::RootTable(loop::Builder& builder, std::int64_t period, std::int64_t count) : split_(1) {
  // A long table is the product of two short ones, which stay in the nearest cache.
  constexpr std::int64_t longest_table = 2048;
  while (count > longest_table && split_ * split_ < count) split_ *= 2;
  const auto table = [&](const char* name, std::int64_t entries, std::int64_t step) {
    std::vector<double> values;
    for (std::int64_t j = 0; j < entries; ++j) {
      const std::complex<double> root = root_of_unity(j * step, period);
      values.push_back(root.real());
      values.push_back(root.imag());
    }
    return builder.kernel().table(name, DType::f32, std::move(values));
  };
  if (split_ == 1) {
    low_ = table("roots", count, 1);
    return;
  }
  low_ = table("roots", split_, 1);
  high_ = table("roots", (count + split_ - 1) / split_, split_);
}

ComplexEx RootTable::at(loop::Builder& builder, Ex j) const {
  loop::Arena& a = builder.arena();
  const auto entry = [&](const loop::Buffer* table, Ex index) {
    const Ex re = a.mul(index, a.integer(2));
    return ComplexEx{builder.let(a.load(table, re)),
                     builder.let(a.load(table, a.add(re, a.integer(1))))};
  };
  if (split_ == 1) return entry(low_, j);
  const ComplexEx product =
      multiply(a, entry(low_, a.floor_mod(j, split_)), entry(high_, a.floor_div(j, split_)));
  return {builder.let(product.re), builder.let(product.im)};
}

DeviceTurns::DeviceTurns(loop::Builder& builder, const DevicePlan& plan, bool twisted) {
  for (std::size_t level = 0; level < plan.levels(); ++level) {
    roots_.emplace_back(builder, plan.size(level), plan.size(level + 1));
  }
  if (twisted) twist_.emplace(builder, 4 * plan.length, plan.size(1));
}

}  // namespace weft::compiler
