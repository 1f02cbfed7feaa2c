#include "runtime/plan/error.h"

#include <fmt/format.h>

#include <mutex>
#include <unordered_set>

namespace weft {

namespace {

struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const {
    return std::hash<std::string_view>{}(text);
  }
};

struct InternTable {
  std::mutex mutex;
  // Nodes of an unordered_set keep their addresses, so c_str() stays valid for short strings too.
  std::unordered_set<std::string, TextHash, std::equal_to<>> texts;
};

std::string with_location(const std::string& message, const Location& location) {
  std::string where = location.text();
  return where.empty() ? message : fmt::format("{} ({})", message, where);
}

}  // namespace

std::string Location::text() const {
  if (file == nullptr || *file == '\0') return {};
  return fmt::format("{}:{}", file, line);
}

const char* intern(std::string_view text) {
  // Never destroyed: interned texts may be read by destructors of static objects.
  static InternTable& table = *new InternTable;
  const std::lock_guard lock(table.mutex);
  auto found = table.texts.find(text);
  if (found == table.texts.end()) found = table.texts.emplace(text).first;
  return found->c_str();
}

Error::Error(const std::string& message, const Location& location)
    : std::runtime_error(with_location(message, location)) {}

}  // namespace weft
