#pragma once

#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/Module.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "compiler/codegen/arithmetic.h"
#include "compiler/loop/kernel.h"

/// Statements and expressions to LLVM IR. Included by compiler/codegen/*.cpp only.
namespace weft::compiler {

/// What is known of an integer: it is residue modulo modulus; modulus 0: it is residue.
struct Congruence {
  std::int64_t modulus = 1;
  std::int64_t residue = 0;

  static Congruence exactly(std::int64_t value) { return {0, value}; }
  Congruence plus(const Congruence& other) const;
  Congruence times(std::int64_t factor) const;
  /// Residue modulo `divisor`, or -1 where it is not known.
  std::int64_t modulo(std::int64_t divisor) const;
};

/// The value of an expression in the lanes of the vector loop around it: `scalar` in all of them
/// (stride 0), scalar + stride * lane (i64 only), or any `vector`.
struct Lanes {
  llvm::Value* scalar = nullptr;
  std::int64_t stride = 0;
  llvm::Value* vector = nullptr;
  bool narrow = false;    ///< the vector holds i32 which stand for i64
  Congruence congruence;  ///< of the scalar, for i64

  bool uniform() const { return scalar && stride == 0; }
  bool affine() const { return scalar != nullptr; }
};

/// Where a kernel's buffers other than arguments live.
struct Storage {
  struct Place {
    bool on_stack = false;
    std::int64_t offset = 0;                ///< in scratch
    llvm::GlobalVariable* table = nullptr;  ///< for tables
    bool shared = false;                    ///< at `offset` in the block's shared memory
    llvm::MDNode* scope = nullptr;          ///< alias scope, scratch only
    llvm::MDNode* others = nullptr;         ///< scopes of the other buffers in scratch
  };
  std::unordered_map<const loop::Buffer*, Place> places;
  std::int64_t scratch_bytes = 0;
  std::int64_t shared_bytes = 0;
  llvm::GlobalVariable* shared = nullptr;  ///< the block's, on a GPU
};

/// Emits one phase as a function.
class Emitter {
 public:
  Emitter(const loop::Kernel& kernel, const HostTarget& target, const Storage& storage,
          llvm::Module& module);
  llvm::Function* phase(const loop::Phase& phase, const std::string& name);
  /// For a GPU: `target` names the processor and LLVM's features.
  Emitter(const loop::Kernel& kernel, const HostTarget& target, const Storage& storage,
          llvm::Module& module, const ArithmeticFeatures& features);
  /// A kernel of NVPTX that runs one thread of one block; its parameters are the arguments.
  llvm::Function* device_phase(const loop::Phase& phase, const std::string& name,
                               std::int64_t batch);

 private:
  struct Entry {
    Lanes value;
    std::int64_t epoch;
  };
  /// The values known in a block. What is emitted in a straight block is there in what follows.
  struct Scope {
    std::unordered_map<loop::Ex, Entry> values;
    llvm::Instruction* before = nullptr;  ///< the branch into the loop, of a loop's body
    bool conditional = false;             ///< may not run: nothing is read ahead of it
  };

  struct Register {
    llvm::AllocaInst* scalar = nullptr;  ///< null where it was declared in the vector loop
    llvm::AllocaInst* lanes = nullptr;   ///< partial results, or the value of each lane
    unsigned width = 0;                  ///< of lanes
    llvm::Value* mask = nullptr;         ///< in force where it was declared
    int loop = 0;                        ///< the vector loop that it was declared in, or 0
  };

  /// Restores the scopes of values on leaving a block.
  class Nest {
   public:
    explicit Nest(Emitter& emitter, llvm::Instruction* before = nullptr, bool conditional = false)
        : emitter_(emitter) {
      emitter_.scopes_.push_back({{}, before, conditional});
    }
    ~Nest() { emitter_.scopes_.pop_back(); }
    Nest(const Nest&) = delete;
    Nest& operator=(const Nest&) = delete;

   private:
    Emitter& emitter_;
  };

