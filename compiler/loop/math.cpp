#include "compiler/loop/math.h"

#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "compiler/loop/math_terms.h"

/// Method. Range reductions are those of Cody and Waite, "Software Manual for the Elementary
/// Functions" (1980): a multiple of ln 2 or pi/2 is taken off in two or three parts, the first of
/// which cancels exactly. Polynomials are minimax in relative error of the function that they serve
/// (weighted least squares with Lawson's reweighting on Chebyshev nodes, in 40 digits);
/// coefficients were rounded to f32 from the lowest order up, the rest refitted after each. The
/// error of each polynomial is written beside it; what is above it comes from rounding.
///
/// The sine's reduction and the logarithm inside pow rely on fma() being rounded once.
namespace weft::loop {

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
/// Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the sum.
constexpr float round_shift = 0x1.8p23F;
constexpr float log2_e = 1.44269504F;
/// ln 2 = high + low; nine bits of high make n * high exact.
constexpr float ln2_high = 0.693359375F;
constexpr float ln2_low = -2.12194440e-4F;
constexpr float smallest_normal = std::numeric_limits<float>::min();

using F32 = FloatTerms<float>;

void expect(Ex x, const char* function) {
  if (!is_float(x->type)) {
    throw std::logic_error(std::string("loop::") + function + ": expected f32 or f64, got " +
                           std::string(name(x->type)));
  }
}

// ---- exponentials -------------------------------------------------------------------------------

/// An integer: as a float and as the bits n << 23, to be added to an exponent.
struct Integer {
  Ex value;
  Ex exponent_bits;
};

/// Rounds `shifted`, x + round_shift, to its integer: the low bits of a float of that size count
/// units, and the bits of round_shift itself are all shifted out. For |x| < 2^22.
Integer rounded(F32& f, Ex shifted) {
  return {f.sub(shifted, round_shift), f.shift_left(f.bits(shifted), 23)};
}

/// x = n ln 2 + remainder, |remainder| <= ln 2 / 2.
Ex reduce_ln2(F32& f, Ex x, Integer& n) {
  n = rounded(f, f.fma(x, log2_e, round_shift));
  return f.fma(n.value, -ln2_low, f.fma(n.value, -ln2_high, x));
}

/// (exp(r) - 1 - r) / r^2: exp within 2^-28.2 and expm1 within 2^-31.1 for |r| <= ln 2 / 2.
constexpr std::array exp_tail = {0.4999999404F, 0.1666652113F, 0.04166826606F, 0.008368677460F,
                                 0.001382073970F};
constexpr std::array expm1_tail = {
    0.5F, 0.1666666567F, 0.04166649282F, 0.008333545178F, 0.001393233067F, 0.0001976257190F};
/// (2^r - 1) / r for |r| <= 1/2: 2^r within 2^-28.3.
constexpr std::array exp2_tail = {0.6931471825F,   0.2402264774F,   0.05550359562F,
                                  0.009618503042F, 0.001339099719F, 0.0001532782771F};

/// expm1(r) for a reduced argument.
Ex expm1_reduced(F32& f, Ex r) { return f.fma(f.mul(r, r), f.polynomial(r, expm1_tail), r); }

/// mantissa * 2^n for lowest <= x <= highest; 0 below, infinity above, NaN for NaN. The bits of a
/// NaN must not be added to: above, where the comparison is false for NaN, it comes out of x.
Ex scale(F32& f, Ex mantissa, const Integer& n, Ex x, float lowest, float highest) {
  const Ex scaled = f.from_bits(f.add(f.bits(mantissa), n.exponent_bits));
  return f.select(f.at_most(x, highest), f.select(f.less(x, lowest), 0.0F, scaled),
                  f.add(x, infinity));
}

/// 2^n, -127 < n < 128.
Ex power_of_two(F32& f, const Integer& n) {
  return f.from_bits(f.add(n.exponent_bits, f.word(0x3f800000U)));
}

Ex exp_f32(F32 f, Ex x) {
  // Results below the smallest normal number are 0. The largest x gives n = 128 with a mantissa
  // below 1, so that adding n to the exponent cannot overflow.
  constexpr float lowest = -87.3365479F;
  constexpr float highest = 88.7228394F;
  Integer n;
  const Ex r = reduce_ln2(f, x, n);
  const Ex mantissa = f.add(f.fma(f.mul(r, r), f.polynomial(r, exp_tail), r), 1.0F);
  return scale(f, mantissa, n, x, lowest, highest);
}

/// 2^(fraction) for |fraction| <= 1/2.
Ex exp2_fraction(F32& f, Ex fraction) {
  return f.fma(fraction, f.polynomial(fraction, exp2_tail), f.constant(1.0F));
}

Ex exp2_f32(F32 f, Ex x) {
  const Integer n = rounded(f, f.add(x, round_shift));
  return scale(f, exp2_fraction(f, f.sub(x, n.value)), n, x, -126.0F, 0x1.fffffep6F);
}

Ex expm1_f32(F32 f, Ex x) {
  constexpr float lowest = -17.5F;  // -1 to half a unit in the last place
  constexpr float highest = 88.7228394F;
  Integer n;
  const Ex reduced = expm1_reduced(f, reduce_ln2(f, x, n));
  // 2^n expm1(r) + (2^n - 1), halved because 2^128 is not a number.
  const Ex half = f.from_bits(f.add(n.exponent_bits, f.word(0x3f000000U)));
  const Ex result = f.mul(f.fma(half, reduced, f.sub(half, 0.5F)), 2.0F);
  const Ex bounded = f.select(f.at_most(x, highest), f.select(f.less(x, lowest), -1.0F, result),
                              f.add(x, infinity));
  return f.select(f.equal(x, 0.0F), x, bounded);  // keeps -0
}

Ex tanh_f32(F32 f, Ex x) {
  // expm1(2|x|) / (expm1(2|x|) + 2): no cancellation near 0, and never above 1.
  constexpr float saturated = 20.0F;  // 2|x| from where the quotient is 1
  const Ex magnitude = f.absolute(x);
  const Ex doubled = f.add(magnitude, magnitude);
  const Ex bounded = f.select(f.greater(doubled, saturated), saturated, doubled);
  Integer n;
  const Ex reduced = expm1_reduced(f, reduce_ln2(f, bounded, n));
  const Ex power = power_of_two(f, n);
  const Ex expm1_value = f.fma(power, reduced, f.sub(power, 1.0F));
  return f.flip_sign(f.div(expm1_value, f.add(expm1_value, 2.0F)), f.sign_bit(x));
}

Ex erf_f32(F32 f, Ex x) {
  // erf(x) = 1 - exp(-x h(x)) for x >= 0: h is smooth and expm1 keeps small results accurate.
  // h(x) = 2 / sqrt(pi) + x tail(x); erf within 2^-27.8 for 0 <= x <= 3.93, where it becomes 1.
  constexpr float h0_high = 1.12837923F;
  constexpr float h0_low = -5.86353832e-8F;
  constexpr std::array tail = {0.6366195083F,     0.1027768552F,   -0.01914978400F,
                               -0.0001660725829F, 0.001672439626F, -0.0006356936065F,
                               0.0001184199500F,  -9.341425539e-6F};
  constexpr float saturated = 3.93F;
  const Ex magnitude = f.absolute(x);
  const Ex bounded = f.select(f.greater(magnitude, saturated), saturated, magnitude);
  const Ex h1 = f.fma(bounded, f.polynomial(bounded, tail), f.constant(h0_low));
  const Ex exponent = f.neg(f.fma(bounded, h0_high, f.mul(bounded, h1)));
  Integer n;
  const Ex reduced = expm1_reduced(f, reduce_ln2(f, exponent, n));
  const Ex power = power_of_two(f, n);
  const Ex result = f.fma(power, f.neg(reduced), f.sub(f.constant(1.0F), power));
  return f.flip_sign(result, f.sign_bit(x));
}

// ---- logarithms ---------------------------------------------------------------------------------

/// (log(1 + f) - f) / f^2: log within 2^-30.1 for |f| <= 1/3.
constexpr std::array log_tail = {-0.5F,          0.3333333433F, -0.2499982566F, 0.1999968588F,
                                 -0.1667935699F, 0.1430254281F, -0.1219862998F, 0.1077171713F,
                                 -0.1283335537F, 0.1194984913F};

/// The bits of 2^exponent less those of 1, for the power of two next to x: x / 2^exponent is in
/// [2/3, 4/3).
Ex exponent_bits(F32& f, Ex x) {
  constexpr std::uint32_t two_thirds = 0x3f2aaaabU;
  return f.bit_and(f.sub(f.bits(x), f.word(two_thirds)), 0xff800000U);
}

/// x = 2^exponent (1 + fraction), |fraction| <= 1/3; for 0 < x < infinity, denormals included
/// (unless they are flushed, in which case they equal 0).
struct Split {
  Ex exponent;  ///< a float
  Ex fraction;
};
Split split(F32& f, Ex x) {
  const Ex denormal = f.less(x, smallest_normal);
  const Ex normal = f.select(denormal, f.mul(x, 0x1p23F), x);
  const Ex bits = exponent_bits(f, normal);
  const Ex exponent = f.to_float(f.shift_right(bits, 23));
  return {f.add(exponent, f.select(denormal, f.constant(-23.0F), 0.0F)),
          f.sub(f.from_bits(f.sub(f.bits(normal), bits)), 1.0F)};
}

/// What a logarithm of x is where x is not positive and finite.
Ex log_special(F32& f, Ex x, float pole) {
  const Ex not_a_number = f.constant(std::numeric_limits<double>::quiet_NaN());
  return f.select(f.equal(x, pole), -infinity, f.select(f.less(x, pole), not_a_number, x));
}
Ex is_between(F32& f, Ex x, float low, float high) {
  return f.both(f.greater(x, low), f.less(x, high));
}

/// exponent ln 2 + log(1 + fraction).
Ex log_of_split(F32& f, const Split& s) {
  const Ex tail = f.mul(f.mul(s.fraction, s.fraction), f.polynomial(s.fraction, log_tail));
  const Ex low = f.fma(s.exponent, ln2_low, tail);
  return f.fma(s.exponent, ln2_high, f.add(s.fraction, low));
}

Ex log_f32(F32 f, Ex x) {
  return f.select(is_between(f, x, 0.0F, infinity), log_of_split(f, split(f, x)),
                  log_special(f, x, 0.0F));
}

/// log2(e) = high + low.
constexpr float log2_e_high = 1.44269502F;
constexpr float log2_e_low = 1.92596299e-8F;

Ex log2_f32(F32 f, Ex x) {
  const Split s = split(f, x);
  const Ex tail = f.mul(f.mul(s.fraction, s.fraction), f.polynomial(s.fraction, log_tail));
  const Ex low = f.fma(tail, log2_e_high, f.mul(s.fraction, log2_e_low));
  const Ex result = f.add(s.exponent, f.fma(s.fraction, log2_e_high, low));
  return f.select(is_between(f, x, 0.0F, infinity), result, log_special(f, x, 0.0F));
}

Ex log1p_f32(F32 f, Ex x) {
  // With 2^e next to 1 + x: (1 + x) / 2^e - 1 = x / 2^e + (2^-e - 1), rounded once. x / 2^e is made
  // by subtracting from x's exponent, as 2^-e may be denormal; then 4 * 2^-e is not.
  const Ex bits = exponent_bits(f, f.add(x, 1.0F));
  const Ex scaled = f.from_bits(f.sub(f.bits(x), bits));
  const Ex power = f.from_bits(f.sub(f.word(0x40800000U), bits));
  const Ex fraction = f.add(scaled, f.fma(power, 0.25F, -1.0F));
  const Ex result = log_of_split(f, {f.to_float(f.shift_right(bits, 23)), fraction});
  const Ex finite = f.select(f.equal(x, 0.0F), x, result);  // keeps -0
  return f.select(is_between(f, x, -1.0F, infinity), finite, log_special(f, x, -1.0F));
}

/// A value as an unevaluated sum, low at most half a unit in the last place of high.
struct Pair {
  Ex high;
  Ex low;
};

/// log2(x) to about 2^-29 of itself, for 0 < x < infinity.
Pair log2_pair(F32& f, Ex x) {
  const Split s = split(f, x);
  const Ex square = f.mul(s.fraction, s.fraction);
  const Ex square_low = f.fma(s.fraction, s.fraction, f.neg(square));
  // log(1 + f) = (f - f^2 / 2) + f^3 p(f); the first term without error.
  const Ex cubic =
      f.mul(f.mul(square, s.fraction), f.polynomial(s.fraction, std::span(log_tail).subspan(1)));
  const Ex high = f.fma(square, -0.5F, s.fraction);
  const Ex rest = f.fma(square, -0.5F, f.sub(s.fraction, high));
  const Ex low = f.add(rest, f.fma(square_low, -0.5F, cubic));
  // times log2(e)
  const Ex product = f.mul(high, log2_e_high);
  const Ex product_low = f.add(f.fma(high, log2_e_high, f.neg(product)),
                               f.fma(high, log2_e_low, f.mul(low, log2_e_high)));
  // plus the exponent, which is 0 or larger than the product
  const Ex sum = f.add(s.exponent, product);
  return {sum, f.add(f.add(f.sub(s.exponent, sum), product), product_low)};
}

Ex pow_f32(F32 f, Ex x, Ex y) {
  const Ex magnitude = f.absolute(x);
  const Ex one = f.constant(1.0F);
  // |x|^y = 2^(y log2 |x|). A y of 2^40 overflows for any |x| but 1: bounding it keeps products
  // finite.
  constexpr float large = 0x1p40F;
  const Ex bounded = f.select(f.greater(y, large), large, f.select(f.less(y, -large), -large, y));
  const Pair logarithm = log2_pair(f, magnitude);
  const Ex product = f.mul(bounded, logarithm.high);
  const Ex product_low =
      f.fma(bounded, logarithm.low, f.fma(bounded, logarithm.high, f.neg(product)));
  const Ex sum = f.add(product, product_low);
  const Ex sum_low = f.add(f.sub(product, sum), product_low);
  const Integer n = rounded(f, f.add(sum, round_shift));
  const Ex mantissa = exp2_fraction(f, f.add(f.sub(sum, n.value), sum_low));
  const Ex regular = scale(f, mantissa, n, sum, -126.0F, 0x1.fffffep6F);

  // Zero and infinity: which of the two depends on the sign of y.
  const Ex zero = f.equal(magnitude, 0.0F);
  const Ex infinite = f.equal(magnitude, infinity);
  const Ex negative_power = f.less(y, 0.0F);
  const Ex to_zero =
      f.bit_or(f.both(zero, f.logical_not(negative_power)), f.both(infinite, negative_power));
  const Ex extreme = f.select(to_zero, f.constant(0.0F), infinity);
  const Ex unsigned_result = f.select(f.bit_or(zero, infinite), extreme, regular);

  // Negative bases: odd powers keep the sign, powers that are no integers have no value.
  const Ex half = f.mul(y, 0.5F);
  const Ex integer = f.equal(f.floor(y), y);
  const Ex odd = f.both(integer, f.logical_not(f.equal(f.floor(half), half)));
  const Ex sign = f.select(odd, f.sign_bit(x), f.word(0));
  const Ex signed_result = f.flip_sign(unsigned_result, sign);
  const Ex undefined =
      f.both(f.both(f.less(x, 0.0F), f.logical_not(integer)), f.logical_not(infinite));
  const Ex real =
      f.select(undefined, f.constant(std::numeric_limits<double>::quiet_NaN()), signed_result);

  const Ex numbers = f.both(f.equal(x, x), f.equal(y, y));
  const Ex result = f.select(numbers, real, f.add(x, y));
  return f.select(f.bit_or(f.equal(y, 0.0F), f.equal(x, 1.0F)), one, result);
}

// ---- trigonometry -------------------------------------------------------------------------------

/// sin or cos of `remainder` + `quadrant` pi/2, |remainder| <= pi/4; the low two bits of quadrant
/// count (i32). shift 0: sin; shift 1: cos.
Ex sin_of_quadrant(F32& f, Ex remainder, Ex quadrant) {
  // sin within 2^-27.9, cos within 2^-33.0
  constexpr std::array sin_tail = {-0.1666665524F, 0.008332189173F, -0.0001951828599F};
  constexpr std::array cos_tail = {0.04166664556F, -0.001388731063F, 2.443256381e-5F};
  const Ex square = f.mul(remainder, remainder);
  const Ex sine = f.fma(f.mul(remainder, square), f.polynomial(square, sin_tail), remainder);
  const Ex cosine =
      f.fma(f.mul(square, square), f.polynomial(square, cos_tail), f.fma(square, -0.5F, 1.0F));
  const Ex even = f.equal_word(f.bit_and(quadrant, 1), 0);
  const Ex sign = f.shift_left(f.bit_and(quadrant, 2), 30);
  return f.flip_sign(f.select(even, sine, cosine), sign);
}

/// x = quadrant pi/2 + remainder for x >= 0. Beyond 2^22 the remainder is 0; NaN for infinity.
Ex reduce_pi(F32& f, Ex x, Ex& quadrant) {
  constexpr float two_over_pi = 0.636619747F;
  constexpr float largest = 0x1p22F;
  // pi/2 in three parts of 24 bits; with |n| < 2^22 the first difference is exact.
  constexpr float high = 0x1.921fb6p0F;
  constexpr float middle = -0x1.777a5cp-25F;
  constexpr float low = -0x1.ee59dap-50F;
  const Ex shifted = f.fma(x, two_over_pi, round_shift);
  const Ex n = f.sub(shifted, round_shift);
  quadrant = f.bits(shifted);
  const Ex remainder = f.fma(n, -low, f.fma(n, -middle, f.fma(n, -high, x)));
  return f.select(f.at_most(x, largest), remainder, f.mul(x, 0.0F));
}

Ex sin_f32(F32 f, Ex x) {
  Ex quadrant = nullptr;
  const Ex remainder = reduce_pi(f, f.absolute(x), quadrant);
  return f.flip_sign(sin_of_quadrant(f, remainder, quadrant), f.sign_bit(x));
}

Ex cos_f32(F32 f, Ex x) {
  Ex quadrant = nullptr;
  const Ex remainder = reduce_pi(f, f.absolute(x), quadrant);
  return sin_of_quadrant(f, remainder, f.add(quadrant, f.word(1)));
}

Ex cos_turns_f32(F32 f, Ex turns) {
  constexpr float half_pi = 0x1.921fb6p0F;
  const Ex quarters = f.mul(turns, 4.0F);
  const Ex shifted = f.add(quarters, round_shift);
  const Ex remainder = f.mul(f.sub(quarters, f.sub(shifted, round_shift)), half_pi);
  return sin_of_quadrant(f, remainder, f.add(f.bits(shifted), f.word(1)));
}

// ---- double precision ---------------------------------------------------------------------------

Ex expm1_f64(Arena& arena, Ex x) {
  // Kahan: with u = exp(x) rounded, (u - 1) x / log(u) makes up for the rounding of u.
  const Ex one = arena.constant(Scalar::f64, 1);
  const Ex u = arena.unary(Unary::call_exp, x);
  const Ex difference = arena.sub(u, one);
  const Ex corrected = arena.div(arena.mul(difference, x), arena.unary(Unary::call_log, u));
  const Ex infinite = arena.equal(u, arena.constant(Scalar::f64, infinity));
  const Ex minus_one = arena.equal(difference, arena.neg(one));
  const Ex far = arena.select(arena.logical_or(infinite, minus_one), difference, corrected);
  return arena.select(arena.equal(u, one), x, far);
}

Ex log1p_f64(Arena& arena, Ex x) {
  // The same idea: log(u) x / (u - 1) with u = 1 + x rounded.
  const Ex one = arena.constant(Scalar::f64, 1);
  const Ex u = arena.add(x, one);
  const Ex logarithm = arena.unary(Unary::call_log, u);
  const Ex corrected = arena.div(arena.mul(logarithm, x), arena.sub(u, one));
  const Ex infinite = arena.equal(u, arena.constant(Scalar::f64, infinity));
  return arena.select(arena.equal(u, one), x, arena.select(infinite, x, corrected));
}

Ex dispatch(Arena& arena, Ex x, const char* function, Ex (*f32)(F32, Ex), Unary f64) {
  expect(x, function);
  return x->type == Scalar::f64 ? arena.unary(f64, x) : f32(F32(arena), x);
}

}  // namespace

