#include "compiler/loop/interpret_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "compiler/loop/interpret_value.h"

namespace weft::loop::interpreter {
namespace {

/// What fresh shared and local memory holds: NaN in every float type.
constexpr std::byte fresh{0xff};

std::string thread_name(int thread) {
  return thread == Cell::several ? std::string("several threads")
                                 : fmt::format("thread {}", thread);
}

std::string block_name(std::int32_t block) {
  return block == Cell::several_blocks ? std::string("several blocks")
                                       : fmt::format("block {}", block);
}

Region table(const Buffer& buffer) {
  const std::size_t size = size_of(buffer.dtype);
  Region region;
  region.own.resize(buffer.values.size() * size);
  const Scalar type = register_type(buffer.dtype);
  for (std::size_t i = 0; i < buffer.values.size(); ++i) {
    const double value = buffer.values[i];
    const Word word = type == Scalar::f32   ? word_of(static_cast<float>(value))
                      : type == Scalar::f64 ? word_of(value)
                                            : word_of(static_cast<std::int64_t>(value));
    to_memory(buffer.dtype, word, region.own.data() + i * size);
  }
  return region;
}

}  // namespace

void Reports::add(Report::Kind kind, const Statement* statement, std::int64_t block, int thread,
                  std::string text) {
  const auto [found, fresh_report] = known_.try_emplace({statement, kind}, reports_.size());
  if (!fresh_report) {
    ++reports_[found->second].count;
    return;
  }
  reports_.push_back({.kind = kind,
                      .kernel = kernel_.name,
                      .phase = phase,
                      .statement = print(kernel_, *statement),
                      .block = block,
                      .warp = thread / warp_lanes,
                      .lane = thread % warp_lanes,
                      .text = std::move(text)});
}

std::string Reports::text(const Statement& statement) const { return print(kernel_, statement); }

Memory::Memory(const Kernel& kernel, std::span<const std::span<std::byte>> arguments,
               const InterpretOptions& options, Reports& reports)
    : options_(options), reports_(reports) {
  if (arguments.size() != kernel.arguments.size()) {
    throw std::logic_error(fmt::format("interpret: kernel {} has {} arguments, not {}", kernel.name,
                                       kernel.arguments.size(), arguments.size()));
  }
  for (const Buffer& buffer : kernel.buffers) {
    Region region;
    if (buffer.space == Space::table) region = table(buffer);
    region.buffer = &buffer;
    region.bytes = static_cast<std::size_t>(buffer.elements) * size_of(buffer.dtype);
    if (buffer.space == Space::argument) {
      const std::span<std::byte> memory = arguments[static_cast<std::size_t>(buffer.index)];
      if (memory.size() != region.bytes) {
        throw std::logic_error(fmt::format("interpret: {} of kernel {} has {} bytes, not {}",
                                           buffer.name, kernel.name, region.bytes, memory.size()));
      }
      region.data = memory.data();
    }
    Region& kept = regions_[&buffer] = std::move(region);
    if (buffer.space == Space::table) kept.data = kept.own.data();
  }
}

void Memory::begin_phase(const Phase& phase, const std::vector<const Buffer*>& written, bool clocks,
                         const std::vector<const Buffer*>& asynchronous) {
  ++phase_;
  const auto threads = static_cast<std::size_t>(std::max<std::int64_t>(phase.threads, 1));
  clocks_.begin_phase(clocks, threads);
  std::map<std::byte*, std::shared_ptr<Cells>> by_address;
  const auto watch = [&](std::size_t bytes, std::size_t granule, bool between_blocks) {
    auto cells = std::make_shared<Cells>();
    cells->granule = granule;
    cells->between_blocks = between_blocks;
    cells->cells.resize((bytes + granule - 1) / granule);
    if (clocks) cells->traces.resize(cells->cells.size());
    return cells;
  };
  for (const Buffer* buffer : written) {
    Region& region = regions_.at(buffer);
    if (buffer->space != Space::argument || region.bytes == 0) continue;
    by_address.emplace(region.data, nullptr);
  }
  for (auto& [buffer, region] : regions_) {
    region.cells = nullptr;
    const std::size_t granule = std::min<std::size_t>(size_of(buffer->dtype), 4);
    if (buffer->space == Space::argument) {
      // Arguments that are the same memory share their cells.
      const auto found = by_address.find(region.data);
      if (found == by_address.end() || region.bytes == 0) continue;
      if (!found->second) {
        std::size_t bytes = 0, least = granule;
        for (const auto& [other, memory] : regions_) {
          if (other->space != Space::argument || memory.data != region.data) continue;
          bytes = std::max(bytes, memory.bytes);
          least = std::min({least, size_of(other->dtype), std::size_t{4}});
        }
        found->second = watch(bytes, least, true);
      }
      region.cells = found->second;
    } else if (buffer->space == Space::shared) {
      region.own.assign(region.bytes, fresh);
      region.cells = watch(region.bytes, granule, false);
    } else if (buffer->space == Space::local) {
      region.stride = region.bytes;
      region.own.assign(region.bytes * threads, fresh);
    }
    if (buffer->space != Space::argument) region.data = region.own.data();
  }
  for (const Buffer* buffer : asynchronous) {
    if (Cells* cells = regions_.at(buffer).cells.get()) cells->proxies = clocks;
  }
  copies_.assign(threads, {});
}

void Memory::begin_block() {
  ++interval_;
  clocks_.begin_block();
  for (auto& [buffer, region] : regions_) {
    if (buffer->space != Space::shared && buffer->space != Space::local) continue;
    std::fill(region.own.begin(), region.own.end(), fresh);
    region.initialised.assign(region.own.size(), false);
    region.mbarriers.clear();
    if (!region.cells) continue;
    for (Cell& cell : region.cells->cells) cell.copier = Cell::nobody;
    for (Trace& trace : region.cells->traces) {
      trace.write = {};
      trace.atomics.clear();
      trace.reads.clear();
    }
  }
  for (Copies& copies : copies_) copies = {};
}

void Memory::report(Report::Kind kind, const Access& access, const Region& region,
                    std::size_t offset, const std::string& what) {
  const std::size_t within = region.stride > 0 ? offset % region.stride : offset;
  reports_.add(
      kind, access.statement, access.block, access.thread,
      fmt::format("{}[{}] {}", region.buffer->name, within / size_of(region.buffer->dtype), what));
}

bool Memory::locate(const Region& region, std::int64_t index, std::size_t bytes, int alignment,
                    const Access& access, std::size_t& offset) {
  const std::size_t size = size_of(region.buffer->dtype);
  if (index < 0 || index >= region.buffer->elements ||
      static_cast<std::size_t>(index) * size + bytes > region.bytes) {
    reports_.add(Report::Kind::out_of_range, access.statement, access.block, access.thread,
                 fmt::format("{}[{}] ({} bytes) of {} elements", region.buffer->name, index, bytes,
                             region.buffer->elements));
    return false;
  }
  offset = static_cast<std::size_t>(index) * size;
  if (offset % static_cast<std::size_t>(alignment) != 0) {
    report(Report::Kind::misaligned, access, region, offset,
           fmt::format("is at byte {}, no multiple of {}", offset, alignment));
    return false;
  }
  offset += region.stride * static_cast<std::size_t>(access.thread);
  return true;
}

template <typename Function>
void Memory::each_cell(Region& region, std::size_t offset, std::size_t bytes,
                       const Function& function) {
  Cells& cells = *region.cells;
  const std::size_t last = (offset + bytes - 1) / cells.granule;
  for (std::size_t i = offset / cells.granule; i <= last; ++i) function(cells.cells[i], i);
}

const Knowledge& Memory::knowledge(const Access& access) const {
  return access.knowledge != nullptr ? *access.knowledge : clocks_.of(access.thread);
}

Epoch Memory::epoch(const Access& access) const {
  Epoch epoch = access.as.agent >= 0 ? access.as : clocks_.now(access.thread);
  epoch.asynchronous = access.asynchronous;
  epoch.statement = access.statement;
  return epoch;
}

int Memory::unordered_writer(const Cells& cells, std::size_t cell, const Access& access,
                             bool atomic) const {
  if (!clocks_.on()) {
    const Cell& one = cells.cells[cell];
    const bool other = one.write_interval == interval_ && one.writer != access.thread;
    return other && !(atomic && one.atomic_interval) ? one.writer : Cell::nobody;
  }
  const Trace& trace = cells.traces[cell];
  const Knowledge& known = knowledge(access);
  const auto other = [&](const Epoch& epoch) {
    return epoch.agent != access.thread && !knows(known, epoch);
  };
  if (other(trace.write)) return trace.write.agent;
  if (atomic) return Cell::nobody;
  for (const Epoch& epoch : trace.atomics) {
    if (other(epoch)) return epoch.agent;
  }
  return Cell::nobody;
}

int Memory::unordered_reader(const Cells& cells, std::size_t cell, const Access& access) const {
  if (!clocks_.on()) {
    const Cell& one = cells.cells[cell];
    const bool other = one.read_interval == interval_ && one.reader != access.thread;
    return other ? one.reader : Cell::nobody;
  }
  const Knowledge& known = knowledge(access);
  for (const Epoch& epoch : cells.traces[cell].reads) {
    if (epoch.agent != access.thread && !knows(known, epoch)) return epoch.agent;
  }
  return Cell::nobody;
}

/// Which accesses have to be fenced. The PTX ISA ("async proxy") asks for a fence wherever a
/// location is accessed through several proxies, but after the completion of an asynchronous
/// access has been observed, which implies one. So of two that are ordered
///   generic write, asynchronous read   a fence: wgmma's own section says so once more; CUTLASS
///                                      fences what threads store before it is multiplied
///   generic write, asynchronous write  a fence: else the older store may come last
///   generic read, asynchronous write   a fence: CUTLASS's epilogues on sm_90 fence after they have
///                                      read a tile, before they release it to the copies
///   generic read, asynchronous read    none: neither changes anything
///   asynchronous, then generic         none, behind the wait
/// The fence of the language is of shared memory alone: none covers what is stored to global
/// memory and copied from there in one launch.
void Memory::check_proxies(const Region& region, std::size_t cell, const Access& access,
                           bool write) {
  if (!access.asynchronous || !region.cells->proxies) return;
  const Knowledge& known = knowledge(access);
  const bool shared = region.buffer->space == Space::shared;
  const auto check = [&](const Epoch& epoch, const char* did) {
    if (epoch.agent < 0 || epoch.asynchronous || (shared && knows_fenced(known, epoch))) {
      return true;
    }
    const char* const lacks = shared ? "has not called fence_async_shared since"
                                     : "no fence orders the two in global memory";
    report(Report::Kind::proxy, access, region, cell * region.cells->granule,
           fmt::format("is {} asynchronously; {} {} it and {}: {}", write ? "written" : "read",
                       thread_name(epoch.agent), did, lacks, reports_.text(*epoch.statement)));
    return false;
  };
  const Trace& trace = region.cells->traces[cell];
  if (!check(trace.write, "wrote")) return;
  for (const Epoch& epoch : trace.atomics) {
    if (!check(epoch, "wrote")) return;
  }
  if (!write) return;
  for (const Epoch& epoch : trace.reads) {
    if (!check(epoch, "read")) return;
  }
}

/// Leaves out what the one who comes next knows of: whoever knows of that one knows of these.
/// Fences are of each alone.
void Memory::forget_known(const Cells& cells, std::vector<Epoch>& epochs,
                          const Access& access) const {
  const Knowledge& known = knowledge(access);
  std::erase_if(epochs, [&](const Epoch& epoch) {
    return knows(known, epoch) && (!cells.proxies || knows_fenced(known, epoch));
  });
}

void Memory::trace_read(Cells& cells, std::size_t cell, const Access& access) const {
  std::vector<Epoch>& reads = cells.traces[cell].reads;
  const Epoch now = epoch(access);
  for (Epoch& read : reads) {
    if (read.agent != now.agent || read.asynchronous != now.asynchronous) continue;
    read = now;
    return;
  }
  forget_known(cells, reads, access);
  reads.push_back(now);
}

void Memory::trace_write(Cells& cells, std::size_t cell, const Access& access, bool atomic) const {
  Trace& trace = cells.traces[cell];
  const Epoch now = epoch(access);
  if (atomic) {
    forget_known(cells, trace.atomics, access);
    trace.atomics.push_back(now);
    return;
  }
  trace.write = now;
  trace.atomics.clear();
  trace.reads.clear();
}

/// "thread 7 wrote it with no barrier since"
std::string Memory::who(int agent, const char* did) const {
  if (!clocks_.on()) return fmt::format("{} {} it with no barrier since", thread_name(agent), did);
  if (agent < clocks_.threads()) {
    return fmt::format("{} {} it and nothing orders the two", thread_name(agent), did);
  }
  return fmt::format("a tensor copy that has not been waited for {} it", did);
}

void Memory::check_mbarrier(const Region& region, std::int64_t index, const Access& access) {
  if (std::find(region.mbarriers.begin(), region.mbarriers.end(), index) ==
      region.mbarriers.end()) {
    return;
  }
  reports_.add(Report::Kind::mbarrier, access.statement, access.block, access.thread,
               fmt::format("{}[{}] is an mbarrier", region.buffer->name, index));
}

void Memory::note_read(Region& region, std::size_t offset, std::size_t bytes,
                       const Access& access) {
  if (!region.cells) return;
  const auto thread = static_cast<std::int16_t>(access.thread);
  each_cell(region, offset, bytes, [&](Cell& cell, std::size_t i) {
    const int writer = unordered_writer(*region.cells, i, access, false);
    if (cell.copier != Cell::nobody) {
      report(Report::Kind::in_flight, access, region, offset,
             fmt::format("is read while {} copies to it", thread_name(cell.copier)));
    } else if (writer != Cell::nobody) {
      report(Report::Kind::race, access, region, offset, "is read; " + who(writer, "wrote"));
    } else if (region.cells->between_blocks && cell.write_phase == phase_ &&
               cell.write_block != access.block) {
      report(Report::Kind::race_of_blocks, access, region, offset,
             fmt::format("is read; {} wrote it in the same phase", block_name(cell.write_block)));
    } else {
      check_proxies(region, i, access, false);
    }
    const bool other = cell.read_interval == interval_ && cell.reader != thread;
    cell.reader = other ? Cell::several : thread;
    cell.read_interval = interval_;
    const bool foreign = cell.read_phase == phase_ && cell.read_block != access.block;
    cell.read_block = foreign ? Cell::several_blocks : access.block;
    cell.read_phase = phase_;
    if (clocks_.on()) trace_read(*region.cells, i, access);
  });
}

void Memory::note_write(Region& region, std::size_t offset, std::size_t bytes, const Access& access,
                        bool atomic) {
  if (!region.cells) return;
  const auto thread = static_cast<std::int16_t>(access.thread);
  each_cell(region, offset, bytes, [&](Cell& cell, std::size_t i) {
    const int writer = unordered_writer(*region.cells, i, access, atomic);
    const int reader = unordered_reader(*region.cells, i, access);
    const bool again = cell.write_interval == interval_;
    const bool same_phase = cell.write_phase == phase_;
    if (cell.copier != Cell::nobody) {
      report(Report::Kind::in_flight, access, region, offset,
             fmt::format("is written while {} copies to it", thread_name(cell.copier)));
    } else if (writer != Cell::nobody) {
      report(Report::Kind::race, access, region, offset, "is written; " + who(writer, "wrote"));
    } else if (reader != Cell::nobody) {
      report(Report::Kind::race, access, region, offset, "is written; " + who(reader, "read"));
    } else if (region.cells->between_blocks && same_phase && cell.write_block != access.block &&
               !(atomic && cell.atomic_phase)) {
      report(
          Report::Kind::race_of_blocks, access, region, offset,
          fmt::format("is written; {} wrote it in the same phase", block_name(cell.write_block)));
    } else if (region.cells->between_blocks && cell.read_phase == phase_ &&
               cell.read_block != access.block) {
      report(Report::Kind::race_of_blocks, access, region, offset,
             fmt::format("is written; {} read it in the same phase", block_name(cell.read_block)));
    } else {
      check_proxies(region, i, access, true);
    }
    cell.writer = again && cell.writer != thread ? Cell::several : thread;
    cell.atomic_interval = atomic && (!again || cell.atomic_interval);
    cell.write_interval = interval_;
    cell.write_block =
        same_phase && cell.write_block != access.block ? Cell::several_blocks : access.block;
    cell.atomic_phase = atomic && (!same_phase || cell.atomic_phase);
    cell.write_phase = phase_;
    if (clocks_.on()) trace_write(*region.cells, i, access, atomic);
  });
}

void Memory::check_initialised(const Region& region, std::size_t offset, std::size_t bytes,
                               const Access& access) {
  if (region.initialised.empty()) return;
  for (std::size_t i = 0; i < bytes; ++i) {
    if (region.initialised[offset + i]) continue;
    report(Report::Kind::uninitialised, access, region, offset, "was never written");
    return;
  }
}

void Memory::set_initialised(Region& region, std::size_t offset, std::size_t bytes) {
  if (region.initialised.empty()) return;
  for (std::size_t i = 0; i < bytes; ++i) region.initialised[offset + i] = true;
}

Word Memory::load(Region& region, std::int64_t index, const Access& access) {
  const std::size_t size = size_of(region.buffer->dtype);
  std::size_t offset = 0;
  if (!locate(region, index, size, 1, access, offset)) return 0;
  check_mbarrier(region, index, access);
  note_read(region, offset, size, access);
  check_initialised(region, offset, size, access);
  return from_memory(region.buffer->dtype, region.data + offset);
}

void Memory::store(Region& region, std::int64_t index, Word value, const Access& access) {
  const std::size_t size = size_of(region.buffer->dtype);
  std::size_t offset = 0;
  if (!locate(region, index, size, 1, access, offset)) return;
  check_mbarrier(region, index, access);
  note_write(region, offset, size, access, false);
  set_initialised(region, offset, size);
  to_memory(region.buffer->dtype, value, region.data + offset);
}

void Memory::read(Region& region, std::int64_t index, int alignment, std::span<std::byte> to,
                  const Access& access) {
  std::size_t offset = 0;
  if (!locate(region, index, to.size(), alignment, access, offset)) return;
  note_read(region, offset, to.size(), access);
  check_initialised(region, offset, to.size(), access);
  std::memcpy(to.data(), region.data + offset, to.size());
}

void Memory::atomic_add(Region& region, std::int64_t index, float value, const Access& access) {
  std::size_t offset = 0;
  if (!locate(region, index, sizeof value, sizeof value, access, offset)) return;
  note_write(region, offset, sizeof value, access, true);
  check_initialised(region, offset, sizeof value, access);
  const Arithmetic arithmetic{.flush = options_.flush_denormals};
  std::byte* const place = region.data + offset;
  to_memory(
      DType::f32,
      arithmetic.binary(Binary::add, Scalar::f32, from_memory(DType::f32, place), word_of(value)),
      place);
}

/// Moves a copy's bytes.
void Memory::transfer(Copy& copy) {
  const auto bytes = static_cast<std::size_t>(copy.bytes);
  std::size_t to = 0, from = 0;
  copy.landed = true;
  if (!locate(*copy.to, copy.to_index, bytes, copy.bytes, copy.access, to)) return;
  if (!copy.copies) {
    std::fill_n(copy.to->data + to, bytes, std::byte{0});
  } else if (locate(*copy.from, copy.from_index, bytes, copy.bytes, copy.access, from)) {
    note_read(*copy.from, from, bytes, copy.access);
    std::memcpy(copy.to->data + to, copy.from->data + from, bytes);
  }
}

void Memory::copy_async(Copy copy, bool at_once) {
  const auto bytes = static_cast<std::size_t>(copy.bytes);
  std::size_t to = 0, from = 0;
  if (!locate(*copy.to, copy.to_index, bytes, copy.bytes, copy.access, to)) return;
  if (copy.copies) {
    if (!locate(*copy.from, copy.from_index, bytes, copy.bytes, copy.access, from)) return;
    note_read(*copy.from, from, bytes, copy.access);
  }
  // From now on and until the wait: what others did with these bytes must be behind a barrier.
  note_write(*copy.to, to, bytes, copy.access, false);
  each_cell(*copy.to, to, bytes, [&](Cell& cell, std::size_t) {
    cell.copier = static_cast<std::int16_t>(copy.access.thread);
  });
  set_initialised(*copy.to, to, bytes);
  if (at_once) transfer(copy);
  copies_[static_cast<std::size_t>(copy.access.thread)].pending.push_back(copy);
}

void Memory::copy_commit(int thread) {
  Copies& copies = copies_[static_cast<std::size_t>(thread)];
  copies.groups.push_back(std::move(copies.pending));
  copies.pending.clear();
}

void Memory::land(std::vector<Copy>& group) {
  for (Copy& copy : group) {
    if (!copy.landed) transfer(copy);
    const auto bytes = static_cast<std::size_t>(copy.bytes);
    const std::size_t to =
        static_cast<std::size_t>(copy.to_index) * size_of(copy.to->buffer->dtype);
    each_cell(*copy.to, to, bytes, [](Cell& cell, std::size_t) { cell.copier = Cell::nobody; });
    // Seen by the thread itself from here on, by others after the next barrier.
    note_write(*copy.to, to, bytes, copy.access, false);
  }
}

void Memory::copy_wait(int thread, std::int64_t groups) {
  Copies& copies = copies_[static_cast<std::size_t>(thread)];
  while (static_cast<std::int64_t>(copies.groups.size()) > groups) {
    land(copies.groups.front());
    copies.groups.pop_front();
  }
}

}  // namespace weft::loop::interpreter
