#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "compiler/codegen/codegen.h"
#include "compiler/loop/kernel.h"
#include "ptxas.h"
#include "runtime/plan/error.h"

// PTX of hand-written kernels: what instructions it has, and that ptxas takes it, where there is
// one (on the PATH, in CUDA's usual folder, or named by WEFT_PTXAS).
namespace weft::compiler {
namespace {

using loop::Ex;
using loop::Role;
using loop::Scalar;

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

using Body = std::function<void(loop::Kernel&, loop::Builder&)>;

/// The PTX for both processors that weft is made for, assembled.
std::string generate(const Body& body) {
  std::string ptx;
  for (const char* processor : {"sm_80", "sm_90a"}) {
    loop::Kernel kernel;
    kernel.name = "test";
    loop::Builder builder(kernel);
    body(kernel, builder);
    ptx = generate_device(kernel, "test.kernel", device_target(processor)).ptx;
    const std::string said = test::assemble(ptx, processor);
    if (!said.empty()) {
      EXPECT_TRUE(has(said, "0 bytes spill stores, 0 bytes spill loads")) << said;
    }
  }
  return ptx;
}

TEST(Nvptx, VectorsOfAThreadAreOneAccess) {
  const std::string ptx = generate([](loop::Kernel& kernel, loop::Builder& b) {
    loop::Arena& a = b.arena();
    constexpr std::int64_t threads = 128;
    constexpr std::int64_t elements = 4 * threads * 10;
    const auto* x = kernel.argument("x", DType::f32, elements, false);
    const auto* y = kernel.argument("y", DType::f32, elements, true);
    b.phase(10, threads, [&](Ex block, Ex thread) {
      const Ex first = a.mul(a.add(a.mul(block, a.integer(threads)), thread), a.integer(4));
      b.loop(4, Role::vector, 4, [&](Ex lane) {
        const Ex at = a.add(first, lane);
        b.store(y, at, a.mul(a.load(x, at), a.constant(Scalar::f32, 2)));
      });
    });
  });
  EXPECT_TRUE(has(ptx, "ld.global.v4")) << ptx;
  EXPECT_TRUE(has(ptx, "st.global.v4")) << ptx;
  EXPECT_TRUE(has(ptx, ".entry test_kernel_0(")) << ptx;
  EXPECT_TRUE(has(ptx, ".reqntid 128")) << ptx;
  EXPECT_TRUE(has(ptx, "mul.rn.ftz.f32") || has(ptx, "add.rn.ftz.f32") || has(ptx, "add.ftz.f32") ||
              has(ptx, "mul.ftz.f32"))
      << ptx;
  // Indices fit in 32 bits.
  EXPECT_FALSE(has(ptx, "mul.lo.s64")) << ptx;
}

TEST(Nvptx, SixteenBitsAreConvertedInRegisters) {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    const std::string ptx = generate([&](loop::Kernel& kernel, loop::Builder& b) {
      loop::Arena& a = b.arena();
      const auto* x = kernel.argument("x", dtype, 8192, false);
      const auto* y = kernel.argument("y", dtype, 8192, true);
      b.phase(8, 128, [&](Ex block, Ex thread) {
        const Ex first = a.mul(a.add(a.mul(block, a.integer(128)), thread), a.integer(8));
        b.loop(8, Role::vector, 8, [&](Ex lane) {
          const Ex at = a.add(first, lane);
          b.store(y, at, a.fma(a.load(x, at), a.load(x, at), a.constant(Scalar::f32, 1)));
        });
      });
    });
    EXPECT_TRUE(has(ptx, "ld.global.v4")) << ptx;
    EXPECT_TRUE(has(ptx, "st.global.v4")) << ptx;
    EXPECT_TRUE(has(ptx, "fma.rn.ftz.f32")) << ptx;
    // By the device's own instruction.
    EXPECT_TRUE(has(ptx, dtype == DType::f16 ? "cvt.rn.f16.f32" : "cvt.rn.bf16.f32")) << ptx;
  }
}

// A function whose f32 are flushed has f16 flushed too, wherever LLVM computes with them.
TEST(Nvptx, NothingIsComputedInSixteenBits) {
  const std::string ptx = generate([&](loop::Kernel& kernel, loop::Builder& b) {
    loop::Arena& a = b.arena();
    const auto* x = kernel.argument("x", DType::f16, 1024, false);
    const auto* y = kernel.argument("y", DType::f16, 1024, false);
    const auto* sum = kernel.argument("sum", DType::f16, 1024, true);
    const auto* less = kernel.argument("less", DType::boolean, 1024, true);
    b.phase(8, 128, [&](Ex block, Ex thread) {
      const Ex at = b.let(a.add(a.mul(block, a.integer(128)), thread));
      const Ex left = b.let(a.load(x, at));
      const Ex right = b.let(a.load(y, at));
      b.store(sum, at, a.add(left, right));
      b.store(less, at, a.less(left, right));
    });
  });
  EXPECT_TRUE(has(ptx, "add.rn.ftz.f32")) << ptx;
  EXPECT_TRUE(has(ptx, "cvt.ftz.f32.f16") || has(ptx, "cvt.f32.f16")) << ptx;
  EXPECT_FALSE(has(ptx, ".ftz.f16 ") || has(ptx, ".ftz.f16\t")) << ptx;
  EXPECT_FALSE(has(ptx, "setp.lt.f16")) << ptx;
}

TEST(Nvptx, ABlockReducesThroughSharedMemory) {
  const std::string ptx = generate([](loop::Kernel& kernel, loop::Builder& b) {
    loop::Arena& a = b.arena();
    constexpr std::int64_t threads = 256;
    constexpr std::int64_t columns = 10000;
    const auto* x = kernel.argument("x", DType::f32, 64 * columns, false);
    const auto* y = kernel.argument("y", DType::f32, 64, true);
    const auto* sums = kernel.shared("sums", DType::f32, threads / 32);
    const loop::Intrinsic& shuffle = loop::intrinsic("shuffle_xor.f32");
    const auto warp_sum = [&](Ex value) {
      for (int distance = 16; distance > 0; distance /= 2) {
        value = a.add(value, b.call(shuffle, {value, a.integer(Scalar::i32, distance)})[0]);
      }
      return value;
    };
    b.phase(64, threads, [&](Ex block, Ex thread) {
      auto* sum = b.declare(Scalar::f32, loop::Combine::add, a.constant(Scalar::f32, 0));
      const Ex left = a.sub(a.integer(columns + threads - 1), thread);
      b.loop(a.floor_div(left, threads), [&](Ex i) {
        const Ex column = a.add(a.mul(i, a.integer(threads)), thread);
        b.accumulate(sum, a.load(x, a.add(a.mul(block, a.integer(columns)), column)));
      });
      const Ex own = b.let(warp_sum(b.read(sum)));
      b.condition(a.equal(a.floor_mod(thread, 32), a.integer(0)),
                  [&] { b.store(sums, a.floor_div(thread, 32), own); });
      b.barrier();
      b.condition(a.less(thread, a.integer(1)), [&] {
        Ex total = a.constant(Scalar::f32, 0);
        for (int i = 0; i < threads / 32; ++i) total = a.add(total, a.load(sums, a.integer(i)));
        b.store(y, block, total);
      });
    });
  });
  EXPECT_TRUE(has(ptx, "shfl.sync.bfly.b32")) << ptx;
  EXPECT_TRUE(has(ptx, "bar.sync") || has(ptx, "barrier.sync")) << ptx;
  EXPECT_TRUE(has(ptx, "st.shared.f32") || has(ptx, "st.shared.b32")) << ptx;
}

TEST(Nvptx, PhasesAreEntriesOfTheirOwn) {
  const std::string ptx = generate([](loop::Kernel& kernel, loop::Builder& b) {
    loop::Arena& a = b.arena();
    const auto* y = kernel.argument("y", DType::i64, 256, true);
    for (int i = 0; i < 2; ++i) {
      b.phase(4, 64, [&](Ex block, Ex thread) {
        const Ex at = a.add(a.mul(block, a.integer(64)), thread);
        b.store(y, at, a.mul(at, a.integer(3)));
      });
    }
  });
  EXPECT_TRUE(has(ptx, ".entry test_kernel_0(")) << ptx;
  EXPECT_TRUE(has(ptx, ".entry test_kernel_1(")) << ptx;
}

const loop::Buffer* tensor_map(loop::Kernel& kernel, const loop::Buffer* buffer, std::size_t axes) {
  loop::TensorView view{.buffer = buffer, .extents = {}, .strides = {}, .box = {}};
  for (std::size_t i = 0; i < axes; ++i) {
    view.extents.push_back(8);
    view.strides.push_back(std::int64_t{1} << (3 * i));
    view.box.push_back(4);
  }
  return kernel.tensor_map("map" + std::to_string(kernel.tensor_maps.size()), std::move(view));
}

/// Tensor maps stay where the launch has put them: no thread has a copy.
TEST(Nvptx, TensorMapsAreParametersByValue) {
  loop::Kernel kernel;
  kernel.name = "test";
  loop::Builder b(kernel);
  loop::Arena& a = b.arena();
  const auto* x = kernel.argument("x", DType::f32, 4096, false);
  const auto* y = kernel.argument("y", DType::f32, 4096, true);
  const auto* first = tensor_map(kernel, x, 2);
  const auto* second = tensor_map(kernel, x, 3);
  const auto* tile = kernel.shared("tile", DType::f32, 128);
  const auto* barrier = kernel.shared("barrier", DType::i64, 1);
  const Ex zero = a.integer(0), word = a.integer(Scalar::i32, 0);
  for (int phase = 0; phase < 2; ++phase) {
    b.phase(1, 128, [&](Ex, Ex thread) {
      b.condition(a.equal(thread, zero), [&] {
        b.call(loop::intrinsic("mbarrier_initialise"), {a.integer(Scalar::i32, 1)},
               {{barrier, zero}});
        b.call(loop::intrinsic("mbarrier_fence"), {});
      });
      b.barrier();
      // A loop in a branch: where the address of a map is easily taken for one in local memory.
      b.condition(a.equal(thread, zero), [&] {
        b.loop(a.integer(4), [&](Ex i) {
          const Ex row = a.cast(i, Scalar::i32);
          b.call(loop::intrinsic("copy_tensor.2"), {word, row},
                 {{tile, zero}, {barrier, zero}, {first, zero}});
          b.call(loop::intrinsic("copy_tensor.3"), {word, row, row},
                 {{tile, a.integer(64)}, {barrier, zero}, {second, zero}});
        });
      });
      b.store(y, thread, a.load(tile, thread));
      b.call(loop::intrinsic("registers_lower"), {a.integer(Scalar::i32, 40)});
    });
  }
  for (const char* processor : {"sm_90a"}) {
    const std::string ptx = generate_device(kernel, "maps", device_target(processor)).ptx;
    for (const char* name : {"maps_0", "maps_1"}) {
      EXPECT_TRUE(has(ptx, fmt::format(".param .align 64 .b8 {}_param_2[128],", name))) << ptx;
      EXPECT_TRUE(has(ptx, fmt::format(".param .align 64 .b8 {}_param_3[128]\n", name))) << ptx;
    }
    EXPECT_TRUE(has(ptx, "cvta.param.u64")) << ptx;
    EXPECT_FALSE(has(ptx, ".local")) << ptx;
    const std::string said = test::assemble(ptx, processor);
    EXPECT_TRUE(said.empty() || said.find("0 bytes stack frame") != std::string::npos) << said;
    EXPECT_EQ(said.find("ignored"), std::string::npos) << said;
  }
}

/// What was read before a loop is not what is there when one of its waits is over.
TEST(Nvptx, WaitsForgetWhatWasReadBeforeLoops) {
  loop::Kernel kernel;
  kernel.name = "test";
  loop::Builder b(kernel);
  loop::Arena& a = b.arena();
  const auto* y = kernel.argument("y", DType::f32, 4096, true);
  const auto* tile = kernel.shared("tile", DType::f32, 128);
  const auto* barrier = kernel.shared("barrier", DType::i64, 1);
  b.phase(1, 128, [&](Ex, Ex thread) {
    const Ex value = a.load(tile, thread);
    b.store(y, thread, value);
    b.loop(a.integer(8), [&](Ex i) {
      b.store(y, a.add(thread, a.mul(i, a.integer(128))), value);
      b.call(loop::intrinsic("mbarrier_wait"), {a.integer(Scalar::i32, 0)},
             {{barrier, a.integer(0)}});
    });
  });
  const std::string ptx = generate_device(kernel, "waits", device_target("sm_90a")).ptx;
  test::assemble(ptx, "sm_90a");
  std::size_t loads = 0;
  for (std::size_t at = 0; (at = ptx.find("ld.shared", at)) != std::string::npos; ++at) ++loads;
  EXPECT_GE(loads, 2U) << ptx;
}

/// Every row of the table, with operands that are loaded and results that are stored.
TEST(Nvptx, EveryIntrinsicAssembles) {
  for (const loop::Intrinsic& row : loop::intrinsics()) {
    SCOPED_TRACE(row.name);
    for (const char* processor : {"sm_80", "sm_90a"}) {
      if (row.capability > device_target(processor).capability) continue;
      loop::Kernel kernel;
      kernel.name = "test";
      loop::Builder b(kernel);
      loop::Arena& a = b.arena();
      const auto* floats = kernel.argument("floats", DType::f32, 1 << 16, true);
      const auto* integers = kernel.argument("integers", DType::i32, 1 << 16, true);
      b.phase(1, 128, [&](Ex, Ex thread) {
        std::vector<Ex> operands;
        for (const loop::Intrinsic::Operand& operand : row.operands) {
          const Ex at = a.add(thread, a.integer(static_cast<std::int64_t>(operands.size()) * 32));
          if (operand.immediate) {
            operands.push_back(a.integer(operand.type, operand.least));
          } else if (operand.type == Scalar::f32) {
            operands.push_back(a.load(floats, at));
          } else if (operand.type == Scalar::boolean) {
            operands.push_back(a.less(a.load(integers, at), a.integer(Scalar::i32, 7)));
          } else {
            operands.push_back(a.load(integers, at));
          }
        }
        std::vector<loop::Address> addresses;
        for (const loop::Intrinsic::Address& address : row.addresses) {
          if (address.space == loop::Space::tensor_map) {
            addresses.push_back({tensor_map(kernel, floats, row.operands.size()), a.integer(0)});
            continue;
          }
          const DType dtype = address.dtype.value_or(DType::f32);
          const loop::Buffer* buffer =
              address.space == loop::Space::shared
                  ? kernel.shared("block", dtype, 4096)
                  : kernel.argument("memory", dtype, 4096,
                                    address.access != loop::Intrinsic::Access::read);
          addresses.push_back({buffer, a.mul(thread, a.integer(16))});
        }
        const std::vector<Ex> results = b.call(row, operands, addresses);
        for (std::size_t i = 0; i < results.size(); ++i) {
          const Ex at = a.add(thread, a.integer(static_cast<std::int64_t>(i + 32) * 32));
          Ex value = results[i];
          if (value->type == Scalar::boolean) value = a.cast(value, Scalar::i32);
          b.store(value->type == Scalar::f32 ? floats : integers, at, value);
        }
      });
      test::assemble(generate_device(kernel, "row", device_target(processor)).ptx, processor);
    }
  }
}

TEST(Nvptx, UnknownProcessorsAndOperationsAreErrors) {
  EXPECT_THROW(device_target("sm_75"), Error);
  EXPECT_THROW(device_target("gfx90a"), Error);
  EXPECT_THROW(device_target("sm_"), Error);
  EXPECT_EQ(device_target("sm_90a").name(), "nvptx64/sm_90a");
  loop::Kernel kernel;
  kernel.name = "test";
  loop::Builder b(kernel);
  loop::Arena& a = b.arena();
  const auto* y = kernel.argument("y", DType::f64, 32, true);
  b.phase(1, 32, [&](Ex, Ex thread) {
    b.store(y, thread, a.unary(loop::Unary::call_erf, a.load(y, thread)));
  });
  EXPECT_THROW(generate_device(kernel, "erf", device_target("sm_80")), Error);
}

}  // namespace
}  // namespace weft::compiler
