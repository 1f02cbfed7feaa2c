#pragma once

#include <complex>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "runtime/state.h"
#include "weft/tensor.h"

/// Tracing, state, loops, transfers; compiling and running a Program.
namespace weft {

namespace ir {
class Graph;
}
namespace runtime {
class Executable;
}
namespace detail {
struct Trace;
}

// ---- transfers ----------------------------------------------------------------------------------

/// A tensor that a receiver has copied out.
class HostTensor {
 public:
  HostTensor() = default;
  HostTensor(Type tensor_type, std::vector<std::byte> raw)
      : type_(std::move(tensor_type)), bytes_(std::move(raw)) {}

  const Type& type() const { return type_; }
  const Shape& shape() const { return type_.shape; }
  DType dtype() const { return type_.dtype; }
  std::span<const std::byte> bytes() const { return bytes_; }
  /// Elements as T (float for f32, std::int64_t for i64, ...); Error where sizes do not match.
  template <typename T>
  std::span<const T> data() const {
    check_element(sizeof(T));
    return {reinterpret_cast<const T*>(bytes_.data()), bytes_.size() / sizeof(T)};
  }
  /// Elements converted to double (c64: pairs).
  std::vector<double> values() const;
  /// The only element; Error where there is not exactly one, or it is complex.
  double item() const;

 private:
  void check_element(std::size_t size) const;
  Type type_;
  std::vector<std::byte> bytes_;
};

/// What fills a feeder's tensor: any callable (std::int64_t iteration, std::span<T>), T being float
/// for f32, double f64, std::int32_t i32, std::int64_t i64, std::uint8_t u8, bool or std::uint8_t
/// booleans, std::uint16_t (bits) f16 and bf16, std::complex<float> c64, std::byte any.
class Fill {
 public:
  using Raw = std::function<void(std::int64_t iteration, std::span<std::byte> to)>;

  template <typename F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, Fill>)
  Fill(F fill) {  // NOLINT(google-explicit-constructor)
    constexpr int matches = takes<F, std::byte> + takes<F, float> + takes<F, double> +
                            takes<F, std::int32_t> + takes<F, std::int64_t> +
                            takes<F, std::uint8_t> + takes<F, bool> + takes<F, std::uint16_t> +
                            takes<F, std::complex<float>>;
    static_assert(matches == 1, "fill is a function (std::int64_t iteration, std::span<T> to)");
    if constexpr (takes<F, std::byte>) set<std::byte>(std::move(fill), {});
    if constexpr (takes<F, float>) set<float>(std::move(fill), {DType::f32});
    if constexpr (takes<F, double>) set<double>(std::move(fill), {DType::f64});
    if constexpr (takes<F, std::int32_t>) set<std::int32_t>(std::move(fill), {DType::i32});
    if constexpr (takes<F, std::int64_t>) set<std::int64_t>(std::move(fill), {DType::i64});
    if constexpr (takes<F, std::uint8_t>) {
      set<std::uint8_t>(std::move(fill), {DType::u8, DType::boolean});
    }
    if constexpr (takes<F, bool>) set<bool>(std::move(fill), {DType::boolean});
    if constexpr (takes<F, std::uint16_t>) {
      set<std::uint16_t>(std::move(fill), {DType::f16, DType::bf16});
    }
    if constexpr (takes<F, std::complex<float>>) {
      set<std::complex<float>>(std::move(fill), {DType::c64});
    }
  }

  const Raw& function() const { return raw_; }
  bool accepts(DType dtype) const;

 private:
  template <typename F, typename T>
  static constexpr bool takes = std::is_invocable_v<F&, std::int64_t, std::span<T>>;
  template <typename T, typename F>
  void set(F fill, std::vector<DType> dtypes) {
    dtypes_ = std::move(dtypes);
    raw_ = [f = std::move(fill)](std::int64_t iteration, std::span<std::byte> to) mutable {
      f(iteration, std::span<T>(reinterpret_cast<T*>(to.data()), to.size() / sizeof(T)));
    };
  }
  Raw raw_;
  std::vector<DType> dtypes_;  // empty: any
};

