#include "compiler/loop/math_f64.h"

#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "compiler/loop/math_terms.h"

/// Method: as in math.cpp, with Taylor series where the reduced argument is small enough that
/// minimax polynomials would save a term or two only. fma() is rounded once. The tail of erf was
/// interpolated at Chebyshev nodes in 60 digits.
namespace weft::loop {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double log2_e = 0x1.71547652b82fep+0;
constexpr double log2_e_low = 0x1.777d0ffda0d24p-56;
constexpr double ln2 = 0x1.62e42fefa39efp-1;
constexpr double ln2_low = 0x1.abc9e3b39803fp-56;
/// ln 2 = high + low; high has 32 bits, so that its products with exponents are exact.
constexpr double ln2_32_high = 0x1.62e42fee00000p-1;
constexpr double ln2_32_low = 0x1.a39ef35793c76p-33;

constexpr std::int64_t fraction_bits = 52;
constexpr std::int64_t bias = 1023;

using F64 = FloatTerms<double>;

/// 2^n for an i64 in the range of normal numbers.
Ex power_of_two(F64& f, Ex n) {
  return f.from_bits(f.shift_left(f.add(n, f.word(bias)), fraction_bits));
}

// ---- exponentials -------------------------------------------------------------------------------

/// (exp(r) - 1 - r) / r^2 = 1/2! + r/3! + ...: what is left out is below 2^-57 of exp for
/// |r| <= ln 2 / 2.
constexpr std::array<double, 12> exp_tail() {
  std::array<double, 12> coefficients{};
  double factorial = 1;
  for (std::size_t k = 0; k < coefficients.size(); ++k) {
    factorial *= static_cast<double>(k + 2);
    coefficients[k] = 1 / factorial;
  }
  return coefficients;
}

/// exp(r) - 1 for |r| <= ln 2 / 2.
Ex expm1_reduced(F64& f, Ex r) {
  static constexpr std::array tail = exp_tail();
  return f.fma(f.mul(r, r), f.polynomial(r, tail), r);
}

/// x = n ln 2 + r.
Ex reduce_ln2(F64& f, Ex x, Ex& n) {
  n = f.rounded(f.mul(x, log2_e));
  return f.fma(n, -ln2_low, f.fma(n, -ln2, x));
}

/// mantissa * 2^n for n within some thousands; in two steps, as the result may be denormal or
/// infinite where 2^n alone is no number.
Ex scaled(F64& f, Ex mantissa, Ex n) {
  const Ex whole = f.to_word(n);
  const Ex half = f.shift_right(whole, 1);
  return f.mul(f.mul(mantissa, power_of_two(f, half)), power_of_two(f, f.sub(whole, half)));
}

Ex exp_f64(F64 f, Ex x) {
  const Ex bounded = f.clamped(x, -750, 715);
  Ex n = nullptr;
  const Ex r = reduce_ln2(f, bounded, n);
  return scaled(f, f.add(expm1_reduced(f, r), 1), n);
}

/// 2^fraction, |fraction| <= 1/2.
Ex exp2_fraction(F64& f, Ex fraction) { return f.add(expm1_reduced(f, f.mul(fraction, ln2)), 1); }

constexpr double least_exponent = -1080;
constexpr double largest_exponent = 1030;

Ex exp2_f64(F64 f, Ex x) {
  const Ex bounded = f.clamped(x, least_exponent, largest_exponent);
  const Ex n = f.rounded(bounded);
  return scaled(f, exp2_fraction(f, f.sub(bounded, n)), n);
}

Ex tanh_f64(F64 f, Ex x) {
  // expm1(2|x|) / (expm1(2|x|) + 2).
  constexpr double saturated = 22;
  const Ex magnitude = f.clamped(f.absolute(x), 0, saturated);
  Ex n = nullptr;
  const Ex reduced = expm1_reduced(f, reduce_ln2(f, f.add(magnitude, magnitude), n));
  const Ex power = power_of_two(f, f.to_word(n));
  const Ex expm1 = f.fma(power, reduced, f.add(power, -1));
  return f.flip_sign(f.div(expm1, f.add(expm1, 2)), f.sign_bit(x));
}

// ---- logarithms ---------------------------------------------------------------------------------

/// x = 2^exponent (1 + fraction) with 1 + fraction in [sqrt(1/2), sqrt(2)), for 0 < x < infinity.
struct Split {
  Ex exponent;  ///< f64
  Ex fraction;
};

Split split(F64& f, Ex x) {
  constexpr std::int64_t root_half = 0x3fe6a09e667f3bcd;
  const Ex denormal = f.less(x, std::numeric_limits<double>::min());
  const Ex normal = f.bits(f.select(denormal, f.mul(x, 0x1p54), x));
  const Ex exponent = f.shift_right(f.sub(normal, f.word(root_half)), fraction_bits);
  const Ex mantissa = f.from_bits(f.sub(normal, f.shift_left(exponent, fraction_bits)));
  const Ex less = f.select(denormal, f.word(54), f.word(0));
  return {f.to_float(f.sub(exponent, less)), f.add(mantissa, -1)};
}

/// atanh(s) = s + s^3/3 + ...: 2 atanh(s) - 2 s = s z tail(z) with z = s^2 < 0.0295, to 2^-58.
constexpr std::array<double, 11> atanh_tail() {
  std::array<double, 11> coefficients{};
  for (std::size_t k = 0; k < coefficients.size(); ++k) {
    coefficients[k] = 2 / static_cast<double>(2 * k + 3);
  }
  return coefficients;
}

/// What log(1 + fraction) is less than fraction: no rounding of the fraction itself.
Ex log_remainder(F64& f, Ex fraction) {
  static constexpr std::array tail = atanh_tail();
  const Ex s = f.div(fraction, f.add(fraction, 2));
  const Ex z = f.mul(s, s);
  const Ex half_square = f.mul(f.mul(fraction, 0.5), fraction);
  // log(1 + f) = f - f^2/2 + s (f^2/2 + z tail(z)).
  return f.sub(half_square, f.mul(s, f.add(half_square, f.mul(z, f.polynomial(z, tail)))));
}

/// A logarithm where x is zero, negative, infinite or NaN.
Ex or_special(F64& f, Ex x, Ex regular) {
  const Ex inside = f.both(f.greater(x, 0), f.less(x, infinity));
  const Ex special = f.select(f.equal(x, 0.0), f.constant(-infinity),
                              f.select(f.less(x, 0), f.constant(not_a_number), x));
  return f.select(inside, regular, special);
}

Ex log_f64(F64 f, Ex x) {
  const Split s = split(f, x);
  const Ex low = f.fma(s.exponent, ln2_32_low, f.neg(log_remainder(f, s.fraction)));
  return or_special(f, x, f.fma(s.exponent, ln2_32_high, f.add(s.fraction, low)));
}

Ex log2_f64(F64 f, Ex x) {
  const Split s = split(f, x);
  // fraction is exact: log2(e) in two parts makes its product so, too.
  const Ex remainder = f.neg(log_remainder(f, s.fraction));
  const Ex low = f.fma(remainder, log2_e, f.mul(s.fraction, log2_e_low));
  const Ex high = f.mul(s.fraction, log2_e);
  const Ex lost = f.fma(s.fraction, log2_e, f.neg(high));
  const Ex sum = f.add(s.exponent, high);
  const Ex rest = f.add(f.sub(s.exponent, sum), high);
  return or_special(f, x, f.add(sum, f.add(rest, f.add(lost, low))));
}

/// A value as an unevaluated sum.
struct Pair {
  Ex high;
  Ex low;
};

/// log2(x) to about 2^-59 of itself, for 0 < x < infinity.
Pair log2_pair(F64& f, Ex x) {
  static constexpr std::array tail = atanh_tail();
  const Split split_x = split(f, x);
  const Ex fraction = split_x.fraction;
  const Ex divisor = f.add(fraction, 2);
  const Ex divisor_low = f.sub(fraction, f.add(divisor, -2));
  const Ex s = f.div(fraction, divisor);
  const Ex left = f.sub(f.fma(f.neg(s), divisor, fraction), f.mul(s, divisor_low));
  const Ex s_low = f.div(left, divisor);
  const Ex z = f.mul(s, s);
  const Ex series = f.mul(f.mul(s, z), f.polynomial(z, tail));
  const Ex twice = f.add(s, s);
  const Ex rest = f.add(f.add(s_low, s_low), series);
  const Ex high = f.add(twice, rest);
  const Ex low = f.sub(rest, f.sub(high, twice));
  const Ex product = f.mul(high, log2_e);
  const Ex product_low =
      f.fma(low, log2_e, f.fma(high, log2_e_low, f.fma(high, log2_e, f.neg(product))));
  const Ex sum = f.add(split_x.exponent, product);
  const Ex sum_low = f.add(f.add(f.sub(split_x.exponent, sum), product), product_low);
  return {sum, sum_low};
}

Ex pow_f64(F64 f, Ex x, Ex y) {
  const Ex magnitude = f.absolute(x);
  // Beyond this every power but that of 1 is 0 or infinite.
  constexpr double large = 0x1p70;
  const Ex bounded = f.clamped(y, -large, large);
  const Pair logarithm = log2_pair(f, magnitude);
  const Ex product = f.mul(bounded, logarithm.high);
  const Ex lost = f.fma(bounded, logarithm.high, f.neg(product));
  const Ex product_low = f.fma(bounded, logarithm.low, lost);
  const Ex inside = f.less(f.absolute(product), 1100);
  const Ex exponent = f.clamped(product, least_exponent, largest_exponent);
  const Ex n = f.rounded(exponent);
  const Ex low = f.select(inside, product_low, f.constant(0));
  const Ex regular = scaled(f, exp2_fraction(f, f.add(f.sub(exponent, n), low)), n);

  const Ex zero = f.equal(magnitude, 0.0);
  const Ex infinite = f.equal(magnitude, infinity);
  const Ex negative_power = f.less(y, 0);
  const Ex to_zero =
      f.either(f.both(zero, f.logical_not(negative_power)), f.both(infinite, negative_power));
  const Ex extreme = f.select(to_zero, f.constant(0), f.constant(infinity));
  const Ex one = f.equal(magnitude, 1.0);
  const Ex unsigned_result =
      f.select(f.either(zero, infinite), extreme, f.select(one, f.constant(1), regular));

  const Ex half = f.mul(y, 0.5);
  const Ex whole = f.equal(f.floor(y), y);
  const Ex odd = f.both(whole, f.logical_not(f.equal(f.floor(half), half)));
  const Ex sign = f.select(odd, f.sign_bit(x), f.word(0));
  const Ex signed_result = f.flip_sign(unsigned_result, sign);
  const Ex undefined = f.both(f.both(f.less(x, 0), f.logical_not(whole)), f.logical_not(infinite));
  const Ex real = f.select(undefined, f.constant(not_a_number), signed_result);
  const Ex numbers = f.both(f.equal(x, x), f.equal(y, y));
  const Ex result = f.select(numbers, real, f.add(x, y));
  return f.select(f.either(f.equal(y, 0.0), f.equal(x, 1.0)), f.constant(1), result);
}

// ---- trigonometry -------------------------------------------------------------------------------

/// (-1)^k / (2k + first)!, from k = 1 on.
template <std::size_t count>
constexpr std::array<double, count> alternating(int first) {
  std::array<double, count> coefficients{};
  double factorial = 1;
  int next = 2;
  for (std::size_t k = 0; k < count; ++k) {
    const int last = 2 * static_cast<int>(k + 1) + first;
    for (; next <= last; ++next) factorial *= next;
    coefficients[k] = (k % 2 == 0 ? -1 : 1) / factorial;
  }
  return coefficients;
}

/// sin(x), or with quarter 1 cos(x) = sin(x + pi/2).
Ex sin_or_cos(F64& f, Ex x, std::int64_t quarter) {
  // pi/2 in three parts: the first two differences are exact.
  constexpr double high = 0x1.921fb54442d18p+0;
  constexpr double middle = 0x1.1a62633145c07p-54;
  constexpr double low = -0x1.f1976b7ed8fbcp-110;
  constexpr double two_over_pi = 0x1.45f306dc9c883p-1;
  constexpr double largest = 0x1p50;
  const Ex n = f.rounded(f.mul(x, two_over_pi));
  const Ex reduced = f.fma(n, -low, f.fma(n, -middle, f.fma(n, -high, x)));
  const Ex r = f.select(f.greater(x, largest), f.mul(x, 0.0), reduced);
  const Ex quadrant = f.add(f.to_word(n), f.word(quarter));
  // |r| <= pi/4: what is left out is below 2^-58.
  static constexpr std::array sine_tail = alternating<9>(1);
  static constexpr std::array cosine_tail = alternating<8>(2);
  const Ex z = f.mul(r, r);
  const Ex sine = f.fma(f.mul(r, z), f.polynomial(z, sine_tail), r);
  // 1 - z/2 + z^2 (1/4! - ...): the rounding of 1 - z/2 is made up for.
  const Ex half = f.mul(z, 0.5);
  const Ex start = f.sub(f.constant(1), half);
  const Ex lost = f.sub(f.sub(f.constant(1), start), half);
  const Ex tail = f.neg(f.polynomial(z, cosine_tail));
  const Ex cosine = f.add(start, f.fma(f.mul(z, z), tail, lost));
  const Ex even = f.equal_word(f.bit_and(quadrant, 1), 0);
  const Ex sign = f.shift_left(f.bit_and(quadrant, 2), 62);
  return f.flip_sign(f.select(even, sine, cosine), sign);
}

Ex sin_f64(F64 f, Ex x) { return f.flip_sign(sin_or_cos(f, f.absolute(x), 0), f.sign_bit(x)); }
Ex cos_f64(F64 f, Ex x) { return sin_or_cos(f, f.absolute(x), 1); }

// ---- the error function -------------------------------------------------------------------------

Ex erf_f64(F64 f, Ex x) {
  constexpr double two_over_root_pi = 1.1283791670955126;
  // |x| < 1: the series of erf(x) / x, whose terms fall from the first on.
  static constexpr std::array series = [] {
    std::array<double, 19> coefficients{};
    double factorial = 1;
    for (std::size_t k = 0; k < coefficients.size(); ++k) {
      if (k > 0) factorial *= static_cast<double>(k);
      const double term = two_over_root_pi / (factorial * static_cast<double>(2 * k + 1));
      coefficients[k] = k % 2 == 0 ? term : -term;
    }
    return coefficients;
  }();
  // 1 <= |x| <= 6: exp(x^2) erfc(x) in t = 12/5 (x - 3) / (x + 3) + 1/5, to 2^-55; then it is 1.
  static constexpr std::array tail = {
      0.20798329133342885,     -0.15436117429436919,   0.0496984454033948,
      -0.012713147695691995,   0.0024793146970724187,  -0.00033160296057845436,
      1.956358330834969e-05,   2.4255574811020284e-06, -5.541277438329464e-07,
      -4.526722197970927e-09,  1.1340261055840323e-08, -2.6378817019432074e-10,
      -2.5809703293704675e-10, 6.030100178315267e-12,  6.716060821011204e-12,
      4.468786282795809e-15,   -1.6799777159311457e-13};
  constexpr double saturated = 6;
  const Ex magnitude = f.clamped(f.absolute(x), 0, saturated);
  const Ex square = f.mul(magnitude, magnitude);
  const Ex near = f.mul(magnitude, f.polynomial(square, series));
  const Ex t = f.fma(f.div(f.add(magnitude, -3), f.add(magnitude, 3)), 2.4, f.constant(0.2));
  const Ex rest = f.mul(exp_f64(f, f.neg(square)), f.polynomial(t, tail));
  const Ex far = f.sub(f.constant(1), rest);
  return f.flip_sign(f.select(f.less(magnitude, 1), near, far), f.sign_bit(x));
}

}  // namespace

