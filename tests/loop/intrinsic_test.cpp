#include "compiler/loop/intrinsic.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <set>

#include "tests/compiler/ptxas.h"
#include "tests/loop/interpreted.h"

namespace weft {
namespace {

using loop::Buffer;
using loop::Builder;
using loop::Ex;
using loop::Intrinsic;
using loop::intrinsic;
using loop::Kernel;
using loop::Scalar;
using loop::Space;

/// The row's text with registers, immediates and addresses in place, and what declares and sets
/// them.
std::string assembly(const Intrinsic& row) {
  std::string before, after;
  std::vector<std::string> names;
  const auto declare = [&](const char* type) {
    names.push_back("%v" + std::to_string(names.size()));
    before += std::string("  .reg .") + type + " " + names.back() + ";\n";
    return names.back();
  };
  const auto type_of = [](Scalar scalar) { return scalar == Scalar::f32 ? "f32" : "b32"; };
  for (const Scalar type : row.results) {
    const std::string name = declare(type_of(type));
    after += std::string("  st.global.") + type_of(type) + " [%out], " + name + ";\n";
  }
  for (const Intrinsic::Operand& operand : row.operands) {
    if (operand.immediate) {
      names.push_back("1");
      continue;
    }
    const std::string name = declare(type_of(operand.type));
    before += std::string("  ld.global.") + type_of(operand.type) + " " + name + ", [%in];\n";
  }
  for (const Intrinsic::Address& address : row.addresses) {
    if (address.space == Space::shared) {
      const std::string name = declare("b32");
      before += "  mov.u32 " + name + ", memory;\n";
    } else {
      const std::string name = declare("b64");
      before += "  mov.u64 " + name + ", %out;\n";
    }
  }
  std::string text;
  for (std::size_t i = 0; i < row.ptx.size(); ++i) {
    if (row.ptx[i] != '$') {
      text += row.ptx[i];
      continue;
    }
    std::size_t number = 0;
    while (i + 1 < row.ptx.size() && row.ptx[i + 1] >= '0' && row.ptx[i + 1] <= '9') {
      number = 10 * number + static_cast<std::size_t>(row.ptx[++i] - '0');
    }
    EXPECT_LT(number, names.size()) << row.name;
    text += names.at(number);
  }
  return "{ // " + std::string(row.name) + "\n" + before + "  " + text + "\n" + after + "}\n";
}

TEST(Intrinsic, RowsAreComplete) {
  std::set<std::string_view> names;
  for (const Intrinsic& row : loop::intrinsics()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_EQ(&intrinsic(row.name), &row);
    EXPECT_NE(row.meaning, nullptr) << row.name;
    EXPECT_GE(row.capability, 70) << row.name;
    // Each register is in the text.
    const std::size_t count =
        row.results.size() + row.operands.size() - row.tied + row.addresses.size();
    for (std::size_t i = 0; i < count; ++i) {
      EXPECT_NE(row.ptx.find("$" + std::to_string(i)), std::string_view::npos) << row.name;
    }
    for (const Intrinsic::Address& address : row.addresses) {
      const bool tensor_copy = row.name.starts_with("copy_tensor.");
      EXPECT_TRUE(address.space == Space::shared || address.space == Space::argument ||
                  (tensor_copy && address.space == Space::tensor_map))
          << row.name;
      EXPECT_TRUE(address.bytes > 0 || tensor_copy) << row.name;
    }
  }
  EXPECT_THROW(intrinsic("no_such_row"), std::logic_error);
}

TEST(Intrinsic, Constraints) {
  EXPECT_EQ(constraints(intrinsic("shuffle_xor.f32")), "=f,f,r");
  EXPECT_EQ(constraints(intrinsic("any")), "=r,r");
  EXPECT_EQ(constraints(intrinsic("load_matrix.x2")), "=r,=r,r,~{memory}");
  EXPECT_EQ(constraints(intrinsic("copy_async.16")), "r,r,l,~{memory}");
  EXPECT_EQ(constraints(intrinsic("copy_wait")), "n,~{memory}");
  EXPECT_EQ(constraints(intrinsic("mbarrier_arrive_expect")), "r,r,~{memory}");
  EXPECT_EQ(constraints(intrinsic("copy_tensor.2")), "r,r,r,r,l,~{memory}");
  EXPECT_EQ(constraints(intrinsic("mma.m16n8k16.f16")), "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f");
}

/// All rows through NVIDIA's assembler, where there is one.
TEST(Intrinsic, TextIsAccepted) {
  for (const std::string processor : {"sm_80", "sm_90a"}) {
    std::string text = fmt::format(
        ".version 8.0\n.target {}\n.address_size 64\n"
        ".visible .entry rows(.param .u64 in, .param .u64 out)\n{{\n"
        "  .reg .b64 %in, %out;\n  .shared .align 128 .b8 memory[1024];\n"
        "  ld.param.u64 %in, [in];\n  ld.param.u64 %out, [out];\n",
        processor);
    for (const Intrinsic& row : loop::intrinsics()) {
      if (row.capability <= 80) text += assembly(row);
    }
    text += "  ret;\n}\n";
    test::assemble(text, processor);
  }
}

/// Runs one warp that calls a row with operands from `in` and stores its results to `out`, one row
/// of 32 for each.
struct Warp {
  Kernel kernel;
  loop::Arena& arena = kernel.arena;
  Builder builder{kernel};