  // emit_device.cpp
  void barrier();
  void intrinsic(const loop::Statement& statement);
  /// The buffers whose contents may be others after a barrier or an intrinsic.
  static std::uint64_t written_by(const loop::Statement& statement);

  // emit_statement.cpp
  /// Forgets the function before; what is emitted from here on is function_'s.
  void begin_function();
  /// Finds which accumulators need lanes, and which buffers each statement stores to.
  std::uint64_t prepare(const loop::Block& block, const loop::Statement* vector_loop,
                        std::vector<const loop::Accumulator*>& inside);
  static unsigned effective_width(const loop::Statement& statement);
  void block(const loop::Block& block);
  void statement(const loop::Statement& statement);
  void loop(const loop::Statement& statement);
  void vector_loop(const loop::Statement& statement, unsigned width);
  /// for (iv = from; iv < to; iv += step) body(iv); from < to if `known`.
  void counted_loop(llvm::Value* from, llvm::Value* to, std::int64_t step, bool known,
                    const std::function<void(llvm::Value*)>& body);
  void condition(const loop::Statement& statement);
  void branch(llvm::Value* condition, const std::function<void()>& body);
  void declare(const loop::Accumulator& accumulator);
  void accumulate(const loop::Statement& statement);
  void assign(const loop::Statement& statement);
  Lanes read(const loop::Accumulator& accumulator);
  /// Reads in a row of accumulators whose lanes are to be added up: all of them at once. Returns
  /// how many statements from `first` on that took, or 0.
  std::size_t read_together(const loop::Block& block, std::size_t first);
  Register& find(const loop::Accumulator& accumulator);
  llvm::Value* reduce(const loop::Accumulator& accumulator, llvm::Value* lanes);
  llvm::AllocaInst* allocate(llvm::Type* type, const char* name);
  /// accumulator combined with `value`; a product that is added is contracted into an fma.
  llvm::Value* combined(const loop::Accumulator& accumulator, loop::Ex value, llvm::Value* old,
                        unsigned width);
  llvm::Value* lane_mask(const Register& target) const;

  // emit_expression.cpp
  Lanes evaluate(loop::Ex expr);
  /// What an expression depends on: the innermost block that binds one of its variables, and
  /// whether it reads memory.
  struct Dependence {
    std::size_t depth = 0;
    bool loads = false;
  };
  Dependence dependence(loop::Ex expr);
  Scope& scope() { return scopes_[visible_ == 0 ? scopes_.size() - 1 : visible_ - 1]; }
  Lanes compute(loop::Ex expr);
  Lanes binary(loop::Ex expr);
  /// An integer operation on scalars; a GPU computes what fits in 32 bits.
  llvm::Value* index_binary(loop::Ex expr, llvm::Value* a, llvm::Value* b);
  Lanes affine_binary(loop::Ex expr, const Lanes& a, const Lanes& b);
  void bind(loop::Ex variable, const Lanes& value);
  const Lanes* lookup(loop::Ex expr);
  std::uint64_t mutable_buffers(loop::Ex expr);
  static std::uint64_t bit(const loop::Buffer* buffer);
  void wrote(std::uint64_t buffers);
  /// The value as `width_` lanes; i64 in full width.
  llvm::Value* vector(const Lanes& value, loop::Scalar type);
  /// The value of an i64 whose range is within i32, as lanes of i32.
  llvm::Value* narrow(const Lanes& value);
  llvm::Value* scalar(loop::Ex expr, const char* what);
  Lanes uniform(llvm::Value* value) const;

  // emit_tiles.cpp
  void tile_product(const loop::TileProduct& product);
  void tiles_in_registers(const loop::TileProduct& product);
  void tiles_in_loops(const loop::TileProduct& product);