const char* library_name(Unary op) {
  switch (op) {
    case Unary::call_exp2:
      return "exp2";
    case Unary::call_log2:
      return "log2";
    case Unary::call_exp:
      return "exp";
    case Unary::call_log:
      return "log";
    case Unary::call_sin:
      return "sin";
    case Unary::call_cos:
      return "cos";
    case Unary::call_tanh:
      return "tanh";
    case Unary::call_erf:
      return "erf";
    default:
      return nullptr;
  }
}

Ex expand_call(Arena& arena, Unary call, Ex x) {
  const F64 f(arena);
  switch (call) {
    case Unary::call_exp2:
      return exp2_f64(f, x);
    case Unary::call_log2:
      return log2_f64(f, x);
    case Unary::call_exp:
      return exp_f64(f, x);
    case Unary::call_log:
      return log_f64(f, x);
    case Unary::call_sin:
      return sin_f64(f, x);
    case Unary::call_cos:
      return cos_f64(f, x);
    case Unary::call_tanh:
      return tanh_f64(f, x);
    case Unary::call_erf:
      return erf_f64(f, x);
    default:
      throw std::logic_error("expand_call: no library call");
  }
}

Ex expand_pow(Arena& arena, Ex x, Ex y) { return pow_f64(F64(arena), x, y); }

}  // namespace weft::loop
