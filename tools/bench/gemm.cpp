#include <fmt/format.h>
#include <weft/weft.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "frontend/device.h"
#include "runtime/plan/error.h"
#include "tools/bench/bench.h"
#include "tools/bench/measure.h"
#include "tools/bench/operations_peer.h"

#ifdef WEFT_WITH_DNNL
#include <oneapi/dnnl/dnnl.hpp>

// Of the OpenMP runtime, whose header only its own compiler finds.
extern "C" void omp_set_num_threads(int);
#endif

/// Matrix products beside oneDNN's matmul primitive. Both read the same plain row-major tensors;
/// oneDNN's primitive is made once, outside of timing.
namespace weft::bench {
namespace {

/// y [batch, m, n] = x [batch, m, k] w [batch, k, n]; a transposed operand is stored with its last
/// two axes exchanged. Batch 0: matrices.
struct Case {
  const char* remark;
  std::int64_t batch;
  std::int64_t m, n, k;
  bool x_transposed = false;
  bool w_transposed = false;

  double operations() const {
    return 2.0 * static_cast<double>(std::max<std::int64_t>(batch, 1)) * static_cast<double>(m) *
           static_cast<double>(n) * static_cast<double>(k);
  }
  std::string text() const {
    std::string shape = fmt::format("{}x{}x{}", m, n, k);
    if (batch > 0) shape = fmt::format("{} of {}", batch, shape);
    if (x_transposed || w_transposed) {
      shape += fmt::format(" {}{}", x_transposed ? 't' : 'n', w_transposed ? 't' : 'n');
    }
    return *remark != '\0' ? fmt::format("{} ({})", shape, remark) : shape;
  }
};

/// What follows the product, in weft's kernel.
enum class Epilogue : std::uint8_t { none, bias_silu, bias_gelu };

struct Family {
  const char* name;
  DType dtype;
  Epilogue epilogue;
  std::vector<Case> cases;
  bool tf32 = false;
  bool peer_epilogue = true;  ///< false: the peer's is the product alone

