#include "tests/ptx/machine/builder.h"

#include <fmt/format.h>

#include <algorithm>

#include "tests/ptx/machine/decode.h"
#include "tests/ptx/machine/machine.h"

namespace weft::ptx {
namespace {

constexpr std::uint32_t kLaneBytes32 = 32 * 4;
constexpr std::uint32_t kLaneBytes64 = 32 * 8;
constexpr std::uint32_t kPredicates = kLaneBytes32 / 4;  // in the place of one register

std::int64_t align(std::int64_t offset, std::int64_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

struct SpecialName {
  std::string_view name;
  Special special;
};
constexpr SpecialName kSpecials[] = {
    {"%tid.x", Special::tid_x},
    {"%tid.y", Special::tid_y},
    {"%tid.z", Special::tid_z},
    {"%ntid.x", Special::ntid_x},
    {"%ntid.y", Special::ntid_y},
    {"%ntid.z", Special::ntid_z},
    {"%ctaid.x", Special::ctaid_x},
    {"%ctaid.y", Special::ctaid_y},
    {"%ctaid.z", Special::ctaid_z},
    {"%nctaid.x", Special::nctaid_x},
    {"%nctaid.y", Special::nctaid_y},
    {"%nctaid.z", Special::nctaid_z},
    {"%clusterid.x", Special::ctaid_x},
    {"%clusterid.y", Special::ctaid_y},
    {"%clusterid.z", Special::ctaid_z},
    {"%nclusterid.x", Special::nctaid_x},
    {"%nclusterid.y", Special::nctaid_y},
    {"%nclusterid.z", Special::nctaid_z},
    {"%cluster_ctaid.x", Special::zero},
    {"%cluster_ctaid.y", Special::zero},
    {"%cluster_ctaid.z", Special::zero},
    {"%cluster_nctaid.x", Special::one},
    {"%cluster_nctaid.y", Special::one},
    {"%cluster_nctaid.z", Special::one},
    {"%cluster_ctarank", Special::zero},
    {"%cluster_nctarank", Special::one},
    {"%laneid", Special::laneid},
    {"%warpid", Special::warpid},
    {"%nwarpid", Special::nwarpid},
    {"%smid", Special::zero},
    {"%nsmid", Special::one},
    {"%lanemask_eq", Special::lanemask_eq},
    {"%lanemask_le", Special::lanemask_le},
    {"%lanemask_lt", Special::lanemask_lt},
    {"%lanemask_ge", Special::lanemask_ge},
    {"%lanemask_gt", Special::lanemask_gt},
    {"%dynamic_smem_size", Special::dynamic_smem_size},
    {"%total_smem_size", Special::total_smem_size},
};

}  // namespace

Builder::Builder(std::string name, const Globals& globals)
    : program_(std::make_shared<Program>()), globals_(globals) {
  program_->name = std::move(name);
  program_->scratch = allocate(Type::b64, 1);
  scopes_.emplace_back();
}

Builder::Pool Builder::pool(Type type) {
  if (type == Type::pred) return Pool::predicate;
  return bits(type) == 64 ? Pool::wide : Pool::narrow;
}

std::uint32_t Builder::allocate(Type type, std::size_t level) {
  const Pool kind = pool(type);
  if (free_.size() <= level) free_.resize(level + 1);
  std::vector<std::uint32_t>& free = free_[level][static_cast<std::size_t>(kind)];
  if (!free.empty()) {
    const std::uint32_t offset = free.back();
    free.pop_back();
    return offset;
  }
  const std::uint32_t offset = program_->register_bytes;
  program_->register_bytes += kind == Pool::wide ? kLaneBytes64 : kLaneBytes32;
  if (kind == Pool::predicate) {
    for (std::uint32_t i = kPredicates - 1; i > 0; --i) free.push_back(offset + 4 * i);
  }
  return offset;
}

void Builder::open_scope() { scopes_.emplace_back(); }

void Builder::close_scope() {
  if (scopes_.size() < 2) throw Error("'}' without '{'");
  resolve(scopes_.back());
  for (const Register& used : scopes_.back().used) {
    free_[scopes_.size()][static_cast<std::size_t>(pool(used.type))].push_back(used.offset);
  }
  std::vector<Jump> jumps = std::move(scopes_.back().jumps);
  scopes_.pop_back();
  scopes_.back().jumps.insert(scopes_.back().jumps.end(), jumps.begin(), jumps.end());
}

void Builder::resolve(Scope& scope) {
  std::erase_if(scope.jumps, [&](const Jump& jump) {
    const auto label = scope.labels.find(jump.label);
    if (label == scope.labels.end()) return false;
    if (jump.entry == kNone) {
      program_->code[jump.at].target = label->second;
    } else {
      program_->lists[jump.entry] = label->second;
    }
    return true;
  });
}

void Builder::declare_register(std::string_view name, Type type, std::int64_t count) {
  Scope& scope = scopes_.back();
  if (count < 0) {
    if (!scope.names.emplace(name, Name{type}).second) {
      throw Error(fmt::format("register {} is declared twice", name));
    }
  } else {
    if (count > 1 << 20) throw Error(fmt::format("{} registers {} are too many", count, name));
    const std::vector<std::uint32_t> offsets(static_cast<std::size_t>(count), kNone);
    if (!scope.ranges.emplace(name, Range{type, offsets}).second) {
      throw Error(fmt::format("registers {} are declared twice", name));
    }
  }
}

void Builder::declare_memory(std::string_view name, Space space, std::int64_t bytes,
                             std::int64_t alignment) {
  Variable variable{space, 0, std::max<std::int64_t>(bytes, 0), bytes < 0, alignment};
  if (bytes < 0 && space != Space::shared) throw Error(fmt::format("{} has no size", name));
  if (bytes >= 0) {
    std::int64_t& end = space == Space::shared ? static_shared_ : program_->local_bytes;
    end = align(end, alignment);
    variable.address = static_cast<std::uint64_t>(end);
    end += bytes;
    if (end > std::int64_t{1} << 30) throw Error(fmt::format("{} is too large", name));
  }
  if (!scopes_.back().variables.emplace(name, variable).second) {
    throw Error(fmt::format("variable {} is declared twice", name));
  }
}

void Builder::declare_parameter(std::string_view name, std::int64_t offset, std::int64_t bytes) {
  const Variable variable{Space::param, static_cast<std::uint64_t>(offset), bytes, false, 1};
  if (!scopes_.front().variables.emplace(name, variable).second) {
    throw Error(fmt::format("parameter {} is declared twice", name));
  }
}

void Builder::declare_targets(std::string_view name, std::vector<std::string_view> labels) {
  scopes_.back().targets[name] = std::move(labels);
}

std::vector<std::string_view> Builder::targets(std::string_view name) const {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    const auto found = scope->targets.find(name);
    if (found != scope->targets.end()) return found->second;
  }
  throw Error(fmt::format("{} is no .branchtargets", name));
}

void Builder::label(std::string_view name) {
  const auto here = static_cast<std::uint32_t>(program_->code.size());
  if (!scopes_.back().labels.emplace(name, here).second) {
    throw Error(fmt::format("label {} is declared twice", name));
  }
}

std::optional<Register> Builder::find_register(std::string_view name) {
  const std::size_t last = name.find_last_not_of("0123456789");
  const std::string_view stem = name.substr(0, last == std::string_view::npos ? 0 : last + 1);
  const std::string_view tail = name.substr(stem.size());
  std::size_t number = 0;
  for (const char c : tail) number = std::min<std::size_t>(number * 10 + (c - '0'), 1 << 24);
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    const auto one = scope->names.find(name);
    std::uint32_t* offset = nullptr;
    Type type{};
    if (one != scope->names.end()) {
      offset = &one->second.offset;
      type = one->second.type;
    } else if (!tail.empty()) {
      const auto range = scope->ranges.find(stem);
      if (range == scope->ranges.end() || number >= range->second.offsets.size()) continue;
      offset = &range->second.offsets[number];
      type = range->second.type;
    }
    if (offset == nullptr) continue;
    if (*offset == kNone) {
      *offset = allocate(type, static_cast<std::size_t>(scopes_.rend() - scope));
      scope->used.push_back({*offset, type});
    }
    return Register{*offset, type};
  }
  return std::nullopt;
}

