// Tests that the table itself generates: every row with a generator, for every type in its list.

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "compiler/ir/text.h"
#include "interpret.h"
#include "support.h"

namespace weft::test {
namespace {

using ir::Node;
using ops::Array;
using ops::Element;
using ops::Op;

class TableTest : public testing::TestWithParam<std::string> {
 protected:
  const Op& op() const { return ops::op(GetParam()); }
};

/// The array has the sizes of its type, and its integers are values of it.
void check_array(const Array& array, const Type& type) {
  ASSERT_EQ(array.type.text(), type.text());
  const auto count = static_cast<std::size_t>(type.elements());
  ASSERT_EQ(array.re.size(), is_differentiable(type.dtype) ? count : 0);
  ASSERT_EQ(array.im.size(), is_complex(type.dtype) ? count : 0);
  ASSERT_EQ(array.integers.size(), is_differentiable(type.dtype) ? 0 : count);
  for (const std::int64_t value : array.integers) {
    ASSERT_EQ(ops::wrap_to(type.dtype, value), value);
  }
}

TEST_P(TableTest, ReferenceGivesTheTypesOfTheShapeRule) {
  ops::Random random(1);
  for (const DType dtype : op().dtypes) {
    for (int repeat = 0; repeat < 20; ++repeat) {
      const Use use = random_use(op(), dtype, random);
      SCOPED_TRACE(ir::describe(*use.node));
      const std::vector<Array> results = evaluate(*use.node, use.values);
      ASSERT_EQ(results.size(), use.node->results.size());
      for (std::size_t i = 0; i < results.size(); ++i) {
        check_array(results[i], use.node->results[i]);
      }
    }
  }
}

TEST_P(TableTest, TextIsReadBack) {
  ops::Random random(2);
  for (const DType dtype : op().dtypes) {
    for (int repeat = 0; repeat < 5; ++repeat) {
      const Use use = random_use(op(), dtype, random);
      ir::verify(*use.graph, "the test");
      const std::string text = ir::print(*use.graph);
      const ir::Graph parsed = ir::parse(text, ops::table());
      std::string difference;
      EXPECT_TRUE(ir::equal(*use.graph, parsed, &difference)) << text << difference;
    }
  }
}

// ---- scalar lowering ----------------------------------------------------------------------------

/// Operands are variables that stand for elements of arrays; indices are constants.
class ArrayLowering final : public ops::Lowering {
 public:
  explicit ArrayLowering(const std::vector<Array>& values) : values_(values) {}

  loop::Arena& arena() override { return arena_; }

  Element operand(const Node& node, std::size_t operand, std::span<const loop::Ex> index) override {
    const Type& type = node.operand_type(operand);
    std::vector<std::int64_t> at;
    for (std::size_t axis = 0; axis < index.size(); ++axis) {
      at.push_back(interpreter_.evaluate(index[axis]).integer);
      const std::int64_t extent = type.shape[static_cast<int>(axis)];
      if (at.back() < 0 || at.back() >= extent) {
        throw std::logic_error(fmt::format("index {} of extent {}", at.back(), extent));
      }
    }
    if (at.size() != static_cast<std::size_t>(type.rank())) throw std::logic_error("index rank");
    const auto position = static_cast<std::size_t>(ops::position_of(type.shape, at));
    const Array& array = values_[operand];
    if (array.re.empty()) return {variable(type, {0, array.integers[position]})};
    Element element{variable(type, {array.re[position], 0})};
    magnitude_ = std::max(magnitude_, std::abs(array.re[position]));
    if (!array.im.empty()) {
      element.im = variable(type, {array.im[position], 0});
      magnitude_ = std::max(magnitude_, std::abs(array.im[position]));
    }
    return element;
  }

  Element operand_if(const Node& node, std::size_t operand, std::span<const loop::Ex> index,
                     loop::Ex predicate) override {
    if (interpreter_.evaluate(predicate).integer != 0) return this->operand(node, operand, index);
    // Unspecified: a value that shows where it is used.
    const Type& type = node.operand_type(operand);
    Element element{variable(type, {-12345, 77})};
    if (is_complex(type.dtype)) element.im = variable(type, {-12345, 77});
    return element;
  }

  Scalar value(loop::Ex expr) { return interpreter_.evaluate(expr); }
  double magnitude() const { return magnitude_; }  ///< of the largest operand

 private:
  loop::Ex variable(const Type& type, Scalar value) {
    const loop::Ex result = arena_.variable(loop::register_type(type.dtype));
    interpreter_.set(result, value);
    return result;
  }

