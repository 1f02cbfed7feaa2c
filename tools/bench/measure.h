#pragma once

#include <cstdint>
#include <functional>
#include <vector>

/// Timing in pairs.
namespace weft::bench {

/// Seconds that one execution takes, of repeated measurements.
struct Timing {
  double median = 0;
  double lowest = 0;
  double highest = 0;
};

/// Does the work `count` times and returns the seconds that all of it took.
using Work = std::function<double(std::int64_t count)>;

/// Wraps a function into Work that a steady clock times.
Work timed(std::function<void(std::int64_t count)> work);

/// Seconds of all processors that this process has used.
double processor_seconds();

/// As timed(), by processor_seconds(): waiting for a processor does not count, spinning does.
Work timed_by_processor(std::function<void(std::int64_t count)> work);

/// Several ways of doing the same work, measured in turns, so that what else happens on the machine
/// meets all of them alike. Each turn takes about `turn_seconds` (and at least one execution);
/// there are `turns` of them for each, and a first that does not count.
struct Comparison {
  std::vector<Timing> timings;  ///< in the order of the works
  /// Median over turns of the time of work `i` over that of work 0.
  double ratio(std::size_t i) const;

  std::vector<std::vector<double>> seconds;  ///< [work][turn]
};
Comparison compare(const std::vector<Work>& works, double turn_seconds, int turns = 11);

}  // namespace weft::bench
