#include "ptxas.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <regex>
#include <set>
#include <sstream>
#include <string_view>

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

/// A module's text without what a file says once, its own data renamed by `number`.
std::string part(const std::string& module, std::size_t number) {
  static const std::regex data(R"(^\.global .*?([%$_A-Za-z][$_A-Za-z0-9]*)\[)");
  std::set<std::string> names;
  std::istringstream lines(module);
  std::string text;
  for (std::string line; std::getline(lines, line);) {
    const auto starts = [&](std::string_view with) { return line.starts_with(with); };
    if (starts(".version") || starts(".target") || starts(".address_size")) continue;
    if (starts("//") || starts(".extern .shared")) continue;
    if (std::smatch match; std::regex_search(line, match, data)) names.insert(match[1]);
    text += line + "\n";
  }
  for (const std::string& name : names) {
    for (std::size_t at = text.find(name); at != std::string::npos; at = text.find(name, at)) {
      at += name.size();
      const std::string suffix = fmt::format("_{}", number);
      const bool whole = std::isalnum(static_cast<unsigned char>(text[at])) == 0 && text[at] != '_';
      if (whole) text.insert(at, suffix);
    }
  }
  return text;
}

}  // namespace

std::string assemble(const std::vector<std::string>& modules, const std::string& processor) {
  if (modules.empty()) return "";
  const std::set<std::string> distinct(modules.begin(), modules.end());
  std::string text;
  for (const char* directive : {".version", ".target", ".address_size"}) {
    const std::size_t at = modules[0].find(directive);
    text += modules[0].substr(at, modules[0].find('\n', at) - at) + "\n";
  }
  text += ".extern .shared .align 128 .b8 block_memory[];\n";
  std::size_t number = 0;
  for (const std::string& module : distinct) text += part(module, number++);
  return assemble(text, processor);
}

std::vector<std::string> spills(const std::string& said) {
  static const std::regex entry(
      R"(Compiling entry function '(\w+)'[\s\S]*?(\d+) bytes spill stores, (\d+) bytes spill)");
  std::vector<std::string> lines;
  for (std::sregex_iterator i(said.begin(), said.end(), entry), end; i != end; ++i) {
    if ((*i)[2] == "0" && (*i)[3] == "0") continue;
    lines.push_back(fmt::format("{}: {} bytes", (*i)[1].str(), (*i)[2].str()));
  }
  return lines;
}

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