Ex exp(Arena& arena, Ex x) { return dispatch(arena, x, "exp", exp_f32, Unary::call_exp); }
Ex exp2(Arena& arena, Ex x) { return dispatch(arena, x, "exp2", exp2_f32, Unary::call_exp2); }
Ex log(Arena& arena, Ex x) { return dispatch(arena, x, "log", log_f32, Unary::call_log); }
Ex log2(Arena& arena, Ex x) { return dispatch(arena, x, "log2", log2_f32, Unary::call_log2); }
Ex sin(Arena& arena, Ex x) { return dispatch(arena, x, "sin", sin_f32, Unary::call_sin); }
Ex cos(Arena& arena, Ex x) { return dispatch(arena, x, "cos", cos_f32, Unary::call_cos); }
Ex tanh(Arena& arena, Ex x) { return dispatch(arena, x, "tanh", tanh_f32, Unary::call_tanh); }
Ex erf(Arena& arena, Ex x) { return dispatch(arena, x, "erf", erf_f32, Unary::call_erf); }

Ex pow(Arena& arena, Ex x, Ex y) {
  expect(x, "pow");
  if (x->type != y->type) throw std::logic_error("loop::pow: operands of two types");
  return x->type == Scalar::f64 ? arena.binary(Binary::call_pow, x, y) : pow_f32(F32(arena), x, y);
}

