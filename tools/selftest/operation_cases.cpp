#include <array>

#include "tools/selftest/case_kernel.h"

/// The language's own operations and conversions.
namespace weft::selftest {
namespace {

using Value = std::function<Ex(loop::Arena& a, std::span<const Ex> operands)>;

/// One operation of one type on `arity` operands, exactly.
void add_operation(std::vector<IntrinsicCase>& cases, const std::string& name, Scalar type,
                   std::size_t arity, const Value& value) {
  Operands random(name);
  CaseKernel one(name, 80);
  std::vector<const Buffer*> in;
  std::int64_t count = 0;
  for (std::size_t i = 0; i < arity; ++i) {
    Bytes bytes = random.elements(memory_type(type), type == Scalar::boolean, i);
    count = static_cast<std::int64_t>(bytes.size() / size_of(memory_type(type)));
    in.push_back(one.input(memory_type(type), std::move(bytes)));
  }
  const Buffer* out = nullptr;
  one.phase(count, [&](loop::Builder& b, Ex position, Ex) {
    loop::Arena& a = one.arena();
    std::vector<Ex> operands;
    for (const Buffer* buffer : in) operands.push_back(b.let(taken(a, buffer, position, type)));
    const Ex result = stored(a, value(a, operands));
    out = one.output(memory_type(result->type), count);
    b.store(out, position, result);
  });
  cases.push_back(one.take());
}

}  // namespace

void add_operations(std::vector<IntrinsicCase>& cases) {
  using loop::Binary;
  using loop::Unary;
  const auto unary = [&](std::string_view operation, Unary op,
                         std::initializer_list<Scalar> types) {
    for (const Scalar type : types) {
      add_operation(cases, fmt::format("{}.{}", operation, loop::name(type)), type, 1,
                    [op](loop::Arena& a, std::span<const Ex> x) { return a.unary(op, x[0]); });
    }
  };
  const auto binary = [&](std::string_view operation, Binary op,
                          std::initializer_list<Scalar> types) {
    for (const Scalar type : types) {
      add_operation(
          cases, fmt::format("{}.{}", operation, loop::name(type)), type, 2,
          [op](loop::Arena& a, std::span<const Ex> x) { return a.binary(op, x[0], x[1]); });
    }
  };
  static constexpr auto floats = {Scalar::f32, Scalar::f64};
  static constexpr auto integers = {Scalar::u8, Scalar::i32, Scalar::i64};
  static constexpr auto numbers = {Scalar::u8, Scalar::i32, Scalar::i64, Scalar::f32, Scalar::f64};
  unary("negate", Unary::negate, numbers);
  unary("absolute", Unary::absolute, {Scalar::i32, Scalar::i64, Scalar::f32, Scalar::f64});
  unary("square_root", Unary::square_root, floats);
  unary("floor", Unary::floor, floats);
  unary("round_even", Unary::round_even, floats);
  unary("bitwise_not", Unary::bitwise_not, integers);
  unary("round_f16", Unary::round_f16, {Scalar::f32});
  unary("round_bf16", Unary::round_bf16, {Scalar::f32});
  binary("add", Binary::add, numbers);
  binary("subtract", Binary::subtract, numbers);
  binary("multiply", Binary::multiply, numbers);
  binary("divide", Binary::divide, numbers);
  binary("remainder", Binary::remainder, integers);
  binary("minimum", Binary::minimum, numbers);
  binary("maximum", Binary::maximum, numbers);
  binary("bitwise_and", Binary::bitwise_and, integers);
  binary("bitwise_or", Binary::bitwise_or, integers);
  binary("bitwise_xor", Binary::bitwise_xor, integers);
  binary("multiply_high_unsigned", Binary::multiply_high_unsigned, {Scalar::i32});
  binary("equal", Binary::equal, numbers);
  binary("not_equal", Binary::not_equal, numbers);
  binary("less", Binary::less, numbers);
  binary("less_equal", Binary::less_equal, numbers);
  for (const Scalar type : floats) {
    add_operation(cases, fmt::format("fma.{}", loop::name(type)), type, 3,
                  [](loop::Arena& a, std::span<const Ex> x) { return a.fma(x[0], x[1], x[2]); });
  }
  for (const Scalar type : {Scalar::i32, Scalar::i64}) {
    for (const auto& [operation, op] : {std::pair{"shift_left", Binary::shift_left},
                                        {"shift_right", Binary::shift_right},
                                        {"shift_right_logical", Binary::shift_right_logical}}) {
      add_operation(cases, fmt::format("{}.{}", operation, loop::name(type)), type, 2,
                    [op, type](loop::Arena& a, std::span<const Ex> x) {
                      const Ex by = a.binary(Binary::bitwise_and, x[1], a.integer(type, 31));
                      return a.binary(op, x[0], by);
                    });
    }
  }
  for (const std::int64_t divisor : {1, 2, 3, 7, 64, 1000003}) {
    for (const bool quotient : {true, false}) {
      if (divisor == 1 && !quotient) continue;
      add_operation(cases, fmt::format("floor_{}_{}", quotient ? "divide" : "modulo", divisor),
                    Scalar::i64, 1, [=](loop::Arena& a, std::span<const Ex> x) {
                      return quotient ? a.floor_div(x[0], divisor) : a.floor_mod(x[0], divisor);
                    });
    }
  }
  for (const auto& [from, to] : {std::pair{Scalar::f32, Scalar::i32},
                                 {Scalar::i32, Scalar::f32},
                                 {Scalar::f64, Scalar::i64},
                                 {Scalar::i64, Scalar::f64}}) {
    add_operation(
        cases, fmt::format("bits.{}_{}", loop::name(from), loop::name(to)), from, 1,
        [type = to](loop::Arena& a, std::span<const Ex> x) { return a.bits(x[0], type); });
  }
}

/// Operations on elements of 16 bits in memory, in the registers' type: widened, computed and
/// rounded once, denormals of 16 bits being ordinary numbers.
void add_narrow_operations(std::vector<IntrinsicCase>& cases) {
  using loop::Binary;
  using loop::Unary;
  const auto add = [&](std::string_view operation, DType dtype, std::size_t arity, bool truth,
                       const Value& value) {
    const std::string name = fmt::format("{}.{}", operation, weft::name(dtype));
    Operands random(name);
    CaseKernel one(name, 80);
    std::vector<const Buffer*> in;
    std::int64_t count = 0;
    for (std::size_t i = 0; i < arity; ++i) {
      Bytes bytes = random.elements(dtype, false, i);
      count = static_cast<std::int64_t>(bytes.size() / size_of(dtype));
      in.push_back(one.input(dtype, std::move(bytes)));
    }
    const Buffer* out = one.output(truth ? DType::i32 : dtype, count);
    one.phase(count, [&](loop::Builder& b, Ex position, Ex) {
      loop::Arena& a = one.arena();
      std::vector<Ex> operands;
      for (const Buffer* buffer : in) operands.push_back(b.let(a.load(buffer, position)));
      b.store(out, position, stored(a, value(a, operands)));
    });
    cases.push_back(one.take());
  };
  for (const DType dtype : {DType::f16, DType::bf16}) {
    for (const auto& [operation, op] : {std::pair{"negate", Unary::negate},
                                        {"absolute", Unary::absolute},
                                        {"square_root", Unary::square_root},
                                        {"floor", Unary::floor},
                                        {"round_even", Unary::round_even}}) {
      add(operation, dtype, 1, false,
          [which = op](loop::Arena& a, std::span<const Ex> x) { return a.unary(which, x[0]); });
    }
    for (const auto& [operation, op] : {std::pair{"add", Binary::add},
                                        {"subtract", Binary::subtract},
                                        {"multiply", Binary::multiply},
                                        {"divide", Binary::divide},
                                        {"minimum", Binary::minimum},
                                        {"maximum", Binary::maximum}}) {
      add(operation, dtype, 2, false, [which = op](loop::Arena& a, std::span<const Ex> x) {
        return a.binary(which, x[0], x[1]);
      });
    }
    for (const auto& [operation, op] : {std::pair{"equal", Binary::equal},
                                        {"not_equal", Binary::not_equal},
                                        {"less", Binary::less},
                                        {"less_equal", Binary::less_equal}}) {
      add(operation, dtype, 2, true, [which = op](loop::Arena& a, std::span<const Ex> x) {
        return a.binary(which, x[0], x[1]);
      });
      add(fmt::format("{}_half", operation), dtype, 1, true,
          [which = op](loop::Arena& a, std::span<const Ex> x) {
            return a.binary(which, a.constant(Scalar::f32, 0.5), x[0]);
          });
      add(fmt::format("{}_zero", operation), dtype, 1, true,
          [which = op](loop::Arena& a, std::span<const Ex> x) {
            return a.binary(which, a.constant(Scalar::f32, 0), x[0]);
          });
    }
    add("fma", dtype, 3, false,
        [](loop::Arena& a, std::span<const Ex> x) { return a.fma(x[0], x[1], x[2]); });
    // What only positive numbers pass.
    add("select", dtype, 1, false, [](loop::Arena& a, std::span<const Ex> x) {
      const Ex zero = a.constant(Scalar::f32, 0);
      return a.select(a.less(zero, x[0]), x[0], zero);
    });
  }
}

void add_casts(std::vector<IntrinsicCase>& cases) {
  constexpr std::array types = {DType::f64, DType::f32, DType::f16, DType::bf16,
                                DType::i64, DType::i32, DType::u8,  DType::boolean};
  for (const DType from : types) {
    for (const DType to : types) {
      const std::string name = fmt::format("cast.{}_{}", weft::name(from), weft::name(to));
      Operands random(name);
      CaseKernel one(name, 80);
      Bytes bytes = random.elements(from, from == DType::boolean, 0);
      const auto count = static_cast<std::int64_t>(bytes.size() / size_of(from));
      const Buffer* in = one.input(from, std::move(bytes));
      const Buffer* out = one.output(to, count);
      one.phase(count, [&](loop::Builder& b, Ex position, Ex) {
        loop::Arena& a = one.arena();
        b.store(out, position, a.cast(a.load(in, position), loop::register_type(to)));
      });
      cases.push_back(one.take());
    }
  }
}

}  // namespace weft::selftest
