#include <fmt/format.h>

#include <complex>
#include <numbers>

#include "fixture.h"
#include "runtime/plan/transform.h"

// Transforms by the library: what it is asked for, in graphs and one by one, and what goes wrong.
namespace weft::runtime::testing {
namespace {

using plan::Transform;
using Complex = std::complex<float>;

class CudaFourier : public Gpu {};

/// A plan of one kernel that transforms the state "x" to "y", (repetitions, points, lines) each.
struct Fourier {
  GpuPlan b;
  State state;
  Transform transform;

  Fourier(Transform::Kind kind, std::int64_t repetitions, std::int64_t length, std::int64_t lines) {
    transform.kind = kind;
    transform.length = length;
    transform.lines = lines;
    transform.repetitions = repetitions;
    transform.from = {0, 0, lines, 1, lines * transform.from_points()};
    transform.to = {1, 0, lines, 1, lines * transform.to_points()};
    const auto dtype = [](std::int64_t element) { return element == 4 ? DType::f32 : DType::c64; };
    const Type x{dtype(transform.from_element()), {repetitions, transform.from_points(), lines}};
    const Type y{dtype(transform.to_element()), {repetitions, transform.to_points(), lines}};
    plan::Kernel kernel;
    kernel.name = "fft.1";
    kernel.kind = "fft";
    kernel.object = 0;
    kernel.phases.push_back({.symbol = "", .transform = transform});
    b.plan.objects.push_back({ptx("unused", 1)});
    b.plan.kernels.push_back(kernel);
    b.plan.steps = {launch(0, {b.state("x", x), b.state("y", y)})};
    state.add("x", x);
    state.add("y", y);
    std::vector<double> values(state.values("x").size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<double>((i * 37 + 11) % 64) / 64 - 0.5;
    }
    state.set_values("x", values);
  }
};

/// By the definition, of what is in the state's x.
std::vector<double> expected(const Fourier& f, const std::vector<double>& x) {
  const Transform& t = f.transform;
  const bool inverse = t.kind == Transform::Kind::inverse || t.kind == Transform::Kind::to_real;
  const auto input = [&](std::int64_t r, std::int64_t i, std::int64_t line) {
    const auto position = static_cast<std::size_t>((r * t.from_points() + i) * t.lines + line);
    if (t.from_element() == 4) return std::complex<double>(x[position]);
    return std::complex<double>(x[2 * position], x[2 * position + 1]);
  };
  std::vector<double> y;
  for (std::int64_t r = 0; r < t.repetitions; ++r) {
    for (std::int64_t k = 0; k < t.to_points(); ++k) {
      for (std::int64_t line = 0; line < t.lines; ++line) {
        std::complex<double> sum = 0;
        for (std::int64_t i = 0; i < t.length; ++i) {
          const bool mirrored = i >= t.from_points();
          const auto point = input(r, mirrored ? t.length - i : i, line);
          const double turn = static_cast<double>(i * k % t.length) / static_cast<double>(t.length);
          sum += (mirrored ? std::conj(point) : point) *
                 std::polar(1.0, (inverse ? 2 : -2) * std::numbers::pi * turn);
        }
        y.push_back(sum.real());
        if (t.to_element() == 8) y.push_back(sum.imag());
      }
    }
  }
  return y;
}

void check(Fourier& f, RunOptions options = {}, bool profiling = false) {
  const std::vector<double> wanted = expected(f, f.state.values("x"));
  Executable executable(f.b.plan, options);
  executable.bind(f.state);
  executable.set_profiling(profiling);
  executable.run(0, 1);
  const std::vector<double> found = f.state.values("y");
  ASSERT_EQ(found.size(), wanted.size());
  // Sums of `length` terms below 1, rounded once.
  const double bound = static_cast<double>(f.transform.length) * 0x1p-24;
  for (std::size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], wanted[i], bound) << i;
  executable.run(1, 2);
}

TEST_F(CudaFourier, OfEachKindInGraphsAndOneByOne) {
  for (const auto kind : {Transform::Kind::forward, Transform::Kind::inverse,
                          Transform::Kind::from_real, Transform::Kind::to_real}) {
    for (const auto& [repetitions, length, lines] :
         {std::tuple{1, 8, 1}, std::tuple{3, 7, 5}, std::tuple{2, 12, 4}}) {
      SCOPED_TRACE(fmt::format("{} {} {} {}", plan::name(kind), repetitions, length, lines));
      Fourier graph(kind, repetitions, length, lines);
      // The bins that are their own conjugates are real, as whoever asks for this has to see to.
      if (kind == Transform::Kind::to_real) {
        std::vector<double> x = graph.state.values("x");
        for (std::size_t i = 1; i < x.size(); i += 2) x[i] = 0;
        graph.state.set_values("x", x);
      }
      check(graph);
      Fourier profiled(kind == Transform::Kind::to_real ? Transform::Kind::from_real : kind,
                       repetitions, length, lines);
      check(profiled, {}, true);
    }
  }
}

TEST_F(CudaFourier, PreparesEqualTransformsOnce) {
  Fourier first(Transform::Kind::forward, 1, 8, 4);
  Fourier second(Transform::Kind::forward, 1, 8, 4);
  Executable one(first.b.plan, {});
  Executable other(second.b.plan, {});
  EXPECT_EQ(stand_in::calls("cufftCreate"), 1);
  one.bind(first.state);
  other.bind(second.state);
  one.run();
  other.run();
  EXPECT_EQ(first.state.values("y"), second.state.values("y"));
}

TEST_F(CudaFourier, ErrorsOfTheLibraryOnceEach) {
  for (const char* entry :
       {"cufftCreate", "cufftSetAutoAllocation", "cufftMakePlanMany64", "cufftSetStream",
        "cufftSetWorkArea", "cufftExecC2C", "cuStreamBeginCapture", "cuStreamEndCapture",
        "cuGraphAddChildGraphNode"}) {
    for (const bool profiling : {false, true}) {
      SCOPED_TRACE(entry);
      stand_in::fail(entry, 1, CUDA_ERROR_UNKNOWN);
      const std::string message = error_of([&] {
        Fourier f(Transform::Kind::forward, 2, 8, 4);
        check(f, {}, profiling);
      });
      // Nothing is captured while kernels are timed one by one.
      const bool captures = std::string_view(entry).starts_with("cuStream") ||
                            std::string_view(entry).starts_with("cuGraph");
      if (profiling && captures) {
        EXPECT_EQ(message, "");
      } else {
        EXPECT_NE(message.find(captures ? "CUDA: " : "cuFFT: "), std::string::npos) << message;
      }
      EXPECT_EQ(stand_in::alive(), std::vector<std::string>());
      stand_in::reset();
      add_own_kernels();
    }
  }
}

TEST_F(CudaFourier, BadPlansNameTheKernel) {
  const auto error = [](const std::function<void(Fourier&, Transform&)>& change) {
    Fourier f(Transform::Kind::forward, 2, 8, 4);
    change(f, *f.b.plan.kernels[0].phases[0].transform);
    return error_of([&] { Executable(f.b.plan, {}); });
  };
  EXPECT_NE(error([](Fourier&, Transform& t) { t.length = 0; }).find("kernel fft.1"),
            std::string::npos);
  EXPECT_NE(error([](Fourier&, Transform& t) { t.from.stride = 0; }).find("kernel fft.1"),
            std::string::npos);
  EXPECT_NE(error([](Fourier&, Transform& t) { t.repetitions = 3; }).find("argument 0"),
            std::string::npos);
  EXPECT_NE(error([](Fourier&, Transform& t) { t.to.argument = 2; }).find("argument 2"),
            std::string::npos);
  EXPECT_NE(error([](Fourier& f, Transform&) {
              f.b.plan.target = "x86-64/znver4";
            }).find("a transform by a GPU's library"),
            std::string::npos);
}

}  // namespace
}  // namespace weft::runtime::testing
