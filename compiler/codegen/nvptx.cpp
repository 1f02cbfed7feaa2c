#include <llvm/IR/Constants.h>
#include <llvm/MC/TargetRegistry.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Support/raw_ostream.h>
#include <llvm/Target/TargetMachine.h>

#include <algorithm>
#include <charconv>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "compiler/codegen/codegen.h"
#include "compiler/codegen/device_memory.h"
#include "compiler/codegen/emitter.h"
#include "compiler/codegen/module.h"
#include "runtime/plan/error.h"

namespace weft::compiler {
namespace {

constexpr const char* triple = "nvptx64-nvidia-cuda";
/// The first that has sm_90a: the oldest driver that the runtime takes, CUDA 12.0's, reads it, and
/// none before 12.5 would read the newest that LLVM 19 writes.
constexpr const char* ptx_version = "+ptx80";
constexpr std::int64_t shared_alignment = 128;
/// Of buffers that are as large: the period of the patterns in which matrix units read tiles.
constexpr std::int64_t tile_alignment = 1024;

std::unique_ptr<llvm::TargetMachine> target_machine(const HostTarget& target) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeNVPTXTargetInfo();
    LLVMInitializeNVPTXTarget();
    LLVMInitializeNVPTXTargetMC();
    LLVMInitializeNVPTXAsmPrinter();
  });
  std::string message;
  const llvm::Target* found = llvm::TargetRegistry::lookupTarget(triple, message);
  if (!found) throw Error(std::string("no code generator for ") + triple + ": " + message);
  llvm::TargetOptions options;
  // Contraction is explicit in the loop language.
  options.AllowFPOpFusion = llvm::FPOpFusion::Strict;
  std::unique_ptr<llvm::TargetMachine> machine(
      found->createTargetMachine(triple, target.cpu, target.features, options, std::nullopt,
                                 std::nullopt, llvm::CodeGenOptLevel::Aggressive));
  if (!machine) throw Error("no code generator for " + target.cpu);
  return machine;
}

/// The shared buffers that statements use.
class SharedBuffers {
 public:
  explicit SharedBuffers(const loop::Block& block) { add(block); }
  bool contains(const loop::Buffer* buffer) const { return buffers_.count(buffer) != 0; }

 private:
  void add(const loop::Block& block) {
    for (const loop::Statement* s : block) {
      add(s->buffer);
      for (loop::Ex e : {s->extent, s->value, s->predicate, s->index}) add(e);
      for (loop::Ex e : s->operands) add(e);
      for (const loop::Address& address : s->addresses) {
        add(address.buffer);
        add(address.index);
      }
      add(s->body);
    }
  }
  void add(const loop::Buffer* buffer) {
    if (buffer != nullptr && buffer->space == loop::Space::shared) buffers_.insert(buffer);
  }
  void add(loop::Ex e) {
    if (e == nullptr || !seen_.insert(e).second) return;
    if (e->kind == loop::ExprKind::load) add(e->buffer);
    for (loop::Ex argument : e->arguments) add(argument);
  }

  std::unordered_set<const loop::Buffer*> buffers_;
  std::unordered_set<loop::Ex> seen_;
};

/// Buffers of different phases may lie in the same place: each phase is a launch.
Storage lay_out(const loop::Kernel& kernel, llvm::Module& module) {
  Storage storage;
  std::vector<SharedBuffers> used;
  for (const loop::Phase& phase : kernel.phases) used.emplace_back(phase.body);
  std::vector<std::int64_t> ends(used.size(), 0);
  for (const loop::Buffer& buffer : kernel.buffers) {
    Storage::Place place;
    switch (buffer.space) {
      case loop::Space::argument:
      case loop::Space::tensor_map:
        continue;
      case loop::Space::table:
        place.table = make_table(module, buffer);
        break;
      case loop::Space::local:
        place.on_stack = true;
        break;
      case loop::Space::shared: {
        const std::int64_t bytes =
            buffer.elements * static_cast<std::int64_t>(size_of(buffer.dtype));
        const auto up = [](std::int64_t value, std::int64_t alignment) {
          return (value + alignment - 1) / alignment * alignment;
        };
        place.shared = true;
        for (std::size_t i = 0; i < used.size(); ++i) {
          if (used[i].contains(&buffer)) place.offset = std::max(place.offset, ends[i]);
        }
        place.offset =
            up(place.offset, bytes >= tile_alignment ? tile_alignment : shared_alignment);
        for (std::size_t i = 0; i < used.size(); ++i) {
          if (!used[i].contains(&buffer)) continue;
          ends[i] = up(place.offset + bytes, shared_alignment);
          storage.shared_bytes = std::max(storage.shared_bytes, ends[i]);
        }
        break;
      }
    }
    storage.places[&buffer] = place;
  }
  if (storage.shared_bytes > 0) {
    // Its size is a matter of the launch: more than 48 KiB cannot be declared.
    auto* type = llvm::ArrayType::get(llvm::Type::getInt8Ty(module.getContext()), 0);
    storage.shared = new llvm::GlobalVariable(
        module, type, false, llvm::GlobalValue::ExternalLinkage, nullptr, "block_memory", nullptr,
        llvm::GlobalValue::NotThreadLocal, shared_memory);
    storage.shared->setAlignment(llvm::Align(tile_alignment));
  }
  return storage;
}