  bool fused() const { return epilogue != Epilogue::none; }
};

std::vector<Family> families() {
  std::vector<Family> all(3);
  all[0] = {"f32",
            DType::f32,
            Epilogue::none,
            {{"", 0, 128, 128, 128},
             {"", 0, 256, 256, 256},
             {"", 0, 512, 512, 512},
             {"", 0, 768, 768, 768},
             {"", 0, 1024, 1024, 1024},
             {"", 0, 2048, 2048, 2048},
             {"", 0, 255, 255, 255},
             {"", 0, 512, 512, 512, false, true},
             {"", 0, 512, 512, 512, true, false},
             {"", 0, 1024, 1024, 1024, false, true},
             {"", 0, 1024, 1024, 1024, true, false},
             {"", 0, 255, 255, 255, true, true},
             {"tall", 0, 8192, 64, 256},
             {"wide", 0, 64, 8192, 256},
             {"deep", 0, 64, 64, 8192},
             {"batched", 16, 128, 128, 128},
             {"batched", 64, 32, 32, 64},
             {"batched", 8, 512, 64, 512},
             {"2 rows", 0, 2, 255, 255},
             {"2 rows", 0, 2, 255, 255, false, true},
             {"2 rows", 0, 2, 1024, 1024},
             {"2 rows", 0, 2, 1024, 1024, false, true},
             {"1 row", 0, 1, 1024, 1024},
             {"layer", 0, 2048, 768, 256, false, true},
             {"layer", 0, 2048, 256, 768, false, true},
             {"layer", 0, 2048, 256, 256, false, true},
             {"layer", 0, 2048, 1024, 256, false, true},
             {"gradient of rows", 0, 2048, 256, 768},
             {"gradient of rows", 0, 2048, 768, 256},
             {"gradient of rows", 0, 2048, 256, 1024},
             {"gradient of weights", 0, 256, 768, 2048, true, false},
             {"gradient of weights", 0, 768, 256, 2048, true, false},
             {"gradient of weights", 0, 256, 256, 2048, true, false},
             {"gradient of weights", 0, 1024, 256, 2048, true, false}}};
  const std::vector<Case> few = {{"", 0, 256, 256, 256},
                                 {"", 0, 512, 512, 512},
                                 {"", 0, 1024, 1024, 1024},
                                 {"", 0, 255, 255, 255},
                                 {"2 rows", 0, 2, 255, 255, false, true},
                                 {"2 rows", 0, 2, 1024, 1024},
                                 {"layer", 0, 2048, 768, 256, false, true},
                                 {"layer", 0, 2048, 256, 768, false, true},
                                 {"layer", 0, 2048, 1024, 256}};
  all[1] = {"f32 bias silu", DType::f32, Epilogue::bias_silu, few};
  all[2] = {"bf16", DType::bf16, Epilogue::none, few};
  all[2].cases.push_back({"gradient of weights", 0, 256, 768, 2048, true, false});
  all[2].cases.push_back({"", 0, 2048, 2048, 2048});
  return all;
}

/// Of a size that fills a GPU.
std::vector<Family> gpu_families() {
  const std::vector<Case> cases = {{"", 0, 512, 512, 512},
                                   {"", 0, 1024, 1024, 1024},
                                   {"", 0, 2048, 2048, 2048},
                                   {"", 0, 4096, 4096, 4096},
                                   {"", 0, 4095, 4097, 1023},
                                   {"", 0, 1024, 4096, 1024, false, true},
                                   {"", 0, 1024, 4096, 1024, true, false},
                                   {"", 0, 1024, 4096, 1024, true, true},
                                   {"deep", 0, 256, 256, 65536},
                                   {"batched", 64, 512, 512, 64},
                                   {"layer", 0, 16384, 1024, 1024, false, true},
                                   {"gradient of weights", 0, 1024, 1024, 16384, true, false}};
  const std::vector<Case> large = {{"", 0, 4096, 4096, 4096}, {"", 0, 8192, 8192, 8192}};
  std::vector<Family> all;
  all.push_back({"f32", DType::f32, Epilogue::none, cases});
  all.push_back({"tf32", DType::f32, Epilogue::none, cases, true});
  all.push_back({"bf16", DType::bf16, Epilogue::none, cases});
  for (Family& family : all) family.cases.push_back(large[1]);
  all.push_back({"f16", DType::f16, Epilogue::none, {large[0]}});
  const std::vector<Case> few = {{"", 0, 2048, 2048, 2048}, {"layer", 0, 16384, 1024, 1024}};
  all.push_back({"f32 bias silu", DType::f32, Epilogue::bias_silu, few});
  all.push_back({"bf16 bias silu", DType::bf16, Epilogue::bias_silu, few});
  all.push_back({"f32 bias gelu beside the product alone", DType::f32, Epilogue::bias_gelu, large,
                 false, false});
  all.push_back({"tf32 bias gelu beside the product alone", DType::f32, Epilogue::bias_gelu, large,
                 true, false});
  all.push_back({"bf16 bias gelu beside the product alone", DType::bf16, Epilogue::bias_gelu, large,
                 false, false});
  return all;
}

nlohmann::json peer_case(const Family& family, const Case& c) {
  return {{"kind", "gemm"},
          {"dtype", weft::name(family.dtype)},
          {"tf32", family.tf32},
          {"batch", c.batch},
          {"m", c.m},
          {"n", c.n},
          {"k", c.k},
          {"x_transposed", c.x_transposed},
          {"w_transposed", c.w_transposed},
          {"fused", family.fused() && family.peer_epilogue}};
}

Shape with_batch(std::int64_t batch, std::int64_t rows, std::int64_t columns) {
  if (batch == 0) return {rows, columns};
  return {batch, rows, columns};
}

/// weft's side: x and w (and bias) in State, the product to y.
Executable make_weft(State& state, const Family& family, const Case& c, const Settings& settings,
                     bool tensor_copies) {
  const Program program = trace(
      state,
      [&] {
        const auto operand = [&](const char* name, std::int64_t rows, std::int64_t columns,
                                 bool transposed) {
          const Shape shape =
              transposed ? with_batch(c.batch, columns, rows) : with_batch(c.batch, rows, columns);
          const Tensor x = weft::state(name, shape, family.dtype, init::uniform(-1, 1));
          return transposed ? transpose(x) : x;
        };
        Tensor y =
            matmul(operand("x", c.m, c.k, c.x_transposed), operand("w", c.k, c.n, c.w_transposed));
        if (family.fused()) {
          const Tensor bias = weft::state("bias", {c.n}, family.dtype, init::uniform(-1, 1));
          y = family.epilogue == Epilogue::bias_silu ? silu(y + bias) : gelu(y + bias);
        }
        assign(weft::state("y", with_batch(c.batch, c.m, c.n), family.dtype), y);
      },
      "gemm");
  CompileOptions options;
  options.threads = settings.threads;
  options.cpu = settings.cpu;
  options.device = settings.device;
  options.tf32 = family.tf32;
  options.tensor_copies = tensor_copies;
  return program.compile(options);
}

/// Threads of the peer's runtime spin for milliseconds after their work, and weft's for some
/// microseconds: each side begins when the other's are asleep, with caches and threads of its own
/// warm.
Work rested(std::function<void(std::int64_t count)> work) {
  const Work measured = timed(work);
  return [work = std::move(work), measured](std::int64_t count) {
    std::this_thread::sleep_for(std::chrono::milliseconds(12));
    work(1);
    return measured(count);
  };
}

#ifdef WEFT_WITH_DNNL

std::string peer_name() {
  const dnnl_version_t* version = dnnl_version();
  return fmt::format("oneDNN {}.{}.{}", version->major, version->minor, version->patch);
}

/// Before the peer makes its first primitive.
void limit_peer(const std::string& cpu) {
  if (cpu.empty()) return;
  const bool older = cpu == "x86-64-v3";
  if (!older && cpu != "x86-64-v4") {
    throw Error(fmt::format("--cpu {}: the peer knows x86-64-v3 and x86-64-v4 only", cpu));
  }
  dnnl::set_max_cpu_isa(older ? dnnl::cpu_isa::avx2 : dnnl::cpu_isa::avx512_core);
}

class Peer {
 public:
  Peer(State& state, const Family& family, const Case& c, int threads)
      : engine_(dnnl::engine::kind::cpu, 0),
        stream_(engine_),
        result_(static_cast<std::size_t>(state.type("y").bytes())) {
    omp_set_num_threads(threads);
    const auto type =
        family.dtype == DType::bf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
    const auto describe = [&](std::int64_t rows, std::int64_t columns, bool transposed) {
      dnnl::memory::dims extents{rows, columns};
      dnnl::memory::dims strides{transposed ? 1 : columns, transposed ? rows : 1};
      if (c.batch > 0) {
        extents.insert(extents.begin(), c.batch);
        strides.insert(strides.begin(), rows * columns);
      }
      return dnnl::memory::desc(extents, type, strides);
    };
    const dnnl::memory::desc x = describe(c.m, c.k, c.x_transposed);
    const dnnl::memory::desc w = describe(c.k, c.n, c.w_transposed);
    const dnnl::memory::desc y = describe(c.m, c.n, false);
    dnnl::primitive_attr attributes;
    if (family.fused()) {
      dnnl::post_ops after;
      after.append_eltwise(1.0F, dnnl::algorithm::eltwise_swish, 1.0F, 0.0F);
      attributes.set_post_ops(after);
      const dnnl::memory::desc bias({1, c.n}, type, dnnl::memory::format_tag::ab);
      primitive_ = dnnl::matmul({{x, w, bias, y}, attributes, engine_});
      memories_[DNNL_ARG_BIAS] = dnnl::memory(bias, engine_, state.bytes("bias").data());
    } else {
      primitive_ = dnnl::matmul({{x, w, y}, attributes, engine_});
    }
    memories_[DNNL_ARG_SRC] = dnnl::memory(x, engine_, state.bytes("x").data());
    memories_[DNNL_ARG_WEIGHTS] = dnnl::memory(w, engine_, state.bytes("w").data());
    memories_[DNNL_ARG_DST] = dnnl::memory(y, engine_, result_.data());
  }

