#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <set>

#include "compiler/codegen/cached.h"
#include "run.h"

namespace weft::test {
namespace {

using compiler::CodegenOptions;
using compiler::GeneratedCode;
using compiler::HostTarget;

class FakeCache final : public compiler::ObjectCache {
 public:
  std::optional<std::string> find(std::string_view kernel, std::string_view conditions) override {
    const std::lock_guard lock(mutex);
    ++asked;
    const auto found = entries.find({std::string(kernel), std::string(conditions)});
    if (found == entries.end()) return std::nullopt;
    return found->second;
  }
  void store(std::string_view kernel, std::string_view conditions, std::string_view code) override {
    const std::lock_guard lock(mutex);
    entries[{std::string(kernel), std::string(conditions)}] = code;
  }

  std::mutex mutex;
  int asked = 0;
  std::map<std::pair<std::string, std::string>, std::string> entries;
};

const char* const graph_text = R"(graph @g {
  %x = state {name = "x", dtype = f32, shape = [8, 32]} : f32[8, 32]
  %w = state {name = "w", dtype = f32, shape = [32, 32]} : f32[32, 32]
  %y = dot %x, %w {lhs_contract = [1], rhs_contract = [0], lhs_batch = [], rhs_batch = []} : f32[8, 32]
  %z = tanh %y : f32[8, 32]
  %u = sum %w {axes = [0], keep = false} : f32[32]
  state_write %z {name = "z"}
  state_write %u {name = "u"}
})";

TEST(KernelCache, AHitGivesTheSameBits) {
  const ir::Graph graph = parse(graph_text);
  const Values inputs = {{"x", random_values(256, 1)}, {"w", random_values(1024, 2)}};
  FakeCache cache;
  compiler::CompileOptions options;
  options.cache = &cache;
  const compiler::Compilation cold = compiler::compile(graph, options);
  EXPECT_EQ(cold.cached_kernels, 0);
  EXPECT_GE(cold.distinct_kernels, 2);
  EXPECT_EQ(static_cast<std::int64_t>(cache.entries.size()), cold.distinct_kernels);
  const compiler::Compilation warm = compiler::compile(graph, options);
  EXPECT_EQ(warm.cached_kernels, warm.distinct_kernels);
  ASSERT_EQ(warm.plan.objects.size(), cold.plan.objects.size());
  for (std::size_t i = 0; i < cold.plan.objects.size(); ++i) {
    EXPECT_EQ(warm.plan.objects[i].bytes, cold.plan.objects[i].bytes);
  }
  for (std::size_t i = 0; i < cold.plan.kernels.size(); ++i) {
    EXPECT_EQ(warm.plan.kernels[i].scratch_bytes, cold.plan.kernels[i].scratch_bytes);
  }
  const Values without = run_compiled(graph, inputs);
  EXPECT_EQ(run_compiled(graph, inputs, options), without);
}

TEST(KernelCache, KeepsPtxOfEachTarget) {
  const ir::Graph graph = parse(graph_text);
  FakeCache cache;
  compiler::CompileOptions options;
  options.cache = &cache;
  options.gpu = "sm_90a";
  const compiler::Compilation cold = compiler::compile(graph, options);
  EXPECT_EQ(cold.cached_kernels, 0);
  const compiler::Compilation warm = compiler::compile(graph, options);
  EXPECT_EQ(warm.cached_kernels, warm.distinct_kernels);
  for (std::size_t i = 0; i < cold.plan.objects.size(); ++i) {
    EXPECT_EQ(warm.plan.objects[i].bytes, cold.plan.objects[i].bytes);
  }
  for (std::size_t i = 0; i < cold.plan.kernels.size(); ++i) {
    EXPECT_EQ(warm.plan.kernels[i].phases[0].shared_bytes,
              cold.plan.kernels[i].phases[0].shared_bytes);
  }
  // Neither another GPU's nor the processor's.
  options.gpu = "sm_80";
  EXPECT_EQ(compiler::compile(graph, options).cached_kernels, 0);
  options.gpu = "";
  EXPECT_EQ(compiler::compile(graph, options).cached_kernels, 0);
  // Text without the kernel's entries is not believed.
  options.gpu = "sm_90a";
  for (auto& [key, code] : cache.entries) {
    for (std::size_t at = code.find(".entry"); at != std::string::npos; at = code.find(".entry")) {
      code.replace(at, 6, ".other");
    }
  }
  const compiler::Compilation anew = compiler::compile(graph, options);
  EXPECT_EQ(anew.cached_kernels, 0);
  EXPECT_EQ(anew.plan.objects[0].bytes, cold.plan.objects[0].bytes);
}

TEST(KernelCache, KeepsProductsWithTensorCopiesAndWithoutApart) {
  const ir::Graph graph = parse(R"(graph @g {
  %x = state {name = "x", dtype = bf16, shape = [128, 128]} : bf16[128, 128]
  %w = state {name = "w", dtype = bf16, shape = [128, 128]} : bf16[128, 128]
  %y = dot %x, %w {lhs_contract = [1], rhs_contract = [0], lhs_batch = [], rhs_batch = []} : bf16[128, 128]
  state_write %y {name = "y"}
})");
  FakeCache cache;
  compiler::CompileOptions options;
  options.cache = &cache;
  options.gpu = "sm_90a";
  for (const bool copies : {true, false}) {
    options.tensor_copies = copies;
    for (const bool again : {false, true}) {
      const compiler::Compilation compilation = compiler::compile(graph, options);
      ASSERT_EQ(compilation.plan.kernels.size(), 1U);
      EXPECT_EQ(compilation.plan.kernels[0].tensor_maps.empty(), !copies);
      EXPECT_EQ(compilation.cached_kernels, again ? 1 : 0);
      const std::string ptx(compilation.plan.objects[0].bytes.begin(),
                            compilation.plan.objects[0].bytes.end());
      EXPECT_EQ(ptx.find("cp.async.bulk.tensor") != std::string::npos, copies);
      EXPECT_EQ(ptx.find("cp.async.cg.shared") != std::string::npos, !copies);
    }
  }
}