/// A tensor that `fill` computes on the host for each iteration (of the enclosing loops, counted
/// from 0): a pure function of the iteration, called ahead of need on another thread, in order.
Tensor feeder(const std::string& name, const Shape& shape, DType dtype, Fill fill,
              Source at = Source::current());

using ReceiveCallback =
    std::function<void(std::int64_t iteration, const std::vector<HostTensor>& tensors)>;

/// Copies `tensors` out in every `every`-th iteration (0, every, ...) and calls back on another
/// thread, in order, while the next iterations run.
void receiver(const std::string& name, const std::vector<Tensor>& tensors, ReceiveCallback callback,
              std::int64_t every = 1, Source at = Source::current());

/// An f32 argument: Executable::set_scalar() changes it without recompiling.
Tensor scalar(const std::string& name, double value, Source at = Source::current());

// ---- state --------------------------------------------------------------------------------------

/// First values of a parameter or state: a function of the seed, the name and the index alone.
class Initializer {
 public:
  enum class Kind : std::uint8_t { constant, uniform, normal, values };
  Kind kind = Kind::constant;
  double a = 0;  ///< value; low; mean
  double b = 0;  ///< -; high; standard deviation
  std::vector<double> values;
};

namespace init {
Initializer zeros();
Initializer ones();
Initializer constant(double value);
Initializer uniform(double low, double high);
Initializer normal(double mean = 0, double deviation = 1);
/// Uniform with variance gain^2 / fan_in: bound gain * sqrt(3 / fan_in).
Initializer kaiming_uniform(std::int64_t fan_in, double gain = 1.4142135623730951);
Initializer kaiming_normal(std::int64_t fan_in, double gain = 1.4142135623730951);
/// Variance 2 gain^2 / (fan_in + fan_out).
Initializer xavier_uniform(std::int64_t fan_in, std::int64_t fan_out, double gain = 1);
Initializer xavier_normal(std::int64_t fan_in, std::int64_t fan_out, double gain = 1);
/// Row-major; as many as the tensor has elements (c64: pairs).
Initializer values(std::vector<double> values);
}  // namespace init

/// A trainable tensor of State, created where it is missing; Error where State has that name with
/// another type. The name is prefixed by the enclosing Scopes. The same name gives the same tensor.
Tensor parameter(const std::string& name, const Shape& shape,
                 const Initializer& initializer = init::zeros(), DType dtype = DType::f32,
                 Source at = Source::current());
/// As parameter(), but not trainable: moments, counters, running means.
Tensor state(const std::string& name, const Shape& shape, DType dtype = DType::f32,
             const Initializer& initializer = init::zeros(), Source at = Source::current());
/// Makes `to` (and its copies) stand for `value`, of the same type. States are written at the end
/// of the trace; in a loop's body a tensor from outside becomes a carried value.
void assign(const Tensor& to, const Tensor& value, Source at = Source::current());
/// Parameters of the trace, in order of creation.
std::vector<Tensor> parameters();

/// Prefixes names with "name." while it lives: Scope layer("0"); parameter("weight") is "0.weight".
class Scope {
 public:
  explicit Scope(const std::string& name, Source at = Source::current());
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  std::uint64_t serial_ = 0;
  std::size_t length_ = 0;
};

/// The seed of random numbers and initialisers from here on in the trace; 0 by default.
void set_seed(std::uint64_t seed, Source at = Source::current());
/// Whether dropout drops; true at the start of a trace.
void set_training(bool training, Source at = Source::current());
bool is_training(Source at = Source::current());
/// The number (i64 scalar) of this execution of the innermost loop's body, as random numbers see
/// it: counted by the state "weft.iteration", so that it goes on over runs and restored States.
Tensor iteration(Source at = Source::current());

// ---- loops --------------------------------------------------------------------------------------

