#include "save.h"

#include <filesystem>
#include <fstream>

namespace weft::test {

std::string save(const std::string& file_name, const std::string& text) {
  const std::filesystem::path folder = std::filesystem::path(WEFT_BINARY_DIR) / "differential";
  std::filesystem::create_directories(folder);
  const std::filesystem::path path = folder / file_name;
  std::ofstream(path) << text;
  return path.string();
}

}  // namespace weft::test
