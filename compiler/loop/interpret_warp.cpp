#include "compiler/loop/interpret_warp.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <memory>
#include <stdexcept>
#include <utility>

namespace weft::loop::interpreter {
namespace {

constexpr std::uint32_t whole_warp = 0xffffffffU;

template <typename Function>
void each_lane(std::uint32_t mask, const Function& function) {
  for (; mask != 0; mask &= mask - 1) {
    const int lane = std::countr_zero(mask);
    function(lane, static_cast<std::size_t>(lane));
  }
}

const Lanes& value_of(const Code& code, int slot) {
  return code.values[static_cast<std::size_t>(slot)];
}

std::uint32_t where(const Lanes& condition, std::uint32_t mask) {
  std::uint32_t result = 0;
  each_lane(mask, [&](int, std::size_t l) {
    if (condition[l] != 0) result |= std::uint32_t{1} << l;
  });
  return result;
}

}  // namespace

Warp::Warp(Machine& machine, int number)
    : machine_(machine), arithmetic_{machine.options.flush_denormals}, number_(number) {
  const std::int64_t threads = std::max<std::int64_t>(machine.phase.threads, 1);
  const std::int64_t here = std::min<std::int64_t>(threads - first_thread(), warp_lanes);
  lanes_ = here == warp_lanes ? whole_warp : (std::uint32_t{1} << here) - 1;
  variables_.resize(machine.program.variables);
  accumulators_.resize(machine.program.accumulators);
  sites_.resize(machine.program.sites.size());
}

void Warp::start(std::int64_t block) {
  block_ = block;
  waiting_ = nullptr;
  position_ = -1;
  deferred_.assign(1, {});
  deferred_results_.clear();
  deferred_count_ = 0;
  missing_phases_ = 0;
  registers_.clear();
  const Program& program = machine_.program;
  variables_[static_cast<std::size_t>(program.block)].fill(word_of(block));
  if (program.thread >= 0) {
    for (int lane = 0; lane < warp_lanes; ++lane) {
      variables_[static_cast<std::size_t>(program.thread)][static_cast<std::size_t>(lane)] =
          word_of(std::int64_t{first_thread() + lane});
    }
  }
  task_ = run(machine_.program.body, lanes_);
  here_ = task_.handle();
}

void Warp::resume() {
  Task::run(here_);
  if (task_.done()) task_.rethrow();
}

Access Warp::access(const Statement* statement, int lane) const {
  return {statement, static_cast<std::int32_t>(block_), first_thread() + lane};
}

/// On average after every fourth statement that touches what others see.
bool Warp::turn_ends() {
  return machine_.phase.threads > warp_lanes && (machine_.random() & 3U) == 0;
}

Task Warp::run(std::vector<Code>& block, std::uint32_t mask) {
  for (Code& code : block) {
    switch (code.statement->kind) {
      case StatementKind::loop:
        co_await loop(code, mask);
        break;
      case StatementKind::condition: {
        evaluate(code, mask);
        const std::uint32_t taken = where(value_of(code, code.value), mask);
        if (taken != 0) co_await run(code.body, taken);
        break;
      }
      case StatementKind::barrier:
        if (mask != lanes_) {
          const int lane = std::countr_zero(lanes_ & ~mask);
          machine_.reports.add(Report::Kind::barrier, code.statement, block_, first_thread() + lane,
                               "is not reached by this lane of the warp");
        }
        waiting_ = code.statement;
        co_await Turn{*this};
        break;
      default:
        statement(code, mask);
        if (waits_for_phase() || (code.shares && turn_ends())) co_await Turn{*this};
        break;
    }
  }
}

Task Warp::loop(Code& code, std::uint32_t mask) {
  evaluate(code, mask);
  const Lanes extents = value_of(code, code.value);
  const Statement& s = *code.statement;
  Lanes& variable = variables_[static_cast<std::size_t>(code.variable)];
  const bool vector = s.role == Role::vector && s.width > 1;
  std::int64_t longest = 0;
  each_lane(mask, [&](int, std::size_t l) { longest = std::max(longest, integer_of(extents[l])); });
  for (std::int64_t i = 0; i < longest; ++i) {
    std::uint32_t inside = 0;
    each_lane(mask, [&](int, std::size_t l) {
      if (i >= integer_of(extents[l])) return;
      inside |= std::uint32_t{1} << l;
      variable[l] = word_of(i);
    });
    if (vector && i % s.width == 0 && i + s.width <= longest) begin_group(code);
    if (position_ >= 0 && vector) position_ = i % s.width;
    co_await run(code.body, inside);
    if (position_ >= 0 && vector && position_ == s.width - 1) check_group(code, mask);
  }
}

void Warp::begin_group(const Code& code) {
  const bool watched = machine_.options.vector_alignment || machine_.traffic != nullptr;
  if (machine_.phase.threads == 0 || !watched) return;
  position_ = 0;
  for (int site = code.first_site; site < code.last_site; ++site) {
    sites_[static_cast<std::size_t>(site)].count.fill(0);
    sites_[static_cast<std::size_t>(site)].positions.clear();
  }
}

/// Of an access of each lane; inside of a group it waits for the group's end.
void Warp::count_traffic(const Code& code, const Region& region, bool write, const Lanes& index,
                         std::uint32_t mask, int site) {
  if (machine_.traffic == nullptr || machine_.phase.threads == 0 || mask == 0) return;
  const auto size = static_cast<std::int64_t>(size_of(region.buffer->dtype));
  Site::Position here{mask, {}};
  each_lane(mask, [&](int, std::size_t l) { here.offsets[l] = integer_of(index[l]) * size; });
  if (site >= 0 && position_ >= 0) {
    Site& group = sites_[static_cast<std::size_t>(site)];
    group.statement = code.statement;
    group.write = write;
    group.positions.push_back(here);
    return;
  }
  machine_.traffic->count(code.statement, region, write, here.offsets, mask,
                          static_cast<int>(size));
}

/// Neighbours in all lanes are accesses of up to 16 bytes, one element for all of the group is one
/// access, anything else an access for each position.
void Warp::count_group(Site& site, const Region& region) {
  if (site.positions.empty()) return;
  const auto size = static_cast<std::int64_t>(size_of(region.buffer->dtype));
  const Site::Position first = site.positions[0];
  bool neighbours = true, same = true;
  for (std::size_t i = 1; i < site.positions.size(); ++i) {
    const Site::Position& position = site.positions[i];
    if (position.mask != first.mask) neighbours = same = false;
    each_lane(first.mask & position.mask, [&](int, std::size_t l) {
      const std::int64_t distance = position.offsets[l] - first.offsets[l];
      if (distance != static_cast<std::int64_t>(i) * size) neighbours = false;
      if (distance != 0) same = false;
    });
  }
  const auto count = [&](const Site::Position& position, std::int64_t bytes) {
    machine_.traffic->count(site.statement, region, site.write, position.offsets, position.mask,
                            static_cast<int>(bytes));
  };
  if (same) {
    count(first, size);
  } else if (neighbours) {
    constexpr std::int64_t widest = 16;
    const std::int64_t all = static_cast<std::int64_t>(site.positions.size()) * size;
    for (std::int64_t done = 0; done < all; done += widest) {
      Site::Position piece = first;
      for (std::int64_t& offset : piece.offsets) offset += done;
      count(piece, std::min(widest, all - done));
    }
  } else {
    for (const Site::Position& position : site.positions) count(position, size);
  }
  site.positions.clear();
}

/// Of the addresses of an intrinsic that lanes use.
void Warp::count_call(const Code& code, std::uint32_t mask) {
  if (machine_.traffic == nullptr) return;
  const Intrinsic& row = *code.statement->intrinsic;
  const bool matrices = row.name.starts_with("load_matrix");
  if (matrices && row.results.size() < 4) mask &= (1U << (8 * row.results.size())) - 1;
  constexpr int widest = 16;
  for (std::size_t i = 0; i < row.addresses.size(); ++i) {
    const Intrinsic::Address& address = row.addresses[i];
    if (address.bytes > widest || address.bytes == 0 || address.mbarrier) continue;
    const Region& region = *code.regions[i];
    const auto size = static_cast<std::int64_t>(size_of(region.buffer->dtype));
    const Lanes& index = value_of(code, code.indices[i]);
    // A copy that writes zeros reads nothing.
    const bool reads = address.access == Intrinsic::Access::read;
    const bool copy = row.meaning == meaning::copy_async;
    const std::uint32_t lanes =
        copy && reads ? where(value_of(code, code.operands[0]), mask) : mask;
    std::array<std::int64_t, warp_lanes> offsets{};
    each_lane(lanes, [&](int, std::size_t l) { offsets[l] = integer_of(index[l]) * size; });
    machine_.traffic->count(code.statement, region, !reads, offsets, lanes, address.bytes);
  }
}

void Warp::touch(int site, int lane, std::int64_t index) {
  if (site < 0 || position_ < 0) return;
  Site& here = sites_[static_cast<std::size_t>(site)];
  const auto l = static_cast<std::size_t>(lane);
  if (position_ == 0 && here.count[l] == 0) here.first[l] = index;
  const bool next = here.count[l] == position_ && index == here.first[l] + position_;
  here.count[l] = static_cast<std::int8_t>(next ? position_ + 1 : -1);
}

/// A group has run whole: where a lane's accesses were neighbours they are one access (or some of
/// 16 bytes), aligned as such.
void Warp::check_group(const Code& code, std::uint32_t mask) {
  position_ = -1;
  const int width = code.statement->width;
  for (int site = code.first_site; site < code.last_site; ++site) {
    const Region& region = *machine_.program.sites[static_cast<std::size_t>(site)];
    if (machine_.traffic) count_group(sites_[static_cast<std::size_t>(site)], region);
    if (!machine_.options.vector_alignment) continue;
    const auto size = static_cast<std::int64_t>(size_of(region.buffer->dtype));
    const std::int64_t alignment = std::min<std::int64_t>(size * width, 16);
    const Site& here = sites_[static_cast<std::size_t>(site)];
    each_lane(mask, [&](int lane, std::size_t l) {
      if (here.count[l] != width || here.first[l] * size % alignment == 0) return;
      machine_.reports.add(
          Report::Kind::misaligned, code.statement, block_, first_thread() + lane,
          fmt::format("{} elements from {}[{}] on are no multiple of {} bytes into it", width,
                      region.buffer->name, here.first[l], alignment));
    });
  }
}

void Warp::load(const Step& step, Code& code, std::uint32_t mask) {
  const Lanes& index = value_of(code, step.arguments[0]);
  Lanes& result = code.values[static_cast<std::size_t>(step.slot)];
  const std::uint32_t reads =
      step.arguments[1] >= 0 ? where(value_of(code, step.arguments[1]), mask) : mask;
  each_lane(mask & ~reads, [&](int, std::size_t l) { result[l] = 0; });
  count_traffic(code, *step.region, false, index, reads, step.site);
  each_lane(reads, [&](int lane, std::size_t l) {
    const std::int64_t position = integer_of(index[l]);
    touch(step.site, lane, position);
    result[l] = machine_.memory.load(*step.region, position, access(code.statement, lane));
  });
}

void Warp::evaluate(Code& code, std::uint32_t mask) { evaluate(code, mask, 0, code.steps.size()); }

void Warp::evaluate(Code& code, std::uint32_t mask, std::size_t first, std::size_t last) {
  static constexpr Lanes none{};
  for (std::size_t i = first; i < last; ++i) {
    const Step& step = code.steps[i];
    const auto argument = [&](std::size_t which) -> const Lanes& {
      return step.arguments[which] >= 0 ? value_of(code, step.arguments[which]) : none;
    };
    const Lanes& a = argument(0);
    const Lanes& b = argument(1);
    const Lanes& c = argument(2);
    Lanes& result = code.values[static_cast<std::size_t>(step.slot)];
    switch (step.kind) {
      case ExprKind::constant:
        break;
      case ExprKind::variable:
        result = variables_[static_cast<std::size_t>(step.variable)];
        break;
      case ExprKind::load:
        load(step, code, mask);
        break;
      case ExprKind::unary:
        each_lane(mask, [&](int, std::size_t l) {
          result[l] = arithmetic_.unary(static_cast<Unary>(step.code), step.type, a[l]);
        });
        break;
      case ExprKind::binary:
        each_lane(mask, [&](int, std::size_t l) {
          result[l] = arithmetic_.binary(static_cast<Binary>(step.code), step.from, a[l], b[l]);
        });
        break;
      case ExprKind::select:
        each_lane(mask, [&](int, std::size_t l) { result[l] = a[l] != 0 ? b[l] : c[l]; });
        break;
      case ExprKind::fma:
        each_lane(mask, [&](int, std::size_t l) {
          result[l] = arithmetic_.fma(step.type, a[l], b[l], c[l]);
        });
        break;
      case ExprKind::dot_pair:
        each_lane(mask,
                  [&](int, std::size_t l) { result[l] = arithmetic_.dot_pair(a[l], b[l], c[l]); });
        break;
      case ExprKind::cast:
        each_lane(mask, [&](int, std::size_t l) {
          result[l] = arithmetic_.cast(static_cast<Cast>(step.code), step.from, step.type, a[l]);
        });
        break;
    }
  }
}

void Warp::statement(Code& code, std::uint32_t mask) {
  if (code.statement->kind == StatementKind::store) return store(code, mask);
  evaluate(code, mask);
  const auto copy = [&](const Lanes& from, Lanes& to) {
    each_lane(mask, [&](int, std::size_t l) { to[l] = from[l]; });
  };
  const auto accumulator = [&]() -> Lanes& {
    return accumulators_[static_cast<std::size_t>(code.accumulator)];
  };
  switch (code.statement->kind) {
    case StatementKind::let:
      copy(code.value >= 0 ? value_of(code, code.value) : accumulator(),
           variables_[static_cast<std::size_t>(code.variable)]);
      break;
    case StatementKind::declare:
    case StatementKind::assign:
      copy(value_of(code, code.value), accumulator());
      break;
    case StatementKind::accumulate:
      accumulate(code, mask);
      break;
    case StatementKind::intrinsic:
      call(code, mask);
      break;
    case StatementKind::tile_product:
      each_lane(mask, [&](int lane, std::size_t) { tile_product(code, lane); });
      break;
    default:
      throw std::logic_error("interpret: no such statement");
  }
}

void Warp::store(Code& code, std::uint32_t mask) {
  evaluate(code, mask, 0, code.unguarded);
  if (code.predicate >= 0) mask = where(value_of(code, code.predicate), mask);
  evaluate(code, mask, code.unguarded, code.steps.size());
  const Lanes& value = value_of(code, code.value);
  const Lanes& index = value_of(code, code.index);
  count_traffic(code, *code.regions[0], true, index, mask, code.site);
  each_lane(mask, [&](int lane, std::size_t l) {
    const std::int64_t position = integer_of(index[l]);
    touch(code.site, lane, position);
    machine_.memory.store(*code.regions[0], position, value[l], access(code.statement, lane));
  });
}

void Warp::accumulate(const Code& code, std::uint32_t mask) {
  const Accumulator& accumulator = *code.statement->accumulator;
  Lanes& total = accumulators_[static_cast<std::size_t>(code.accumulator)];
  const Scalar type = accumulator.type;
  if (code.value < 0) {
    const Lanes& a = value_of(code, code.factors[0]);
    const Lanes& b = value_of(code, code.factors[1]);
    each_lane(mask,
              [&](int, std::size_t l) { total[l] = arithmetic_.fma(type, a[l], b[l], total[l]); });
    return;
  }
  const bool boolean = type == Scalar::boolean;
  Binary op = Binary::add;
  switch (accumulator.combine) {
    case Combine::add:
      op = boolean ? Binary::bitwise_or : Binary::add;
      break;
    case Combine::multiply:
      op = boolean ? Binary::bitwise_and : Binary::multiply;
      break;
    case Combine::minimum:
      op = Binary::minimum;
      break;
    case Combine::maximum:
      op = Binary::maximum;
      break;
  }
  const Lanes& value = value_of(code, code.value);
  each_lane(mask, [&](int, std::size_t l) {
    total[l] = arithmetic_.binary(op, type, total[l], value[l]);
  });
}

void Warp::tile_product(const Code& code, int lane) {
  const TileProduct& t = code.statement->tile;
  const Access access_here = access(code.statement, lane);
  const auto at = [&](std::size_t which, const MatrixView& view, std::int64_t row,
                      std::int64_t column) {
    const Lanes& index = value_of(code, code.indices[which]);
    return integer_of(index[static_cast<std::size_t>(lane)]) + row * view.stride + column;
  };
  const std::int64_t steps = integer_of(value_of(code, code.value)[static_cast<std::size_t>(lane)]);
  Memory& memory = machine_.memory;
  for (std::int64_t r = 0; r < t.rows; ++r) {
    for (std::int64_t c = 0; c < t.columns; ++c) {
      const std::int64_t to = at(0, t.sums, r, c);
      Word sum = t.accumulate ? memory.load(*code.regions[0], to, access_here) : 0;
      for (std::int64_t k = 0; k < steps; ++k) {
        sum = arithmetic_.dot_pair(memory.load(*code.regions[1], at(1, t.left, r, k), access_here),
                                   memory.load(*code.regions[2], at(2, t.right, k, c), access_here),
                                   sum);
      }
      memory.store(*code.regions[0], to, sum, access_here);
    }
  }
}

class Warp::Call final : public IntrinsicCall {
 public:
  Call(Warp& warp, const Code& code) : warp_(warp), code_(code) {}