// The compiler's loop language is the namespace weft::loop; where both are seen, this namespace
// names the functions.
inline namespace frontend {

/// Traces `body(index)` once; it is executed n times. Tensors from outside that the body assigns
/// are carried from one iteration to the next, and stand for the last value afterwards.
void loop(std::int64_t n, const std::function<void(Tensor index)>& body,
          Source at = Source::current());
/// The explicit form: `body(index, carried)` returns the next carried values, of the same types.
/// Returns the last ones. Assigned tensors are carried as well.
std::vector<Tensor> loop(
    std::int64_t n, const std::vector<Tensor>& inits,
    const std::function<std::vector<Tensor>(Tensor index, const std::vector<Tensor>& carried)>&
        body,
    Source at = Source::current());

}  // namespace frontend

struct ScanValues {
  std::vector<Tensor> carried;
  std::vector<Tensor> ys;
};
/// Runs over the first axis (of extent `length`) of xs: `body(index, carried, x slices)` returns
/// the next carried values and this step's ys. Returns the last carried values and the ys stacked
/// along a new first axis. `reverse` runs from the last entry to the first.
ScanValues scan(std::int64_t length, const std::vector<Tensor>& carried,
                const std::vector<Tensor>& xs,
                const std::function<ScanValues(Tensor index, const std::vector<Tensor>& carried,
                                               const std::vector<Tensor>& xs)>& body,
                bool reverse = false, Source at = Source::current());

// ---- gradients ----------------------------------------------------------------------------------

/// Adds the gradient of `loss` (of its sum where it is not a scalar) to .grad() of every parameter
/// that it depends on. Error where it depends on none, or is complex or not floating. Gradients add
/// up until zero_grad(), over the iterations of loops as well.
void backward(const Tensor& loss, Source at = Source::current());
/// Gradients of y with respect to xs, of their types; zeros where y does not depend on one. `seed`
/// is the gradient of y, ones where not given. .grad() is not touched.
std::vector<Tensor> grad(const Tensor& y, const std::vector<Tensor>& xs, const Tensor& seed = {},
                         Source at = Source::current());
/// Clears the gradients of all parameters of the trace, or of the given ones.
void zero_grad(Source at = Source::current());
void zero_grad(const std::vector<Tensor>& parameters, Source at = Source::current());

// ---- programs -----------------------------------------------------------------------------------

enum class Format : std::uint8_t { text, dot, json };

struct CompileOptions {
  /// Where the program is to run: "cpu" (this machine's processor), "cuda" (the first GPU that
  /// CUDA's driver shows) or "cuda:1" (the second). Program::compile throws Error that says what is
  /// missing where there is no such device.
  std::string device = "cpu";
  /// The processor to generate code for, by LLVM's name: "x86-64-v3" (AVX2), say; "": this
  /// machine's. Program::compile throws Error where there is none of that name.
  std::string cpu = {};
  bool fuse = true;  ///< false: every operation is a kernel of its own
  /// false: no kernels for attention and Toeplitz operators as a whole, only for their parts.
  bool composites = true;
  int compile_threads = 0;  ///< for generating code; 0: as many as cores
  bool verify = true;       ///< check the graph after every pass
  bool strict = false;      ///< round 16-bit values after every operation, not only when stored
  /// f16 or bf16: products of f32 tensors (those of attention as well) round their operands to it;
  /// sums and everything else stay f32.
  std::optional<DType> autocast = std::nullopt;
  /// On a GPU, products of f32 (those of attention as well) round their operands to tf32, 10 bits
  /// of fraction, and sum in f32.
  bool tf32 = false;
  /// On a GPU of sm_90a: operands of products of f16 and bf16 come to shared memory by tensor
  /// copies, where these take them; false: by the asynchronous copies of the threads that multiply.
  /// To compare the two.
  bool tensor_copies = true;
  /// On a GPU: whether weft's kernels or CUDA's library compute Fourier transforms that are no part
  /// of a Toeplitz operator.
  enum class Transforms : std::uint8_t {
    measured,  ///< what is faster there, measured once for each shape
    generated,
    library
  };
  Transforms transforms = Transforms::measured;
  /// On a GPU: whether Toeplitz operators of f16 and bf16, and their gradients, are products on
  /// matrix units, where these take them, or transforms.
  enum class Toeplitz : std::uint8_t {
    measured,  ///< what is faster there, measured once for each shape
    products,
    transforms
  };
  Toeplitz toeplitz = Toeplitz::measured;
  bool keep_assembly = false;  ///< for dump("assembly")
  bool cache = true;           ///< keep machine code, and use what was kept, unless WEFT_CACHE=off
  int threads = 0;             ///< for running; 0: WEFT_THREADS, or as many as cores
  bool synchronous = false;    ///< feeders and receivers on the calling thread
  int queue = 4;               ///< snapshots that a receiver may have waiting
};

