#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <set>

#include "tests/loop/compare.h"

namespace weft {
namespace {

using loop::Accumulator;
using loop::Binary;
using loop::Buffer;
using loop::Builder;
using loop::Combine;
using loop::Ex;
using loop::Kernel;
using loop::Role;
using loop::Scalar;
using loop::Unary;

/// Random kernels: nests of loops of all roles, accesses of all shapes, conditions, accumulators.
/// All values are whole numbers that stay small, so that any order of summation is exact.
class RandomKernel {
 public:
  explicit RandomKernel(std::uint32_t seed) : random_(seed), builder_(kernel) {
    for (const DType dtype :
         {DType::f32, DType::i32, DType::f16, DType::f64, DType::i64, DType::u8}) {
      inputs_.push_back(kernel.argument("in", dtype, size, false));
    }
    outputs_.push_back(kernel.argument("out", DType::f32, size, true));
    outputs_.push_back(kernel.argument("out", DType::i32, size, true));
    outputs_.push_back(kernel.local("local", DType::f32, size));
    const int phases = 1 + pick(2);
    for (int i = 0; i < phases; ++i) {
      builder_.phase(1 + pick(3), [&](Ex block) {
        // Locals are undefined until written.
        builder_.loop(size, Role::vector, 16, [&](Ex i_) {
          builder_.store(outputs_[2], i_, arena().constant(Scalar::f32, 2));
        });
        indices_ = {block};
        values_.clear();
        sums_.clear();
        loads_.clear();
        statements(3);
      });
    }
  }

  Kernel kernel;

 private:
  static constexpr std::int64_t size = 600;

  int pick(int count) { return std::uniform_int_distribution<int>(0, count - 1)(random_); }
  loop::Arena& arena() { return kernel.arena; }

  Ex index() {
    Ex position = arena().integer(pick(8));
    for (Ex i : indices_) {
      static constexpr std::int64_t factors[] = {0, 1, 1, 1, 2, 2, 3, 16, -1};
      position = arena().add(position, arena().mul(i, arena().integer(factors[pick(9)])));
    }
    switch (pick(6)) {
      case 0:
        position = arena().floor_div(position, 1 + pick(20));
        break;
      case 1:
        position = arena().floor_mod(position, 1 + pick(40));
        break;
      case 2: {
        const Ex loaded = arena().load(inputs_[1], clamped(position));
        position = arena().add(position, arena().cast(loaded, Scalar::i64));
        break;
      }
      default:
        break;
    }
    return position;
  }

  Ex clamped(Ex position) {
    position = arena().binary(Binary::maximum, position, arena().integer(0));
    return arena().binary(Binary::minimum, position, arena().integer(size - 1));
  }

  Ex load(const Buffer* buffer) {
    const Ex position = index();
    if (pick(3) == 0) {
      const Ex inside = arena().logical_and(arena().less_equal(arena().integer(0), position),
                                            arena().less(position, arena().integer(size)));
      return arena().load(buffer, position, inside);
    }
    return arena().load(buffer, clamped(position));
  }

  /// A value between -64 and 64, however deep.
  Ex value(Scalar type, int depth) {
    if (depth == 0 || pick(4) == 0) {
      if (pick(4) == 0) return arena().integer(type, pick(7) - 3);
      if (!values_.empty() && pick(3) == 0) {
        return arena().cast(
            values_[static_cast<std::size_t>(pick(static_cast<int>(values_.size())))], type);
      }
      const bool written = pick(4) == 0;
      const auto& from = written ? outputs_ : inputs_;
      const Buffer* buffer = from[static_cast<std::size_t>(pick(static_cast<int>(from.size())))];
      // Often what was read before, perhaps before a store.
      if (loads_.empty() || pick(2) == 0) {
        loads_.push_back(load(buffer));
        return arena().cast(loads_.back(), type);
      }
      return arena().cast(loads_[static_cast<std::size_t>(pick(static_cast<int>(loads_.size())))],
                          type);
    }
    const Ex a = value(type, depth - 1);
    const Ex b = value(type, depth - 1);
    Ex result = nullptr;
    switch (pick(6)) {
      case 0:
        result = arena().add(a, b);
        break;
      case 1:
        result = arena().sub(a, b);
        break;
      case 2:
        result = arena().mul(a, b);
        break;
      case 3:
        return arena().binary(pick(2) ? Binary::minimum : Binary::maximum, a, b);
      case 4:
        return arena().select(arena().less(a, b), a, value(type, depth - 1));
      default: {
        const Ex same = arena().equal(arena().cast(a, Scalar::i64), index());
        return arena().select(same, b, arena().unary(Unary::absolute, a));
      }
    }
    result = arena().binary(Binary::minimum, result, arena().integer(type, 64));
    return arena().binary(Binary::maximum, result, arena().integer(type, -64));
  }

  void statements(int depth) {
    const int count = 1 + pick(4);
    for (int i = 0; i < count; ++i) statement(depth);
  }