  void read(int lane, std::size_t address, std::span<std::byte> to) override {
    memory().read(region(address), index(address, lane), row().addresses[address].alignment, to,
                  access(lane));
  }
  void atomic_add(int lane, std::size_t address, float value) override {
    memory().atomic_add(region(address), index(address, lane), value, access(lane));
  }
  void copy_async(int lane, std::size_t to, std::size_t from, bool copies) override {
    memory().copy_async({.to = &region(to),
                         .from = &region(from),
                         .to_index = index(to, lane),
                         .from_index = index(from, lane),
                         .bytes = row().addresses[to].bytes,
                         .copies = copies,
                         .access = access(lane)},
                        lands_at_once());
  }
  Reader reader(int lane, std::size_t address) override {
    // It may read from now on: what is to be there must be known of now.
    std::shared_ptr<const Knowledge> known;
    if (memory().clocks().on()) {
      known = std::make_shared<const Knowledge>(memory().clocks().of(access(lane).thread));
    }
    Access access_of_lane = access(lane);
    access_of_lane.asynchronous = row().addresses[address].asynchronous;
    return [&memory = memory(), &region = region(address), index = index(address, lane),
            access = access_of_lane, known](std::int64_t bytes, std::span<std::byte> to) {
      const auto size = static_cast<std::int64_t>(size_of(region.buffer->dtype));
      Access at_call = access;
      at_call.knowledge = known.get();
      memory.read(region, index + bytes / size, static_cast<int>(to.size()), to, at_call);
    };
  }
  std::int64_t place(int lane, std::size_t address) override {
    const auto size = static_cast<std::int64_t>(size_of(region(address).buffer->dtype));
    return index(address, lane) * size;
  }
  int warp() const override { return warp_.number_; }
  void defer(Deferred deferred) override {
    const std::uint32_t number = warp_.deferred_count_++;
    for (std::size_t i = 0; i < results.size(); ++i) results[i].fill(token(number));
    warp_.deferred_.back().push_back({number, std::move(deferred)});
  }
  void defer_commit() override { warp_.deferred_.emplace_back(); }
  void defer_wait(std::int64_t groups, std::span<const Lanes> before) override {
    auto& pending = warp_.deferred_;
    while (static_cast<std::int64_t>(pending.size()) - 1 > groups) {
      for (Warp::Deferred& deferred : pending.front()) {
        std::vector<Lanes> sums = resolved(deferred.what.operands);
        deferred.what.work(sums);
        warp_.deferred_results_[deferred.number] = std::move(sums);
      }
      pending.pop_front();
    }
    results = resolved(before);
  }

