#include <llvm-c/Core.h>
#include <llvm/IR/MDBuilder.h>
#include <llvm/MC/TargetRegistry.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Support/raw_ostream.h>
#include <llvm/Target/TargetMachine.h>
#include <llvm/TargetParser/Host.h>
#include <llvm/TargetParser/X86TargetParser.h>
#include <llvm/Transforms/Utils/Cloning.h>

#include <algorithm>
#include <bit>
#include <mutex>

#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "compiler/codegen/codegen.h"
#include "compiler/codegen/emitter.h"
#include "compiler/codegen/module.h"
#include "runtime/plan/error.h"

namespace weft::compiler {

/// Of the file that the build makes.
extern const char* const codegen_sources;

namespace {

/// Local buffers of up to this many bytes, in all, live on the stack, where LLVM may keep them in
/// registers.
constexpr std::int64_t stack_bytes = 16 * 1024;
constexpr std::int64_t alignment = 64;

void initialise_llvm() {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
  });
}

std::unique_ptr<llvm::TargetMachine> target_machine(const HostTarget& target) {
  initialise_llvm();
  const std::string triple = llvm::sys::getProcessTriple();
  std::string message;
  const llvm::Target* found = llvm::TargetRegistry::lookupTarget(triple, message);
  if (!found) throw Error("no code generator for " + triple + ": " + message);
  llvm::TargetOptions options;
  // Contraction is explicit in the loop language.
  options.AllowFPOpFusion = llvm::FPOpFusion::Strict;
  std::unique_ptr<llvm::TargetMachine> machine(
      found->createTargetMachine(triple, target.cpu, target.features, options, llvm::Reloc::PIC_,
                                 llvm::CodeModel::Small, llvm::CodeGenOptLevel::Default));
  if (!machine) throw Error("no code generator for " + triple);
  return machine;
}

Storage lay_out(const loop::Kernel& kernel, llvm::Module& module) {
  Storage storage;
  std::int64_t on_stack = 0;
  std::vector<const loop::Buffer*> in_scratch;
  for (const loop::Buffer& buffer : kernel.buffers) {
    if (buffer.space == loop::Space::argument) continue;
    if (buffer.space == loop::Space::shared) {
      throw std::logic_error("kernel " + kernel.name + ": shared memory in host code");
    }
    if (buffer.space == loop::Space::tensor_map) {
      throw std::logic_error("kernel " + kernel.name + ": a tensor map in host code");
    }
    Storage::Place place;
    if (buffer.space == loop::Space::table) {
      place.table = make_table(module, buffer);
    } else {
      const std::int64_t bytes = buffer.elements * static_cast<std::int64_t>(size_of(buffer.dtype));
      const std::int64_t rounded = (bytes + alignment - 1) / alignment * alignment;
      if (on_stack + rounded <= stack_bytes) {
        place.on_stack = true;
        on_stack += rounded;
      } else {
        place.offset = storage.scratch_bytes;
        storage.scratch_bytes += rounded;
        in_scratch.push_back(&buffer);
      }
    }
    storage.places[&buffer] = place;
  }
  if (in_scratch.size() < 2) return storage;
  // Buffers in scratch come from one pointer: say that they are apart.
  llvm::MDBuilder metadata(module.getContext());
  llvm::MDNode* domain = metadata.createAnonymousAliasScopeDomain("scratch");
  std::vector<llvm::Metadata*> scopes;
  for (std::size_t i = 0; i < in_scratch.size(); ++i) {
    scopes.push_back(metadata.createAnonymousAliasScope(domain));
  }
  for (std::size_t i = 0; i < in_scratch.size(); ++i) {
    std::vector<llvm::Metadata*> others = scopes;
    others.erase(others.begin() + static_cast<std::ptrdiff_t>(i));
    Storage::Place& place = storage.places[in_scratch[i]];
    place.scope = llvm::MDNode::get(module.getContext(), {scopes[i]});
    place.others = llvm::MDNode::get(module.getContext(), others);
  }
  return storage;
}

/// Linux gives a process tile registers, with room for them in signal frames, where it asks.
bool request_tiles() {
#if defined(__linux__) && defined(__x86_64__)
  constexpr long request_permission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long tile_data = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}

HostTarget make_target(std::string cpu, std::vector<std::string> features) {
  HostTarget target;
  target.cpu = std::move(cpu);
  std::sort(features.begin(), features.end());
  for (const std::string& feature : features) {
    target.features += (target.features.empty() ? "" : ",") + feature;
  }
  const auto has = [&](const char* name) { return target.has(name); };
  const bool wide = has("avx512f") && has("avx512vl") && has("avx512bw") && has("avx512dq");
  target.vector_bits = wide ? 512 : has("avx2") ? 256 : 128;
  target.tile_products = wide && target.has_tiles();
  return target;
}

}  // namespace

