#include "compiler/codegen/cached.h"

#include <fmt/format.h>
#include <llvm/Object/ObjectFile.h>
#include <llvm/Support/Error.h>
#include <llvm/Support/MemoryBufferRef.h>

#include <charconv>
#include <set>

namespace weft::compiler {

namespace {

/// What is stored of a kernel: a number of bytes that it needs, and texts.
struct Stored {
  std::int64_t needs = 0;
  std::string code;
  std::string assembly;
  std::string llvm_ir;
};

// The lengths of the parts, one after the other, then the parts.
std::string to_text(std::int64_t needs, const std::string& code, const std::string& assembly,
                    const std::string& llvm_ir) {
  return fmt::format("{} {} {} {}\n{}{}{}", needs, code.size(), assembly.size(), llvm_ir.size(),
                     code, assembly, llvm_ir);
}

bool from_text(std::string_view text, Stored& stored) {
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
  stored.needs = fields[0];
  return take(fields[1], stored.code) && take(fields[2], stored.assembly) &&
         take(fields[3], stored.llvm_ir) && text.empty();
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

/// Whether it is a module's text with an entry for each phase.
bool is_ptx(const std::string& text, const loop::Kernel& kernel, const std::string& symbol) {
  // The driver takes it as a C string.
  if (text.find(".version") == std::string::npos || text.find('\0') != std::string::npos) {
    return false;
  }
  for (std::size_t i = 0; i < kernel.phases.size(); ++i) {
    const std::string entry = fmt::format(".entry {}(", device_phase_symbol(symbol, i));
    if (text.find(entry) == std::string::npos) return false;
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
  if (const std::optional<std::string> found = cache->find(canonical, conditions)) {
    Stored stored;
    if (from_text(*found, stored) && is_object(stored.code, kernel, symbol)) {
      cached = true;
      return {{std::move(stored.code)},
              stored.needs,
              std::move(stored.assembly),
              std::move(stored.llvm_ir)};
    }
  }
  GeneratedCode code = generate_host(kernel, symbol, target, options);
  cache->store(canonical, conditions,
               to_text(code.scratch_bytes, code.object.bytes, code.assembly, code.llvm_ir));
  return code;
}

GeneratedDeviceCode generate_device_cached(const loop::Kernel& kernel, const std::string& canonical,
                                           const std::string& symbol, const DeviceTarget& target,
                                           const CodegenOptions& options, ObjectCache* cache,
                                           bool& cached) {
  cached = false;
  if (cache == nullptr) return generate_device(kernel, symbol, target, options);
  const std::string conditions =
      fmt::format("generator {}\ntarget {}\nbatch {}\nkeeps{} code\nsymbol {}\n", codegen_version(),
                  target.name(), options.batch, options.llvm_ir ? " ir" : "", symbol);
  if (const std::optional<std::string> found = cache->find(canonical, conditions)) {
    Stored stored;
    if (from_text(*found, stored) && is_ptx(stored.code, kernel, symbol)) {
      cached = true;
      return {std::move(stored.code), stored.needs, std::move(stored.llvm_ir)};
    }
  }
  GeneratedDeviceCode code = generate_device(kernel, symbol, target, options);
  cache->store(canonical, conditions, to_text(code.shared_bytes, code.ptx, {}, code.llvm_ir));
  return code;
}

}  // namespace weft::compiler
