#include <fmt/format.h>

#include <algorithm>

#include "tests/ptx/machine/access.h"
#include "tests/ptx/machine/matrix.h"

namespace weft::ptx {
namespace {

constexpr std::uint32_t kGroupWarps = 4;

Lanes* lanes(Warp& warp, std::uint32_t offset) {
  return reinterpret_cast<Lanes*>(warp.registers + offset);
}

std::optional<Element> element(std::string_view name) {
  if (name == "f16") return Element::f16;
  if (name == "bf16") return Element::bf16;
  if (name == "tf32") return Element::tf32;
  return std::nullopt;
}

// mma.sync. i.mode: the element, from bit 2 k; the list: d, a, b, c.

Flow multiply(Warp& warp, const Instruction& i, std::uint32_t mask) {
  if (!whole_warp(warp, mask)) return Flow::wait;
  if (mask != kAllLanes) throw Fault("a matrix product of a warp of less than 32 threads");
  const auto type = static_cast<Element>(i.mode & 3);
  const int k = i.mode >> 2;
  const std::size_t count_b = static_cast<std::size_t>(type == Element::tf32 ? k / 4 : k / 8);
  const std::uint32_t* list = warp.program->lists.data() + i.list;
  std::array<Lanes*, 4> d{};
  std::array<const Lanes*, 4> a{};
  std::array<const Lanes*, 2> b{};
  std::array<const Lanes*, 4> c{};
  for (Lanes*& each : d) each = lanes(warp, *list++);
  for (std::size_t n = 0; n < 2 * count_b; ++n) a[n] = lanes(warp, *list++);
  for (std::size_t n = 0; n < count_b; ++n) b[n] = lanes(warp, *list++);
  for (const Lanes*& each : c) each = lanes(warp, *list++);
  mma(type, k, {a.data(), 2 * count_b}, {b.data(), count_b}, c, d);
  return Flow::next;
}

void add_registers(Decode& decode, int operand, std::size_t count, Type type, bool writes,
                   std::vector<std::uint32_t>& list) {
  const std::vector<Operand> elements = decode.elements(operand);
  if (elements.size() != count) {
    decode.fail(fmt::format("operand {} has {} registers where there are {}", operand + 1,
                            elements.size(), count));
  }
  for (const Operand& each : elements) {
    if (writes && each.kind == Operand::Kind::sink) decode.fail("every sum needs a register");
    list.push_back(writes ? decode.destination(each, type) : decode.source(each, type));
  }
}

void take_together(Decode& decode) {
  if (!decode.take("sync") || !decode.take("aligned")) decode.fail(".sync.aligned is missing");
}

void decode_multiply(Decode& decode) {
  take_together(decode);
  const std::string_view shape = decode.next();
  if (!decode.take("row") || !decode.take("col")) decode.fail(".row.col is missing");
  const bool sums = decode.take("f32");
  const std::optional<Element> a = element(decode.next());
  const std::optional<Element> b = element(decode.next());
  if (!sums || !a || a != b || !decode.take("f32")) {
    decode.fail("only products of f16, bf16 or tf32 with sums of f32 are supported");
  }
  const int k = shape == "m16n8k4" ? 4 : shape == "m16n8k8" ? 8 : shape == "m16n8k16" ? 16 : 0;
  const bool tensor_float = a == Element::tf32;
  if (k == 0 || k == (tensor_float ? 16 : 4)) decode.fail("an unknown shape");
  decode.expect(4);
  const auto count_b = static_cast<std::size_t>(tensor_float ? k / 4 : k / 8);
  Instruction i;
  i.execute = multiply;
  i.collective = true;
  i.mode = static_cast<std::uint16_t>(static_cast<int>(*a) | k << 2);
  std::vector<std::uint32_t> list;
  add_registers(decode, 0, 4, Type::f32, true, list);
  add_registers(decode, 1, 2 * count_b, Type::b32, false, list);
  add_registers(decode, 2, count_b, Type::b32, false, list);
  add_registers(decode, 3, 4, Type::f32, false, list);
  i.list = decode.builder().list(list);
  decode.emit(i);
}

Flow load_matrices(Warp& warp, const Instruction& i, std::uint32_t mask) {
  if (!whole_warp(warp, mask)) return Flow::wait;
  if (mask != kAllLanes) throw Fault("a load of matrices of a warp of less than 32 threads");
  std::array<std::uint64_t, kWarpThreads> address;
  addresses(warp, i, address);
  if (Counts* counts = warp.block->counts; counts != nullptr) {
    const std::uint32_t used = i.count == 4 ? kAllLanes : (std::uint32_t{1} << (8 * i.count)) - 1;
    constexpr std::int64_t kRowBytes = 16;
    count_shared(counts->instructions[warp.pc], address.data(), used, kRowBytes);
  }
  Lanes offsets;
  for (std::size_t lane = 0; lane < kWarpThreads; ++lane) {
    if (i.space == Space::generic) address[lane] -= kSharedWindow;
    offsets[lane] = static_cast<std::uint32_t>(std::min<std::uint64_t>(address[lane], 0xfffffff0));
  }
  std::array<Lanes*, 4> d{};
  for (std::size_t n = 0; n < i.count; ++n) {
    d[n] = lanes(warp, warp.program->lists[i.list + n]);
  }
  ldmatrix(i.count, i.mode != 0, warp.block->shared, offsets, {d.data(), i.count});
  return Flow::next;
}

void decode_load_matrices(Decode& decode) {
  take_together(decode);
  if (!decode.take("m8n8")) decode.fail(".m8n8 is missing");
  const int matrices = decode.take_one({"x1", "x2", "x4"});
  if (matrices < 0) decode.fail(".x1, .x2 or .x4 is missing");
  Instruction i;
  i.execute = load_matrices;
  i.collective = true;
  i.count = static_cast<std::uint8_t>(1 << matrices);
  i.mode = decode.take("trans") ? 1 : 0;
  i.space = take_space(decode);
  if (i.space != Space::shared && i.space != Space::generic) decode.fail("another state space");
  if (!decode.take("b16")) decode.fail(".b16 is missing");
  decode.expect(2);
  std::vector<std::uint32_t> list;
  add_registers(decode, 0, i.count, Type::b32, true, list);
  i.list = decode.builder().list(list);
  decode.address(1, i);
  decode.emit(i);
}

// wgmma. i.mode: the element, from bit 2 what is transposed (a, b), negated (a, b) and whether a is
// in registers; i.count: half the columns; the list: the sums, and a's registers. i.a, i.b:
// descriptors, i.c: the predicate scale-d, negated by i.immediate.

constexpr std::uint16_t kTransposedA = 4;
constexpr std::uint16_t kTransposedB = 8;
constexpr std::uint16_t kNegatedA = 16;
constexpr std::uint16_t kNegatedB = 32;
constexpr std::uint16_t kRegistersA = 64;
constexpr std::size_t kFragments = 4;  ///< registers of a

std::span<Warp> warpgroup(Warp& warp) {
  const std::uint32_t first = warp.index / kGroupWarps * kGroupWarps;
  if (first + kGroupWarps > warp.block->warps.size()) {
    throw Fault("the warp is in no warpgroup of four warps");
  }
  return warp.block->warps.subspan(first, kGroupWarps);
}

template <class T>
T uniform(const T* values, std::uint32_t mask, const char* what) {
  const T first = values[std::countr_zero(mask)];
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    if (in(mask, lane) && values[lane] != first) {
      throw Fault(fmt::format("threads of a warp have different {}", what), lane);
    }
  }
  return first;
}

Flow issue_product(Warp& warp, const Instruction& i, std::uint32_t mask) {
  if (!whole_warp(warp, mask)) return Flow::wait;
  warpgroup(warp);
  if (mask != kAllLanes) throw Fault("a matrix product of a warp of less than 32 threads");
  if (!warp.fenced) throw Fault("no wgmma.fence comes before the first matrix product");
  GroupIssue issue;
  issue.instruction = &i;
  issue.pc = warp.pc;
  if ((i.mode & kRegistersA) == 0) {
    issue.descriptor_a = uniform(warp.lanes<const std::uint64_t>(i.a), mask, "descriptors");
  }
  issue.descriptor_b = uniform(warp.lanes<const std::uint64_t>(i.b), mask, "descriptors");
  const std::uint32_t scale = warp.predicate(i.c) ^ (i.immediate != 0 ? kAllLanes : 0);
  if (scale != 0 && scale != kAllLanes) throw Fault("threads of a warp differ in scale-d");
  issue.scale_d = scale != 0;
  issue.group = warp.committed_products;
  warp.issues.push_back(issue);
  return Flow::next;
}

void product(std::span<Warp> warps, const GroupIssue& issue) {
  const Instruction& i = *issue.instruction;
  GroupProduct what;
  what.element = static_cast<Element>(i.mode & 3);
  what.columns = 2 * i.count;
  what.a_transposed = (i.mode & kTransposedA) != 0;
  what.b_transposed = (i.mode & kTransposedB) != 0;
  what.scale_d = issue.scale_d;
  what.scale_a = (i.mode & kNegatedA) != 0 ? -1 : 1;
  what.scale_b = (i.mode & kNegatedB) != 0 ? -1 : 1;
  std::vector<Lanes*> sums;
  std::vector<const Lanes*> a;
  for (Warp& warp : warps) {
    const std::uint32_t* list = warp.program->lists.data() + i.list;
    for (std::size_t n = 0; n < i.count; ++n) sums.push_back(lanes(warp, *list++));
    if ((i.mode & kRegistersA) == 0) continue;
    for (std::size_t n = 0; n < kFragments; ++n) a.push_back(lanes(warp, *list++));
  }
  const std::span<const std::byte> shared = warps.front().block->shared;
  if (a.empty()) {
    group_product(what, shared, issue.descriptor_a, issue.descriptor_b, sums);
  } else {
    group_product_registers(what, shared, a, issue.descriptor_b, sums);
  }
}

/// Groups of products with numbers below `groups` happen, which all four warps have committed.
void complete_products(std::span<Warp> warps, std::uint32_t groups) {
  Warp& first = warps.front();
  while (!first.issues.empty() && first.issues.front().group < groups) {
    const GroupIssue issue = first.issues.front();
    for (Warp& warp : warps) {
      warp.pc = issue.pc;
      const bool same =
          !warp.issues.empty() && warp.issues.front().instruction == issue.instruction &&
          warp.issues.front().descriptor_a == issue.descriptor_a &&
          warp.issues.front().descriptor_b == issue.descriptor_b &&
          warp.issues.front().scale_d == issue.scale_d && warp.issues.front().group == issue.group;
      if (!same) {
        throw Fault(fmt::format("warps {} and {} of a warpgroup differ in a matrix product",
                                first.index, warp.index));
      }
      warp.issues.erase(warp.issues.begin());
    }
    product(warps, issue);
  }
  for (Warp& warp : warps) {
    if (!warp.issues.empty() && warp.issues.front().group < groups) {
      warp.pc = warp.issues.front().pc;
      throw Fault(fmt::format("warp {} of a warpgroup has a matrix product that warp {} has not",
                              warp.index, first.index));
    }
    warp.completed_products = groups;
  }
  ++first.block->events;
}

/// The products happen when all four warps wait for them.
Flow wait_products(Warp& warp, const Instruction& i, std::uint32_t mask) {
  if (!whole_warp(warp, mask)) return Flow::wait;
  const std::uint32_t committed = warp.committed_products;
  const auto kept = static_cast<std::uint32_t>(i.immediate);
  warp.demanded_products = committed - std::min(committed, kept);
  if (warp.demanded_products <= warp.completed_products) return Flow::next;
  const std::span<Warp> warps = warpgroup(warp);
  std::uint32_t groups = warp.demanded_products;
  for (const Warp& each : warps) groups = std::min(groups, each.demanded_products);
  if (groups > warp.completed_products) complete_products(warps, groups);
  if (warp.demanded_products <= warp.completed_products) return Flow::next;
  warp.reason = "for matrix products that other warps of its warpgroup have not come to";
  return Flow::wait;
}

Flow commit_products(Warp& warp, const Instruction&, std::uint32_t mask) {
  if (!whole_warp(warp, mask)) return Flow::wait;
  ++warp.committed_products;
  return Flow::next;
}

Flow fence_products(Warp& warp, const Instruction&, std::uint32_t mask) {
  if (!whole_warp(warp, mask)) return Flow::wait;
  warp.fenced = true;
  return Flow::next;
}

int sign(Decode& decode, int operand) {
  const std::int64_t value = decode.integer(operand);
  if (value != 1 && value != -1) decode.fail("a scale is 1 or -1");
  return static_cast<int>(value);
}
bool flag(Decode& decode, int operand) {
  const std::int64_t value = decode.integer(operand);
  if (value != 0 && value != 1) decode.fail("a transposition is 0 or 1");
  return value == 1;
}

void decode_product(Decode& decode) {
  take_together(decode);
  const std::string_view shape = decode.next();
  const bool sums = decode.take("f32");
  const std::optional<Element> a = element(decode.next());
  const std::optional<Element> b = element(decode.next());
  if (!sums || !a || a != b) {
    decode.fail("only products of f16, bf16 or tf32 with sums of f32 are supported");
  }
  const bool tensor_float = a == Element::tf32;
  int columns = 0;
  for (int n = 8; n <= 256; n += 8) {
    if (shape == fmt::format("m64n{}k{}", n, tensor_float ? 8 : 16)) columns = n;
  }
  if (columns == 0) decode.fail(fmt::format("shape {} is not known", shape));
  const bool registers = decode.operand(1).kind == Operand::Kind::vector;
  const int transpositions = tensor_float ? 0 : registers ? 1 : 2;
  decode.expect(6 + transpositions);
  Instruction i;
  i.execute = issue_product;
  i.collective = true;
  i.count = static_cast<std::uint8_t>(columns / 2);
  i.mode = static_cast<std::uint16_t>(*a);
  std::vector<std::uint32_t> list;
  add_registers(decode, 0, i.count, Type::f32, true, list);
  if (registers) {
    i.mode |= kRegistersA;
    add_registers(decode, 1, kFragments, Type::b32, false, list);
  } else {
    i.a = decode.source(1, Type::b64);
  }
  i.list = decode.builder().list(list);
  i.b = decode.source(2, Type::b64);
  bool negated = false;
  i.c = decode.source_predicate(3, negated);
  i.immediate = negated ? 1 : 0;
  if (sign(decode, 4) < 0) i.mode |= kNegatedA;
  if (sign(decode, 5) < 0) i.mode |= kNegatedB;
  if (transpositions == 2 && flag(decode, 6)) i.mode |= kTransposedA;
  if (transpositions > 0 && flag(decode, 5 + transpositions)) i.mode |= kTransposedB;
  decode.emit(i);
}

void decode_group(Decode& decode) {
  const std::string_view operation = decode.next();
  if (operation == "mma_async") return decode_product(decode);
  take_together(decode);
  Instruction i;
  i.collective = true;
  if (operation == "wait_group") {
    i.execute = wait_products;
    decode.expect(1);
    i.immediate = decode.integer(0);
    if (i.immediate < 0 || i.immediate > 7) decode.fail("0 to 7 groups may be left");
  } else if (operation == "commit_group") {
    i.execute = commit_products;
    decode.expect(0);
  } else if (operation == "fence") {
    i.execute = fence_products;
    decode.expect(0);
  } else {
    decode.fail(fmt::format("wgmma.{} is not known", operation));
  }
  decode.emit(i);
}

}  // namespace

bool force_products(Block& block) {
  for (std::size_t first = 0; first + kGroupWarps <= block.warps.size(); first += kGroupWarps) {
    const std::span<Warp> warps = block.warps.subspan(first, kGroupWarps);
    std::uint32_t wanted = 0;
    std::uint32_t committed = kNone;
    for (const Warp& warp : warps) {
      wanted = std::max(wanted, warp.demanded_products);
      committed = std::min(committed, warp.committed_products);
    }
    const std::uint32_t groups = std::min(wanted, committed);
    if (groups > warps.front().completed_products) {
      complete_products(warps, groups);
      return true;
    }
  }
  return false;
}

void add_matrix_units(Decoders& decoders) {
  decoders["mma"] = decode_multiply;
  decoders["ldmatrix"] = decode_load_matrices;
  decoders["wgmma"] = decode_group;
}

}  // namespace weft::ptx
