#include "runtime/plan/type.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <thread>
#include <vector>

#include "runtime/plan/error.h"
#include "tests/ir/support.h"

namespace weft {
namespace {

using ir::test::error_of;

TEST(DType, NamesAndSizes) {
  for (const DType dtype : all_dtypes) {
    EXPECT_EQ(parse_dtype(name(dtype)), dtype);
    EXPECT_EQ(
        is_floating(dtype) + is_integer(dtype) + is_complex(dtype) + (dtype == DType::boolean), 1)
        << name(dtype);
    EXPECT_EQ(epsilon(dtype) > 0, is_differentiable(dtype)) << name(dtype);
  }
  EXPECT_EQ(parse_dtype("f8"), std::nullopt);
  EXPECT_EQ(size_of(DType::bf16), 2U);
  EXPECT_EQ(size_of(DType::c64), 8U);
  EXPECT_EQ(epsilon(DType::f32), std::numeric_limits<float>::epsilon() / 2);
  EXPECT_EQ(epsilon(DType::f64), std::numeric_limits<double>::epsilon() / 2);
}

TEST(Shape, ElementsAndStrides) {
  EXPECT_EQ(Shape().elements(), 1);
  const Shape shape{2, 3, 5};
  EXPECT_EQ(shape.elements(), 30);
  EXPECT_EQ(shape.strides()[0], 15);
  EXPECT_EQ(shape.strides()[1], 5);
  EXPECT_EQ(shape.strides()[2], 1);
  const std::int64_t huge = std::int64_t{1} << 40;
  EXPECT_EQ((Shape{huge, huge, 0}.elements()), 0);
  EXPECT_EQ(error_of([&] { Shape{huge, huge}.elements(); }),
            "shape [1099511627776, 1099511627776] has too many elements");
  // Enough elements that bytes of the widest type would not fit.
  EXPECT_NE(error_of([&] { Shape{huge, std::int64_t{1} << 20}.elements(); }), "");
  EXPECT_EQ((Type{DType::f64, {3, 4}}.bytes()), 96);
}

TEST(Shape, InsertAndErase) {
  Shape shape{2, 3};
  shape.insert(0, 7);
  shape.insert(3, 9);
  EXPECT_EQ(shape, (Shape{7, 2, 3, 9}));
  shape.erase(1);
  EXPECT_EQ(shape, (Shape{7, 3, 9}));
  shape.push_back(1);
  EXPECT_EQ(shape.text(), "[7, 3, 9, 1]");
  EXPECT_EQ(error_of([&] { shape.erase(4); }), "cannot erase axis 4 of shape [7, 3, 9, 1]");
  EXPECT_EQ(error_of([&] { shape.insert(5, 1); }), "cannot insert axis 5 into shape [7, 3, 9, 1]");
}

TEST(Shape, RankLimit) {
  Shape shape{1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_EQ(error_of([&] { shape.push_back(9); }), "rank 9 is above the maximum of 8");
  EXPECT_EQ(error_of([&] { Shape{1, 2, 3, 4, 5, 6, 7, 8, 9}; }),
            "rank 9 is above the maximum of 8");
  EXPECT_EQ(shape.rank(), 8);
}

TEST(Type, Text) {
  EXPECT_EQ((Type{DType::boolean, {}}.text()), "bool[]");
  EXPECT_EQ((Type{DType::f32, {2, 255}}.text()), "f32[2, 255]");
}

TEST(Error, AppendsTheLocation) {
  EXPECT_STREQ(Error("add: shapes differ", Location("model.cpp", 12)).what(),
               "add: shapes differ (model.cpp:12)");
  EXPECT_STREQ(Error("add: shapes differ", Location()).what(), "add: shapes differ");
}

TEST(Intern, SharesEqualTextsAcrossThreads) {
  std::vector<std::vector<const char*>> found(8);
  std::vector<std::thread> threads;
  for (auto& mine : found) {
    threads.emplace_back([&mine] {
      for (int i = 0; i < 200; ++i) mine.push_back(intern("text " + std::to_string(i)));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& mine : found) EXPECT_EQ(mine, found[0]);
  EXPECT_STREQ(found[0][17], "text 17");
}

}  // namespace
}  // namespace weft