struct KernelProfile {
  std::string kernel;
  std::int64_t launches = 0;
  double seconds = 0;
  std::int64_t bytes = 0;       ///< moved by one launch
  std::int64_t operations = 0;  ///< of one launch
};

struct Statistics {
  std::int64_t nodes = 0;  ///< of the traced graph, loop bodies included
  std::int64_t kernels = 0;
  std::int64_t distinct_kernels = 0;  ///< equal kernels share their code
  std::int64_t cached_kernels = 0;    ///< distinct ones whose code was in the cache
  /// In one iteration of the top-level loop, inner loops unrolled; on a GPU, kernels that a graph
  /// has for it.
  std::int64_t launches_per_step = 0;
  std::int64_t arena_bytes = 0;
  std::int64_t live_bytes =
      0;  ///< largest sum of temporaries in use at one time: the arena's bound
  std::int64_t state_bytes = 0;
  double compile_seconds = 0;
};

/// A compiled program, bound to a State. Not to be used by two threads at once.
class Executable {
 public:
  ~Executable();
  Executable(Executable&&) noexcept;
  Executable& operator=(Executable&&) noexcept;

  /// Runs everything; returns when the last callback has. Exceptions of feeders and receivers come
  /// out of here.
  void run();
  /// Iterations [from, to) of the top-level loop; where the program has not exactly one, runs the
  /// whole program once for each.
  void run(std::int64_t from, std::int64_t to);
  std::int64_t iterations() const;

  void set_scalar(const std::string& name, double value);
  void set_feeder(const std::string& name, const Fill& fill);
  void set_receiver(const std::string& name, ReceiveCallback callback);
  /// Uses another State: Error where it lacks a tensor or has it with another type.
  void bind(const State& state);

  void set_profiling(bool on);
  std::vector<KernelProfile> profile() const;
  /// Records what every thread does and when, from here on; turning it on starts from nothing.
  void set_tracing(bool on);
  /// Writes what was recorded, as JSON for ui.perfetto.dev and chrome://tracing. Throws Error where
  /// tracing has never been on, or the file cannot be written.
  void write_trace(const std::string& path) const;
  const Statistics& statistics() const;
  /// Stages "traced", "simplified", "fused", "kernels" (each with its cost; after a run with
  /// profiling with time and share of the machine's roof, which is measured then, once), "refusals"
  /// (why two nodes are not in one kernel), "loops", "assembly". Formats other than text: "traced"
  /// and "kernels".
  std::string dump(std::string_view stage = "fused", Format format = Format::text) const;

  runtime::Executable& implementation();

 private:
  friend class Program;
  struct Impl;
  explicit Executable(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

struct ReferenceOptions;

/// A traced program; a handle whose copies share.
class Program {
 public:
  struct Impl;

  const std::string& name() const;
  const ir::Graph& graph() const;  ///< as traced
  State& state();
  /// Stages "traced", "simplified", "fused" (compiles where it has to).
  std::string dump(std::string_view stage = "traced", Format format = Format::text) const;
  Executable compile(const CompileOptions& options = {}) const;

 private:
  friend Program trace(State&, const std::function<void()>&, const std::string&, Source);
  friend State reference_run(const Program&, const State&, const ReferenceOptions&);
  std::shared_ptr<Impl> impl_;
};

/// Runs `body` once on this thread and records what it does with tensors. Parameters and states
/// that `state` lacks are created there; where `body` throws, they are removed again. Error where a
/// trace is already running on this thread.
Program trace(State& state, const std::function<void()>& body, const std::string& name = "main",
              Source at = Source::current());

}  // namespace weft
