#pragma once

#include <cstdint>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>

namespace weft {

/// A line of the user's program. `file` is interned and lives as long as the process.
struct Location {
  const char* file = nullptr;
  std::uint32_t line = 0;

  Location() = default;
  Location(const char* file_name, std::uint32_t line_number) : file(file_name), line(line_number) {}
  Location(const std::source_location& source)  // NOLINT(google-explicit-constructor)
      : file(source.file_name()), line(source.line()) {}

  /// "file:line", or "" where the location is unknown.
  std::string text() const;
};

/// Copies `text` into storage that lives as long as the process; equal texts share it.
const char* intern(std::string_view text);

/// Everything that weft throws. what() names the operation, the types and file:line.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
  Error(const std::string& message, const Location& location);
};

}  // namespace weft
