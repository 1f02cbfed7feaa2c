#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <numbers>

#include "compiler/passes/differentiate.h"
#include "ops/build.h"
#include "run.h"
#include "runtime/executable.h"
#include "runtime/state.h"

// Compiled transforms of all kinds of lengths and layouts against the definition.
namespace weft::compiler {
namespace {

/// Errors of a transform grow with log2 n; three roundings an element a pass, random in sign.
double tolerance(std::int64_t n) { return 0x1p-24 * 4 * (2 + std::log2(static_cast<double>(n))); }

class Lengths : public testing::TestWithParam<std::int64_t> {};

TEST_P(Lengths, AlongTheFirstAxis) {
  const std::int64_t n = GetParam();
  const std::int64_t bins = n / 2 + 1;
  const std::string text = fmt::format(R"(graph @g {{
  %x = state {{name = "x", dtype = f32, shape = [{0}, 5]}} : f32[{0}, 5]
  %f = rfft %x {{axis = 0, length = {0}}} : c64[{1}, 5]
  %b = irfft %f {{axis = 0, length = {0}}} : f32[{0}, 5]
  %c = complex %x, %b : c64[{0}, 5]
  %g = fft %c {{axis = 0}} : c64[{0}, 5]
  %h = ifft %g {{axis = 0}} : c64[{0}, 5]
  state_write %f {{name = "f"}}
  state_write %b {{name = "b"}}
  state_write %g {{name = "g"}}
  state_write %h {{name = "h"}}
}})",
                                       n, bins);
  const ir::Graph graph = test::parse(text);
  const test::Values in = {{"x", test::random_values(static_cast<std::size_t>(n * 5), 7)}};
  const test::Values expected = test::run_reference(graph, in);
  const test::Values out = test::run_compiled(graph, in);
  for (const char* name : {"f", "b", "g", "h"}) {
    EXPECT_LT(test::relative_error(out.at(name), expected.at(name)), 3 * tolerance(n)) << name;
  }
}

TEST_P(Lengths, AlongTheLastAxisPadded) {
  const std::int64_t n = GetParam();
  const std::int64_t padded = 2 * n + 1;
  const std::string text = fmt::format(R"(graph @g {{
  %x = state {{name = "x", dtype = f32, shape = [3, {0}]}} : f32[3, {0}]
  %e = neg %x : f32[3, {0}]
  %f = rfft %e {{axis = 1, length = {1}}} : c64[3, {2}]
  state_write %f {{name = "f"}}
}})",
                                       n, padded, padded / 2 + 1);
  const ir::Graph graph = test::parse(text);
  const test::Values in = {{"x", test::random_values(static_cast<std::size_t>(n * 3), 8)}};
  EXPECT_LT(test::relative_error(test::run_compiled(graph, in).at("f"),
                                 test::run_reference(graph, in).at("f")),
            tolerance(padded));
}

INSTANTIATE_TEST_SUITE_P(Short, Lengths, testing::Range<std::int64_t>(1, 131));
INSTANTIATE_TEST_SUITE_P(Long, Lengths,
                         testing::Values(169, 210, 256, 257, 289, 514, 1000, 1009, 1018, 1024, 2047,
                                         2048, 3 * 1009, 4099));

/// All kinds along an axis of `before` x n x `after`, through prologues and epilogues that read
/// further tensors. The real operand has `extent` points: fewer than n are padded, more are cut.
void expect_all_kinds(std::int64_t before, std::int64_t n, std::int64_t after,
                      std::int64_t extent) {
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
  %k = irfft %u {{axis = 1, length = {1}}} : f32[{0}, {1}, {2}]
  %d = complex %a, %b : c64[{0}, {1}, {2}]
  %g = fft %d {{axis = 1}} : c64[{0}, {1}, {2}]
  %r = real %g : f32[{0}, {1}, {2}]
  %q = mul %r, %b : f32[{0}, {1}, {2}]
  %h = ifft %g {{axis = 1}} : c64[{0}, {1}, {2}]
  state_write %u {{name = "u"}}
  state_write %j {{name = "j"}}
  state_write %k {{name = "k"}}
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
  const test::Values out = test::run_compiled(graph, in);
  // Two transforms in a row, and products around them.
  for (const char* name : {"u", "j", "k", "g", "q", "h"}) {
    EXPECT_LT(test::relative_error(out.at(name), expected.at(name)), 3 * tolerance(n)) << name;
  }
}

TEST(Fft, InnermostRowsByRowsAndInLanes) {
  // One row, a few, and more than a vector has lanes, with and without a rest.
  for (const std::int64_t n : {1, 2, 3, 12, 15, 31, 64, 96, 101, 128, 240, 255, 256, 500}) {
    for (const std::int64_t rows : {1, 7, 32, 37}) expect_all_kinds(rows, n, 1, n);
  }
  for (const std::int64_t n : {1000, 1009, 1024, 2047, 4096}) {
    for (const std::int64_t rows : {1, 18}) expect_all_kinds(rows, n, 1, n);
  }
}