  void run(std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) primitive_.execute(stream_, memories_);
    stream_.wait();
  }

  std::vector<double> result(const Type& type) const {
    std::vector<double> values(static_cast<std::size_t>(type.elements()));
    to_doubles(type.dtype, result_.data(), type.elements(), values.data());
    return values;
  }

 private:
  struct Aligned {
    explicit Aligned(std::size_t bytes) : memory(new(std::align_val_t{64}) std::byte[bytes]) {}
    ~Aligned() { ::operator delete[](memory, std::align_val_t{64}); }
    Aligned(const Aligned&) = delete;
    Aligned& operator=(const Aligned&) = delete;
    std::byte* data() const { return memory; }
    std::byte* memory;
  };
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::matmul primitive_;
  std::unordered_map<int, dnnl::memory> memories_;
  Aligned result_;
};

/// None where oneDNN has no such product for the instructions that it may use.
std::unique_ptr<Peer> make_peer(State& state, const Family& family, const Case& c, int threads) {
  try {
    return std::make_unique<Peer>(state, family, c, threads);
  } catch (const dnnl::error& error) {
    if (error.status != dnnl_unimplemented) throw;
    return nullptr;
  }
}

#endif

double norm(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return std::sqrt(sum);
}

/// Throws where the two sides differ by more than rounding explains. Each sums k products of
/// relative error at most k epsilon in f32, in norm |x| |w| k epsilon; a 16-bit result is rounded
/// by 2^-8 once more; silu's derivative is at most 1.1, gelu's 1.13, and their own error a few
/// units. Operands that are rounded to tf32 are off by 2^-11 each, and their product by 2^-10.
void check(const State& state, const Family& family, const Case& c,
           const std::vector<double>& expected, const std::string& other) {
  const std::vector<double> actual = state.values("y");
  std::vector<double> difference(actual.size());
  for (std::size_t i = 0; i < actual.size(); ++i) difference[i] = actual[i] - expected[i];
  const double term = static_cast<double>(c.k + 4) * std::numeric_limits<float>::epsilon() +
                      (family.tf32 ? 0x1p-10 : 0);
  const double sums = term * norm(state.values("x")) * norm(state.values("w"));
  const DType dtype = state.type("y").dtype;
  const double rounding = dtype == DType::bf16 ? 0x1p-8 : dtype == DType::f16 ? 0x1p-11 : 0x1p-20;
  const double bound = 2 * (1.13 * sums + rounding * norm(expected));
  const double error = norm(difference);
  if (!(error <= bound)) {
    throw Error(fmt::format("{}: weft and {} differ by {:.3g} in norm, more than {:.3g}", c.text(),
                            other, error, bound));
  }
}

/// Beyond so many multiply-adds the host takes too long to be asked for the result.
constexpr double most_checked = 1e11;

/// Whether the program has a kernel by tensor copies where it may.
bool has_tensor_copies(const Settings& settings, const Family& family) {
  const bool short_floats = family.dtype == DType::f16 || family.dtype == DType::bf16;
  return short_floats && detail::find_device(settings.device).gpu == "sm_90a";
}

/// A GPU beside PyTorch there, and products by tensor copies beside those by asynchronous copies;
/// results are checked against the host's.
double measure_gpu(const Settings& settings, const Report& report, const Family& family,
                   const Case& c, const std::string& name, OperationsPeer& peer) {
  State state;
  Executable weft = make_weft(state, family, c, settings, settings.tensor_copies);
  std::optional<Executable> other;
  if (settings.tensor_copies && has_tensor_copies(settings, family)) {
    other.emplace(make_weft(state, family, c, settings, false));
  }
  std::vector<double> expected;
  if (c.operations() < most_checked) {
    State host_state;
    Settings on_host = settings;
    on_host.device = "cpu";
    Executable host = make_weft(host_state, family, c, on_host, false);
    host.run(0, 1);
    expected = host_state.values("y");
  }
  const auto run_once = [&](Executable& executable) {
    executable.run(0, 1);
    if (!expected.empty()) check(state, family, c, expected, "the host");
  };
  run_once(weft);
  if (other) run_once(*other);
  std::vector<Work> works{timed([&](std::int64_t count) { weft.run(0, count); })};
  std::vector<std::string> names;
  if (const std::optional<Work> beside = peer.work(peer_case(family, c))) {
    works.push_back(*beside);
    names.push_back(peer.name());
  }
  if (other) {
    works.push_back(timed([&](std::int64_t count) { other->run(0, count); }));
    names.emplace_back("weft, no tensor copies");
  }
  constexpr int turns = 11;
  const Comparison comparison =
      compare(works, settings.seconds / static_cast<double>(works.size() * (turns + 1)), turns);
  const auto rate = [&](std::size_t i) {
    return 1e-9 * c.operations() / comparison.timings[i].median;
  };
  const Row row{"gemm", name, "rate", rate(0), "GFLOP/s", {}, {}};
  if (names.empty()) report(row);
  for (std::size_t i = 0; i < names.size(); ++i) {
    Row one = row;
    one.peer = PeerValue{names[i], rate(i + 1)};
    one.ratio = comparison.ratio(i + 1);
    report(one);
  }
  const bool has_peer = names.size() > (other ? 1U : 0U);
  return has_peer ? comparison.ratio(1) : 0;
}

/// The ratio, or 0 where there is no peer.
double measure(const Settings& settings, const Report& report, const Family& family, const Case& c,
               const std::string& name) {
  State state;
  Executable weft = make_weft(state, family, c, settings, settings.tensor_copies);
  weft.run(0, 1);
  std::vector<Work> works{rested([&](std::int64_t count) { weft.run(0, count); })};
  constexpr int turns = 11;
#ifdef WEFT_WITH_DNNL
  const std::unique_ptr<Peer> peer = make_peer(state, family, c, settings.threads);
  if (peer != nullptr) {
    peer->run(1);
    check(state, family, c, peer->result(state.type("y")), peer_name());
    works.push_back(rested([&](std::int64_t count) { peer->run(count); }));
  }
#endif
  const Comparison comparison =
      compare(works, settings.seconds / static_cast<double>(works.size() * (turns + 1)), turns);
  const auto rate = [&](std::size_t i) {
    return 1e-9 * c.operations() / comparison.timings[i].median;
  };
  Row row{"gemm", name, "rate", rate(0), "GFLOP/s", {}, {}};
  double ratio = 0;
#ifdef WEFT_WITH_DNNL
  if (peer != nullptr) {
    ratio = comparison.ratio(1);
    row.peer = PeerValue{peer_name(), rate(1)};
    row.ratio = ratio;
  }
#endif
  report(row);
  return ratio;
}

}  // namespace

void gemm(const Settings& settings, const Report& report) {
#ifdef WEFT_WITH_DNNL
  if (!settings.on_gpu()) limit_peer(settings.cpu);
#endif
  OperationsPeer gpu_peer(settings);
  for (const Family& family : settings.on_gpu() ? gpu_families() : families()) {
    double logarithms = 0;
    int count = 0;
    for (const Case& c : family.cases) {
      const std::string name = fmt::format("{} {}", family.name, c.text());
      if (!settings.wants(name)) continue;
      double ratio = 0;
      run_case(report, "gemm", name, [&] {
        ratio = settings.on_gpu() ? measure_gpu(settings, report, family, c, name, gpu_peer)
                                  : measure(settings, report, family, c, name);
      });
      if (ratio <= 0) continue;
      logarithms += std::log(ratio);
      ++count;
    }
    if (count == 0) continue;
    const double mean = std::exp(logarithms / count);
    Row row{"gemm",
            fmt::format("{}, {} shapes", family.name, count),
            "geometric mean",
            mean,
            "ratio",
            {},
            mean};
    report(row);
  }
}

}  // namespace weft::bench