/// Whether threads hand registers to each other.
bool moves_registers(const loop::Block& block) {
  return std::any_of(block.begin(), block.end(), [](const loop::Statement* s) {
    return (s->intrinsic != nullptr && s->intrinsic->name.starts_with("registers_")) ||
           moves_registers(s->body);
  });
}

/// The number of threads is known: ptxas may give each as many registers as there are.
void annotate(llvm::Module& module, llvm::Function* function, const loop::Phase& phase) {
  llvm::LLVMContext& context = module.getContext();
  llvm::NamedMDNode* annotations = module.getOrInsertNamedMetadata("nvvm.annotations");
  const auto integer = [&](std::uint64_t value) {
    return llvm::ConstantAsMetadata::get(
        llvm::ConstantInt::get(llvm::Type::getInt32Ty(context), value));
  };
  const auto add_entry = [&](const char* name, llvm::Metadata* value) {
    llvm::Metadata* entry[] = {llvm::ValueAsMetadata::get(function),
                               llvm::MDString::get(context, name), value};
    annotations->addOperand(llvm::MDNode::get(context, entry));
  };
  const auto add = [&](const char* name, std::int64_t value) {
    add_entry(name, integer(static_cast<std::uint64_t>(value)));
  };
  const std::int64_t threads = phase.threads;
  add("kernel", 1);
  add("reqntidx", threads);
  add("reqntidy", 1);
  add("reqntidz", 1);
  // How many registers threads start with must be known: as many as there are for a block.
  if (moves_registers(phase.body)) add("minctasm", 1);
  // Tensor maps and tables are read where the launch has put them; counted from 1.
  std::vector<llvm::Metadata*> maps;
  for (const llvm::Argument& argument : function->args()) {
    if (argument.hasByValAttr()) maps.push_back(integer(argument.getArgNo() + 1));
  }
  if (!maps.empty()) add_entry("grid_constant", llvm::MDNode::get(context, maps));
}

}  // namespace

std::string DeviceTarget::processor() const {
  return "sm_" + std::to_string(capability) + (specific ? "a" : "");
}

DeviceTarget device_target(std::string_view processor) {
  DeviceTarget target;
  std::string_view digits = processor;
  const bool named = digits.starts_with("sm_");
  if (named) digits.remove_prefix(3);
  if (digits.ends_with('a')) {
    target.specific = true;
    digits.remove_suffix(1);
  }
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), target.capability);
  constexpr int least = 80;
  if (!named || error != std::errc{} || end != digits.data() + digits.size() ||
      target.capability < least) {
    throw Error("\"" + std::string(processor) +
                "\" is no GPU that weft generates code for: sm_80 or newer, such as sm_90a");
  }
  return target;
}

std::string device_phase_symbol(const std::string& symbol, std::size_t phase) {
  std::string name = phase_symbol(symbol, phase);
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  std::replace_if(name.begin(), name.end(), [&](char c) { return !allowed(c); }, '_');
  return name;
}

GeneratedDeviceCode generate_device(const loop::Kernel& kernel, const std::string& symbol,
                                    const DeviceTarget& device, const CodegenOptions& options) {
  HostTarget target;
  target.cpu = device.processor();
  target.features = ptx_version;
  target.vector_bits = 128;
  const std::unique_ptr<llvm::TargetMachine> machine = target_machine(target);
  llvm::LLVMContext context;
  llvm::Module module(symbol, context);
  module.setTargetTriple(triple);
  module.setDataLayout(machine->createDataLayout());

  const Storage storage = lay_out(kernel, module);
  Emitter emitter(kernel, target, storage, module,
                  {.fma = true,
                   .half = true,
                   .half_flushes = true,
                   .bfloat = true,
                   .extremum = true,
                   .library = false,
                   .pair_lanes = 0});
  for (std::size_t i = 0; i < kernel.phases.size(); ++i) {
    const loop::Phase& phase = kernel.phases[i];
    if (phase.transform) continue;
    if (phase.threads < 1) {
      throw std::logic_error("kernel " + kernel.name + ": a phase of the host on a GPU");
    }
    annotate(module, emitter.device_phase(phase, device_phase_symbol(symbol, i), options.batch),
             phase);
  }
  verify_module(module, kernel.name);
  optimise(module, *machine);

  GeneratedDeviceCode code;
  code.shared_bytes = storage.shared_bytes;
  if (options.llvm_ir) {
    llvm::raw_string_ostream text(code.llvm_ir);
    module.print(text, nullptr);
  }
  emit(module, *machine, llvm::CodeGenFileType::AssemblyFile, kernel.name, code.ptx);
  return code;
}

}  // namespace weft::compiler
