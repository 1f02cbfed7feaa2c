#include "tests/ptx/machine/decode.h"
#include "tests/ptx/machine/numbers.h"
#include "tests/ptx/machine/warp.h"

namespace weft::ptx {
namespace {

// Computed as double and rounded, which is within the error that the ISA allows.
struct Exponential2 {
  static double apply(double a) { return std::exp2(a); }
};
struct Logarithm2 {
  static double apply(double a) { return std::log2(a); }
};
struct Sine {
  static double apply(double a) { return std::sin(a); }
};
struct Cosine {
  static double apply(double a) { return std::cos(a); }
};
struct HyperbolicTangent {
  static double apply(double a) { return std::tanh(a); }
};
struct ReciprocalSquareRoot {
  static double apply(double a) { return 1 / std::sqrt(a); }
};
struct Reciprocal {
  static double apply(double a) { return 1 / a; }
};
struct SquareRoot {
  static double apply(double a) { return std::sqrt(a); }
};
struct Divide {
  static double apply(double a, double b) { return a / b; }
};

template <class F>
F rounded(double value);
template <>
float rounded<float>(double value) {
  return canonical(static_cast<float>(value));
}
template <>
double rounded<double>(double value) {
  return canonical(value);
}
template <>
Half rounded<Half>(double value) {
  return from_odd<Half>(value);
}
template <>
BFloat rounded<BFloat>(double value) {
  return from_odd<BFloat>(value);
}

template <class Operation, bool kFlush>
struct Approximate {
  template <class F>
  static F start(F value) {
    return kFlush ? flush(value) : value;
  }
  template <class F, class... More>
  static F apply(F a, More... more) {
    return start(rounded<F>(Operation::apply(to_double(start(a)), to_double(start(more))...)));
  }
  template <class F>
  static Pair<F> apply(Pair<F> a) {
    return {apply(a.first), apply(a.second)};
  }
};

template <class Operation, bool kFlush>
Execute of_type(Decode& decode, Type type) {
  using A = Approximate<Operation, kFlush>;
  switch (type) {
    case Type::f32:
      return unary<A, float, float>;
    case Type::f64:
      return unary<A, double, double>;
    case Type::f16:
      return unary<A, Half, Half>;
    case Type::f16x2:
      return unary<A, Pair<Half>, Pair<Half>>;
    case Type::bf16:
      return unary<A, BFloat, BFloat>;
    case Type::bf16x2:
      return unary<A, Pair<BFloat>, Pair<BFloat>>;
    default:
      decode.refuse(type);
  }
}

/// Which types an approximation is of.
enum class Of : std::uint8_t { f32, f32_and_f64, f32_and_narrow };

template <class Operation>
void decode_unary(Decode& decode, Of of) {
  if (!decode.take("approx")) decode.fail(".approx is missing");
  const bool flushes = decode.take("ftz");
  const Type type = decode.type();
  const bool known = type == Type::f32 || (type == Type::f64 && of == Of::f32_and_f64) ||
                     (type != Type::f64 && of == Of::f32_and_narrow);
  if (!known) decode.refuse(type);
  emit_lanes(
      decode,
      flushes ? of_type<Operation, true>(decode, type) : of_type<Operation, false>(decode, type),
      type, type);
}

}  // namespace

void decode_approximation(Decode& decode, std::string_view operation) {
  if (operation == "rcp") return decode_unary<Reciprocal>(decode, Of::f32_and_f64);
  if (operation == "sqrt") return decode_unary<SquareRoot>(decode, Of::f32);
  decode.next();  // .approx or .full
  const bool flushes = decode.take("ftz");
  const Type type = decode.type();
  if (type != Type::f32) decode.refuse(type);
  emit_lanes(decode,
             flushes ? binary<Approximate<Divide, true>, float, float, float>
                     : binary<Approximate<Divide, false>, float, float, float>,
             type, type, type);
}

void add_approximations(Decoders& decoders) {
  decoders["ex2"] = [](Decode& decode) { decode_unary<Exponential2>(decode, Of::f32_and_narrow); };
  decoders["lg2"] = [](Decode& decode) { decode_unary<Logarithm2>(decode, Of::f32); };
  decoders["sin"] = [](Decode& decode) { decode_unary<Sine>(decode, Of::f32); };
  decoders["cos"] = [](Decode& decode) { decode_unary<Cosine>(decode, Of::f32); };
  decoders["tanh"] = [](Decode& decode) {
    decode_unary<HyperbolicTangent>(decode, Of::f32_and_narrow);
  };
  decoders["rsqrt"] = [](Decode& decode) {
    decode_unary<ReciprocalSquareRoot>(decode, Of::f32_and_f64);
  };
}

}  // namespace weft::ptx
