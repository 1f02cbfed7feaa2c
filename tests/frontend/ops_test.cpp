#include <cmath>

#include "support.h"

namespace weft::test {
namespace {

Tensor vector(std::initializer_list<double> values) {
  return constant(std::vector<double>(values), {static_cast<std::int64_t>(values.size())});
}

/// 0, 1, 2, ... in a shape.
Tensor counting(const Shape& shape, DType dtype = DType::f32) {
  return reshape(arange(shape.elements(), dtype), shape);
}

struct Case {
  const char* name;
  Type type;
  std::function<Tensor()> body;
};

void PrintTo(const Case& c, std::ostream* stream) { *stream << c.name; }

class EveryFunction : public testing::TestWithParam<Case> {};

TEST_P(EveryFunction, GivesAVerifiedGraph) {
  State state;
  const Program program = trace(state, [&] {
    const Tensor y = GetParam().body();
    EXPECT_EQ(y.type(), GetParam().type) << y.type().text();
    out("y", y);
  });
  check_graph(program);
  const Outcome outcome = evaluate(program, state);
  const auto elements = static_cast<std::size_t>(GetParam().type.elements());
  EXPECT_EQ(outcome.received.at("y")[0][0].size(),
            elements * (is_complex(GetParam().type.dtype) ? 2 : 1));
}

constexpr DType f32 = DType::f32;
constexpr DType i64 = DType::i64;
constexpr DType boolean = DType::boolean;
constexpr DType c64 = DType::c64;

Tensor x() { return counting({2, 3, 4}) * 0.25 + 0.5; }
Tensor integers() { return counting({2, 3}, i64); }
Tensor bits() { return integers() < 2; }
Tensor z() { return complex(x(), x() * 2); }

const std::vector<Case>& unary_cases() {
  static const std::vector<Case> cases = {
      {"neg", {f32, {2, 3, 4}}, [] { return neg(x()); }},
      {"abs", {f32, {2, 3, 4}}, [] { return abs(x()); }},
      {"sign", {f32, {2, 3, 4}}, [] { return sign(x()); }},
      {"exp", {f32, {2, 3, 4}}, [] { return exp(x()); }},
      {"exp2", {f32, {2, 3, 4}}, [] { return exp2(x()); }},
      {"log", {f32, {2, 3, 4}}, [] { return log(x()); }},
      {"log2", {f32, {2, 3, 4}}, [] { return log2(x()); }},
      {"sin", {f32, {2, 3, 4}}, [] { return sin(x()); }},
      {"cos", {f32, {2, 3, 4}}, [] { return cos(x()); }},
      {"tanh", {f32, {2, 3, 4}}, [] { return tanh(x()); }},
      {"erf", {f32, {2, 3, 4}}, [] { return erf(x()); }},
      {"sqrt", {f32, {2, 3, 4}}, [] { return sqrt(x()); }},
      {"rsqrt", {f32, {2, 3, 4}}, [] { return rsqrt(x()); }},
      {"reciprocal", {f32, {2, 3, 4}}, [] { return reciprocal(x()); }},
      {"floor", {f32, {2, 3, 4}}, [] { return floor(x()); }},
      {"ceil", {f32, {2, 3, 4}}, [] { return ceil(x()); }},
      {"round", {f32, {2, 3, 4}}, [] { return round(x()); }},
      {"square", {f32, {2, 3, 4}}, [] { return square(x()); }},
      {"stop_gradient", {f32, {2, 3, 4}}, [] { return stop_gradient(x()); }},
      {"keep", {f32, {2, 3, 4}}, [] { return keep(x()); }},
      {"cast", {DType::bf16, {2, 3, 4}}, [] { return cast(x(), DType::bf16); }},
      {"sigmoid", {f32, {2, 3, 4}}, [] { return sigmoid(x()); }},
      {"silu", {f32, {2, 3, 4}}, [] { return silu(x()); }},
      {"relu", {f32, {2, 3, 4}}, [] { return relu(x()); }},
      {"relu2", {f32, {2, 3, 4}}, [] { return relu2(x()); }},
      {"leaky_relu", {f32, {2, 3, 4}}, [] { return leaky_relu(x(), 0.1); }},
      {"gelu", {f32, {2, 3, 4}}, [] { return gelu(x()); }},
      {"gelu_tanh", {f32, {2, 3, 4}}, [] { return gelu_tanh(x()); }},
      {"elu", {f32, {2, 3, 4}}, [] { return elu(x(), 0.5); }},
      {"softplus", {f32, {2, 3, 4}}, [] { return softplus(x()); }},
      {"logical_not", {boolean, {2, 3}}, [] { return !bits(); }},
      {"bitwise_not", {i64, {2, 3}}, [] { return ~integers(); }},
      {"real", {f32, {2, 3, 4}}, [] { return real(z()); }},
      {"imag", {f32, {2, 3, 4}}, [] { return imag(z()); }},
      {"conj", {c64, {2, 3, 4}}, [] { return conj(z()); }},
      {"conj_real", {f32, {2, 3, 4}}, [] { return conj(x()); }},
      {"minus", {f32, {2, 3, 4}}, [] { return -x(); }},
  };
  return cases;
}

const std::vector<Case>& binary_cases() {
  static const std::vector<Case> cases = {
      {"add", {f32, {2, 3, 4}}, [] { return add(x(), vector({1, 2, 3, 4})); }},
      {"sub", {f32, {2, 3, 4}}, [] { return sub(1, x()); }},
      {"mul", {c64, {2, 3, 4}}, [] { return mul(z(), z()); }},
      {"div", {f32, {2, 3, 4}}, [] { return div(x(), 3); }},
      {"pow", {f32, {2, 3, 4}}, [] { return pow(x(), 1.5); }},
      {"minimum", {f32, {2, 3, 4}}, [] { return minimum(x(), 2); }},
      {"maximum", {f32, {2, 3, 4}}, [] { return maximum(0, x()); }},
      {"remainder", {i64, {2, 3}}, [] { return remainder(integers(), 3); }},
      {"clamp", {f32, {2, 3, 4}}, [] { return clamp(x(), 1, 2); }},
      {"where", {f32, {2, 3, 4}}, [] { return where(x() < 1, x(), 0); }},
      {"equal", {boolean, {2, 3}}, [] { return equal(integers(), 1); }},
      {"not_equal", {boolean, {2, 3}}, [] { return not_equal(integers(), 1); }},
      {"less", {boolean, {2, 3}}, [] { return less(integers(), 1); }},
      {"less_equal", {boolean, {2, 3}}, [] { return 1 <= integers(); }},
      {"greater", {boolean, {2, 3}}, [] { return integers() > 1; }},
      {"greater_equal", {boolean, {2, 3}}, [] { return integers() >= 1; }},
      {"logical_and", {boolean, {2, 3}}, [] { return bits() & !bits(); }},
      {"logical_or", {boolean, {2, 3}}, [] { return bits() | bits(); }},
      {"logical_xor", {boolean, {2, 3}}, [] { return bits() ^ true; }},
      {"bitwise_and", {i64, {2, 3}}, [] { return integers() & 1; }},
      {"bitwise_or", {i64, {2, 3}}, [] { return integers() | 1; }},
      {"bitwise_xor", {i64, {2, 3}}, [] { return integers() ^ 1; }},
      {"shift_left", {i64, {2, 3}}, [] { return shift_left(integers(), 2); }},
      {"shift_right", {i64, {2, 3}}, [] { return shift_right(integers(), 1); }},
      {"complex", {c64, {2, 3, 4}}, [] { return complex(x(), vector({1, 2, 3, 4})); }},
  };
  return cases;
}

const std::vector<Case>& constant_cases() {
  static const std::vector<Case> cases = {
      {"constant", {DType::f64, {}}, [] { return constant(3, DType::f64); }},
      {"constant_data", {f32, {2, 1}}, [] { return constant({1, 2}, {2, 1}); }},
      {"constant_complex", {c64, {2}}, [] { return constant({1, 2, 3, 4}, {2}, c64); }},
      {"full", {DType::u8, {2}}, [] { return full({2}, 7, DType::u8); }},
      {"zeros_like", {i64, {2, 3}}, [] { return zeros_like(integers()); }},
      {"ones_like", {c64, {2, 3, 4}}, [] { return ones_like(z()); }},
      {"full_like", {f32, {2, 3, 4}}, [] { return full_like(x(), 0.5); }},
      {"iota", {DType::i32, {2, 3}}, [] { return iota({2, 3}, -1, DType::i32); }},
      {"arange", {f32, {4}}, [] { return arange(1, 3, 0.5); }},
      {"scalar", {f32, {}}, [] { return scalar("rate", 0.5); }},
      {"iteration", {i64, {}}, [] { return iteration(); }},
      {"random_uniform", {f32, {5}}, [] { return random_uniform({5}, "u", -1, 1); }},
      {"random_normal", {DType::f16, {5}}, [] { return random_normal({5}, "", 1, 2, DType::f16); }},
      {"dropout", {f32, {2, 3, 4}}, [] { return dropout(x(), 0.5); }},
  };
  return cases;
}

const std::vector<Case>& movement_cases() {
  static const std::vector<Case> cases = {
      {"reshape", {f32, {4, 6}}, [] { return reshape(x(), {4, -1}); }},
      {"flatten", {f32, {24}}, [] { return flatten(x()); }},
      {"flatten_axes", {f32, {2, 12}}, [] { return flatten(x(), 1); }},
      {"permute", {f32, {4, 2, 3}}, [] { return permute(x(), {-1, 0, 1}); }},
      {"transpose", {f32, {2, 4, 3}}, [] { return transpose(x()); }},
      {"squeeze", {f32, {24}}, [] { return squeeze(reshape(x(), {1, 24, 1})); }},
      {"squeeze_axis", {f32, {24, 1}}, [] { return squeeze(reshape(x(), {1, 24, 1}), 0); }},
      {"unsqueeze", {f32, {2, 3, 4, 1}}, [] { return unsqueeze(x(), -1); }},
      {"broadcast_to", {f32, {5, 2, 3, 4}}, [] { return broadcast_to(x(), {5, 2, 3, 4}); }},
      {"expand", {f32, {5, 3}}, [] { return expand(vector({1, 2, 3}), {5, -1}); }},
      {"slice", {f32, {2, 2, 4}}, [] { return slice(x(), 1, -2, 3); }},
      {"slices", {f32, {1, 3, 2}}, [] { return slice(x(), {{1, 2}, {}, {0, 4, 2}}); }},
      {"select", {f32, {2, 4}}, [] { return select(x(), 1, -1); }},
      {"subscript", {f32, {4}}, [] { return x()[1][-1]; }},
      {"split", {f32, {2, 3, 1}}, [] { return split(x(), 3, -1)[1]; }},
      {"split_sizes", {f32, {2, 2, 4}}, [] { return split(x(), {1, 2}, 1)[1]; }},
      {"chunk", {f32, {2, 3, 2}}, [] { return chunk(x(), 2, -1)[0]; }},
      {"pad", {f32, {2, 6, 4}}, [] { return pad(x(), 1, 1, 2, -1); }},
      {"pad_all", {f32, {3, 3, 6}}, [] { return pad(x(), {1, 0, 2}, {0, 0, 0}); }},
      {"flip", {f32, {2, 3, 4}}, [] { return flip(x(), {0, -1}); }},
      {"roll", {f32, {2, 3, 4}}, [] { return roll(x(), 1, 1); }},
      {"concat", {f32, {2, 3, 8}}, [] { return concat({x(), x()}, -1); }},
      {"stack", {f32, {2, 3, 4, 2}}, [] { return stack({x(), x()}, -1); }},
      {"tile", {f32, {2, 9, 4}}, [] { return tile(x(), 3, 1); }},
      {"tril", {f32, {2, 3, 4}}, [] { return tril(x()); }},
      {"triu", {f32, {2, 3, 4}}, [] { return triu(x(), 1); }},
  };
  return cases;
}

const std::vector<Case>& indexing_cases() {
  static const auto start = [] { return constant(1, i64); };
  static const std::vector<Case> cases = {
      {"dynamic_slice",
       {f32, {1, 2, 4}},
       [] { return dynamic_slice(x(), {start(), start(), start()}, {1, 2, 4}); }},
      {"dynamic_slice_axis", {f32, {2, 3, 2}}, [] { return dynamic_slice(x(), -1, start(), 2); }},
      {"dynamic_select", {f32, {2, 4}}, [] { return select(x(), 1, start()); }},
      {"dynamic_update_slice",
       {f32, {2, 3, 4}},
       [] { return dynamic_update_slice(x(), zeros({1, 1, 1}), {start(), start(), start()}); }},
      {"dynamic_update_slice_axis",
       {f32, {2, 3, 4}},
       [] { return dynamic_update_slice(x(), zeros({2, 1, 4}), 1, start()); }},
      {"gather", {f32, {2, 2, 3, 4}}, [] { return gather(x(), integers(), 1); }},
      {"take", {f32, {2, 3, 3, 4}}, [] { return take(x(), integers()); }},
      {"scatter_add",
       {f32, {2, 3, 4}},
       [] { return scatter_add(x(), integers(), ones({2, 3, 3, 4})); }},
      {"embedding", {f32, {2, 3, 4}}, [] { return embedding(x()[0], integers()); }},
      {"one_hot", {f32, {2, 3, 5}}, [] { return one_hot(integers(), 5); }},
  };
  return cases;
}

const std::vector<Case>& reduction_cases() {
  static const std::vector<Case> cases = {
      {"sum", {f32, {}}, [] { return sum(x()); }},
      {"sum_axis", {f32, {2, 4}}, [] { return sum(x(), 1); }},
      {"mean", {f32, {3, 1}}, [] { return unsqueeze(mean(x(), {0, -1}), 1); }},
      {"max", {f32, {2, 3, 1}}, [] { return max(x(), -1, true); }},
      {"min", {i64, {2}}, [] { return min(integers(), 1); }},
      {"var", {f32, {2, 1, 4}}, [] { return var(x(), 1, true, 1); }},
      {"norm", {f32, {2, 3}}, [] { return norm(x(), -1); }},
      {"norm_complex", {f32, {}}, [] { return norm(z()); }},
      {"logsumexp", {f32, {2, 4}}, [] { return logsumexp(x(), 1); }},
      {"argmax", {i64, {2, 3}}, [] { return argmax(x()); }},
      {"argmin", {i64, {1, 3}}, [] { return argmin(integers(), 0, true); }},
      {"any", {boolean, {2}}, [] { return any(bits(), -1); }},
      {"all", {boolean, {}}, [] { return all(bits()); }},
      {"cumsum", {f32, {2, 3, 4}}, [] { return cumsum(x(), 1, true, true); }},
  };
  return cases;
}

const std::vector<Case>& anchor_cases() {
  static const std::vector<Case> cases = {
      {"matmul", {f32, {2, 3, 5}}, [] { return matmul(x(), ones({4, 5})); }},
      {"matmul_batch", {f32, {7, 2, 3, 5}}, [] { return matmul(x(), ones({7, 1, 4, 5})); }},
      {"matmul_left_vector", {f32, {2, 4}}, [] { return matmul(vector({1, 2, 3}), x()); }},
      {"matmul_right_vector", {f32, {2, 3}}, [] { return matmul(x(), vector({1, 2, 3, 4})); }},
      {"matmul_vectors", {f32, {}}, [] { return matmul(vector({1, 2}), vector({3, 4})); }},
      {"dot", {f32, {2, 4, 5}}, [] { return dot(x(), ones({2, 5, 3}), {1}, {-1}, {0}, {0}); }},
      {"linear", {f32, {2, 3, 5}}, [] { return linear(x(), ones({5, 4}), ones({5})); }},
      {"fft", {c64, {2, 3, 4}}, [] { return fft(x(), 1); }},
      {"fft_padded", {c64, {2, 3, 8}}, [] { return fft(z(), -1, 8); }},
      {"ifft", {c64, {2, 3, 2}}, [] { return ifft(z(), -1, 2); }},
      {"rfft", {c64, {2, 3, 3}}, [] { return rfft(x()); }},
      {"rfft_padded", {c64, {5, 3, 4}}, [] { return rfft(x(), 0, 8); }},
      {"irfft", {f32, {2, 3, 6}}, [] { return irfft(z()); }},
      {"irfft_length", {f32, {2, 3, 5}}, [] { return irfft(z(), -1, 5); }},
      {"tno", {f32, {2, 3, 4}}, [] { return tno(x(), ones({3, 4}), true); }},
      {"tno_two_sided", {f32, {2, 3, 4}}, [] { return tno(x(), ones({2, 5, 4}), false); }},
      {"softmax", {f32, {2, 3, 4}}, [] { return softmax(x(), 1); }},
      {"log_softmax", {f32, {2, 3, 4}}, [] { return log_softmax(x()); }},
      {"cross_entropy", {f32, {}}, [] { return cross_entropy(x(), integers()); }},
      {"cross_entropy_none",
       {f32, {2, 3}},
       [] { return cross_entropy(x(), integers(), Reduction::none); }},
      {"mse_loss", {f32, {}}, [] { return mse_loss(x(), ones({4}), Reduction::sum); }},
      {"layer_norm", {f32, {2, 3, 4}}, [] { return layer_norm(x(), ones({4}), zeros({4})); }},
      {"layer_norm_plain", {f32, {2, 3, 4}}, [] { return layer_norm(x()); }},
      {"rms_norm", {f32, {2, 3, 4}}, [] { return rms_norm(x(), ones({4})); }},
      {"simple_rms_norm", {f32, {2, 3, 4}}, [] { return simple_rms_norm(x()); }},
      {"attention",
       {f32, {2, 3, 5}},
       [] { return attention(x(), ones({2, 6, 4}), ones({2, 6, 5})); }},
      {"attention_causal", {f32, {2, 3, 4}}, [] { return attention(x(), x(), x(), true); }},
  };
  return cases;
}

std::string case_name(const testing::TestParamInfo<Case>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Unary, EveryFunction, testing::ValuesIn(unary_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Binary, EveryFunction, testing::ValuesIn(binary_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Constant, EveryFunction, testing::ValuesIn(constant_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Movement, EveryFunction, testing::ValuesIn(movement_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Indexing, EveryFunction, testing::ValuesIn(indexing_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Reduction, EveryFunction, testing::ValuesIn(reduction_cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Anchor, EveryFunction, testing::ValuesIn(anchor_cases()), case_name);

// ---- values of what the front end composes ------------------------------------------------------

TEST(Slices, AreAsPythonsAre) {
  // Against a walk as Python describes it: from start, by step, while before stop.
  const std::vector<std::int64_t> bounds = {Slice::none, -9, -5, -4, -1, 0, 1, 3, 4, 5, 9};
  for (const std::int64_t extent : {0, 1, 5}) {
    for (const std::int64_t step : {-7, -2, -1, 1, 2, 7}) {
      State state;
      std::vector<std::pair<std::string, Values>> expected;
      const Program program = trace(state, [&] {
        const Tensor x = arange(extent, DType::f32);
        for (const std::int64_t start : bounds) {
          for (const std::int64_t stop : bounds) {
            const auto absolute = [&](std::int64_t bound) {
              return bound < 0 ? std::max(bound + extent, std::int64_t{-1}) : bound;
            };
            // A bound that is cut to before the first entry is 0 for forward walks.
            std::int64_t at = start == Slice::none ? (step > 0 ? 0 : extent - 1) : absolute(start);
            const std::int64_t end =
                stop == Slice::none ? (step > 0 ? extent : -1) : absolute(stop);
            if (step > 0) at = std::max(at, std::int64_t{0});
            if (step < 0) at = std::min(at, extent - 1);
            Values values;
            for (; step > 0 ? at < end : at > end; at += step) {
              if (at >= 0 && at < extent) values.push_back(static_cast<double>(at));
            }
            const std::string name =
                std::to_string(start) + ":" + std::to_string(stop) + ":" + std::to_string(step);
            out(name, slice(x, 0, start, stop, step));
            expected.emplace_back(name, values);
          }
        }
      });
      check_graph(program);
      const Outcome outcome = evaluate(program, state);
      for (const auto& [name, values] : expected) {
        EXPECT_EQ(outcome.received.at(name)[0][0], values) << extent << " entries, " << name;
      }
    }
  }
}

TEST(Slices, Errors) {
  const std::string step = error_of([] { slice(zeros({3}), 0, 0, 3, 0); });
  EXPECT_TRUE(names(step, "slice: a step of 0", __FILE__, __LINE__ - 1));
  const std::string ranges = error_of([] { slice(zeros({3}), {{}, {}}); });
  EXPECT_TRUE(names(ranges, "slice: 2 ranges for f32[3]", __FILE__, __LINE__ - 1));
  const std::string entry = error_of([] { select(zeros({3}), 0, -4); });
  EXPECT_TRUE(names(entry, "select: there is no entry -4", __FILE__, __LINE__ - 1));
}

TEST(Movement, Values) {
  expect_near(value_of([] { return roll(vector({1, 2, 3, 4}), 1, 0); }), {4, 1, 2, 3});
  expect_near(value_of([] { return roll(vector({1, 2, 3, 4}), -9, 0); }), {2, 3, 4, 1});
  expect_near(value_of([] { return tile(counting({2, 2}), 2, 0); }), {0, 1, 2, 3, 0, 1, 2, 3});
  expect_near(value_of([] { return tile(counting({2, 2}), 2, 1); }), {0, 1, 0, 1, 2, 3, 2, 3});
  expect_near(value_of([] { return tril(counting({2, 3}) + 1); }), {1, 0, 0, 4, 5, 0});
  expect_near(value_of([] { return triu(counting({2, 3}) + 1, 1); }), {0, 2, 3, 0, 0, 6});
  expect_near(value_of([] { return stack({vector({1, 2}), vector({3, 4})}, 1); }), {1, 3, 2, 4});
  expect_near(value_of([] { return transpose(counting({2, 3})); }), {0, 3, 1, 4, 2, 5});
  expect_near(value_of([] { return concat(chunk(vector({1, 2, 3, 4, 5}), 3)); }), {1, 2, 3, 4, 5});
  expect_near(value_of([] { return one_hot(constant(std::vector<std::int64_t>{2, 0}, {2}), 3); }),
              {0, 0, 1, 1, 0, 0});
  expect_near(value_of([] { return select(counting({2, 3}), 1, constant(1, i64)); }), {1, 4});
  expect_near(value_of([] {
                return dynamic_update_slice(counting({2, 3}), full({2, 1}, 9), 1, constant(2, i64));
              }),
              {0, 1, 9, 3, 4, 9});
  expect_near(value_of([] { return arange(1, 2.1, 0.5); }), {1, 1.5, 2});
}

TEST(Movement, NothingIsRecordedForNothing) {
  State state;
  const Program program = trace(state, [] {
    Tensor y = parameter("w", {2, 3});
    y = reshape(y, {2, 3});
    y = permute(y, {0, 1});
    y = slice(y, 0, 0, 2);
    y = broadcast_to(y, {2, 3});
    y = pad(y, 0, 0, 0);
    y = squeeze(y);
    y = concat({y});
    y = cast(y, f32);
    y = sum(y, std::vector<int>{});
    out("y", y);
  });
  EXPECT_EQ(nodes(program), 2);  // the state and the receiver
}

TEST(Reductions, Values) {
  const Values row = {1, 2, 4, 9};
  const auto tensor = [] { return vector({1, 2, 4, 9}); };
  expect_near(value_of([&] { return mean(tensor()); }), {4});
  expect_near(value_of([&] { return var(tensor()); }), {(9 + 4 + 0 + 25) / 4.0});
  expect_near(value_of([&] { return var(tensor(), 0, false, 1); }), {(9 + 4 + 0 + 25) / 3.0}, 1e-7);
  expect_near(value_of([&] { return norm(tensor()); }), {std::sqrt(1 + 4 + 16 + 81)}, 1e-7);
  expect_near(value_of([&] { return norm(complex(tensor(), tensor())); }),
              {std::sqrt(2.0 * (1 + 4 + 16 + 81))}, 1e-7);
  double exponentials = 0;
  for (const double value : row) exponentials += std::exp(value);
  expect_near(value_of([&] { return logsumexp(tensor()); }), {std::log(exponentials)}, 1e-7);
  expect_near(value_of([] { return logsumexp(vector({1000, 1000})); }), {1000 + std::log(2)}, 1e-7);
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(value_of([&] { return logsumexp(vector({-infinity, -infinity})); }), Values{-infinity});
  EXPECT_EQ(value_of([&] { return logsumexp(vector({infinity, 1})); }), Values{infinity});
  expect_near(value_of([&] { return cast(argmin(-tensor()), f32); }), {3});
  expect_near(value_of([] {
                const std::vector<std::int64_t> values = {3, 0, 200, 0};
                return cast(argmin(constant(values, {4}, DType::u8)), f32);
              }),
              {1});
  expect_near(value_of([] {
                const Tensor b = constant({1, 0, 1, 1, 0, 0}, {3, 2}, boolean);
                return cast(stack({any(b, 1), all(b, 1)}), f32);
              }),
              {1, 1, 0, 0, 1, 0});
  expect_near(value_of([] {
                const Tensor none = zeros({2, 0}, boolean);
                return cast(stack({any(none, 1), all(none, 1)}), f32);
              }),
              {0, 0, 1, 1});
}

TEST(Reductions, GradientOfLogsumexpIsSoftmax) {
  State state;
  const Program program = trace(state, [] {
    const Tensor a = vector({1, 2, 4});
    out("gradient", grad(logsumexp(a), {a})[0] - softmax(a));
  });
  check_graph(program);
  expect_near(evaluate(program, state).received["gradient"][0][0], {0, 0, 0}, 1e-7);
}

TEST(Products, Values) {
  expect_near(value_of([] { return matmul(counting({2, 3}), vector({1, 10, 100})); }), {210, 543});
  expect_near(value_of([] { return matmul(vector({1, 10}), counting({2, 2})); }), {20, 31});
  expect_near(
      value_of([] { return linear(counting({1, 2}), counting({3, 2}), vector({1, 2, 3})); }),
      {2, 5, 8});
  // (2, 1, 1, 2) x (3, 2, 1): batches broadcast to (2, 3).
  expect_near(value_of([] { return matmul(counting({2, 1, 1, 2}), counting({3, 2, 1})); }),
              {1, 3, 5, 3, 13, 23});
}

TEST(Products, TransformsInvert) {
  const Values expected = {1, 2, 4, 9, 3};
  const auto tensor = [] { return vector({1, 2, 4, 9, 3}); };
  expect_near(value_of([&] { return irfft(rfft(tensor()), -1, 5); }), expected, 1e-6);
  expect_near(value_of([&] { return real(ifft(fft(tensor()))); }), expected, 1e-6);
  // Padding and cutting as n asks for it.
  expect_near(value_of([&] { return irfft(rfft(tensor(), 0, 8), 0, 8); }), {1, 2, 4, 9, 3, 0, 0, 0},
              1e-6);
  expect_near(value_of([&] { return real(ifft(fft(tensor(), 0, 3))); }), {1, 2, 4}, 1e-6);
  // A padded spectrum is interpolation: the mean stays.
  expect_near(value_of([&] { return mean(irfft(rfft(tensor()), 0, 20)) * 4; }), {19.0 / 5}, 1e-6);
}

TEST(Composites, AbsentWeightsAreNeutral) {
  expect_near(value_of([] { return sum(abs(layer_norm(x()) - layer_norm(x(), ones({4})))); }), {0});
  expect_near(value_of([] { return sum(abs(rms_norm(x()) - rms_norm(x(), ones({4})))); }), {0});
  expect_near(value_of([] {
                const Tensor k = counting({2, 6, 4}) * 0.1;
                return sum(abs(attention(x(), k, k) - attention(x(), k, k, false, 0.5)));
              }),
              {0});
}

}  // namespace
}  // namespace weft::test
