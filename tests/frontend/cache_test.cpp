#include <gtest/gtest.h>
#include <weft/nn.h>
#include <weft/optim.h>
#include <weft/weft.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "kernel_cache.h"
#include "tests/temporary_folder.h"

namespace weft {
namespace {

namespace fs = std::filesystem;
using test::Environment;
using test::TemporaryFolder;

/// Trains a small model for a few steps; the State after it, and how it was compiled.
struct Trained {
  Statistics statistics;
  std::vector<std::vector<double>> state;
};

Trained train(const CompileOptions& options = {}) {
  State state;
  const Program program = trace(state, [] {
    nn::Linear first("first", 6, 8);
    nn::Linear second("second", 8, 3);
    optim::AdamW adam({.lr = 0.01});
    loop(5, [&](Tensor) {
      const Tensor x = feeder("x", {4, 6}, DType::f32, [](std::int64_t step, std::span<float> to) {
        for (std::size_t i = 0; i < to.size(); ++i) {
          to[i] = static_cast<float>((static_cast<std::size_t>(step) + 3 * i) % 7) - 3;
        }
      });
      const Tensor loss = mean(square(second(tanh(first(x)))));
      backward(loss);
      adam.step();
      adam.zero_grad();
    });
  });
  Executable executable = program.compile(options);
  executable.run();
  Trained result;
  result.statistics = executable.statistics();
  for (const std::string& name : state.names()) result.state.push_back(state.values(name));
  return result;
}

TEST(Cache, ProgramsGiveTheSameBitsFromTheDisk) {
  const TemporaryFolder folder;
  const Environment on("WEFT_CACHE", nullptr);
  const TemporaryFolder elsewhere;
  const Environment place("WEFT_CACHE_DIR", folder.path().c_str());
  const Trained cold = train();
  EXPECT_EQ(cold.statistics.cached_kernels, 0);
  EXPECT_GT(cold.statistics.distinct_kernels, 0);
  EXPECT_LE(cold.statistics.distinct_kernels, cold.statistics.kernels);
  const Trained from_memory = train();
  EXPECT_EQ(from_memory.statistics.cached_kernels, cold.statistics.distinct_kernels);
  EXPECT_EQ(from_memory.state, cold.state);
  {
    // Drops what this process has in memory.
    const Environment other("WEFT_CACHE_DIR", elsewhere.path().c_str());
    EXPECT_EQ(train().statistics.cached_kernels, 0);
  }
  const Trained from_disk = train();
  EXPECT_EQ(from_disk.statistics.cached_kernels, cold.statistics.distinct_kernels);
  EXPECT_EQ(from_disk.state, cold.state);
  {
    const Environment off("WEFT_CACHE", "off");
    const Trained without = train();
    EXPECT_EQ(without.statistics.cached_kernels, 0);
    EXPECT_EQ(without.state, cold.state);
  }
  CompileOptions no_cache;
  no_cache.cache = false;
  EXPECT_EQ(train(no_cache).statistics.cached_kernels, 0);
}

TEST(Cache, DamagedEntriesAreRebuilt) {
  const TemporaryFolder folder;
  const TemporaryFolder elsewhere;
  const Environment on("WEFT_CACHE", nullptr);
  const Environment place("WEFT_CACHE_DIR", folder.path().c_str());
  const Trained cold = train();
  const auto forget = [&] {
    const Environment other("WEFT_CACHE_DIR", elsewhere.path().c_str());
    detail::kernel_cache();
  };
  std::int64_t damaged = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder.path())) {
    if (!entry.is_regular_file() || damaged == 3) continue;
    std::fstream file(entry.path(), std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(entry.file_size() - 100));
    file << "damage";
    ++damaged;
  }
  ASSERT_EQ(damaged, std::min<std::int64_t>(3, cold.statistics.distinct_kernels));
  forget();
  const Trained rebuilt = train();
  EXPECT_EQ(rebuilt.statistics.cached_kernels, cold.statistics.distinct_kernels - damaged);
  EXPECT_EQ(rebuilt.state, cold.state);
  forget();
  EXPECT_EQ(train().statistics.cached_kernels, cold.statistics.distinct_kernels);
}

TEST(Cache, MemoryIsBounded) {
  const TemporaryFolder folder;
  detail::KernelCache cache({.folder = folder.path(), .capacity = 0}, 1000);
  const std::string code(100, 'c');
  for (int i = 0; i < 100; ++i) cache.store(std::to_string(i), "conditions", code);
  int kept = 0;
  for (int i = 0; i < 100; ++i) kept += cache.find(std::to_string(i), "conditions") ? 1 : 0;
  EXPECT_GE(kept, 5);
  EXPECT_LE(kept, 10);
  EXPECT_EQ(cache.find("99", "conditions"), code);
  cache.store("large", "conditions", std::string(2000, 'x'));
  EXPECT_EQ(cache.find("large", "conditions"), std::nullopt);
}

}  // namespace
}  // namespace weft
