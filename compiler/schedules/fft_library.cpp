#include <algorithm>
#include <functional>

#include "compiler/schedules/fft_kernel.h"
#include "compiler/schedules/schedule.h"

/// Fourier transforms on a GPU by its library, which reads and writes memory only: what comes
/// before the transform is a phase of its own that stores its operand, with the zeros and the
/// factor of the definition, and what comes after it another one.
namespace weft::compiler {
namespace {

using loop::Ex;
using loop::Scalar;
using plan::Transform;

constexpr std::int64_t threads = 256;

class LibraryFft {
 public:
  explicit LibraryFft(GroupEmitter& emitter)
      : emitter_(emitter), a_(emitter.arena()), b_(emitter.builder()), fft_(emitter) {
    const ir::Node& node = *emitter.group().anchor;
    axis_ = static_cast<int>(node.attributes.integer("axis"));
    operand_ = node.operands[0];
    result_ = {const_cast<ir::Node*>(&node), 0};
    transform_.length = fft_.length();
    switch (fft_.kind()) {
      case FftKind::complex:
        transform_.kind = fft_.inverse() ? Transform::Kind::inverse : Transform::Kind::forward;
        break;
      case FftKind::from_real:
        transform_.kind = Transform::Kind::from_real;
        break;
      case FftKind::to_real:
        transform_.kind = Transform::Kind::to_real;
        break;
    }
    // Lines along the innermost axis are one after the other; of others, neighbouring ones are.
    if (fft_.inner() == 1) {
      transform_.lines = fft_.outer();
      transform_.from = {0, 0, 1, transform_.from_points(), 0};
      transform_.to = {0, 0, 1, transform_.to_points(), 0};
    } else {
      transform_.lines = fft_.inner();
      transform_.repetitions = fft_.outer();
      transform_.from = {0, 0, fft_.inner(), 1, fft_.inner() * transform_.from_points()};
      transform_.to = {0, 0, fft_.inner(), 1, fft_.inner() * transform_.to_points()};
    }
  }

  void run() {
    if (result_.type().elements() == 0) {
      b_.phase(0, threads, [](Ex, Ex) {});
      return;
    }
    const bool from_memory = reads_operand();
    const bool to_memory = fft_.plain();
    const std::int64_t lines = fft_.outer() * fft_.inner();
    const std::int64_t operand_floats =
        lines * transform_.from_points() * floats(transform_.from_element());
    const std::int64_t result_floats =
        lines * transform_.to_points() * floats(transform_.to_element());
    // Both halves begin at an address that the library takes.
    const std::int64_t first = from_memory ? 0 : (operand_floats + 63) / 64 * 64;
    const std::int64_t total = first + (to_memory ? 0 : result_floats);
    const loop::Buffer* workspace = total > 0 ? emitter_.workspace(DType::f32, total) : nullptr;
    if (from_memory) {
      transform_.from.argument = argument(emitter_.input_buffer(operand_));
    } else {
      transform_.from.argument = argument(workspace);
      store_operand(workspace);
    }
    if (to_memory) {
      transform_.to.argument = argument(fft_.result_buffer());
    } else {
      transform_.to.argument = argument(workspace);
      transform_.to.offset = first * 4;
    }
    b_.phase(transform_);
    if (!to_memory) store_outputs(workspace, first);
  }

 private:
  static std::int64_t floats(std::int64_t bytes) { return bytes / 4; }
  static std::uint32_t argument(const loop::Buffer* buffer) {
    return static_cast<std::uint32_t>(buffer->index);
  }

  /// Whether the operand is in memory as the library wants it, and may be left as it is.
  bool reads_operand() const {
    const std::vector<ir::Value>& inputs = emitter_.group().inputs;
    return std::find(inputs.begin(), inputs.end(), operand_) != inputs.end() && !fft_.inverse() &&
           operand_.type().shape[axis_] == transform_.from_points();
  }

  /// A thread for each element of (outer, points, inner).
  void for_each(std::int64_t points, const std::function<void(Ex, Ex, Ex, Ex)>& body) {
    const Shape shape{fft_.outer(), points, fft_.inner()};
    const std::int64_t total = shape.elements();
    b_.phase((total + threads - 1) / threads, threads, [&](Ex block, Ex thread) {
      const Ex number = b_.let(a_.add(a_.mul(block, a_.integer(threads)), thread));
      b_.condition(a_.less(number, a_.integer(total)), [&] {
        const Ex position = b_.let_within(number, 0, total - 1);
        const std::vector<Ex> at = a_.delinearize(position, shape);
        emitter_.reset();
        body(position, at[0], at[1], at[2]);
      });
    });
  }

  void store_operand(const loop::Buffer* workspace) {
    const Ex zero = a_.constant(Scalar::f32, 0);
    const Ex factor = a_.constant(Scalar::f32, 1 / static_cast<double>(transform_.length));
    const auto scaled = [&](Ex value) {
      if (value == nullptr) return zero;
      return fft_.inverse() ? a_.mul(value, factor) : value;
    };
    for_each(transform_.from_points(), [&](Ex position, Ex outer, Ex point, Ex inner) {
      const ComplexEx value = fft_.read(outer, point, inner);
      if (transform_.kind == Transform::Kind::from_real) {
        b_.store(workspace, position, scaled(value.re));
        return;
      }
      Ex imaginary = scaled(value.im);
      if (transform_.kind == Transform::Kind::to_real) {
        // Of bins that stand for themselves alone only the real part counts.
        Ex single = a_.equal(point, a_.integer(0));
        if (transform_.length % 2 == 0) {
          single = a_.logical_or(single, a_.equal(point, a_.integer(transform_.length / 2)));
        }
        imaginary = a_.select(single, zero, imaginary);
      }
      const Ex first = a_.mul(position, a_.integer(2));
      b_.store(workspace, first, scaled(value.re));
      b_.store(workspace, a_.add(first, a_.integer(1)), imaginary);
    });
  }

  void store_outputs(const loop::Buffer* workspace, std::int64_t first) {
    const bool real = transform_.kind == Transform::Kind::to_real;
    for_each(transform_.to_points(), [&](Ex position, Ex outer, Ex point, Ex inner) {
      const Ex begin = a_.add(a_.mul(position, a_.integer(real ? 1 : 2)), a_.integer(first));
      const Ex re = b_.let(a_.load(workspace, begin));
      const Ex im = real ? nullptr : b_.let(a_.load(workspace, a_.add(begin, a_.integer(1))));
      fft_.write(outer, point, inner, {re, im});
    });
  }

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  FftKernel fft_;
  int axis_ = 0;
  ir::Value operand_;
  ir::Value result_;
  Transform transform_;
};

}  // namespace

void schedule_fft_library(GroupEmitter& emitter) { LibraryFft(emitter).run(); }

}  // namespace weft::compiler
