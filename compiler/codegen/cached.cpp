#include "compiler/codegen/cached.h"

#include <fmt/format.h>
#include <llvm/Object/ObjectFile.h>
#include <llvm/Support/Error.h>
#include <llvm/Support/MemoryBufferRef.h>

#include <charconv>
#include <set>

namespace weft::compiler {

namespace {

// A stored value: the lengths of its parts, one after the other, then the parts.
std::string to_text(const GeneratedCode& code) {
  return fmt::format("{} {} {} {}\n{}{}{}", code.scratch_bytes, code.object.bytes.size(),
                     code.assembly.size(), code.llvm_ir.size(), code.object.bytes, code.assembly,
                     code.llvm_ir);
}

bool from_text(std::string_view text, GeneratedCode& code) {
  std::int64_t fields[4] = {};
  for (std::size_t i = 0; i < 4; ++i) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), fields[i]);
    const auto used = static_cast<std::size_t>(end - text.data());
    if (error != std::errc() || fields[i] < 0 || used == text.size()) return false;
    if (text[used] != (i < 3 ? ' ' : '\n')) return false;
    text.remove_prefix(used + 1);
  }
  const auto take = [&](std::int64_t size, std::string& part) {
    if (static_cast<std::uint64_t>(size) > text.size()) return false;
    part = text.substr(0, static_cast<std::size_t>(size));
    text.remove_prefix(part.size());
    return true;
  };
  code.scratch_bytes = fields[0];
  return take(fields[1], code.object.bytes) && take(fields[2], code.assembly) &&
         take(fields[3], code.llvm_ir) && text.empty();
}

/// Whether it is an object file for `target` with a function for each phase.
bool is_object(const std::string& bytes, const loop::Kernel& kernel, const std::string& symbol) {
  auto file = llvm::object::ObjectFile::createObjectFile(llvm::MemoryBufferRef(bytes, symbol));
  if (!file) {
    llvm::consumeError(file.takeError());
    return false;
  }
  const llvm::object::ObjectFile& object = **file;
  if (!object.isRelocatableObject() || object.getArch() != llvm::Triple::x86_64) return false;
  std::set<std::string, std::less<>> defined;
  for (const llvm::object::SymbolRef& entry : object.symbols()) {
    auto name = entry.getName();
    auto flags = entry.getFlags();
    if (name && flags && (*flags & llvm::object::SymbolRef::SF_Undefined) == 0) {
      defined.insert(name->str());
    }
    if (!name) llvm::consumeError(name.takeError());
    if (!flags) llvm::consumeError(flags.takeError());
  }
  for (std::size_t i = 0; i < kernel.phases.size(); ++i) {
    if (!defined.contains(phase_symbol(symbol, i))) return false;
  }
  return true;
}

}  // namespace

GeneratedCode generate_cached(const loop::Kernel& kernel, const std::string& canonical,
                              const std::string& symbol, const HostTarget& target,
                              const CodegenOptions& options, ObjectCache* cache, bool& cached) {
  cached = false;
  if (cache == nullptr) return generate_host(kernel, symbol, target, options);
  const std::string conditions =
      fmt::format("generator {}\ntarget {} vectors of {}\nfeatures {}\nkeeps{}{} code\nsymbol {}\n",
                  codegen_version(), target.name(), target.vector_bits, target.features,
                  options.assembly ? " assembly" : "", options.llvm_ir ? " ir" : "", symbol);
  GeneratedCode code;
  if (const std::optional<std::string> found = cache->find(canonical, conditions)) {
    if (from_text(*found, code) && is_object(code.object.bytes, kernel, symbol)) {
      cached = true;
      return code;
    }
  }
  code = generate_host(kernel, symbol, target, options);
  cache->store(canonical, conditions, to_text(code));
  return code;
}

}  // namespace weft::compiler