  // emit_memory.cpp
  Lanes load(loop::Ex expr);
  void store(const loop::Statement& statement);
  void prefetch(const loop::Statement& statement);
  /// Stores to 2i and 2i + 1 as one interleaved vector; false where the two are not such a pair.
  bool store_pair(const loop::Statement& first, const loop::Statement& second);
  /// Stores to neighbouring elements whose lanes are apart, in whole pieces: the values are
  /// transposed in registers. Returns how many statements from `first` on that took, or 0.
  std::size_t store_transposed(const loop::Block& block, std::size_t first);
  llvm::Value* base(const loop::Buffer* buffer);
  llvm::Value* address(const loop::Buffer* buffer, llvm::Value* index);
  llvm::Value* addresses(const loop::Buffer* buffer, loop::Ex index, const Lanes& lanes);
  llvm::Instruction* tag(llvm::Instruction* access, const loop::Buffer* buffer);
  llvm::Value* scalar_load(const loop::Buffer* buffer, llvm::Value* index, llvm::Value* guard,
                           unsigned aligned = 1);
  /// The largest number of elements, within 16 bytes, that the index is known to be a multiple of
  /// on a GPU, where LLVM merges neighbours into aligned vectors.
  unsigned aligned_elements(const loop::Buffer* buffer, const Congruence& index) const;
  llvm::Value* contiguous_load(const loop::Buffer* buffer, llvm::Value* index, unsigned count,
                               llvm::Value* mask, unsigned together = 1);
  /// How many of the elements from `index` on a GPU may access together, as an aligned vector.
  unsigned together(const loop::Buffer* buffer, const Lanes& index) const;
  llvm::Value* pair_load(const loop::Buffer* buffer, const Lanes& index, llvm::Value* mask);
  bool whole_lines(const loop::Buffer* buffer, const Lanes& index) const;
  void stream(const loop::Buffer* buffer, llvm::Value* index, llvm::Value* value);
  void contiguous_store(const loop::Buffer* buffer, llvm::Value* index, llvm::Value* value,
                        llvm::Value* mask, unsigned together = 1);
  llvm::Value* both(llvm::Value* a, llvm::Value* b);
  llvm::Value* widened(llvm::Value* mask);
  llvm::Value* reversed(llvm::Value* value);

  const loop::Kernel& kernel_;
  const Storage& storage_;
  llvm::Module& module_;
  llvm::IRBuilder<> builder_;
  Arithmetic arithmetic_;
  const HostTarget& target_;
  const bool device_;  ///< a GPU: indices that fit are computed in 32 bits

  llvm::Function* function_ = nullptr;
  llvm::BasicBlock* entry_ = nullptr;
  std::unordered_map<const loop::Buffer*, llvm::Value*> bases_;
  std::unordered_map<const loop::Accumulator*, Register> registers_;
  std::unordered_map<const loop::Accumulator*, unsigned> lane_widths_;
  /// The vector loops that keep partial results of an accumulator in lanes.
  std::unordered_map<const loop::Accumulator*, std::vector<const loop::Statement*>> lane_loops_;
  std::unordered_map<const loop::Statement*, std::uint64_t> stores_;
  std::unordered_map<loop::Ex, std::uint64_t> mutable_;

  std::unordered_map<loop::Ex, Dependence> dependences_;

  std::vector<Scope> scopes_;
  std::size_t visible_ = 0;  ///< while emitting ahead of a loop: the scopes outside of it; 0: all
  bool streams_ = false;     ///< the phase stores past the caches
  std::int64_t epoch_ = 0;
  std::vector<std::int64_t> written_;  ///< by bit of buffer: the epoch of its last store
  unsigned width_ = 0;                 ///< lanes of the vector loop here; 0 outside
  unsigned active_ = 0;                ///< lanes from here on are never active
  int vector_loop_ = 0;                ///< number of the vector loop here; 0 outside
  const loop::Statement* vector_statement_ = nullptr;
  int vector_loops_ = 0;
  llvm::Value* mask_ = nullptr;  ///< active lanes; null: all
  bool conditional_ = false;     ///< the mask may be all false
};

}  // namespace weft::compiler