Ex rsqrt(Arena& arena, Ex x) {
  expect(x, "rsqrt");
  return arena.div(arena.constant(x->type, 1), arena.unary(Unary::square_root, x));
}

Ex expm1(Arena& arena, Ex x) {
  expect(x, "expm1");
  return x->type == Scalar::f64 ? expm1_f64(arena, x) : expm1_f32(F32(arena), x);
}

Ex log1p(Arena& arena, Ex x) {
  expect(x, "log1p");
  return x->type == Scalar::f64 ? log1p_f64(arena, x) : log1p_f32(F32(arena), x);
}

Ex cos_turns(Arena& arena, Ex turns) {
  expect(turns, "cos_turns");
  if (turns->type == Scalar::f32) return cos_turns_f32(F32(arena), turns);
  // cos(2 pi t) = sin(2 pi (1/4 - |t|)) for |t| <= 1/2; the difference is exact.
  constexpr double two_pi = 6.283185307179586;
  const Ex fraction = arena.sub(turns, arena.unary(Unary::round_even, turns));
  const Ex from_zero =
      arena.sub(arena.constant(Scalar::f64, 0.25), arena.unary(Unary::absolute, fraction));
  return arena.unary(Unary::call_sin, arena.mul(from_zero, arena.constant(Scalar::f64, two_pi)));
}

