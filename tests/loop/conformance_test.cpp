#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "compiler/codegen/codegen.h"
#include "tests/compiler/ptxas.h"
#include "tools/selftest/intrinsics.h"

// The conformance cases of `weft selftest`: well-formed, of every row, and fit for an assembler.
namespace weft::selftest {
namespace {

const std::vector<IntrinsicCase>& cases() {
  static const std::vector<IntrinsicCase> all = intrinsic_cases();
  return all;
}

TEST(Conformance, EveryRowHasACase) {
  std::set<std::string> called;
  const auto visit = [&](const auto& self, const loop::Block& block) -> void {
    for (const loop::Statement* statement : block) {
      if (statement->intrinsic != nullptr) called.emplace(statement->intrinsic->name);
      self(self, statement->body);
    }
  };
  std::set<std::string> names;
  for (const IntrinsicCase& one : cases()) {
    EXPECT_TRUE(names.insert(one.name).second) << one.name;
    ASSERT_EQ(one.kernel->phases.size(), 1U) << one.name;
    visit(visit, one.kernel->phases[0].body);
  }
  for (const std::string_view name : rows_without_case()) called.emplace(name);
  for (const loop::Intrinsic& row : loop::intrinsics()) {
    EXPECT_TRUE(called.contains(std::string(row.name))) << row.name;
  }
}

TEST(Conformance, TheInterpreterHasNothingToReport) {
  for (const IntrinsicCase& one : cases()) {
    std::vector<std::vector<std::byte>> results;
    ASSERT_NO_THROW(results = expected_results(one));
    EXPECT_TRUE(compare_results(one, results, results).empty()) << one.name;
    // Something is computed, and what is wrong is found.
    EXPECT_NE(results, one.arguments) << one.name;
    auto wrong = results;
    for (std::byte& byte : wrong.back()) byte ^= std::byte{0x55};
    EXPECT_FALSE(compare_results(one, results, wrong).empty()) << one.name;
    EXPECT_LE(compare_results(one, results, wrong).size(), 5U) << one.name;
  }
}

TEST(Conformance, ResultsAreOfAllKinds) {
  // Operands that all give one result would test nothing.
  for (const IntrinsicCase& one : cases()) {
    const auto results = expected_results(one);
    const loop::Buffer& buffer = *one.kernel->arguments.back();
    const std::size_t size = size_of(buffer.dtype);
    std::set<std::vector<std::byte>> distinct;
    for (std::size_t at = 0; at < results.back().size(); at += size) {
      const auto begin = results.back().begin() + static_cast<std::ptrdiff_t>(at);
      distinct.emplace(begin, begin + static_cast<std::ptrdiff_t>(size));
    }
    EXPECT_GE(distinct.size(), 2U) << one.name;
  }
}

TEST(Conformance, Assembles) {
  for (const char* processor : {"sm_80", "sm_90a"}) {
    const compiler::DeviceTarget target = compiler::device_target(processor);
    std::vector<std::string> modules;
    for (std::size_t i = 0; i < cases().size(); ++i) {
      const IntrinsicCase& one = cases()[i];
      if (one.capability > target.capability || (one.specific && !target.specific)) continue;
      modules.push_back(
          compiler::generate_device(*one.kernel, fmt::format("case{}", i), target).ptx);
    }
    const std::string said = test::assemble(modules, processor);
    EXPECT_TRUE(test::spills(said).empty())
        << fmt::format("{}", fmt::join(test::spills(said), "\n"));
  }
}

}  // namespace
}  // namespace weft::selftest
