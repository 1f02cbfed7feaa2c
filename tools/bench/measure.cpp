#include "tools/bench/measure.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <utility>

namespace weft::bench {
namespace {

double median_of(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Executions that take about `seconds`.
std::int64_t count_for(const Work& work, double seconds) {
  std::int64_t count = 1;
  for (;;) {
    const double taken = work(count);
    if (taken >= seconds / 4) {
      return std::max<std::int64_t>(
          1, std::llround(static_cast<double>(count) * seconds / std::max(taken, 1e-9)));
    }
    count *= 4;
  }
}

}  // namespace

double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

Work timed_by_processor(std::function<void(std::int64_t count)> work) {
  return [work = std::move(work)](std::int64_t count) {
    const double start = processor_seconds();
    work(count);
    return processor_seconds() - start;
  };
}

Work timed(std::function<void(std::int64_t count)> work) {
  return [work = std::move(work)](std::int64_t count) {
    const auto start = std::chrono::steady_clock::now();
    work(count);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
}

double Comparison::ratio(std::size_t i) const {
  std::vector<double> ratios;
  for (std::size_t turn = 0; turn < seconds[0].size(); ++turn) {
    ratios.push_back(seconds[i][turn] / seconds[0][turn]);
  }
  return median_of(std::move(ratios));
}

Comparison compare(const std::vector<Work>& works, double turn_seconds, int turns) {
  Comparison result;
  result.seconds.resize(works.size());
  std::vector<std::int64_t> counts;
  counts.reserve(works.size());
  for (const Work& work : works) counts.push_back(count_for(work, turn_seconds));
  for (int turn = -1; turn < turns; ++turn) {
    for (std::size_t i = 0; i < works.size(); ++i) {
      const double taken = works[i](counts[i]) / static_cast<double>(counts[i]);
      if (turn >= 0) result.seconds[i].push_back(taken);
    }
  }
  for (const std::vector<double>& seconds : result.seconds) {
    const auto [lowest, highest] = std::minmax_element(seconds.begin(), seconds.end());
    result.timings.push_back({median_of(seconds), *lowest, *highest});
  }
  return result;
}

}  // namespace weft::bench
