#pragma once

#include <string>

namespace weft::test {

/// Writes a text to a folder of this test's below the build folder; returns the path.
std::string save(const std::string& file_name, const std::string& text);

}  // namespace weft::test