std::array<Ex, 4> philox(Arena& arena, std::array<Ex, 4> counter, std::array<Ex, 2> key) {
  constexpr int rounds = 10;
  const auto word = [&](std::uint32_t value) {
    return arena.integer(Scalar::i32, static_cast<std::int32_t>(value));
  };
  const std::array<Ex, 2> multipliers = {word(0xd2511f53U), word(0xcd9e8d57U)};
  const std::array<Ex, 2> weyl = {word(0x9e3779b9U), word(0xbb67ae85U)};
  const auto exclusive_or = [&](Ex a, Ex b) { return arena.binary(Binary::bitwise_xor, a, b); };
  for (int round = 0; round < rounds; ++round) {
    const Ex high0 = arena.binary(Binary::multiply_high_unsigned, multipliers[0], counter[0]);
    const Ex high1 = arena.binary(Binary::multiply_high_unsigned, multipliers[1], counter[2]);
    const Ex low0 = arena.mul(multipliers[0], counter[0]);
    const Ex low1 = arena.mul(multipliers[1], counter[2]);
    counter = {exclusive_or(exclusive_or(high1, counter[1]), key[0]), low1,
               exclusive_or(exclusive_or(high0, counter[3]), key[1]), low0};
    key = {arena.add(key[0], weyl[0]), arena.add(key[1], weyl[1])};
  }
  return counter;
}

}  // namespace weft::loop