const Variable* Builder::find_variable(std::string_view name) const {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    const auto found = scope->variables.find(name);
    if (found != scope->variables.end()) return &found->second;
  }
  const auto global = globals_.find(name);
  return global == globals_.end() ? nullptr : &global->second;
}

std::optional<Register> Builder::special(std::string_view name) {
  if (name == "WARP_SZ") return Register{constant(32, false), Type::b32};
  const auto known = specials_.find(name);
  if (known != specials_.end()) return known->second;
  const auto found = std::find_if(std::begin(kSpecials), std::end(kSpecials),
                                  [&](const SpecialName& each) { return each.name == name; });
  if (found == std::end(kSpecials)) return std::nullopt;
  // Not from the free list: instructions before this one may write those.
  const Register result{program_->register_bytes, Type::b32};
  program_->register_bytes += kLaneBytes32;
  program_->specials.push_back({found->special, result.offset});
  specials_.emplace(name, result);
  return result;
}

std::uint32_t Builder::constant(std::uint64_t value, bool wide) {
  if (!wide) value &= 0xffffffff;
  const auto [place, added] = constants_.try_emplace({value, wide}, program_->register_bytes);
  if (added) {
    program_->register_bytes += wide ? kLaneBytes64 : kLaneBytes32;
    program_->constants.push_back({place->second, wide, value});
  }
  return place->second;
}

