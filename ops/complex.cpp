#include "ops/elementwise.h"

namespace weft::ops {

namespace {

using loop::Arena;

Op row(std::string_view name, int arity, std::vector<Type> (*infer)(const Node&), DTypes dtypes,
       Derivative derivative, Reference reference, Lower lower, Generate generate,
       const char* description) {
  return Op({name, Pattern::elementwise, arity, arity, 0, {}, infer}, std::move(dtypes), derivative,
            reference, lower, Decompose::none("is primitive"), generate, 0, description);
}

std::vector<Type> infer_join(const Node& node) {
  expect_same_type(node, 0, 1);
  return {{DType::c64, expect_dtype(node, 0, {DType::f32}).shape}};
}

std::vector<Type> infer_part(const Node& node) {
  return {{DType::f32, expect_dtype(node, 0, {DType::c64}).shape}};
}

std::vector<Type> infer_complex(const Node& node) { return {expect_dtype(node, 0, {DType::c64})}; }

void reference_join(const Node&, std::span<const Array* const> operands, std::span<Array> results) {
  results[0].re = operands[0]->re;
  results[0].im = operands[1]->re;
}

void reference_real(const Node&, std::span<const Array* const> operands, std::span<Array> results) {
  results[0].re = operands[0]->re;
}

void reference_imag(const Node&, std::span<const Array* const> operands, std::span<Array> results) {
  results[0].re = operands[0]->im;
}

// Gradients are dL/dRe + i dL/dIm.

void derive_join(Backward& d) {
  if (d.wanted(0)) d.add(0, unary(d.build(), "real", d.gradient()));
  if (d.wanted(1)) d.add(1, unary(d.build(), "imag", d.gradient()));
}

void derive_real(Backward& d) {
  const Value g = d.gradient();
  d.add(0, binary(d.build(), "complex", g, constant_like(d.build(), g, 0)));
}

void derive_imag(Backward& d) {
  const Value g = d.gradient();
  d.add(0, binary(d.build(), "complex", constant_like(d.build(), g, 0), g));
}

void derive_conj(Backward& d) { d.add(0, conj(d.build(), d.gradient())); }

Element lower_join(Arena&, Element re, Element im) { return {re.re, im.re}; }

Sample sample_join(Random& random, DType dtype) {
  return elementwise_sample(random, dtype, 2, -2, 2);
}

}  // namespace

std::span<const Op> complex_ops() {
  static const Op rows[] = {
      row("complex", 2, infer_join, {DType::f32}, derive_join, reference_join,
          lower_binary<lower_join>, sample_join, "re + i im, of f32"),
      row("real", 1, infer_part, {DType::c64}, derive_real, reference_real,
          lower_unary<[](Arena&, Element x) { return Element{x.re}; }>, sample_unary<-2.0, 2.0>,
          "the real part"),
      row("imag", 1, infer_part, {DType::c64}, derive_imag, reference_imag,
          lower_unary<[](Arena&, Element x) { return Element{x.im}; }>, sample_unary<-2.0, 2.0>,
          "the imaginary part"),
      row("conj", 1, infer_complex, {DType::c64}, derive_conj,
          map_unary<Overloaded{[](double x) { return x; }, [](Complex x) { return std::conj(x); }}>,
          lower_unary<[](Arena& arena, Element x) { return Element{x.re, arena.neg(x.im)}; }>,
          sample_unary<-2.0, 2.0>, "re - i im"),
  };
  return rows;
}

}  // namespace weft::ops
