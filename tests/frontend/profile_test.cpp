#include <gtest/gtest.h>
#include <weft/weft.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "roof.h"
#include "runtime/machine.h"
#include "tests/temporary_folder.h"

namespace weft {
namespace {

using test::Environment;
using test::TemporaryFolder;

Program product(State& state) {
  return trace(state, [] {
    const Tensor w = parameter("w", {64, 64}, init::uniform(-1, 1));
    frontend::loop(4, [&](Tensor) { assign(w, tanh(matmul(w, w))); });
  });
}

TEST(Profile, KernelsHaveTimesAndSharesAfterARun) {
  const TemporaryFolder folder;
  const Environment on("WEFT_CACHE", nullptr);
  const Environment place("WEFT_CACHE_DIR", folder.path().c_str());
  State state;
  Executable executable = product(state).compile({.threads = 2});
  EXPECT_EQ(executable.dump("kernels").find("% of the roof"), std::string::npos);
  executable.set_profiling(true);
  executable.run();
  const std::string text = executable.dump("kernels");
  EXPECT_NE(text.find("kernel"), std::string::npos);
  EXPECT_NE(text.find("GFLOP/s"), std::string::npos) << text;
  EXPECT_NE(text.find("% of the roof"), std::string::npos) << text;
  const nlohmann::json json = nlohmann::json::parse(executable.dump("kernels", Format::json));
  std::int64_t launches = 0;
  for (const auto& kernel : json.at("kernels")) {
    launches += kernel.at("launches").get<std::int64_t>();
    EXPECT_GT(kernel.at("seconds").get<double>(), 0);
    EXPECT_GT(kernel.at("roof_share").get<double>(), 0);
    EXPECT_GE(kernel.at("bytes_read").get<std::int64_t>(), 64 * 64 * 4);
    EXPECT_GE(kernel.at("operations").get<std::int64_t>(), 2 * 64 * 64 * 64);
  }
  EXPECT_EQ(launches, 4);
}

TEST(Profile, TheRoofIsPlausibleAndKnownFromThenOn) {
  const runtime::Roof& roof = detail::roof_of(2);
  EXPECT_EQ(&detail::roof_of(2), &roof);
  ASSERT_GE(roof.levels.size(), 2U);
  // Any machine that this can run on is between these.
  EXPECT_GT(roof.operations_a_second, 1e8);
  EXPECT_LT(roof.operations_a_second, 1e13);
  for (const runtime::Roof::Level& level : roof.levels) {
    EXPECT_GT(level.bytes_a_second, 1e7);
    EXPECT_LT(level.bytes_a_second, 1e13);
  }
}

TEST(Profile, TracesAreWritten) {
  const TemporaryFolder folder;
  State state;
  Executable executable = product(state).compile({.threads = 2});
  const std::string path = (folder.path() / "trace.json").string();
  EXPECT_THROW(executable.write_trace(path), Error);
  executable.set_tracing(true);
  executable.run();
  executable.write_trace(path);
  std::ifstream file(path);
  const nlohmann::json json = nlohmann::json::parse(file);
  std::int64_t kernels = 0;
  for (const auto& event : json.at("traceEvents")) {
    if (event.at("ph") == "X" && event.at("cat") == "kernel") {
      ++kernels;
      EXPECT_GT(event.at("args").at("bytes").get<std::int64_t>(), 0);
    }
  }
  EXPECT_EQ(kernels, 4);
  EXPECT_THROW(executable.write_trace((folder.path() / "none" / "trace.json").string()), Error);
}

}  // namespace
}  // namespace weft