TEST(Fft, ChannelsInLanes) {
  for (const std::int64_t n : {1, 2, 3, 16, 17, 31, 45, 62, 64, 101, 256, 480}) {
    for (const std::int64_t channels : {2, 3, 16, 21, 40}) expect_all_kinds(2, n, channels, n);
    expect_all_kinds(3, n, 5, n);
  }
  for (const std::int64_t n : {1000, 1009, 1024, 2047, 4096}) expect_all_kinds(1, n, 20, n);
}

TEST(Fft, PaddedAndCut) {
  for (const std::int64_t n : {1, 2, 7, 16, 64, 77, 514, 1024}) {
    for (const std::int64_t extent : {n / 3, n - 1, 2 * n + 3}) {
      if (extent < 1) continue;
      expect_all_kinds(3, n, 1, extent);
      expect_all_kinds(33, n, 1, extent);
      expect_all_kinds(2, n, 18, extent);
    }
  }
}

/// Lengths for which the reference takes too long: some bins by the definition.
void expect_bins(std::int64_t n, std::int64_t channels) {
  SCOPED_TRACE(fmt::format("{} x {}", n, channels));
  const std::string text = fmt::format(R"(graph @g {{
  %x = state {{name = "x", dtype = f32, shape = [{0}, {1}]}} : f32[{0}, {1}]
  %y = state {{name = "y", dtype = f32, shape = [{0}, {1}]}} : f32[{0}, {1}]
  %c = complex %x, %y : c64[{0}, {1}]
  %g = fft %c {{axis = 0}} : c64[{0}, {1}]
  %h = ifft %g {{axis = 0}} : c64[{0}, {1}]
  %f = rfft %x {{axis = 0, length = {0}}} : c64[{2}, {1}]
  %i = irfft %f {{axis = 0, length = {0}}} : f32[{0}, {1}]
  state_write %g {{name = "g"}}
  state_write %h {{name = "h"}}
  state_write %f {{name = "f"}}
  state_write %i {{name = "i"}}
}})",
                                       n, channels, n / 2 + 1);
  const auto elements = static_cast<std::size_t>(n * channels);
  const std::vector<double> x = test::random_values(elements, 1);
  const std::vector<double> y = test::random_values(elements, 2);
  const test::Values out = test::run_compiled(test::parse(text), {{"x", x}, {"y", y}});
  std::vector<double> both(2 * elements);
  for (std::size_t i = 0; i < elements; ++i) {
    both[2 * i] = x[i];
    both[2 * i + 1] = y[i];
  }
  EXPECT_LT(test::relative_error(out.at("h"), both), 2 * tolerance(n));
  EXPECT_LT(test::relative_error(out.at("i"), x), 2 * tolerance(n));
  std::vector<double> complex_bins, real_bins, expected_complex, expected_real;
  const std::int64_t step = n / 37 + 1;
  for (std::int64_t k = 0; k < n; k += step) {
    const std::int64_t channel = k % channels;
    std::complex<double> of_x = 0;
    std::complex<double> of_y = 0;
    for (std::int64_t j = 0; j < n; ++j) {
      const double angle =
          -2 * std::numbers::pi * static_cast<double>(j * k % n) / static_cast<double>(n);
      const std::complex<double> root(std::cos(angle), std::sin(angle));
      const auto at = static_cast<std::size_t>(j * channels + channel);
      of_x += x[at] * root;
      of_y += y[at] * root;
    }
    const auto put = [&](const std::vector<double>& values, std::complex<double> expected,
                         std::vector<double>& found, std::vector<double>& wanted) {
      const auto at = 2 * static_cast<std::size_t>(k * channels + channel);
      found.insert(found.end(), {values[at], values[at + 1]});
      wanted.insert(wanted.end(), {expected.real(), expected.imag()});
    };
    put(out.at("g"), of_x + std::complex<double>(0, 1) * of_y, complex_bins, expected_complex);
    if (k <= n / 2) put(out.at("f"), of_x, real_bins, expected_real);
  }
  // Some bins: their errors and sizes scatter around those of all.
  EXPECT_LT(test::relative_error(complex_bins, expected_complex), 2 * tolerance(n));
  EXPECT_LT(test::relative_error(real_bins, expected_real), 2 * tolerance(n));
}

TEST(Fft, LongLengths) {
  for (const std::int64_t n : {std::int64_t{16384}, std::int64_t{65536}, std::int64_t{65537}}) {
    expect_bins(n, 1);
    expect_bins(n, 3);
  }
  expect_bins(std::int64_t{1} << 20, 1);
}