int HostTarget::vector_lanes(DType dtype) const {
  int bits = 32;
  switch (loop::register_type(dtype)) {
    case loop::Scalar::boolean:
    case loop::Scalar::u8:
      bits = 8;
      break;
    case loop::Scalar::i64:
    case loop::Scalar::f64:
      bits = 64;
      break;
    default:
      break;
  }
  return std::max(1, vector_bits / bits);
}

bool HostTarget::has(std::string_view feature) const { return has_feature(features, feature); }

HostTarget host_target() {
  static const HostTarget target = [] {
    const auto found = llvm::sys::getHostCPUFeatures();
    const auto with_tiles = found.find("amx-tile");
    const bool refused = with_tiles != found.end() && with_tiles->second && !request_tiles();
    std::vector<std::string> features;
    for (const auto& feature : found) {
      const bool there = feature.second && !(refused && feature.first().starts_with("amx"));
      features.push_back((there ? "+" : "-") + feature.first().str());
    }
    return make_target(llvm::sys::getHostCPUName().str(), std::move(features));
  }();
  return target;
}

HostTarget target_for(const std::string& cpu) {
  if (llvm::X86::parseArchX86(cpu) == llvm::X86::CK_None) {
    throw Error("there is no processor \"" + cpu + "\"; \"x86-64-v3\" is one, for example");
  }
  llvm::SmallVector<llvm::StringRef> enabled;
  llvm::X86::getFeaturesForCPU(cpu, enabled);
  std::vector<std::string> features;
  for (const llvm::StringRef feature : enabled) features.push_back("+" + feature.str());
  return make_target(cpu, std::move(features));
}

bool runs_here(const HostTarget& target) {
  const HostTarget host = host_target();
  // Of x86-64 itself, of no instruction that is generated, or not told by LLVM of this machine.
  constexpr std::string_view implied[] = {"64bit", "cmov", "cx8",  "fxsr",
                                          "mmx",   "sse",  "sse2", "x87"};
  for (std::size_t start = 0; start < target.features.size();) {
    const std::size_t end = std::min(target.features.find(',', start), target.features.size());
    const std::string_view feature = std::string_view(target.features).substr(start, end - start);
    start = end + 1;
    if (!feature.starts_with('+')) continue;
    const std::string_view name = feature.substr(1);
    if (host.has(name)) continue;
    if (std::find(std::begin(implied), std::end(implied), name) == std::end(implied)) return false;
  }
  return true;
}

const std::string& codegen_version() {
  static const std::string version = [] {
    unsigned numbers[3] = {};
    LLVMGetVersion(&numbers[0], &numbers[1], &numbers[2]);
    return std::string(codegen_sources) + ", LLVM " + std::to_string(numbers[0]) + '.' +
           std::to_string(numbers[1]) + '.' + std::to_string(numbers[2]);
  }();
  return version;
}

std::string phase_symbol(const std::string& symbol, std::size_t phase) {
  return symbol + '.' + std::to_string(phase);
}

GeneratedCode generate_host(const loop::Kernel& kernel, const std::string& symbol,
                            const HostTarget& target, const CodegenOptions& options) {
  for (const loop::Phase& phase : kernel.phases) {
    if (phase.threads > 0) {
      throw std::logic_error("kernel " + kernel.name + ": a phase of a GPU in host code");
    }
  }
  const std::unique_ptr<llvm::TargetMachine> machine = target_machine(target);
  llvm::LLVMContext context;
  llvm::Module module(symbol, context);
  module.setTargetTriple(machine->getTargetTriple().str());
  module.setDataLayout(machine->createDataLayout());

  const Storage storage = lay_out(kernel, module);
  Emitter emitter(kernel, target, storage, module);
  for (std::size_t i = 0; i < kernel.phases.size(); ++i) {
    if (kernel.phases[i].transform) {
      throw std::logic_error("kernel " + kernel.name + ": a library of GPUs on the host");
    }
    emitter.phase(kernel.phases[i], phase_symbol(symbol, i));
  }
  verify_module(module, kernel.name);
  optimise(module, *machine);

  GeneratedCode code;
  code.scratch_bytes = storage.scratch_bytes;
  if (options.llvm_ir) {
    llvm::raw_string_ostream text(code.llvm_ir);
    module.print(text, nullptr);
  }
  if (options.assembly) {
    // Emission changes the module: the text is made of a copy.
    const std::unique_ptr<llvm::Module> copy = llvm::CloneModule(module);
    emit(*copy, *machine, llvm::CodeGenFileType::AssemblyFile, kernel.name, code.assembly);
  }
  emit(module, *machine, llvm::CodeGenFileType::ObjectFile, kernel.name, code.object.bytes);
  return code;
}

}  // namespace weft::compiler