std::uint32_t Builder::address_of(const Variable& variable, bool wide) {
  if (!variable.dynamic_shared) return constant(variable.address, wide);
  dynamic_alignment_ = std::max(dynamic_alignment_, variable.alignment);
  const auto [place, added] =
      dynamic_offsets_.try_emplace({variable.address, wide}, program_->register_bytes);
  if (added) {
    program_->register_bytes += wide ? kLaneBytes64 : kLaneBytes32;
    dynamic_.push_back(program_->constants.size());
    program_->constants.push_back({place->second, wide, variable.address});
  }
  return place->second;
}

std::uint32_t Builder::list(const std::vector<std::uint32_t>& operands) {
  const auto first = static_cast<std::uint32_t>(program_->lists.size());
  program_->lists.insert(program_->lists.end(), operands.begin(), operands.end());
  return first;
}

void Builder::branch_to(std::string_view label, std::uint32_t entry) {
  scopes_.back().jumps.push_back(
      {label, static_cast<std::uint32_t>(program_->code.size()), statement_->line, entry});
}

void Builder::emit(const Instruction& instruction) {
  program_->code.push_back(instruction);
  constexpr std::size_t kMostText = 120;
  std::string text;
  for (const char c : statement_->text) {
    const bool space = c == ' ' || c == '\t' || c == '\n' || c == '\r';
    if (!space || (!text.empty() && text.back() != ' ')) text += space ? ' ' : c;
    if (text.size() == kMostText) {
      text += "...";
      break;
    }
  }
  program_->sources.push_back({statement_->line, std::move(text)});
}

void Builder::instruction(const Statement& statement) {
  statement_ = &statement;
  const std::size_t before = program_->code.size();
  decode(statement, *this);
  if (!statement.guard.empty()) {
    const std::optional<Register> guard = find_register(statement.guard);
    if (!guard || guard->type != Type::pred) {
      throw Error(fmt::format("{} is no predicate", statement.guard));
    }
    for (std::size_t i = before; i < program_->code.size(); ++i) {
      program_->code[i].guard = guard->offset;
      program_->code[i].guard_negated = statement.guard_negated;
    }
  }
  for (const Register& temporary : temporaries_) {
    free_[0][static_cast<std::size_t>(pool(temporary.type))].push_back(temporary.offset);
  }
  temporaries_.clear();
  statement_ = nullptr;
}

std::shared_ptr<const Program> Builder::finish(std::int64_t parameter_bytes,
                                               std::shared_ptr<const Variables> variables) {
  Statement end;
  end.text = "the end";
  end.mnemonic = "exit";
  end.line = program_->sources.empty() ? 0 : program_->sources.back().line;
  instruction(end);
  resolve(scopes_.back());
  for (const Jump& jump : scopes_.back().jumps) {
    throw Error(fmt::format("line {}: there is no label {}", jump.line, jump.label));
  }
  program_->static_shared_bytes = align(static_shared_, dynamic_alignment_);
  for (const std::size_t index : dynamic_) {
    program_->constants[index].value += static_cast<std::uint64_t>(program_->static_shared_bytes);
  }
  program_->parameter_bytes = parameter_bytes;
  program_->variables = std::move(variables);
  return program_;
}

}  // namespace weft::ptx
