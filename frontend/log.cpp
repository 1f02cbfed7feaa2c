#include <cstdio>
#include <cstdlib>
#include <set>

#include "trace.h"

namespace weft::detail {

namespace {

/// The environment is read once: a log is switched on for a process.
const std::set<std::string, std::less<>>& topics() {
  static const std::set<std::string, std::less<>> listed = [] {
    std::set<std::string, std::less<>> result;
    const char* text = std::getenv("WEFT_LOG");
    std::string_view rest = text == nullptr ? "" : text;
    while (!rest.empty()) {
      const std::size_t comma = rest.find(',');
      if (const std::string_view topic = rest.substr(0, comma); !topic.empty()) {
        result.emplace(topic);
      }
      rest = comma == std::string_view::npos ? "" : rest.substr(comma + 1);
    }
    return result;
  }();
  return listed;
}

}  // namespace

bool log_enabled(std::string_view topic) {
  return topics().contains(topic) || topics().contains("all");
}

void log_line(std::string_view topic, std::string_view text) {
  const std::string line = fmt::format("weft {}: {}\n", topic, text);
  std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace weft::detail