  static DType dtype(Scalar type) { return type == Scalar::f32 ? DType::f32 : DType::i32; }

  explicit Warp(const Intrinsic& row) {
    std::vector<const Buffer*> in, out;
    for (std::size_t i = 0; i < row.operands.size(); ++i) {
      in.push_back(
          kernel.argument("in" + std::to_string(i), dtype(row.operands[i].type), 32, false));
    }
    for (std::size_t i = 0; i < row.results.size(); ++i) {
      out.push_back(kernel.argument("out" + std::to_string(i), dtype(row.results[i]), 32, true));
    }
    builder.phase(1, 32, [&](Ex, Ex lane) {
      std::vector<Ex> operands;
      for (std::size_t i = 0; i < in.size(); ++i) {
        Ex value = arena.load(in[i], lane);
        if (row.operands[i].type == Scalar::boolean) value = arena.cast(value, Scalar::boolean);
        operands.push_back(value);
      }
      const std::vector<Ex> results = builder.call(row, operands);
      for (std::size_t i = 0; i < out.size(); ++i) {
        Ex value = results[i];
        if (value->type == Scalar::boolean) value = arena.cast(value, Scalar::i32);
        builder.store(out[i], lane, value);
      }
    });
  }
};

/// The row's first result in each lane.
template <typename... Fill>
std::vector<double> result(std::string_view name, const Fill&... fill) {
  const Warp warp(intrinsic(name));
  tests::Arguments arguments(warp.kernel);
  std::size_t argument = 0;
  (arguments.fill(argument++, fill), ...);
  arguments.run_clean();
  std::vector<double> values;
  for (std::int64_t lane = 0; lane < 32; ++lane) values.push_back(arguments.get(argument, lane));
  return values;
}

TEST(Intrinsic, Shuffles) {
  const auto value = [](std::int64_t lane) { return 100 + lane; };
  for (const std::string type : {"f32", "i32"}) {
    for (const std::int64_t which : {0, 1, 5, 16, 31}) {
      const auto same = [&](std::int64_t) { return which; };
      const auto other = result("shuffle_xor." + type, value, same);
      const auto below = result("shuffle_down." + type, value, same);
      const auto one = result("shuffle_index." + type, value, same);
      for (std::int64_t lane = 0; lane < 32; ++lane) {
        const auto l = static_cast<std::size_t>(lane);
        EXPECT_EQ(other[l], static_cast<double>(100 + (lane ^ which)));
        EXPECT_EQ(below[l], static_cast<double>(100 + (lane + which < 32 ? lane + which : lane)));
        EXPECT_EQ(one[l], static_cast<double>(100 + which));
      }
    }
  }
  // Each lane may ask for another.
  const auto reversed =
      result("shuffle_index.i32", value, [](std::int64_t lane) { return 31 - lane; });
  EXPECT_EQ(reversed[0], 131);
  EXPECT_EQ(reversed[31], 100);
}

TEST(Intrinsic, Votes) {
  const auto odd = [](std::int64_t lane) { return lane % 2; };
  const auto none = [](std::int64_t) { return 0; };
  const auto every = [](std::int64_t) { return 1; };
  EXPECT_EQ(result("ballot", odd)[7],
            static_cast<double>(std::bit_cast<std::int32_t>(0xaaaaaaaaU)));
  EXPECT_EQ(result("ballot", every)[0], -1);
  EXPECT_EQ(result("any", odd)[0], 1);
  EXPECT_EQ(result("any", none)[0], 0);
  EXPECT_EQ(result("all", odd)[0], 0);
  EXPECT_EQ(result("all", every)[31], 1);
}

TEST(Intrinsic, Reductions) {
  const auto value = [](std::int64_t lane) { return lane * 3 - 40; };
  EXPECT_EQ(result("reduce_add.i32", value)[4], 3 * 496 - 40 * 32);
  EXPECT_EQ(result("reduce_min.i32", value)[4], -40);
  EXPECT_EQ(result("reduce_max.i32", value)[4], 53);
  const auto large = [](std::int64_t) { return 0x7fffffff; };
  EXPECT_EQ(result("reduce_add.i32", large)[0], -32);
  const auto bit = [](std::int64_t lane) { return lane < 20 ? std::int64_t{1} << lane : 0; };
  EXPECT_EQ(result("reduce_or.i32", bit)[9], 0xfffff);
  EXPECT_EQ(result("reduce_xor.i32", bit)[9], 0xfffff);
  EXPECT_EQ(result("reduce_and.i32", [](std::int64_t lane) { return 0xff - (1 << (lane % 4)); })[9],
            0xf0);
}

TEST(Intrinsic, Rounding) {
  const auto value = [](std::int64_t lane) { return 1 + 0x1p-11 * static_cast<double>(lane); };
  const auto pairs = result("pack.bf16", value, [](std::int64_t) { return -2; });
  const auto halves = result("pack.f16", value, [](std::int64_t) { return -2; });
  const auto rounded = result("round_tf32", value);
  for (std::int64_t lane = 0; lane < 32; ++lane) {
    const auto l = static_cast<std::size_t>(lane);
    const std::int64_t half_steps = lane / 2 + (lane % 4 == 3 ? 1 : 0);
    const std::int64_t tf32_steps = (lane + 1) / 2;
    const auto pair = static_cast<std::uint32_t>(static_cast<std::int32_t>(pairs[l]));
    EXPECT_EQ(pair >> 16U, 0xc000U);
    // Steps of 2^-7, to even; of 2^-10; and of 2^-10 with ties away from zero.
    EXPECT_EQ(loop::interpreter::from_bf16(static_cast<std::uint16_t>(pair)), lane <= 8 ? 1.0F
                                                                              : lane < 24
                                                                                  ? 1 + 0x1p-7F
                                                                                  : 1 + 0x1p-6F);
    const auto half = static_cast<std::uint32_t>(static_cast<std::int32_t>(halves[l]));
    EXPECT_EQ(half >> 16U, 0xc000U);
    EXPECT_EQ(loop::interpreter::from_f16(static_cast<std::uint16_t>(half)),
              1 + 0x1p-10F * static_cast<float>(half_steps));
    EXPECT_EQ(std::bit_cast<float>(static_cast<std::int32_t>(rounded[l])),
              1 + 0x1p-10F * static_cast<float>(tf32_steps));
  }
}

TEST(Intrinsic, FastFunctions) {
  const auto value = [](std::int64_t lane) { return 0.1 + 0.17 * static_cast<double>(lane); };
  struct Function {
    const char* name;
    double (*exact)(double);
  };
  for (const Function& function : {
           Function{"fast_exp2", [](double x) { return std::exp2(x); }},
           Function{"fast_log2", [](double x) { return std::log2(x); }},
           Function{"fast_reciprocal", [](double x) { return 1 / x; }},
           Function{"fast_rsqrt", [](double x) { return 1 / std::sqrt(x); }},
           Function{"fast_tanh", [](double x) { return std::tanh(x); }},
           Function{"fast_sin", [](double x) { return std::sin(x); }},
           Function{"fast_cos", [](double x) { return std::cos(x); }},
       }) {
    const auto found = result(function.name, value);
    for (std::int64_t lane = 0; lane < 32; ++lane) {
      const auto x = static_cast<double>(static_cast<float>(value(lane)));
      EXPECT_EQ(found[static_cast<std::size_t>(lane)],
                static_cast<double>(static_cast<float>(function.exact(x))));
    }
  }
  EXPECT_EQ(result("fast_exp2", [](std::int64_t) { return -130; })[0], 0);
  EXPECT_EQ(result("fast_reciprocal", [](std::int64_t) { return 1e-40; })[0], HUGE_VAL);
}

/// A call of a row by itself. Lane l's address is that of row l of `memory`.
class Alone final : public loop::IntrinsicCall {
 public:
  explicit Alone(const Intrinsic& row) {
    active = 0xffffffffU;
    operands.resize(row.operands.size());
    results.resize(row.results.size());
  }
  std::array<std::array<std::uint16_t, 8>, 32> memory{};

