#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "assembled.h"
#include "compiler/fusion/fuse.h"
#include "compiler/schedules/schedule.h"
#include "interpreted.h"

// Fourier transforms on a GPU: by the interpreter against the definition, and by ptxas.
namespace weft::compiler {
namespace {

/// Errors of a transform grow with log2 n; three roundings an element a pass, random in sign, and
/// as many again in products of factors.
double tolerance(std::int64_t n) { return 0x1p-24 * 8 * (2 + std::log2(static_cast<double>(n))); }

/// All kinds along an axis of `before` x n x `after`, through prologues and epilogues that read
/// further tensors. The real operand has `extent` points: fewer than n are padded, more are cut.
void expect_all_kinds(std::int64_t before, std::int64_t n, std::int64_t after, std::int64_t extent,
                      const test::Schedule& schedule = test::on_device) {
  SCOPED_TRACE(fmt::format("{} x {} x {}, {} points", before, n, after, extent));
  const std::int64_t bins = n / 2 + 1;
  const std::string text = fmt::format(R"(graph @g {{
  %x = state {{name = "x", dtype = f32, shape = [{0}, {4}, {2}]}} : f32[{0}, {4}, {2}]
  %a = state {{name = "a", dtype = f32, shape = [{0}, {1}, {2}]}} : f32[{0}, {1}, {2}]
  %b = state {{name = "b", dtype = f32, shape = [{0}, {1}, {2}]}} : f32[{0}, {1}, {2}]
  %s = state {{name = "s", dtype = f32, shape = [{0}, {3}, {2}]}} : f32[{0}, {3}, {2}]
  %t = state {{name = "t", dtype = f32, shape = [{0}, {3}, {2}]}} : f32[{0}, {3}, {2}]
  %p = mul %x, %x : f32[{0}, {4}, {2}]
  %f = rfft %p {{axis = 1, length = {1}}} : c64[{0}, {3}, {2}]
  %c = complex %s, %t : c64[{0}, {3}, {2}]
  %u = mul %f, %c : c64[{0}, {3}, {2}]
  %i = irfft %c {{axis = 1, length = {1}}} : f32[{0}, {1}, {2}]
  %j = add %i, %a : f32[{0}, {1}, {2}]
  %d = complex %a, %b : c64[{0}, {1}, {2}]
  %g = fft %d {{axis = 1}} : c64[{0}, {1}, {2}]
  %r = real %g : f32[{0}, {1}, {2}]
  %q = mul %r, %b : f32[{0}, {1}, {2}]
  %h = ifft %d {{axis = 1}} : c64[{0}, {1}, {2}]
  state_write %u {{name = "u"}}
  state_write %j {{name = "j"}}
  state_write %g {{name = "g"}}
  state_write %q {{name = "q"}}
  state_write %h {{name = "h"}}
}})",
                                       before, n, after, bins, extent);
  const ir::Graph graph = test::parse(text);
  const auto lines = static_cast<std::size_t>(before * after);
  const auto values = [&](std::int64_t points, unsigned seed) {
    return test::random_values(lines * static_cast<std::size_t>(points), seed);
  };
  const test::Values in = {{"x", values(extent, 1)},
                           {"a", values(n, 2)},
                           {"b", values(n, 3)},
                           {"s", values(bins, 4)},
                           {"t", values(bins, 5)}};
  const test::Values expected = test::run_reference(graph, in);
  for (const test::Values& out : test::run_device(graph, in, schedule, 5)) {
    for (const char* name : {"u", "j", "g", "q", "h"}) {
      EXPECT_LT(test::relative_error(out.at(name), expected.at(name)), tolerance(n)) << name;
    }
  }
}

TEST(FftDevice, Innermost) {
  for (const std::int64_t n : {1, 2, 3, 4, 12, 13, 15, 16, 31, 32, 64, 101, 240}) {
    expect_all_kinds(3, n, 1, n);
  }
  expect_all_kinds(400, 6, 1, 6);
  expect_all_kinds(2, 1000, 1, 1000);
  expect_all_kinds(1, 1009, 1, 1009);
}

TEST(FftDevice, Channels) {
  for (const std::int64_t n : {1, 2, 9, 17, 34, 62, 128}) expect_all_kinds(2, n, 5, n);
  expect_all_kinds(1, 48, 21, 48);
  expect_all_kinds(2, 256, 8, 256);
}

TEST(FftDevice, PaddedAndCut) {
  for (const std::int64_t n : {2, 7, 16, 77, 64}) {
    for (const std::int64_t extent : {n / 3, n - 1, 2 * n + 3}) expect_all_kinds(2, n, 2, extent);
  }
}

/// Two sweeps and three, of lines next to each other and apart, and of Bluestein's convolution.
TEST(FftDevice, LongLinesGoThroughMemory) {
  expect_all_kinds(2, 256, 1, 256, test::on_device_with(1024));
  expect_all_kinds(1, 600, 3, 500, test::on_device_with(1024));
  expect_all_kinds(2, 735, 1, 735, test::on_device_with(512));
  expect_all_kinds(2, 101, 2, 101, test::on_device_with(512));
}

TEST(FftDevicePtx, NothingIsSpilled) {
  const auto text = [](const char* op, std::int64_t rows, std::int64_t n) {
    const std::string real = fmt::format("f32[{}, {}]", rows, n);
    const std::string bins = fmt::format("c64[{}, {}]", rows, n / 2 + 1);
    const bool forward = std::string_view(op) == "rfft";
    return fmt::format(R"(graph @g {{
  %x = state {{name = "x", dtype = {5}, shape = [{0}, {4}]}} : {2}
  %y = {1} %x {{axis = 1, length = {6}}} : {3}
  state_write %y {{name = "y"}}
}})",
                       rows, op, forward ? real : bins, forward ? bins : real,
                       forward ? n : n / 2 + 1, forward ? "f32" : "c64", n);
  };
  const std::pair<const char*, std::int64_t> cases[] = {
      {"rfft", 1024}, {"irfft", 8192}, {"rfft", 1009}};
  for (const auto& [op, n] : cases) {
    const ir::Graph graph = test::parse(text(op, 512, n));
    const FusedGraph fused = fuse(graph);
    for (const char* processor : {"sm_80", "sm_90a"}) {
      const test::Assembled made = test::assembled(fused.groups[0], processor);
      EXPECT_EQ(made.code.ptx.find(".local"), std::string::npos) << op << " " << n;
      fmt::print("{} {} {}:\n{}", op, n, processor, made.said);
    }
  }
}

}  // namespace
}  // namespace weft::compiler