  void copy_commit(int lane) override { memory().copy_commit(warp_.first_thread() + lane); }
  void copy_wait(int lane, std::int64_t groups) override {
    memory().copy_wait(warp_.first_thread() + lane, groups);
  }

  void sync_warp() override {
    memory().clocks().meet(static_cast<std::size_t>(warp_.first_thread()), warp_lanes);
  }
  void fence_async(int lane) override { memory().clocks().fence(access(lane).thread); }

  void mbarrier_initialise(int lane, std::size_t address, std::int64_t arrivals) override {
    mbarriers().initialise(region(address), index(address, lane), arrivals, access(lane));
  }
  void mbarrier_fence(int lane) override { mbarriers().fence(warp_.first_thread() + lane); }
  void mbarrier_arrive(int lane, std::size_t address, std::int64_t bytes) override {
    mbarriers().arrive(region(address), index(address, lane), bytes, access(lane));
  }
  void mbarrier_wait(int lane, std::size_t address, std::int64_t parity) override {
    mbarriers().wait(region(address), index(address, lane), parity, access(lane),
                     warp_.missing_phases_);
  }
  void copy_tensor(int lane, std::size_t to, std::size_t mbarrier, std::size_t map,
                   std::vector<std::int64_t> coordinates) override {
    mbarriers().copy({.to = &region(to),
                      .to_index = index(to, lane),
                      .mbarrier = &region(mbarrier),
                      .mbarrier_index = index(mbarrier, lane),
                      .map = region(map).buffer,
                      .coordinates = std::move(coordinates),
                      .access = access(lane)},
                     lands_at_once());
  }
  void registers(std::int64_t) override { warp_.registers_.push_back(code_.statement); }

