#include "runtime/state.h"

#include <gtest/gtest.h>

#include <complex>

#include "fake.h"

namespace weft {
namespace {

using runtime::testing::error_of;

TEST(State, TensorsAreZeroedAndAligned) {
  State state;
  state.add("small", {DType::u8, {3}});
  state.add("large", {DType::f32, {1100, 1000}});
  state.add("empty", {DType::f32, {0, 4}});
  for (const std::string& name : state.names()) {
    const auto bytes = state.bytes(name);
    EXPECT_NE(bytes.data(), nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(bytes.data()) % 64, 0U) << name;
    for (const std::byte b : bytes) ASSERT_EQ(b, std::byte{0});
  }
  EXPECT_EQ(state.bytes("large").size(), 4400000U);
  EXPECT_EQ(state.bytes("empty").size(), 0U);
  EXPECT_EQ(state.total_bytes(), 4400003);
}

TEST(State, NamesKeepTheOrderOfAddition) {
  State state;
  for (const char* name : {"z", "a", "m"}) state.add(name, {DType::f32, {}});
  state.remove("a");
  state.add("a", {DType::i64, {2}});
  EXPECT_EQ(state.names(), (std::vector<std::string>{"z", "m", "a"}));
  EXPECT_EQ(state.type("a").text(), "i64[2]");
  EXPECT_TRUE(state.has("z"));
  EXPECT_FALSE(state.has("b"));
}

TEST(State, AddressesAreStableWhileOthersComeAndGo) {
  State state;
  state.add("kept", {DType::f64, {5}});
  const auto* before = state.bytes("kept").data();
  for (int i = 0; i < 200; ++i) state.add("t" + std::to_string(i), {DType::f32, {7}});
  for (int i = 0; i < 200; i += 2) state.remove("t" + std::to_string(i));
  EXPECT_EQ(state.bytes("kept").data(), before);
}

TEST(State, CopiesShareAndClonesDoNot) {
  State state;
  state.add("w", {DType::f32, {2}});
  State handle = state;
  handle.set_values("w", std::vector<double>{1, 2});
  const State clone = state.clone();
  state.data<float>("w")[1] = 5;
  EXPECT_EQ(handle.values("w"), (std::vector<double>{1, 5}));
  EXPECT_EQ(clone.values("w"), (std::vector<double>{1, 2}));
  handle.add("b", {DType::f32, {}});
  EXPECT_TRUE(state.has("b"));
  EXPECT_FALSE(clone.has("b"));
}

TEST(State, ValuesOfEveryType) {
  State state;
  for (const DType dtype : all_dtypes) {
    const std::string name(weft::name(dtype));
    state.add(name, {dtype, {2}});
    std::vector<double> values{1, 0};
    if (is_complex(dtype)) values = {1, 0, -3, 0.5};
    state.set_values(name, values);
    EXPECT_EQ(state.values(name), values) << name;
  }
  EXPECT_EQ(state.data<std::complex<float>>("c64")[1], std::complex<float>(-3, 0.5F));
}

TEST(State, VersionMovesWithTheSetOfTensors) {
  State state;
  const auto at_first = state.version();
  state.add("w", {DType::f32, {}});
  const auto added = state.version();
  EXPECT_NE(added, at_first);
  state.data<float>("w")[0] = 1;
  EXPECT_EQ(state.version(), added);
  state.remove("w");
  EXPECT_NE(state.version(), added);
}

TEST(State, ErrorsNameWhatIsThere) {
  State state;
  EXPECT_EQ(error_of([&] { state.type("w"); }), "state: no tensor \"w\": it is empty");
  state.add("w", {DType::f32, {2, 3}});
  EXPECT_EQ(error_of([&] { state.add("w", {DType::f16, {1}}); }),
            "state: \"w\" is there already, as f32[2, 3]; adding f16[1]");
  EXPECT_EQ(error_of([&] { state.bytes("v"); }), "state: no tensor \"v\"; there are \"w\"");
  EXPECT_EQ(error_of([&] { state.remove("v"); }), "state: no tensor \"v\"; there are \"w\"");
  EXPECT_EQ(error_of([&] { state.data<double>("w"); }),
            "state: \"w\" is f32[2, 3]: its elements have 4 bytes, not 8");
  EXPECT_EQ(error_of([&] { state.set_values("w", std::vector<double>(5)); }),
            "state: \"w\" is f32[2, 3]: needs 6 values, not 5");
  EXPECT_EQ(error_of([&] { state.add("", {DType::f32, {}}); }),
            "state: a tensor f32[] needs a name");
  EXPECT_NE(error_of([&] {
              state.add("huge", {DType::f32, {std::int64_t{1} << 40, std::int64_t{1} << 40}});
            }),
            "");
  EXPECT_FALSE(state.has("huge"));
}

}  // namespace
}  // namespace weft
