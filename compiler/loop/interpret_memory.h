#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "compiler/loop/interpret.h"
#include "compiler/loop/interpret_clocks.h"
#include "compiler/loop/intrinsic_meaning.h"

/// The interpreter's memory: contents, which bytes are initialised, who touched them when.
namespace weft::loop::interpreter {

/// Collects reports: one for each statement and kind.
class Reports {
 public:
  explicit Reports(const Kernel& kernel) : kernel_(kernel) {}

  std::size_t phase = 0;
  void add(Report::Kind kind, const Statement* statement, std::int64_t block, int thread,
           std::string text);
  std::vector<Report> take() { return std::move(reports_); }
  std::string text(const Statement& statement) const;

 private:
  const Kernel& kernel_;
  std::vector<Report> reports_;
  std::map<std::pair<const Statement*, Report::Kind>, std::size_t> known_;
};

struct Access {
  const Statement* statement;
  std::int32_t block;
  int thread;
  /// Of the thread when it asked for the access, where that is not now.
  const Knowledge* knowledge = nullptr;
  Epoch as = {};              ///< of the copies that do it in place of the thread
  bool asynchronous = false;  ///< through the asynchronous proxy
};

/// Who touched a few bytes last. An interval is the time of one block between two barriers; its
/// number is its own, so what belongs to an earlier one is out of date by itself.
struct Cell {
  static constexpr std::int16_t nobody = -2;
  static constexpr std::int16_t several = -1;
  static constexpr std::int32_t several_blocks = -1;

  std::uint32_t write_interval = 0;  ///< 0: never
  std::uint32_t read_interval = 0;
  std::int32_t write_block = 0;
  std::int32_t read_block = 0;
  std::uint16_t write_phase = 0;  ///< 0: never
  std::uint16_t read_phase = 0;
  std::int16_t writer = nobody;  ///< thread
  std::int16_t reader = nobody;
  std::int16_t copier = nobody;  ///< the thread whose copy to here is under way
  bool atomic_interval = false;  ///< all writes of the interval were atomic
  bool atomic_phase = false;
};

struct Cells {
  std::size_t granule = 1;  ///< bytes of a cell
  bool between_blocks = false;
  std::vector<Cell> cells;
  std::vector<Trace> traces;  ///< of each cell, where clocks are on
  bool proxies = false;       ///< some accesses are of the asynchronous proxy
};

/// A buffer's memory.
struct Region {
  const Buffer* buffer = nullptr;
  std::byte* data = nullptr;
  std::size_t bytes = 0;   ///< of the buffer, as one thread sees it
  std::size_t stride = 0;  ///< from one thread's memory to the next: local
  std::vector<std::byte> own;
  std::vector<bool> initialised;        ///< by bytes; empty: all are
  std::shared_ptr<Cells> cells;         ///< null: not watched
  std::vector<std::int64_t> mbarriers;  ///< elements that are
};

class Memory {
 public:
  Memory(const Kernel& kernel, std::span<const std::span<std::byte>> arguments,
         const InterpretOptions& options, Reports& reports);

  /// Argument buffers in `written` are watched in this phase. With `clocks` more than barriers
  /// orders threads. `asynchronous`: buffers that the asynchronous proxy accesses.
  void begin_phase(const Phase& phase, const std::vector<const Buffer*>& written, bool clocks,
                   const std::vector<const Buffer*>& asynchronous);
  void begin_block();
  /// All threads of the block have met.
  void barrier() {
    ++interval_;
    clocks_.meet();
  }
  Clocks& clocks() { return clocks_; }

  Region& region(const Buffer* buffer) { return regions_.at(buffer); }

  Word load(Region& region, std::int64_t index, const Access& access);
  void store(Region& region, std::int64_t index, Word value, const Access& access);

  /// Of intrinsics: the bytes from an element on. Reports and does nothing where they are not
  /// within the buffer or not aligned.
  void read(Region& region, std::int64_t index, int alignment, std::span<std::byte> to,
            const Access& access);
  void atomic_add(Region& region, std::int64_t index, float value, const Access& access);
  struct Copy {
    Region* to;
    Region* from;
    std::int64_t to_index;
    std::int64_t from_index;
    int bytes;
    bool copies;  ///< false: zeros
    bool landed = false;
    Access access{};
  };
  /// `at_once`: its bytes are there at once, though nobody may rely on it.
  void copy_async(Copy copy, bool at_once);
  void copy_commit(int thread);
  void copy_wait(int thread, std::int64_t groups);

  // What accesses consist of.
  /// Where an access lies, or false where it was reported.
  bool locate(const Region& region, std::int64_t index, std::size_t bytes, int alignment,
              const Access& access, std::size_t& offset);
  void note_read(Region& region, std::size_t offset, std::size_t bytes, const Access& access);
  void note_write(Region& region, std::size_t offset, std::size_t bytes, const Access& access,
                  bool atomic);
  void set_initialised(Region& region, std::size_t offset, std::size_t bytes);

 private:
  struct Copies {
    std::vector<Copy> pending;
    std::deque<std::vector<Copy>> groups;
  };

  template <typename Function>
  void each_cell(Region& region, std::size_t offset, std::size_t bytes, const Function& function);
  void check_initialised(const Region& region, std::size_t offset, std::size_t bytes,
                         const Access& access);
  /// Who wrote or read a cell with nothing that orders it before the access, or Cell::nobody.
  int unordered_writer(const Cells& cells, std::size_t cell, const Access& access,
                       bool atomic) const;
  int unordered_reader(const Cells& cells, std::size_t cell, const Access& access) const;
  /// What was done to a cell before an access of the asynchronous proxy that nobody has fenced.
  void check_proxies(const Region& region, std::size_t cell, const Access& access, bool write);
  void trace_read(Cells& cells, std::size_t cell, const Access& access) const;
  void trace_write(Cells& cells, std::size_t cell, const Access& access, bool atomic) const;
  void forget_known(const Cells& cells, std::vector<Epoch>& epochs, const Access& access) const;
  const Knowledge& knowledge(const Access& access) const;
  Epoch epoch(const Access& access) const;
  std::string who(int agent, const char* did) const;
  void check_mbarrier(const Region& region, std::int64_t index, const Access& access);
  void transfer(Copy& copy);
  void land(std::vector<Copy>& group);
  void report(Report::Kind kind, const Access& access, const Region& region, std::size_t offset,
              const std::string& what);

  const InterpretOptions options_;
  Reports& reports_;
  std::unordered_map<const Buffer*, Region> regions_;
  std::vector<Copies> copies_;  ///< of each thread
  Clocks clocks_;
  std::uint16_t phase_ = 0;
  std::uint32_t interval_ = 0;
};

}  // namespace weft::loop::interpreter
