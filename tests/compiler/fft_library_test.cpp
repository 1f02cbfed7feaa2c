#include <fmt/format.h>
#include <gtest/gtest.h>

#include "interpreted.h"

// Fourier transforms by a GPU's library, whose phases the interpreter computes by their definition:
// what weft's own phases before and after them make of it, against reference evaluation.
namespace weft::test {
namespace {

struct Case {
  const char* op;
  Shape shape;  ///< of the operand
  int axis;
  std::int64_t length;  ///< of real transforms
  bool prologue = false;
  bool epilogue = false;
};

Shape result_shape(const Case& c) {
  Shape shape = c.shape;
  const std::string_view op = c.op;
  if (op == "rfft") shape[c.axis] = c.length / 2 + 1;
  if (op == "irfft") shape[c.axis] = c.length;
  return shape;
}

std::string text(const Case& c) {
  const std::string_view op = c.op;
  const std::string_view from = op == "rfft" ? "f32" : "c64";
  const std::string_view to = op == "irfft" ? "f32" : "c64";
  const std::string x = fmt::format("{}{}", from, c.shape.text());
  const std::string y = fmt::format("{}{}", to, result_shape(c).text());
  const bool real = op == "rfft" || op == "irfft";
  std::string graph = "graph @g {\n";
  graph += fmt::format("  %x = state {{name = \"x\", dtype = {}, shape = {}}} : {}\n", from,
                       c.shape.text(), x);
  if (c.prologue) graph += fmt::format("  %u = neg %x : {}\n", x);
  graph += fmt::format("  %f = {} {} {{axis = {}{}}} : {}\n", op, c.prologue ? "%u" : "%x", c.axis,
                       real ? fmt::format(", length = {}", c.length) : "", y);
  if (c.epilogue) graph += fmt::format("  %y = neg %f : {}\n", y);
  graph += fmt::format("  state_write {} {{name = \"y\"}}\n}}", c.epilogue ? "%y" : "%f");
  return graph;
}

TEST(FftLibrary, AgreesWithTheDefinition) {
  const Case cases[] = {
      {"fft", {3, 8}, 1, 0},
      {"ifft", {2, 7, 3}, 1, 0, true, true},
      {"fft", {5, 4}, 0, 0, true},
      {"ifft", {6}, 0, 0},
      {"rfft", {2, 9, 4}, 1, 9},
      {"rfft", {2, 9, 4}, 1, 16, false, true},
      {"rfft", {3, 12}, 1, 8, true},
      {"irfft", {2, 5, 3}, 1, 8},
      {"irfft", {4, 5}, 1, 9, true, true},
      {"irfft", {1, 1, 2}, 1, 1},
  };
  for (const Case& c : cases) {
    const std::string source = text(c);
    SCOPED_TRACE(source);
    const ir::Graph graph = parse(source);
    const bool complex = std::string_view(c.op) != "rfft";
    const auto elements = static_cast<std::size_t>(c.shape.elements() * (complex ? 2 : 1));
    const Values inputs = {{"x", random_values(elements, 3)}};
    int library_phases = 0;
    const Schedule schedule = [&](const compiler::Group& group) {
      compiler::DeviceOptions options;
      options.library_transform = [](const ir::Node&) { return true; };
      compiler::ScheduledKernel made = compiler::schedule_device(group, options);
      for (const loop::Phase& phase : made.kernel->phases) {
        library_phases += phase.transform ? 1 : 0;
      }
      return made;
    };
    const Values found = run_interpreted(graph, inputs, schedule);
    EXPECT_EQ(library_phases, 1);
    const Values wanted = run_reference(graph, inputs);
    // Sums in double precision; the operand, its factor and the result are rounded.
    EXPECT_LE(relative_error(found.at("y"), wanted.at("y")), 4 * 0x1p-24);
  }
}

}  // namespace
}  // namespace weft::test
