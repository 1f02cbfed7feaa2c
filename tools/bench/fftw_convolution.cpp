#include "tools/bench/fftw_convolution.h"

#ifdef WEFT_WITH_FFTW

#include <fftw3.h>

#include <algorithm>
#include <complex>
#include <cstring>
#include <functional>
#include <new>

#include "runtime/thread_pool.h"

namespace weft::bench {
namespace {

using Complex = std::complex<float>;

/// Memory with FFTW's alignment, zeroed.
template <typename T>
class Memory {
 public:
  explicit Memory(std::int64_t elements) : elements_(static_cast<std::size_t>(elements)) {
    data_ = static_cast<T*>(fftwf_malloc(elements_ * sizeof(T)));
    if (data_ == nullptr) throw std::bad_alloc();
    std::memset(static_cast<void*>(data_), 0, elements_ * sizeof(T));
  }
  ~Memory() { fftwf_free(data_); }
  Memory(Memory&& other) noexcept : data_(other.data_), elements_(other.elements_) {
    other.data_ = nullptr;
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  Memory& operator=(Memory&&) = delete;

  T* data() { return data_; }
  T* at(std::int64_t offset) { return data_ + offset; }

 private:
  T* data_ = nullptr;
  std::size_t elements_;
};

fftwf_complex* raw(Complex* value) { return reinterpret_cast<fftwf_complex*>(value); }

/// to (columns, rows) with a pitch = from (rows, columns) with a pitch, in blocks of cache lines.
void transpose(const float* from, std::int64_t rows, std::int64_t columns, std::int64_t from_pitch,
               float* to, std::int64_t to_pitch) {
  constexpr std::int64_t block = 16;
  for (std::int64_t r = 0; r < rows; r += block) {
    const std::int64_t last_row = std::min(r + block, rows);
    for (std::int64_t c = 0; c < columns; c += block) {
      const std::int64_t last_column = std::min(c + block, columns);
      for (std::int64_t j = c; j < last_column; ++j) {
        for (std::int64_t i = r; i < last_row; ++i) {
          to[j * to_pitch + i] = from[i * from_pitch + j];
        }
      }
    }
  }
}

void multiply(const float* __restrict x, const float* __restrict y, float* __restrict to,
              std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float re = x[2 * i] * y[2 * i] - x[2 * i + 1] * y[2 * i + 1];
    const float im = x[2 * i] * y[2 * i + 1] + x[2 * i + 1] * y[2 * i];
    to[2 * i] = re;
    to[2 * i + 1] = im;
  }
}

/// to = conj(x) y, or to += conj(x) y
template <bool add>
void multiply_conjugate(const float* __restrict x, const float* __restrict y, float* __restrict to,
                        std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float re = x[2 * i] * y[2 * i] + x[2 * i + 1] * y[2 * i + 1];
    const float im = x[2 * i] * y[2 * i + 1] - x[2 * i + 1] * y[2 * i];
    to[2 * i] = add ? to[2 * i] + re : re;
    to[2 * i + 1] = add ? to[2 * i + 1] + im : im;
  }
}

float* parts(Complex* values) { return reinterpret_cast<float*>(values); }

/// What one thread works in.
struct Worker {
  Worker(std::int64_t padded, std::int64_t bins)
      : real(padded), result(padded), spectrum(bins), sum(bins) {}
  Memory<float> real;    ///< zero beyond the n points of each channel
  Memory<float> result;  ///< all points of an inverse transform
  Memory<Complex> spectrum;
  Memory<Complex> sum;
  bool summed = false;
};

}  // namespace