 private:
  /// What stands for results that are not there yet: a NaN that no arithmetic makes.
  static constexpr std::uint32_t no_number = 0x7fa00000U;
  static constexpr std::uint32_t most_numbers = 1U << 20U;
  static Word token(std::uint32_t number) { return no_number + number % most_numbers; }

  /// The results in place of what stands for them, where they are there.
  std::vector<Lanes> resolved(std::span<const Lanes> values) const {
    std::vector<Lanes> all(values.begin(), values.end());
    for (std::size_t i = 0; i < all.size(); ++i) {
      const Word word = all[i][0];
      if (word < no_number || word >= no_number + most_numbers) continue;
      const auto found = warp_.deferred_results_.find(static_cast<std::uint32_t>(word) - no_number);
      if (found != warp_.deferred_results_.end()) all[i] = found->second[i];
    }
    return all;
  }

  Memory& memory() { return warp_.machine_.memory; }
  Mbarriers& mbarriers() { return warp_.machine_.mbarriers; }
  bool lands_at_once() {
    return warp_.machine_.options.seed != 0 && (warp_.machine_.random() & 1U) != 0;
  }
  const Intrinsic& row() const { return *code_.statement->intrinsic; }
  Region& region(std::size_t address) { return *code_.regions[address]; }
  std::int64_t index(std::size_t address, int lane) const {
    return integer_of(value_of(code_, code_.indices[address])[static_cast<std::size_t>(lane)]);
  }
  Access access(int lane) const { return warp_.access(code_.statement, lane); }

  Warp& warp_;
  const Code& code_;
};

void Warp::call(const Code& code, std::uint32_t mask) {
  const Intrinsic& row = *code.statement->intrinsic;
  if (row.whole_warp && mask != whole_warp) {
    machine_.reports.add(Report::Kind::partial_warp, code.statement, block_,
                         first_thread() + std::countr_zero(~mask),
                         "this lane does not take part in what whole warps do");
  }
  count_call(code, mask);
  Call call(*this, code);
  call.active = mask;
  for (const int operand : code.operands) call.operands.push_back(value_of(code, operand));
  call.results.resize(code.results.size());
  row.meaning(call);
  for (std::size_t i = 0; i < code.results.size(); ++i) {
    Lanes& result = variables_[static_cast<std::size_t>(code.results[i])];
    each_lane(mask, [&](int, std::size_t l) { result[l] = call.results[i][l]; });
  }
}

}  // namespace weft::loop::interpreter
