#include "dump_files.h"

#include <fmt/format.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <system_error>

#include "compiler/dump.h"
#include "compiler/ir/text.h"

namespace weft::detail {

std::unique_ptr<DumpFiles> DumpFiles::open(const std::string& program) {
  const char* folder = std::getenv("WEFT_DUMP");
  if (folder == nullptr || *folder == '\0') return nullptr;
  // Programs may share a name: each compilation of a process has a number of its own.
  static std::atomic<int> compilations{0};
  std::string name;
  for (const char c : program) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-';
    name += plain ? c : '_';
  }
  const std::filesystem::path path =
      std::filesystem::path(folder) / fmt::format("{:03}-{}", compilations++, name);
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) {
    throw Error(
        fmt::format("WEFT_DUMP: cannot make the folder {}: {}", path.string(), error.message()));
  }
  return std::unique_ptr<DumpFiles>(new DumpFiles(path));
}

void DumpFiles::write(const std::string& file, std::string_view text) const {
  std::ofstream out(folder_ / file);
  out << text;
  out.close();
  if (!out) throw Error(fmt::format("WEFT_DUMP: cannot write {}", (folder_ / file).string()));
}

void DumpFiles::graph(std::string_view stage, const ir::Graph& graph) {
  write(fmt::format("{:02}-{}.weft", number_++, stage), ir::print(graph));
}

void DumpFiles::compilation(const compiler::Compilation& compilation) {
  using compiler::DumpFormat;
  write("fused.txt", compilation.fused);
  write("kernels.json", compiler::dump(compilation, "kernels", DumpFormat::json));
  write("kernels.dot", compiler::dump(compilation, "kernels", DumpFormat::dot));
  write("refusals.txt", compiler::dump(compilation, "refusals", DumpFormat::text));
  write("loops.txt", compiler::dump(compilation, "loops", DumpFormat::text));
  write("assembly.s", compiler::dump(compilation, "assembly", DumpFormat::text));
  std::string passes;
  for (const compiler::PassTime& pass : compilation.passes) {
    passes += fmt::format("{:<16} {:10.3f} ms\n", pass.pass, pass.seconds * 1e3);
  }
  write("passes.txt", passes);
}

}  // namespace weft::detail