struct FftwConvolution::Implementation {
  Implementation(Sizes given, Layout given_layout, int threads)
      : sizes(given),
        layout(given_layout),
        length(good_length(2 * given.n - 1)),
        bins((length / 2 + 1) * given.d),
        filter(bins),
        signals(given.b * bins),
        gated(given.b * given.n * given.d),
        pool(threads, 0) {
    for (int i = 0; i < threads; ++i) workers.emplace_back(length * sizes.d, bins);
    const bool strided = layout == Layout::strided;
    const int points = static_cast<int>(length);
    const int channels = static_cast<int>(sizes.d);
    const int stride = strided ? channels : 1;
    const int real_distance = strided ? 1 : points;
    const int complex_distance = strided ? 1 : points / 2 + 1;
    Worker& first = workers.front();
    forward_plan = fftwf_plan_many_dft_r2c(1, &points, channels, first.real.data(), nullptr, stride,
                                           real_distance, raw(first.spectrum.data()), nullptr,
                                           stride, complex_distance, FFTW_MEASURE);
    inverse_plan = fftwf_plan_many_dft_c2r(1, &points, channels, raw(first.spectrum.data()),
                                           nullptr, stride, complex_distance, first.result.data(),
                                           nullptr, stride, real_distance, FFTW_MEASURE);
    // Planning has written to the memory.
    std::memset(static_cast<void*>(first.real.data()), 0,
                static_cast<std::size_t>(length * sizes.d) * sizeof(float));
  }
  ~Implementation() {
    fftwf_destroy_plan(forward_plan);
    fftwf_destroy_plan(inverse_plan);
  }
  Implementation(const Implementation&) = delete;
  Implementation& operator=(const Implementation&) = delete;

  /// The spectrum of x (n, d), zero-padded.
  void transform(Worker& worker, const float* x, Complex* to) {
    if (layout == Layout::strided) {
      std::memcpy(worker.real.data(), x, static_cast<std::size_t>(sizes.n * sizes.d) * sizeof(*x));
    } else {
      transpose(x, sizes.n, sizes.d, sizes.d, worker.real.data(), length);
    }
    fftwf_execute_dft_r2c(forward_plan, worker.real.data(), raw(to));
  }

  /// The first n points of the inverse transform, which destroys the spectrum.
  void inverse(Worker& worker, Complex* spectrum, float* y) {
    fftwf_execute_dft_c2r(inverse_plan, raw(spectrum), worker.result.data());
    const float scale = 1.0F / static_cast<float>(length);
    const std::int64_t elements = sizes.n * sizes.d;
    if (layout == Layout::strided) {
      const float* from = worker.result.data();
      for (std::int64_t i = 0; i < elements; ++i) y[i] = from[i] * scale;
    } else {
      transpose(worker.result.data(), sizes.d, sizes.n, length, y, sizes.d);
      for (std::int64_t i = 0; i < elements; ++i) y[i] *= scale;
    }
  }

  void for_rows(const std::function<void(Worker& worker, std::int64_t row)>& work) {
    struct Arguments {
      const std::function<void(Worker&, std::int64_t)>* work;
      Implementation* self;
    } values{&work, this};
    // A block is a worker's share of the rows, so that it knows which memory is its own.
    void* const arguments[] = {&values};
    pool.run(
        [](void* const* given, void*, std::int64_t from, std::int64_t to) {
          const auto& shared = *static_cast<const Arguments*>(given[0]);
          Implementation& self = *shared.self;
          const auto shares = static_cast<std::int64_t>(self.workers.size());
          for (std::int64_t share = from; share < to; ++share) {
            Worker& worker = self.workers[static_cast<std::size_t>(share)];
            for (std::int64_t row = share; row < self.sizes.b; row += shares) {
              (*shared.work)(worker, row);
            }
          }
        },
        arguments, static_cast<std::int64_t>(workers.size()));
  }

  Sizes sizes;
  Layout layout;
  std::int64_t length;
  std::int64_t bins;
  Memory<Complex> filter;
  Memory<Complex> signals;
  Memory<float> gated;
  std::vector<Worker> workers;
  runtime::ThreadPool pool;
  fftwf_plan forward_plan = nullptr;
  fftwf_plan inverse_plan = nullptr;
};

