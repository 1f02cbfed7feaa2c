#include <fmt/format.h>

#include "tests/ptx/machine/access.h"

namespace weft::ptx {
namespace {

Flow branch(Warp& warp, const Instruction& i, std::uint32_t mask) {
  warp.target = i.target;
  warp.jumping = mask;
  return Flow::jump;
}

Flow uniform_branch(Warp& warp, const Instruction& i, std::uint32_t mask) {
  if (mask != warp.group->mask) throw Fault("a branch .uni that not all threads take");
  return branch(warp, i, mask);
}

/// To an element of a table of labels; threads with the index of the first go, the others follow.
Flow indexed_branch(Warp& warp, const Instruction& i, std::uint32_t mask) {
  const auto* index = warp.lanes<const std::uint32_t>(i.a);
  const int first = std::countr_zero(mask);
  if (index[first] >= i.mode) {
    throw Fault(fmt::format("index {} into a table of {} labels", index[first], i.mode), first);
  }
  warp.jumping = 0;
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    if (in(mask, lane) && index[lane] == index[first]) warp.jumping |= std::uint32_t{1} << lane;
  }
  warp.target = warp.program->lists[i.list + index[first]];
  return Flow::jump;
}

Flow leave(Warp&, const Instruction&, std::uint32_t) { return Flow::exit; }
Flow nothing(Warp&, const Instruction&, std::uint32_t) { return Flow::next; }
Flow trap(Warp&, const Instruction&, std::uint32_t) { throw Fault("the kernel has trapped"); }

void decode_branch(Decode& decode) {
  Instruction i;
  i.execute = decode.take("uni") ? uniform_branch : branch;
  decode.expect(1);
  const Operand& label = decode.operand(0);
  if (label.kind != Operand::Kind::name) decode.fail("a label is expected");
  decode.builder().branch_to(label.name);
  decode.emit(i);
}

void decode_leave(Decode& decode) {
  Instruction i;
  i.execute = leave;
  decode.take("uni");
  decode.expect(0);
  decode.emit(i);
}

void decode_trap(Decode& decode) {
  Instruction i;
  i.execute = trap;
  decode.expect(0);
  decode.emit(i);
}

void decode_sleep(Decode& decode) {
  Instruction i;
  i.execute = [](Warp&, const Instruction&, std::uint32_t) { return Flow::yield; };
  decode.take("u32");
  decode.expect(1);
  decode.source(0, Type::u32);
  decode.emit(i);
}

/// Orders memory accesses, which this machine executes one after the other.
void decode_fence(Decode& decode) {
  Instruction i;
  i.execute = nothing;
  if (decode.take("proxy")) {
    if (decode.take("tensormap::generic")) decode.fail("tensor maps in memory are not supported");
    if (decode.take_one({"alias", "async"}) < 0) decode.fail("an unknown proxy");
    decode.take_one({"global", "shared::cta", "shared::cluster"});
  } else if (decode.take("mbarrier_init")) {
    if (!decode.take("release") || !decode.take("cluster"))
      decode.fail(".release.cluster is missing");
  } else {
    decode.take_one({"sc", "acq_rel", "acquire", "release"});
    if (decode.take_one({"cta", "cluster", "gpu", "sys"}) < 0) decode.fail("a scope is missing");
  }
  decode.expect(0);
  decode.emit(i);
}

void decode_membar(Decode& decode) {
  Instruction i;
  i.execute = nothing;
  if (decode.take_one({"cta", "gl", "sys"}) < 0) decode.fail("a scope is missing");
  decode.expect(0);
  decode.emit(i);
}

/// Changes how many registers the threads of a warp have, which limits nothing here.
void decode_registers(Decode& decode) {
  Instruction i;
  i.collective = true;
  i.execute = [](Warp& warp, const Instruction&, std::uint32_t mask) {
    return whole_warp(warp, mask) ? Flow::next : Flow::wait;
  };
  if (decode.take_one({"inc", "dec"}) < 0) decode.fail(".inc or .dec is missing");
  if (!decode.take("sync") || !decode.take("aligned") || !decode.take("u32")) {
    decode.fail(".sync.aligned.u32 is missing");
  }
  decode.expect(1);
  const std::int64_t count = decode.integer(0);
  if (count < 24 || count > 256 || count % 8 != 0) {
    decode.fail(fmt::format("{} registers are no multiple of 8 from 24 to 256", count));
  }
  decode.emit(i);
}

void decode_indexed_branch(Decode& decode) {
  Instruction i;
  i.execute = indexed_branch;
  if (!decode.take("idx")) decode.fail(".idx is missing");
  decode.take("uni");
  decode.expect(2);
  i.a = decode.source(0, Type::u32);
  const std::vector<std::string_view> labels = decode.builder().targets(decode.operand(1).name);
  i.mode = static_cast<std::uint16_t>(labels.size());
  i.list = decode.builder().list(std::vector<std::uint32_t>(labels.size(), 0));
  for (std::size_t k = 0; k < labels.size(); ++k) {
    decode.builder().branch_to(labels[k], i.list + static_cast<std::uint32_t>(k));
  }
  decode.emit(i);
}

}  // namespace

void add_control(Decoders& decoders) {
  decoders["bra"] = decode_branch;
  decoders["brx"] = decode_indexed_branch;
  decoders["ret"] = decode_leave;
  decoders["exit"] = decode_leave;
  decoders["trap"] = decode_trap;
  decoders["nanosleep"] = decode_sleep;
  decoders["fence"] = decode_fence;
  decoders["membar"] = decode_membar;
  decoders["setmaxnreg"] = decode_registers;
}

}  // namespace weft::ptx
