#include <exception>

#include "tools/bench/bench.h"

namespace weft::bench {

void run_case(const Report& report, const std::string& bench, const std::string& name,
              const std::function<void()>& body) {
  try {
    body();
  } catch (const std::exception& error) {
    Row row{bench, name, "error", 0, "", {}, {}};
    row.error = error.what();
    report(row);
  }
}

}  // namespace weft::bench
