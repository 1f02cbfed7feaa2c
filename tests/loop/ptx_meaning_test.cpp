#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/codegen/codegen.h"
#include "tests/loop/ptx_run.h"
#include "tools/selftest/intrinsics.h"

// Two readings of one instruction set. What the rows of intrinsics, the loop language's operations
// and its conversions mean is written down twice: in the loop interpreter
// (compiler/loop/interpret*, intrinsic_meaning) beside the PTX that they become, and in the machine
// of tests/ptx, which was written from NVIDIA's PTX ISA alone. The conformance cases that `weft
// selftest` runs on a device run here on the machine: where the readings differ one of them is
// wrong.
namespace weft::selftest {
namespace {

const std::vector<IntrinsicCase>& cases() {
  static const std::vector<IntrinsicCase> all = intrinsic_cases();
  return all;
}

/// What the machine's results have that the interpreter's have not, a line each; what it refuses is
/// a line as well.
std::vector<std::string> differences(const IntrinsicCase& one,
                                     const std::vector<std::vector<std::byte>>& expected,
                                     const compiler::GeneratedDeviceCode& code,
                                     std::uint64_t seed) {
  std::vector<std::vector<std::byte>> found = one.arguments;
  try {
    test::run_ptx(*one.kernel, code, found, seed);
  } catch (const std::exception& error) {
    return {one.name + ": " + error.what()};
  }
  return compare_results(one, expected, found);
}

/// Runs every case that `processor` has, in several orders of its warps.
void compare_readings(const char* processor) {
  const compiler::DeviceTarget target = compiler::device_target(processor);
  std::size_t ran = 0;
  for (const IntrinsicCase& one : cases()) {
    const bool there = one.specific ? target.specific && target.capability == one.capability
                                    : target.capability >= one.capability;
    if (!there) continue;
    ++ran;
    const auto expected = expected_results(one);
    const compiler::GeneratedDeviceCode code = test::generate_ptx(*one.kernel, target);
    for (const std::uint64_t seed : {1, 2}) {
      const std::vector<std::string> lines = differences(one, expected, code, seed);
      EXPECT_TRUE(lines.empty()) << fmt::format("seed {}:\n{}", seed, fmt::join(lines, "\n"));
      if (!lines.empty()) break;
    }
  }
  EXPECT_GT(ran, 100U);
}

TEST(PtxMeaning, Sm80) { compare_readings("sm_80"); }

TEST(PtxMeaning, Sm90a) { compare_readings("sm_90a"); }

// Texts that mean something else are found out: what the cases would not notice they do not test.
TEST(PtxMeaning, OtherTextsAreNoticed) {
  struct Change {
    std::string_view name, from, to;
  };
  const Change changes[] = {
      // The distance of the blocks of 64 columns, and the mode of the exchange.
      {"group_product.n128.bf16.kn/fresh", "0x02000000", "0x01000000"},
      {"group_product.n128.f16.mn/fresh", "0x40000040", "0x80000040"},
      {"group_product.n64.f16.kk/fresh", "0x40000040", "0x40000080"},
      {"group_product.n64.f16.kk/fresh", "p, 1, 1, 0, 0", "p, 1, 1, 0, 1"},
      {"group_product.n64.f16.kk/sums", "p, 1, 1, 0, 0", "p, 1, -1, 0, 0"},
      // Results that are taken before they are there.
      {"group_product.n64.f16.kk/sums", "wgmma.wait_group.sync.aligned 0",
       "wgmma.wait_group.sync.aligned 1"},
      {"copy_async.16/wait0", "cp.async.wait_group 0", "cp.async.wait_group 1"},
      // A wait that does not repeat.
      {"copy_tensor.3/f32", "@!p bra again;", ""},
      {"mma.m16n8k16.bf16/random", "bf16.bf16.f32", "f16.f16.f32"},
      {"load_matrix.x4.transposed", ".trans", ""},
      {"round_tf32", "cvt.rna.tf32.f32", "mov.b32"},
      {"shuffle_down.i32", "shfl.sync.down", "shfl.sync.up"},
      {"reduce_min.i32", "redux.sync.min.s32", "redux.sync.min.u32"},
  };
  const compiler::DeviceTarget target = compiler::device_target("sm_90a");
  for (const Change& change : changes) {
    SCOPED_TRACE(fmt::format("{}: \"{}\" for \"{}\"", change.name, change.to, change.from));
    const auto one = std::find_if(cases().begin(), cases().end(),
                                  [&](const IntrinsicCase& c) { return c.name == change.name; });
    ASSERT_NE(one, cases().end());
    compiler::GeneratedDeviceCode code = test::generate_ptx(*one->kernel, target);
    std::size_t replaced = 0;
    for (std::size_t at = code.ptx.find(change.from); at != std::string::npos;
         at = code.ptx.find(change.from, at + change.to.size())) {
      code.ptx.replace(at, change.from.size(), change.to);
      ++replaced;
    }
    EXPECT_GT(replaced, 0U);
    EXPECT_FALSE(differences(*one, expected_results(*one), code, 1).empty());
  }
}

}  // namespace
}  // namespace weft::selftest
