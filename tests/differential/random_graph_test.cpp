// Random programs, compiled in every mode, against the reference evaluation. WEFT_FUZZ_SEEDS=n runs
// n seeds in place of the default, WEFT_FUZZ_FIRST=s begins with seed s.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "compiler/ir/text.h"
#include "save.h"
#include "tools/check/bounds.h"
#include "tools/check/differences.h"
#include "tools/check/random_graph.h"

namespace weft::test {
namespace {

constexpr int shards = 8;

std::uint64_t from_environment(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

const std::vector<check::Mode>& modes() {
  static const std::vector<check::Mode> all = {{.fuse = true, .threads = {1, 2, 5}},
                                               {.fuse = false, .threads = {1, 2, 5}}};
  return all;
}

/// What is wrong with the graph, on the values that `weft run` gives it.
std::vector<std::string> mismatches(const ir::Graph& graph, std::int64_t* undetermined = nullptr,
                                    std::int64_t* elements = nullptr) {
  const check::Interface interface = check::read_interface(graph, 1);
  const check::Inputs inputs = check::random_inputs(graph, interface, 0);
  const std::vector<check::Bounded> expected = check::bound(graph, interface, inputs);
  std::vector<std::string> all;
  for (const check::Mode& mode : modes()) {
    const check::Comparison comparison =
        check::differences(graph, interface, inputs, expected, mode);
    all.insert(all.end(), comparison.mismatches.begin(), comparison.mismatches.end());
    if (undetermined != nullptr) *undetermined += comparison.undetermined;
    if (elements != nullptr) *elements += comparison.elements;
  }
  return all;
}

bool fails(const ir::Graph& graph) {
  try {
    return !mismatches(graph).empty();
  } catch (const std::exception&) {
    return false;  // the reference evaluation's own: not what is looked for
  }
}

void report(std::uint64_t seed, const ir::Graph& graph, const std::vector<std::string>& lines) {
  const double seconds = static_cast<double>(from_environment("WEFT_FUZZ_SHRINK", 60));
  const ir::Graph small = check::shrink(graph, fails, seconds);
  const std::string text = ir::print(small);
  const std::string path = save(fmt::format("seed{}.weft", seed), text);
  ADD_FAILURE() << "seed " << seed << ":\n"
                << fmt::format("{}", fmt::join(lines, "\n")) << "\nshrunk, weft run --samples 6 "
                << path << " (--no-fuse):\n"
                << fmt::format("{}", fmt::join(mismatches(small), "\n")) << "\n"
                << text.substr(0, 4000);
}

class RandomGraphs : public testing::TestWithParam<int> {};

TEST_P(RandomGraphs, AgreeWithTheReference) {
  const std::uint64_t count = from_environment("WEFT_FUZZ_SEEDS", 96);
  const std::uint64_t first = from_environment("WEFT_FUZZ_FIRST", 0);
  std::int64_t undetermined = 0;
  std::int64_t elements = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t seed = first + i;
    if (seed % shards != static_cast<std::uint64_t>(GetParam())) continue;
    const ir::Graph graph = check::random_graph(seed);
    ASSERT_NO_THROW(ir::verify(graph, "random_graph")) << "seed " << seed;
    const std::vector<std::string> lines = mismatches(graph, &undetermined, &elements);
    if (!lines.empty()) report(seed, graph, lines);
  }
  // Programs whose results depend on rounding alone would test nothing.
  EXPECT_LE(4 * undetermined, elements) << undetermined << " of " << elements;
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomGraphs, testing::Range(0, shards));

}  // namespace
}  // namespace weft::test
