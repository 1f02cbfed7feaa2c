#include "runtime/cuda/code.h"

#include "fixture.h"

namespace weft::runtime::testing {
namespace {

using stand_in::Call;

const Type matrix{DType::f16, {6, 32}};
constexpr std::int64_t matrix_bytes = 6 * 32 * 2;

class CudaTensorMap : public Gpu {};

/// What a copy brings of a box at coordinates, elements of 16 bits in the order of its axes.
std::vector<std::uint16_t> box_at(const stand_in::TensorMap& map, std::int64_t column,
                                  std::int64_t row) {
  std::vector<std::uint16_t> values;
  for (std::int64_t r = row; r < row + map.box[1]; ++r) {
    for (std::int64_t c = column; c < column + map.box[0]; ++c) {
      const bool inside = r < map.extents[1] && c < map.extents[0];
      const auto* line = reinterpret_cast<const std::uint16_t*>(
          map.address + static_cast<std::uint64_t>(inside ? r * map.strides[0] : 0));
      values.push_back(inside ? line[c] : 0);
    }
  }
  return values;
}

/// A kernel that copies a box of the rows from 1 on of its first argument, at (8, 3), to its
/// second.
struct Copied {
  GpuPlan b;
  std::uint32_t w = 0;
  std::uint32_t kernel = 0;
  plan::TensorMap map{0, 64, DType::f16, {32, 5}, {64}, {16, 4}, true};

  Copied() {
    w = b.state("w", matrix);
    const auto boxes = b.state("boxes", {DType::f16, {4, 16}});
    kernel = b.kernel("copied", {stand_in::reads(matrix_bytes), stand_in::writes(128)},
                      [](const Call& call) {
                        ASSERT_EQ(call.tensor_maps.size(), 1U);
                        const stand_in::TensorMap& given = call.tensor_maps[0];
                        EXPECT_EQ(given.address, call.arguments[0] + 64);
                        EXPECT_EQ(given.element_bytes, 2);
                        EXPECT_EQ(given.extents, (std::vector<std::int64_t>{32, 5}));
                        EXPECT_EQ(given.strides, std::vector<std::int64_t>{64});
                        EXPECT_EQ(given.box, (std::vector<std::int64_t>{16, 4}));
                        EXPECT_TRUE(given.exchanged);
                        const std::vector<std::uint16_t> values = box_at(given, 8, 3);
                        std::copy(values.begin(), values.end(), call.pointer<std::uint16_t>(1));
                      },
                      1, 32, 0, {map});
    b.plan.kernels[kernel].location = "model.cpp:9";
    b.plan.steps = {launch(kernel, {w, boxes})};
  }
  State state(double first) const {
    State made;
    made.add("w", matrix);
    made.add("boxes", {DType::f16, {4, 16}});
    std::vector<double> values;
    for (int i = 0; i < 6 * 32; ++i) values.push_back(first + i);
    made.set_values("w", values);
    return made;
  }
  /// Rows 4 and 5 of w, columns 8 to 23, and two rows of zeros.
  static std::vector<double> expected(double first) {
    std::vector<double> values(64, 0);
    for (std::size_t i = 0; i < 32; ++i) {
      const std::size_t row = 4 + i / 16, column = 8 + i % 16;
      values[i] = first + static_cast<double>(row * 32 + column);
    }
    return values;
  }
};

TEST_F(CudaTensorMap, AreOfTheMemoryThatAStateHas) {
  Copied copied;
  Executable executable = copied.b.executable();
  State first = copied.state(0);
  State second = copied.state(500);
  executable.bind(first);
  executable.run();
  executable.run();
  EXPECT_EQ(first.values("boxes"), Copied::expected(0));
  EXPECT_EQ(stand_in::calls("cuTensorMapEncodeTiled"), 1);
  // Another State has its tensors elsewhere.
  executable.bind(second);
  executable.run();
  EXPECT_EQ(second.values("boxes"), Copied::expected(500));
  EXPECT_EQ(stand_in::calls("cuTensorMapEncodeTiled"), 2);
  // The same again: what was encoded is right.
  executable.bind(second);
  executable.set_profiling(true);
  executable.run();
  executable.set_profiling(false);
  executable.run();
  EXPECT_EQ(stand_in::calls("cuTensorMapEncodeTiled"), 2);
}

TEST_F(CudaTensorMap, EachLaunchHasItsOwn) {
  Copied copied;
  const auto other = copied.b.arena(matrix);
  const auto out = copied.b.state("out", {DType::f16, {4, 16}});
  copied.b.plan.steps.push_back(copy(copied.w, other));
  copied.b.plan.steps.push_back(launch(copied.kernel, {other, out}));
  State state = copied.state(3);
  state.add("out", {DType::f16, {4, 16}});
  for (const char* check : {"0", "1"}) {
    ASSERT_EQ(setenv("WEFT_CUDA_CHECK", check, 1), 0);
    Executable executable = copied.b.executable();
    ASSERT_EQ(unsetenv("WEFT_CUDA_CHECK"), 0);
    executable.bind(state);
    state.set_values("out", std::vector<double>(64, 7));
    executable.run();
    EXPECT_EQ(state.values("boxes"), Copied::expected(3));
    EXPECT_EQ(state.values("out"), Copied::expected(3));
  }
  EXPECT_EQ(stand_in::calls("cuTensorMapEncodeTiled"), 4);
}

TEST_F(CudaTensorMap, ErrorsNameTheKernelAndWhatWasAskedFor) {
  Copied copied;
  State state = copied.state(0);
  Executable executable = copied.b.executable();
  executable.bind(state);
  stand_in::fail("cuTensorMapEncodeTiled", 1, CUDA_ERROR_INVALID_VALUE);
  const std::string message = error_of([&] { executable.run(); });
  EXPECT_NE(message.find("plan \"test\": kernel copied (model.cpp:9): encoding tensor map 0, f16 "
                         "[32, 5] of [64] bytes apart at 0x"),
            std::string::npos)
      << message;
  EXPECT_NE(message.find(", boxes of [16, 4], exchanged: CUDA_ERROR_INVALID_VALUE"),
            std::string::npos)
      << message;
  executable.run();
  EXPECT_EQ(state.values("boxes"), Copied::expected(0));
}

TEST_F(CudaTensorMap, PlansThatNoDeviceTakes) {
  Copied copied;
  copied.b.plan.kernels[0].tensor_maps.assign(32, copied.map);
  EXPECT_EQ(error_of([&] { copied.b.executable(); }),
            "plan \"test\": kernel copied (model.cpp:9) has 2 arguments and 32 tensor maps; a GPU "
            "takes 4096 bytes of them");
  copied.b.plan.kernels[0].tensor_maps.assign(1, copied.map);
  copied.b.plan.target = "nvptx64/sm_80";
  stand_in::settings().major = 8;
  EXPECT_EQ(error_of([&] { copied.b.executable(); }),
            "plan \"test\": kernel copied (model.cpp:9) has tensor maps; Stand-in has none, being "
            "of the compute capability 8.0");
}

}  // namespace
}  // namespace weft::runtime::testing