/// Gradients of a sum of all kinds of transforms, compiled, beside the reference evaluation of the
/// same graph.
void expect_gradients(std::int64_t n, std::int64_t after, std::int64_t extent) {
  SCOPED_TRACE(fmt::format("{} x {}, {} points", n, after, extent));
  ir::Graph graph = test::parse(fmt::format(R"(graph @g {{
  %x = state {{name = "x", dtype = f32, shape = [3, {3}, {1}]}} : f32[3, {3}, {1}]
  %w = state {{name = "w", dtype = c64, shape = [3, {2}, {1}]}} : c64[3, {2}, {1}]
  %v = state {{name = "v", dtype = c64, shape = [3, {0}, {1}]}} : c64[3, {0}, {1}]
  %f = rfft %x {{axis = 1, length = {0}}} : c64[3, {2}, {1}]
  %p = mul %f, %w : c64[3, {2}, {1}]
  %y = irfft %p {{axis = 1, length = {0}}} : f32[3, {0}, {1}]
  %c = complex %y, %y : c64[3, {0}, {1}]
  %g = fft %c {{axis = 1}} : c64[3, {0}, {1}]
  %q = mul %g, %v : c64[3, {0}, {1}]
  %h = ifft %q {{axis = 1}} : c64[3, {0}, {1}]
  %r = real %h : f32[3, {0}, {1}]
  %i = imag %h : f32[3, {0}, {1}]
  %m = mul %r, %i : f32[3, {0}, {1}]
  %s = sum %m {{axes = [0, 1, 2], keep = false}} : f32[]
}})",
                                            n, after, n / 2 + 1, extent));
  std::vector<ir::Value> parameters;
  ir::Value loss;
  ir::walk(graph.body(), [&](ir::Node& node) {
    if (node.is("state")) parameters.push_back(node.result());
    if (node.is("sum")) loss = node.result();
  });
  ops::Builder builder(graph, graph.body());
  const std::vector<ir::Value> gradients = compiler::gradients(builder, loss, parameters);
  ASSERT_EQ(gradients.size(), 3U);
  test::Values in;
  for (std::size_t i = 0; i < 3; ++i) {
    const std::string name = parameters[i].node->attributes.text("name");
    const Type& type = parameters[i].type();
    const std::int64_t numbers = type.elements() * (is_complex(type.dtype) ? 2 : 1);
    in[name] = test::random_values(static_cast<std::size_t>(numbers), 1 + static_cast<unsigned>(i));
    builder.emit(ops::op("state_write"), {gradients[i]}, {{"name", "d" + name}});
  }
  const test::Values expected = test::run_reference(graph, in);
  const test::Values out = test::run_compiled(graph, in);
  // Up to eight transforms in a row.
  for (const char* name : {"dx", "dw", "dv"}) {
    EXPECT_LT(test::relative_error(out.at(name), expected.at(name)), 8 * tolerance(n)) << name;
  }
}

TEST(Fft, Gradients) {
  for (const std::int64_t n : {1, 2, 15, 64, 77, 514}) {
    for (const std::int64_t after : {1, 4, 18}) {
      expect_gradients(n, after, n);
      expect_gradients(n, after, n + 5);
      if (n > 1) expect_gradients(n, after, (n + 1) / 2);
    }
  }
}

/// The shape's text with another second extent.
std::string with_length(const std::string& shape, int length) {
  const std::size_t first = shape.find(',');
  return fmt::format("{}, {}{}", shape.substr(0, first), length,
                     shape.substr(shape.find(',', first + 1)));
}

TEST(Fft, AnyNumberOfThreadsGivesTheSameBits) {
  // Rows one by one, rows in lanes, channels, and pairs of lines.
  for (const char* shape : {"77, 1024, 1", "77, 60, 1", "3, 96, 40", "6, 255, 22", "6, 35, 21"}) {
    const ir::Graph graph =
        test::parse(fmt::format(R"(graph @g {{
  %x = state {{name = "x", dtype = c64, shape = [{0}]}} : c64[{0}]
  %r = real %x : f32[{0}]
  %g = fft %x {{axis = 1}} : c64[{0}]
  %f = rfft %r {{axis = 1, length = 90}} : c64[{1}]
  %h = irfft %f {{axis = 1, length = 90}} : f32[{2}]
  state_write %g {{name = "g"}}
  state_write %f {{name = "f"}}
  state_write %h {{name = "h"}}
}})",
                                shape, with_length(shape, 46), with_length(shape, 90)));
    test::Values first;
    for (const int threads : {1, 2, 5}) {
      Compilation compilation = compile(graph);
      State state;
      for (const plan::Buffer& buffer : compilation.plan.buffers) {
        if (buffer.kind != plan::BufferKind::state || state.has(buffer.name)) continue;
        state.add(buffer.name, buffer.type);
        if (buffer.name != "x") continue;
        const auto numbers = static_cast<std::size_t>(2 * buffer.type.shape.elements());
        state.set_values("x", test::random_values(numbers, 3));
      }
      runtime::RunOptions options;
      options.threads = threads;
      runtime::Executable executable(std::move(compilation.plan), options);
      executable.bind(state);
      executable.run();
      for (const char* name : {"g", "f", "h"}) {
        const std::vector<double> values = state.values(name);
        if (threads == 1) first[name] = values;
        EXPECT_EQ(values, first.at(name)) << name << " of " << shape;
      }
    }
  }
}

}  // namespace
}  // namespace weft::compiler
