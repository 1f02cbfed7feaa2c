#pragma once

#include <complex>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <source_location>
#include <string>
#include <type_traits>
#include <vector>

#include "runtime/plan/error.h"
#include "runtime/plan/type.h"

/// weft's front end: running a model's C++ once inside trace() records a typed graph.
namespace weft {

namespace detail {
struct Cell;
struct Access;
}  // namespace detail

class Operand;

/// The caller's line: every operation takes it as its last argument, so that an error names it.
using Source = std::source_location;

/// A tensor of the current trace: a cheap handle, no data. Copies share: after `Tensor b = a`,
/// assign(a, v) and `a += y` change what both stand for, as in-place operations do elsewhere; the
/// recorded nodes themselves never change. A handle may be used while its trace runs; a handle made
/// in a loop's body, only in that body. Anything else is an Error.
class Tensor {
 public:
  /// Stands for nothing; every use but assignment of a handle is an Error.
  Tensor() = default;

  /// Stands for a tensor. (No conversion to bool: `if (x < 1)` would not mean what it says.)
  bool defined() const { return cell_ != nullptr; }

  const Type& type(Source at = Source::current()) const;
  const Shape& shape(Source at = Source::current()) const;
  DType dtype(Source at = Source::current()) const;
  int rank(Source at = Source::current()) const;
  std::int64_t elements(Source at = Source::current()) const;
  /// The extent of an axis; a negative axis counts from the end.
  std::int64_t extent(int axis, Source at = Source::current()) const;

  /// The user's name: a parameter's or state's full name, what set_name() gave, or "".
  const std::string& name(Source at = Source::current()) const;
  /// Names the node for dumps. The name of a parameter or state cannot change.
  Tensor& set_name(const std::string& name, Source at = Source::current());

  /// Made by parameter(): backward() gives it a gradient.
  bool is_parameter() const;
  /// Made by parameter() or state(): lives in State.
  bool is_state() const;

  /// The gradient that backward() has added up since the last zero_grad(). A handle to the same
  /// gradient each time: `p.grad() *= 0.5` and assign(p.grad(), g) change it. Error where there is
  /// none yet, or where this is no parameter.
  Tensor grad(Source at = Source::current()) const;
  bool has_grad() const;
  /// Replaces the gradient of a parameter; `gradient` has the parameter's type.
  void set_grad(const Tensor& gradient, Source at = Source::current());

  /// x += y is assign(x, x + y): x keeps its type, so y must broadcast to x's shape.
  Tensor& operator+=(const Operand& y);
  Tensor& operator-=(const Operand& y);
  Tensor& operator*=(const Operand& y);
  Tensor& operator/=(const Operand& y);

  /// Entry `index` of the first axis, which goes away; negative counts from the end.
  struct Index {
    template <std::integral T>
    Index(T position, Source source = Source::current())  // NOLINT(google-explicit-constructor)
        : value(static_cast<std::int64_t>(position)), at(source) {}
    std::int64_t value;
    Source at;
  };
  Tensor operator[](Index index) const;

 private:
  friend struct detail::Access;
  explicit Tensor(std::shared_ptr<detail::Cell> cell) : cell_(std::move(cell)) {}
  std::shared_ptr<detail::Cell> cell_;
};

/// An operand of a binary operation: a Tensor, or a literal that takes the other operand's type (a
/// fraction beside integers is an Error). Made implicitly; keeps the line where that happened.
class Operand {
 public:
  Operand(const Tensor& x, Source at = Source::current())  // NOLINT(google-explicit-constructor)
      : tensor_(&x), at_(at) {}
  template <typename T>
    requires std::is_arithmetic_v<T>
  Operand(T value, Source at = Source::current())  // NOLINT(google-explicit-constructor)
      : real_(static_cast<double>(value)),
        integer_(std::is_integral_v<T> ? static_cast<std::int64_t>(value) : 0),
        integral_(std::is_integral_v<T>),
        at_(at) {}

  /// nullptr: a literal.
  const Tensor* tensor() const { return tensor_; }
  double real() const { return real_; }
  std::int64_t integer() const { return integer_; }
  bool is_integer() const { return integral_; }
  const Source& at() const { return at_; }

 private:
  const Tensor* tensor_ = nullptr;  // operands live for one full expression
  double real_ = 0;
  std::int64_t integer_ = 0;
  bool integral_ = false;
  Source at_;
};

// Element-wise arithmetic with NumPy's broadcasting. Types are never promoted: f32 + f64 is an
// Error; cast() first.
Tensor operator+(const Operand& x, const Operand& y);
Tensor operator-(const Operand& x, const Operand& y);
Tensor operator*(const Operand& x, const Operand& y);
Tensor operator/(const Operand& x, const Operand& y);
Tensor operator-(const Operand& x);

// Comparisons give booleans. There is no == on handles: equal() and not_equal() compare elements.
Tensor operator<(const Operand& x, const Operand& y);
Tensor operator<=(const Operand& x, const Operand& y);
Tensor operator>(const Operand& x, const Operand& y);
Tensor operator>=(const Operand& x, const Operand& y);
bool operator==(const Tensor&, const Tensor&) = delete;

// Logical on booleans, bitwise on integers.
Tensor operator&(const Operand& x, const Operand& y);
Tensor operator|(const Operand& x, const Operand& y);
Tensor operator^(const Operand& x, const Operand& y);
Tensor operator!(const Operand& x);  ///< logical_not
Tensor operator~(const Operand& x);  ///< bitwise_not

/// Axes of a tensor: one, several, or (where nothing is given) all. Negative ones count from the
/// end.
class Axes {
 public:
  Axes() = default;
  Axes(int axis) : axes_{axis}, all_(false) {}  // NOLINT(google-explicit-constructor)
  Axes(std::initializer_list<int> axes)         // NOLINT(google-explicit-constructor)
      : axes_(axes), all_(false) {}
  Axes(std::vector<int> axes)  // NOLINT(google-explicit-constructor)
      : axes_(std::move(axes)), all_(false) {}

  bool all() const { return all_; }
  const std::vector<int>& list() const { return axes_; }

 private:
  std::vector<int> axes_;
  bool all_ = true;
};

/// A range of one axis, as Python's start:stop:step: negative bounds count from the end, bounds are
/// cut to the axis, a negative step runs backwards. Slice() is the whole axis.
struct Slice {
  static constexpr std::int64_t none = INT64_MIN;
  std::int64_t start = none;
  std::int64_t stop = none;
  std::int64_t step = 1;

  Slice() = default;
  Slice(std::int64_t from, std::int64_t to, std::int64_t by = 1)
      : start(from), stop(to), step(by) {}
};

}  // namespace weft