  const std::vector<Array>& values_;
  loop::Arena arena_;
  Interpreter interpreter_;
  double magnitude_ = 0;
};

/// A few tens of roundings of the register type, of values as large as the operands or the result.
void check_close(double lowered, double expected, double magnitude, DType dtype) {
  if (std::isnan(expected) || std::isinf(expected)) {
    ASSERT_EQ(std::isnan(lowered), std::isnan(expected));
    if (std::isinf(expected)) {
      ASSERT_EQ(lowered, expected);
    }
    return;
  }
  const double unit = epsilon(dtype == DType::f64 ? DType::f64 : DType::f32);
  ASSERT_NEAR(lowered, expected, 64 * unit * (std::abs(expected) + magnitude));
}

void check_lowering(const Use& use, ops::Random& random) {
  const Node& node = *use.node;
  const Type& type = node.results[0];
  const std::vector<Array> results = evaluate(node, use.values);
  for (int repeat = 0; repeat < 12 && type.elements() > 0; ++repeat) {
    ArrayLowering lowering(use.values);
    std::vector<std::int64_t> at;
    std::vector<loop::Ex> index;
    for (const std::int64_t extent : type.shape) {
      at.push_back(ops::random_integer(random, 0, extent - 1));
      index.push_back(lowering.arena().integer(at.back()));
    }
    const Element element = ops::row(node).lower.function(lowering, node, index);
    ASSERT_EQ(element.re->type, loop::register_type(type.dtype));
    ASSERT_EQ(element.im != nullptr, is_complex(type.dtype));
    const auto position = static_cast<std::size_t>(ops::position_of(type.shape, at));
    if (is_differentiable(type.dtype)) {
      // A normal number is a radius of at most sqrt(2 ln 2^24) < 6 times a sine with an absolute
      // error.
      const bool random_row = ops::row(node).pattern == ir::Pattern::random;
      const double magnitude = random_row ? 6 : lowering.magnitude();
      check_close(lowering.value(element.re).real, results[0].re[position], magnitude, type.dtype);
      if (is_complex(type.dtype)) {
        check_close(lowering.value(element.im).real, results[0].im[position], magnitude,
                    type.dtype);
      }
    } else {
      ASSERT_EQ(lowering.value(element.re).integer, results[0].integers[position]);
    }
  }
}

class LoweringTest : public TableTest {};

TEST_P(LoweringTest, AgreesWithReference) {
  ops::Random random(3);
  for (const DType dtype : op().dtypes) {
    for (int repeat = 0; repeat < 20; ++repeat) {
      const Use use = random_use(op(), dtype, random);
      SCOPED_TRACE(ir::describe(*use.node) + " " + ir::print(*use.graph));
      ASSERT_NO_FATAL_FAILURE(check_lowering(use, random));
    }
  }
}

std::vector<std::string> pointwise_ops() {
  std::vector<std::string> names = generated_ops();
  std::erase_if(names, [](const std::string& name) { return !ops::op(name).lower; });
  return names;
}

INSTANTIATE_TEST_SUITE_P(Ops, LoweringTest, testing::ValuesIn(pointwise_ops()),
                         [](const auto& test) { return test.param; });
INSTANTIATE_TEST_SUITE_P(Ops, TableTest, testing::ValuesIn(generated_ops()),
                         [](const auto& test) { return test.param; });

// ---- the table ----------------------------------------------------------------------------------

TEST(Table, FindsRowsByName) {
  ASSERT_NE(ops::find_op("add"), nullptr);
  EXPECT_EQ(ops::find_op("add")->name, "add");
  EXPECT_EQ(ops::find_op("no_such_op"), nullptr);
  EXPECT_EQ(ops::table().find("scan"), &ops::op("scan"));
  EXPECT_THROW(ops::op("no_such_op"), std::logic_error);
}

TEST(Table, RowsAreDocumentedAndStateReasons) {
  std::set<std::string_view> names;
  for (const Op* op : ops::all_ops()) {
    SCOPED_TRACE(op->name);
    EXPECT_TRUE(names.insert(op->name).second);
    EXPECT_FALSE(std::string_view(op->description).empty());
    EXPECT_NE(op->infer, nullptr);
    EXPECT_TRUE(op->derivative || op->derivative.absent != nullptr);
    EXPECT_TRUE(op->reference || op->reference.absent != nullptr);
    EXPECT_TRUE(op->lower || op->lower.absent != nullptr);
    EXPECT_EQ(static_cast<bool>(op->generate), !op->dtypes.empty());
    if (op->lower) {
      EXPECT_TRUE(op->pattern == ir::Pattern::elementwise || op->pattern == ir::Pattern::movement ||
                  op->pattern == ir::Pattern::random);
    }
  }
}

}  // namespace
}  // namespace weft::test