FftwConvolution::FftwConvolution(Sizes sizes, Layout layout, int threads)
    : implementation_(std::make_unique<Implementation>(sizes, layout, threads)) {}
FftwConvolution::~FftwConvolution() = default;

void FftwConvolution::forward(const float* u, const float* v, const float* t, float* z) {
  Implementation& self = *implementation_;
  const std::int64_t row_elements = self.sizes.n * self.sizes.d;
  self.transform(self.workers.front(), t, self.filter.data());
  self.for_rows([&](Worker& worker, std::int64_t row) {
    self.transform(worker, v + row * row_elements, worker.spectrum.data());
    multiply(parts(self.filter.data()), parts(worker.spectrum.data()), parts(worker.sum.data()),
             self.bins);
    const std::int64_t first = row * row_elements;
    self.inverse(worker, worker.sum.data(), z + first);
    for (std::int64_t i = 0; i < row_elements; ++i) z[first + i] *= u[first + i];
  });
}

void FftwConvolution::forward_backward(const float* u, const float* v, const float* t,
                                       const float* g, float scale, float* z,
                                       const Gradients& gradients) {
  Implementation& self = *implementation_;
  const std::int64_t row_elements = self.sizes.n * self.sizes.d;
  self.transform(self.workers.front(), t, self.filter.data());
  // Forward: the spectra of v are kept for the gradient of t.
  self.for_rows([&](Worker& worker, std::int64_t row) {
    const std::int64_t first = row * row_elements;
    Complex* signal = self.signals.at(row * self.bins);
    self.transform(worker, v + first, signal);
    multiply(parts(self.filter.data()), parts(signal), parts(worker.spectrum.data()), self.bins);
    float* y = self.gated.at(first);
    self.inverse(worker, worker.spectrum.data(), y);
    for (std::int64_t i = 0; i < row_elements; ++i) z[first + i] = u[first + i] * y[i];
  });
  // Backward.
  for (Worker& worker : self.workers) worker.summed = false;
  self.for_rows([&](Worker& worker, std::int64_t row) {
    const std::int64_t first = row * row_elements;
    float* y = self.gated.at(first);
    for (std::int64_t i = 0; i < row_elements; ++i) {
      const float incoming = scale * g[first + i] * z[first + i];
      gradients.u[first + i] = incoming * y[i];
      y[i] = incoming * u[first + i];
    }
    self.transform(worker, y, worker.spectrum.data());
    const float* gradient = parts(worker.spectrum.data());
    float* signal = parts(self.signals.at(row * self.bins));
    if (worker.summed) {
      multiply_conjugate<true>(signal, gradient, parts(worker.sum.data()), self.bins);
    } else {
      multiply_conjugate<false>(signal, gradient, parts(worker.sum.data()), self.bins);
    }
    worker.summed = true;
    multiply_conjugate<false>(parts(self.filter.data()), gradient, signal, self.bins);
    self.inverse(worker, self.signals.at(row * self.bins), gradients.v + first);
  });
  Worker& total = self.workers.front();
  for (Worker& worker : self.workers) {
    if (&worker == &total || !worker.summed) continue;
    for (std::int64_t i = 0; i < self.bins; ++i) *total.sum.at(i) += *worker.sum.at(i);
  }
  self.inverse(total, total.sum.data(), gradients.t);
}

std::string FftwConvolution::version() {
  // "fftw-3.3.10-sse2-avx"
  const std::string text(fftwf_version);
  const std::size_t start = text.find('-') + 1;
  return "FFTW " + text.substr(start, text.find('-', start) - start);
}

std::int64_t FftwConvolution::good_length(std::int64_t minimum) {
  for (std::int64_t length = std::max<std::int64_t>(minimum, 1);; ++length) {
    std::int64_t rest = length;
    for (const std::int64_t factor : {2, 3, 5, 7}) {
      while (rest % factor == 0) rest /= factor;
    }
    if (rest == 1) return length;
  }
}

}  // namespace weft::bench

#endif
