#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <thread>

#include "ops/random.h"
#include "trace.h"

namespace weft::detail {

namespace {

/// Numbers of one tensor: each element by its index alone, whatever is computed together.
class Stream {
 public:
  Stream(const Initializer& initializer, std::uint64_t seed, std::string_view name)
      : initializer_(initializer), seed_(seed), hash_(ops::hash32(name)) {}

  void fill(std::int64_t first, std::span<double> values) const {
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = value(static_cast<std::uint64_t>(first) + i);
    }
  }

 private:
  double value(std::uint64_t index) const {
    const std::uint64_t block = index / 4;
    // As random_uniform and random_normal, with the name as the stream, in iteration 0.
    const std::array<std::uint32_t, 4> words = ops::philox(
        {static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32), 0, hash_},
        {static_cast<std::uint32_t>(seed_), static_cast<std::uint32_t>(seed_ >> 32)});
    const std::size_t lane = index % 4;
    if (initializer_.kind == Initializer::Kind::uniform) {
      return initializer_.a + (initializer_.b - initializer_.a) * uniform(words[lane]);
    }
    // Box-Muller: a pair of words makes a pair of numbers. The first is never 0.
    const std::size_t pair = lane & ~std::size_t{1};
    const double radius = std::sqrt(-2 * std::log(uniform(words[pair]) + 0x1p-24));
    const double angle = 2 * std::numbers::pi * uniform(words[pair + 1]);
    return initializer_.a +
           initializer_.b * radius * (lane == pair ? std::cos(angle) : std::sin(angle));
  }

  static double uniform(std::uint32_t word) { return static_cast<double>(word >> 8) * 0x1p-24; }

  const Initializer& initializer_;
  std::uint64_t seed_;
  std::uint32_t hash_;
};

void fill_random(State& state, const std::string& name, const Stream& stream) {
  constexpr std::int64_t chunk = 4096;  // numbers at a time, so that doubles stay in cache
  const Type type = state.type(name);
  const int parts = is_complex(type.dtype) ? 2 : 1;
  const std::int64_t elements = type.elements();
  std::byte* bytes = state.bytes(name).data();
  const auto fill = [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> values(static_cast<std::size_t>(chunk * parts));
    for (std::int64_t first = begin; first < end; first += chunk) {
      const std::int64_t count = std::min(chunk, end - first);
      stream.fill(first * parts, std::span(values).first(static_cast<std::size_t>(count * parts)));
      from_doubles(type.dtype, values.data(), count,
                   bytes + first * static_cast<std::int64_t>(size_of(type.dtype)));
    }
  };
  const std::int64_t chunks = (elements + chunk - 1) / chunk;
  const auto cores = static_cast<std::int64_t>(std::max(1U, std::thread::hardware_concurrency()));
  const std::int64_t workers = std::min(cores, chunks / 64 + 1);
  const std::int64_t share = (chunks + workers - 1) / workers * chunk;
  std::vector<std::jthread> threads;
  for (std::int64_t worker = 1; worker < workers; ++worker) {
    const std::int64_t begin = std::min(worker * share, elements);
    threads.emplace_back(fill, begin, std::min(begin + share, elements));
  }
  fill(0, std::min(share, elements));
}

}  // namespace

void initialise(State& state, const std::string& name, const Initializer& initializer,
                std::uint64_t seed) {
  const Type type = state.type(name);
  const bool pairs = is_complex(type.dtype);
  const auto count = static_cast<std::size_t>(type.elements() * (pairs ? 2 : 1));
  switch (initializer.kind) {
    case Initializer::Kind::constant: {
      if (initializer.a == 0) return;  // a new state is zeroed
      std::vector<double> values(count, initializer.a);
      for (std::size_t i = 1; pairs && i < count; i += 2) values[i] = 0;
      state.set_values(name, values);
      return;
    }
    case Initializer::Kind::values:
      if (initializer.values.size() != count) {
        throw Error(
            fmt::format("{} initial values for {}", initializer.values.size(), type.text()));
      }
      state.set_values(name, initializer.values);
      return;
    case Initializer::Kind::uniform:
    case Initializer::Kind::normal:
      fill_random(state, name, Stream(initializer, seed, name));
      return;
  }
}

}  // namespace weft::detail
