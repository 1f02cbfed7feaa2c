#include "runtime/machine.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>
#include <string_view>

namespace weft::runtime {
namespace {

/// The value of the first line of /proc/cpuinfo with that key, or "".
std::string processor_line(std::string_view key) {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (!line.starts_with(key)) continue;
    const std::size_t value = line.find_first_not_of(" \t", line.find(':') + 1);
    if (value != std::string::npos) return line.substr(value);
  }
  return {};
}

}  // namespace

std::string machine_name() {
  std::string name = processor_line("model name");
  if (!name.empty()) return name;
  utsname system{};
  return uname(&system) == 0 ? system.machine : "unknown";
}

std::vector<std::string> vector_features() {
  constexpr std::array<std::string_view, 8> families = {"sse4", "avx",   "fma", "f16c",
                                                        "amx",  "asimd", "sve", "sme"};
  std::string flags = processor_line("flags");
  if (flags.empty()) flags = processor_line("Features");
  std::istringstream stream(flags);
  std::vector<std::string> found;
  for (std::string flag; stream >> flag;) {
    if (flag == "smep") continue;  // of x86, and no vectors
    if (std::any_of(families.begin(), families.end(),
                    [&](std::string_view family) { return flag.starts_with(family); })) {
      found.push_back(flag);
    }
  }
  return found;
}

std::int64_t memory_bytes() {
  const std::int64_t pages = sysconf(_SC_PHYS_PAGES);
  const std::int64_t page = sysconf(_SC_PAGE_SIZE);
  return pages > 0 && page > 0 ? pages * page : 0;
}

}  // namespace weft::runtime