TEST(KernelCache, EqualKernelsAreAskedForOnce) {
  const ir::Graph graph = parse(R"(graph @g {
  %a = state {name = "a", dtype = f32, shape = [7]} : f32[7]
  %b = state {name = "b", dtype = f32, shape = [7]} : f32[7]
  %c = exp %a : f32[7]
  %d = exp %b : f32[7]
  state_write %c {name = "a"}
  state_write %d {name = "b"}
})");
  FakeCache cache;
  compiler::CompileOptions options;
  options.cache = &cache;
  const compiler::Compilation compilation = compiler::compile(graph, options);
  EXPECT_EQ(compilation.kernels.size(), 2U);
  EXPECT_EQ(compilation.distinct_kernels, 1);
  EXPECT_EQ(cache.asked, 1);
  EXPECT_EQ(compilation.plan.objects.size(), 1U);
}

TEST(KernelCache, WhatIsNoCodeOfTheKernelIsGeneratedAnew) {
  const ir::Graph graph = parse(graph_text);
  FakeCache cache;
  compiler::CompileOptions options;
  options.cache = &cache;
  const compiler::Compilation good = compiler::compile(graph, options);
  const auto kept = cache.entries;
  const std::string other = kept.begin()->second;
  const std::vector<std::function<std::string(const std::string&)>> damages = {
      [](const std::string&) { return std::string(); },
      [](const std::string&) { return std::string("nonsense"); },
      [](const std::string& code) { return code.substr(0, code.size() - 1); },
      [](const std::string& code) { return code + 'x'; },
      [](const std::string&) { return std::string("0 4 0 0\nELF!"); },
      [](const std::string&) { return std::string("0 99999999999999999 0 0\n"); },
      [](const std::string&) { return std::string("-1 0 0 0\n"); },
      // The object's header is another machine's.
      [](const std::string& code) {
        std::string changed = code;
        changed[code.find('\n') + 1 + 18] = 40;
        return changed;
      },
      // An object that lacks the kernel's functions.
      [&](const std::string& code) { return code == other ? std::string("0 0 0 0\n") : other; },
  };
  for (std::size_t i = 0; i < damages.size(); ++i) {
    for (auto& [key, code] : cache.entries) code = damages[i](kept.at(key));
    const compiler::Compilation rebuilt = compiler::compile(graph, options);
    EXPECT_EQ(rebuilt.cached_kernels, 0) << "damage " << i;
    for (std::size_t k = 0; k < good.plan.objects.size(); ++k) {
      EXPECT_EQ(rebuilt.plan.objects[k].bytes, good.plan.objects[k].bytes) << "damage " << i;
    }
    EXPECT_EQ(cache.entries, kept) << "damage " << i;
  }
}

TEST(KernelCache, KeysDifferWhereTargetOrOptionsDo) {
  loop::Kernel kernel;
  kernel.name = "k";
  const loop::Buffer* to = kernel.argument("y", DType::f32, 64, true);
  loop::Builder builder(kernel);
  builder.phase(1, [&](loop::Ex) {
    builder.loop(64, loop::Role::vector, 8, [&](loop::Ex i) {
      builder.store(to, i, builder.arena().constant(loop::Scalar::f32, 1.5));
    });
  });
  const std::string canonical = loop::canonical(kernel);
  const HostTarget host = compiler::host_target();
  FakeCache cache;
  const auto generate = [&](const HostTarget& target, const CodegenOptions& options,
                            const std::string& symbol = "f") {
    bool cached = false;
    const GeneratedCode code =
        generate_cached(kernel, canonical, symbol, target, options, &cache, cached);
    EXPECT_EQ(code.assembly.empty(), !options.assembly);
    EXPECT_EQ(code.llvm_ir.empty(), !options.llvm_ir);
    EXPECT_FALSE(code.object.bytes.empty());
    return cached;
  };
  EXPECT_FALSE(generate(host, {}));
  EXPECT_TRUE(generate(host, {}));
  EXPECT_FALSE(generate(host, {.assembly = true, .llvm_ir = false}));
  EXPECT_TRUE(generate(host, {.assembly = true, .llvm_ir = false}));
  EXPECT_FALSE(generate(host, {.assembly = true, .llvm_ir = true}));
  EXPECT_FALSE(generate(host, {}, "g"));
  HostTarget other = host;
  other.cpu = "x86-64";
  EXPECT_FALSE(generate(other, {}));
  other = host;
  other.features = "+sse2";
  EXPECT_FALSE(generate(other, {}));
  other = host;
  other.vector_bits = 128;
  EXPECT_FALSE(generate(other, {}));
  EXPECT_TRUE(generate(host, {}));
  std::set<std::string> conditions;
  for (const auto& entry : cache.entries) conditions.insert(entry.first.second);
  EXPECT_EQ(conditions.size(), 7U);
}

}  // namespace
}  // namespace weft::test