  void read(int lane, std::size_t, std::span<std::byte> to) override {
    const auto from = std::as_bytes(std::span(memory[static_cast<std::size_t>(lane)]));
    ASSERT_EQ(to.size(), from.size());
    std::copy(from.begin(), from.end(), to.begin());
  }
  void atomic_add(int, std::size_t, float) override { ADD_FAILURE(); }
  void copy_async(int, std::size_t, std::size_t, bool) override { ADD_FAILURE(); }
  void copy_commit(int) override { ADD_FAILURE(); }
  void copy_wait(int, std::int64_t) override { ADD_FAILURE(); }
  void sync_warp() override { ADD_FAILURE(); }
  void fence_async(int) override { ADD_FAILURE(); }
  void mbarrier_initialise(int, std::size_t, std::int64_t) override { ADD_FAILURE(); }
  void mbarrier_fence(int) override { ADD_FAILURE(); }
  void mbarrier_arrive(int, std::size_t, std::int64_t) override { ADD_FAILURE(); }
  void mbarrier_wait(int, std::size_t, std::int64_t) override { ADD_FAILURE(); }
  void copy_tensor(int, std::size_t, std::size_t, std::size_t, std::vector<std::int64_t>) override {
    ADD_FAILURE();
  }
  void registers(std::int64_t) override { ADD_FAILURE(); }
  Reader reader(int, std::size_t) override { return {}; }
  std::int64_t place(int, std::size_t) override { return 0; }
  int warp() const override { return 0; }
  void defer(Deferred) override { ADD_FAILURE(); }
  void defer_commit() override { ADD_FAILURE(); }
  void defer_wait(std::int64_t, std::span<const loop::Lanes>) override { ADD_FAILURE(); }
};

/// The PTX ISA's "Matrix Fragments for mma.m16n8k16" and "... m16n8k8" in its own words: element i
/// of A, B and C in lane `lane`. `wide`: of 16 bits, two to a register.
struct Fragment {
  bool wide;
  int lane;
  int group() const { return lane >> 2; }
  int within() const { return lane % 4; }
  int a_row(int i) const {
    if (!wide) return i == 0 || i == 2 ? group() : group() + 8;
    return (0 <= i && i < 2) || (4 <= i && i < 6) ? group() : group() + 8;
  }
  int a_column(int i) const {
    if (!wide) return i == 0 || i == 1 ? within() : within() + 4;
    return i < 4 ? within() * 2 + (i & 1) : within() * 2 + (i & 1) + 8;
  }
  int b_row(int i) const {
    if (!wide) return i == 0 ? within() : within() + 4;
    return i < 2 ? within() * 2 + (i & 1) : within() * 2 + (i & 1) + 8;
  }
  int b_column() const { return group(); }
  int c_row(int i) const { return i < 2 ? group() : group() + 8; }
  int c_column(int i) const { return within() * 2 + (i & 1); }
};

TEST(Intrinsic, FragmentsLieAsInThePtxIsa) {
  // Whole numbers that all types hold and whose products are exact.
  const auto a = [](int row, int k) { return static_cast<float>((row * 7 + k * 5) % 11 - 5); };
  const auto b = [](int k, int column) { return static_cast<float>((k * 3 + column * 4) % 9 - 4); };
  const auto c = [](int row, int column) { return static_cast<float>(row * 8 + column); };
  for (const std::string type : {"f16", "bf16", "tf32"}) {
    const bool wide = type != "tf32";
    const int depth = wide ? 16 : 8, per_register = wide ? 2 : 1;
    const Intrinsic& row = intrinsic(wide ? "mma.m16n8k16." + type : "mma.m16n8k8.tf32");
    Alone call(row);
    const auto put = [&](std::size_t first, int lane, int i, float value) {
      loop::Word& word = call.operands[first + static_cast<std::size_t>(i / per_register)]
                                      [static_cast<std::size_t>(lane)];
      if (!wide) {
        word = loop::interpreter::word_of(value);
        return;
      }
      const std::uint16_t bits =
          type == "f16" ? loop::interpreter::to_f16(value) : loop::interpreter::to_bf16(value);
      word |= loop::Word{bits} << (16 * (i % 2));
    };
    for (int lane = 0; lane < 32; ++lane) {
      const Fragment at{wide, lane};
      for (int i = 0; i < 4 * per_register; ++i) put(0, lane, i, a(at.a_row(i), at.a_column(i)));
      for (int i = 0; i < 2 * per_register; ++i) put(4, lane, i, b(at.b_row(i), at.b_column()));
      for (int i = 0; i < 4; ++i) {
        call.operands[6 + static_cast<std::size_t>(i)][static_cast<std::size_t>(lane)] =
            loop::interpreter::word_of(c(at.c_row(i), at.c_column(i)));
      }
    }
    row.meaning(call);
    for (int lane = 0; lane < 32; ++lane) {
      const Fragment at{wide, lane};
      for (int i = 0; i < 4; ++i) {
        float wanted = c(at.c_row(i), at.c_column(i));
        for (int k = 0; k < depth; ++k) wanted += a(at.c_row(i), k) * b(k, at.c_column(i));
        EXPECT_EQ(loop::interpreter::f32_of(
                      call.results[static_cast<std::size_t>(i)][static_cast<std::size_t>(lane)]),
                  wanted)
            << type << ", lane " << lane << ", element " << i;
      }
    }
  }
}

TEST(Intrinsic, MatricesAreLoadedAsInThePtxIsa) {
  for (const std::size_t matrices : {1, 2, 4}) {
    for (const bool transposed : {false, true}) {
      const Intrinsic& row =
          intrinsic(fmt::format("load_matrix.x{}{}", matrices, transposed ? ".transposed" : ""));
      Alone call(row);
      // Element (row, column) of matrix m, whose row's address lane 8 m + row has.
      const auto element = [](std::size_t m, std::size_t y, std::size_t x) {
        return static_cast<std::uint16_t>(m * 64 + y * 8 + x + 0x8000);
      };
      for (std::size_t lane = 0; lane < 32; ++lane) {
        for (std::size_t i = 0; i < 8; ++i) call.memory[lane][i] = element(lane / 8, lane % 8, i);
      }
      row.meaning(call);
      for (std::size_t m = 0; m < matrices; ++m) {
        for (std::size_t lane = 0; lane < 32; ++lane) {
          for (std::size_t half = 0; half < 2; ++half) {
            const std::size_t major = lane / 4, minor = 2 * (lane % 4) + half;
            EXPECT_EQ(static_cast<std::uint16_t>(call.results[m][lane] >> (16 * half)),
                      transposed ? element(m, minor, major) : element(m, major, minor));
          }
        }
      }
    }
  }
}

TEST(Intrinsic, MistakesAreErrors) {
  Kernel kernel;
  auto& arena = kernel.arena;
  const Buffer* in = kernel.argument("in", DType::f32, 64, false);
  const Buffer* tile = kernel.shared("tile", DType::f32, 64);
  Builder builder(kernel);
  const Ex zero = arena.integer(0), yes = arena.boolean(true);
  const Ex number = arena.constant(Scalar::f32, 1);
  EXPECT_THROW(builder.phase(1, 0, [](Ex, Ex) {}), std::logic_error);
  EXPECT_THROW(builder.phase(1, 1025, [](Ex, Ex) {}), std::logic_error);
  builder.phase(1, [&](Ex) {
    EXPECT_THROW(builder.barrier(), std::logic_error);
    EXPECT_THROW(builder.call(intrinsic("fast_exp2"), {number}), std::logic_error);
  });
  builder.phase(1, 32, [&](Ex, Ex thread) {
    const auto wait = [&](Ex groups) { builder.call(intrinsic("copy_wait"), {groups}); };
    EXPECT_THROW(wait(arena.integer(Scalar::i32, 8)), std::logic_error);
    EXPECT_THROW(wait(arena.cast(thread, Scalar::i32)), std::logic_error);
    EXPECT_THROW(wait(zero), std::logic_error);
    EXPECT_THROW(builder.call(intrinsic("fast_exp2"), {}), std::logic_error);
    // From shared to global memory; a sum into what is read-only.
    EXPECT_THROW(builder.call(intrinsic("copy_async.4"), {yes}, {{in, zero}, {tile, zero}}),
                 std::logic_error);
    EXPECT_THROW(builder.call(intrinsic("atomic_add.global.f32"), {number}, {{in, zero}}),
                 std::logic_error);
    builder.loop(8, loop::Role::vector, 4, [&](Ex) {
      EXPECT_THROW(builder.barrier(), std::logic_error);
      EXPECT_THROW(builder.call(intrinsic("copy_commit"), {}), std::logic_error);
      EXPECT_EQ(builder.call(intrinsic("fast_exp2"), {number}).size(), 1U);
    });
    builder.barrier();
  });
}

TEST(Intrinsic, PrintsReadably) {
  Kernel kernel;
  kernel.name = "k";
  auto& arena = kernel.arena;
  const Buffer* in = kernel.argument("in", DType::f32, 64, false);
  const Buffer* tile = kernel.shared("tile", DType::f32, 64);
  Builder builder(kernel);
  builder.phase(2, 32, [&](Ex, Ex thread) {
    builder.call(intrinsic("copy_async.4"), {arena.boolean(true)}, {{tile, thread}, {in, thread}});
    builder.call(intrinsic("copy_wait"), {arena.integer(Scalar::i32, 0)});
    builder.barrier();
    builder.call(intrinsic("fast_exp2"), {arena.load(tile, thread)});
  });
  EXPECT_EQ(loop::print(kernel),
            "kernel k(in: f32[64])\n"
            "  shared tile: f32[64]\n"
            "  phase x1 in 2, thread x0 in 32:\n"
            "    copy_async.4(true, &tile[x0], &in[x0])\n"
            "    copy_wait(0:i32)\n"
            "    barrier\n"
            "    let x2: f32 = fast_exp2(tile[x0])\n");
  EXPECT_EQ(loop::print(kernel, *kernel.phases[0].body[2]), "barrier");
  const std::string key = loop::canonical(kernel);
  EXPECT_NE(key.find("shared s0"), std::string::npos) << key;
  EXPECT_NE(key.find("&s0[x1], &a0[x1]"), std::string::npos) << key;
}

}  // namespace
}  // namespace weft
