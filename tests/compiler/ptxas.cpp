#include "ptxas.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

namespace weft::test {
namespace {

std::optional<std::string> ptxas() {
  if (const char* named = std::getenv("WEFT_PTXAS")) return named;
  std::string folders = "/usr/local/cuda/bin";
  if (const char* path = std::getenv("PATH")) folders = std::string(path) + ':' + folders;
  for (std::size_t start = 0; start <= folders.size();) {
    const std::size_t end = std::min(folders.find(':', start), folders.size());
    const std::filesystem::path file =
        std::filesystem::path(folders.substr(start, end - start)) / "ptxas";
    if (access(file.c_str(), X_OK) == 0) return file.string();
    start = end + 1;
  }
  return std::nullopt;
}

}  // namespace

std::string assemble(const std::string& ptx, const std::string& processor) {
  const std::optional<std::string> program = ptxas();
  if (!program) return "";
  const std::string file = testing::TempDir() + fmt::format("weft-{}.ptx", getpid());
  std::ofstream(file) << ptx;
  const std::string command =
      fmt::format("'{}' -v -arch={} -o '{}.cubin' '{}' 2>&1", *program, processor, file, file);
  FILE* pipe = popen(command.c_str(), "r");
  std::string text;
  std::array<char, 4096> part{};
  while (pipe != nullptr && std::fgets(part.data(), part.size(), pipe) != nullptr) {
    text += part.data();
  }
  const int status = pipe == nullptr ? -1 : pclose(pipe);
  std::filesystem::remove(file);
  std::filesystem::remove(file + ".cubin");
  EXPECT_EQ(status, 0) << text << ptx;
  return text;
}

}  // namespace weft::test