  void statement(int depth) {
    const std::size_t indices = indices_.size(), values = values_.size();
    const std::size_t sums = sums_.size(), loads = loads_.size();
    const auto leave = [&] {
      indices_.resize(indices);
      values_.resize(values);
      sums_.resize(sums);
      loads_.resize(loads);
    };
    switch (pick(depth > 0 ? 10 : 5)) {
      case 0:
      case 1: {
        const Buffer* buffer = outputs_[static_cast<std::size_t>(pick(3))];
        const Ex position = index();
        const Ex inside = arena().logical_and(arena().less_equal(arena().integer(0), position),
                                              arena().less(position, arena().integer(size)));
        const Ex stored = value(loop::register_type(buffer->dtype), 2);
        if (in_vector_) {
          // Lanes run side by side: what they read must not be what other lanes write, and no two
          // stores may meet in another order than that of the iterations.
          if (inner_loops_ > 0 || written_.contains(buffer)) break;
          if (position->reads_mutable || stored->reads_mutable) break;
          written_.insert(buffer);
        }
        builder_.store(buffer, position, stored, inside);
        break;
      }
      case 2: {
        const Ex bound = value(pick(2) ? Scalar::f32 : Scalar::i64, 2);
        if (!(in_vector_ && bound->reads_mutable)) values_.push_back(builder_.let(bound));
        break;
      }
      case 3:
      case 4: {
        if (sums_.empty()) break;
        Accumulator* sum = sums_[static_cast<std::size_t>(pick(static_cast<int>(sums_.size())))];
        const Ex term = value(sum->type, 2);
        if (!(in_vector_ && term->reads_mutable)) builder_.accumulate(sum, term);
        break;
      }
      case 5:
      case 6:
      case 7: {
        static constexpr std::int64_t extents[] = {2, 3, 7, 8, 15, 16, 17, 20, 33};
        static constexpr int widths[] = {4, 8, 16, 32};
        const int role = pick(3);
        const bool vector = role == 1 && !in_vector_;
        const std::int64_t extent = vector ? extents[pick(9)] : 2 + pick(3);
        const Role chosen = vector ? Role::vector : role == 2 ? Role::unrolled : Role::serial;
        if (vector) {
          in_vector_ = true;
          inner_loops_ = 0;
          written_.clear();
        } else {
          ++inner_loops_;
        }
        builder_.loop(extent, chosen, widths[pick(4)], [&](Ex i) {
          indices_.push_back(i);
          statements(depth - 1);
        });
        if (vector) {
          in_vector_ = false;
        } else {
          --inner_loops_;
        }
        leave();
        break;
      }
      case 8: {
        const Ex left = value(Scalar::i64, 1);
        if (in_vector_ && left->reads_mutable) break;
        builder_.condition(arena().less(left, index()), [&] { statements(depth - 1); });
        leave();
        break;
      }
      default: {
        static constexpr Combine combinations[] = {Combine::add, Combine::minimum,
                                                   Combine::maximum};
        const Scalar type = pick(2) ? Scalar::f64 : Scalar::i64;
        const Ex initial = value(type, 1);
        if (in_vector_ && initial->reads_mutable) break;
        Accumulator* sum = builder_.declare(type, combinations[pick(3)], initial);
        sums_.push_back(sum);
        statements(depth - 1);
        leave();
        // Sums grow: bring them back before they are used.
        Ex total = builder_.read(sum);
        total = arena().binary(Binary::minimum, total, arena().integer(type, 64));
        total = arena().binary(Binary::maximum, total, arena().integer(type, -64));
        values_.push_back(total);
        if (!in_vector_) {
          builder_.store(outputs_[1], clamped(index()), arena().cast(total, Scalar::i32));
        }
        break;
      }
    }
  }

  std::mt19937 random_;
  Builder builder_;
  std::vector<const Buffer*> inputs_;
  std::vector<const Buffer*> outputs_;
  std::vector<Ex> indices_;
  std::vector<Ex> values_;
  std::vector<Ex> loads_;
  std::vector<Accumulator*> sums_;
  bool in_vector_ = false;
  int inner_loops_ = 0;
  std::set<const Buffer*> written_;  ///< in the vector loop here
};

TEST(Fuzz, RandomKernelsMeanWhatTheySay) {
  // WEFT_FUZZ_SEEDS=first:count for a longer search.
  std::uint32_t first = 0, count = 60;
  if (const char* range = std::getenv("WEFT_FUZZ_SEEDS")) {
    char* rest = nullptr;
    first = static_cast<std::uint32_t>(std::strtoul(range, &rest, 10));
    if (*rest == ':') count = static_cast<std::uint32_t>(std::strtoul(rest + 1, nullptr, 10));
  }
  for (std::uint32_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const RandomKernel random(seed);
    tests::expect_same(random.kernel);
    if (testing::Test::HasFailure()) break;
  }
}

}  // namespace
}  // namespace weft
