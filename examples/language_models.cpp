// Trains two language models of equal size on the bytes of a text, a Toeplitz neural network and a
// transformer, and compares them on the last tenth of the text, which neither has seen. Training is
// one compiled program with a loop; evaluation is another one, bound to the same State.
#include <fmt/format.h>
#include <unistd.h>
#include <weft/weft.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "line_plot.h"
#include "picture.h"

namespace {

using namespace weft;
using Clock = std::chrono::steady_clock;
using Bytes = std::vector<unsigned char>;

constexpr std::int64_t vocabulary = 256;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Config {
  std::string text;
  std::string output = "build/demo";
  std::string json;
  std::string only;
  std::int64_t steps = 700;
  std::int64_t every = 10;
  double seconds = 75;
  std::string device = "cpu";
  int threads = 0;
  std::uint64_t seed = 1;
  std::int64_t batch = 8;
  std::int64_t length = 128;
  std::int64_t width = 128;
  std::int64_t layers = 3;
  std::int64_t heads = 4;
  double expand = 1;
  double rate = 3e-3;
  bool profile = false;
};

// ---- models -------------------------------------------------------------------------------------

/// ids (batch, length) -> logits (batch, length, 256).
using Model = std::function<Tensor(const Tensor& ids)>;

Model make_tnn(const Config& config) {
  nn::TnnLmOptions options;
  options.vocabulary = vocabulary;
  options.width = config.width;
  options.layers = config.layers;
  options.tied = false;
  options.layer.norm = nn::NormType::simple_rms_norm;
  nn::GtuOptions& gtu = options.layer.gtu;
  gtu.expand_ratio = config.expand;
  gtu.act = nn::Activation::silu;
  gtu.tno.use_decay = true;
  gtu.tno.gamma = 0.99;
  gtu.tno.rpe.layers = 1;
  gtu.tno.rpe.width = 32;
  options.layer.glu.hidden = 2 * config.width;
  return nn::TnnLm("", options);
}

Model make_transformer(const Config& config, std::int64_t hidden) {
  nn::TransformerLmOptions options;
  options.vocabulary = vocabulary;
  options.width = config.width;
  options.layers = config.layers;
  options.max_length = config.length;
  options.tied = false;
  options.block.heads = config.heads;
  options.block.hidden = hidden;
  return nn::TransformerLm("", options);
}

std::int64_t parameters_in(const std::function<Model()>& make) {
  State state;
  std::int64_t count = 0;
  trace(state, [&] {
    make();
    count = nn::parameter_count();
  });
  return count;
}

struct Entry {
  std::string name;        ///< for people
  std::string short_name;  ///< for files
  std::function<Model()> make;
};

/// The two models. The transformer's feed-forward parts are as wide as makes it as large as the
/// other.
std::vector<Entry> entries(const Config& config) {
  const auto tnn = [config] { return make_tnn(config); };
  const auto size_with = [&](std::int64_t hidden) {
    return parameters_in([&] { return make_transformer(config, hidden); });
  };
  const std::int64_t unit = 8;  // whole vectors
  const std::int64_t of_unit = size_with(2 * unit) - size_with(unit);
  const double rest = static_cast<double>(parameters_in(tnn) - size_with(unit));
  const auto units = static_cast<std::int64_t>(std::lround(rest / static_cast<double>(of_unit)));
  const std::int64_t hidden = unit * std::max<std::int64_t>(1, 1 + units);
  return {{"Toeplitz network", "tnn", tnn}, {"transformer", "transformer", [config, hidden] {
                                               return make_transformer(config, hidden);
                                             }}};
}

// ---- text ---------------------------------------------------------------------------------------

struct Corpus {
  Bytes train;
  Bytes held_out;  ///< the last tenth
};

Corpus read_corpus(const Config& config) {
  std::ifstream file(config.text, std::ios::binary);
  if (!file) throw Error(fmt::format("{} cannot be read", config.text));
  const Bytes all{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const auto cut = static_cast<std::ptrdiff_t>(all.size() - all.size() / 10);
  Corpus corpus{{all.begin(), all.begin() + cut}, {all.begin() + cut, all.end()}};
  if (corpus.held_out.size() <= static_cast<std::size_t>(config.length)) {
    throw Error(fmt::format("{} has {} bytes; a length of {} needs at least {}", config.text,
                            all.size(), config.length, 10 * (config.length + 1)));
  }
  return corpus;
}

/// The next number of a counter-based generator (SplitMix64), so that windows are a function of the
/// step.
std::uint64_t scrambled(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/// Rows of length + 1 bytes: a window's first `length` are the input, its last `length` the target.
void copy_window(const Bytes& text, std::size_t start, std::span<std::int32_t> row) {
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = text[start + i];
}

// ---- training -----------------------------------------------------------------------------------

struct Result {
  std::string name;
  std::string short_name;
  std::int64_t parameters = 0;
  std::int64_t steps = 0;
  double tokens_per_second = 0;
  double training_seconds = 0;
  double first_loss = 0;
  double last_loss = 0;  ///< mean of the last tenth of the curve
  double held_out_loss = 0;
  std::int64_t kernels = 0;
  std::int64_t launches_per_step = 0;
  std::int64_t arena_bytes = 0;
  double compile_seconds = 0;
  std::vector<std::pair<double, double>> curve;  ///< step, loss
  std::vector<KernelProfile> profile;            ///< where it is asked for
};

/// A line on stderr that says how far training is.
class Progress {
 public:
  Progress(std::string name, const Config& config)
      : name_(std::move(name)), config_(config), terminal_(isatty(STDERR_FILENO) != 0) {}

  void report(std::int64_t step, double loss) {
    const double elapsed = seconds_since(start_);
    const bool last = step + config_.every >= config_.steps;
    // The first step tells nothing about the speed.
    if (step == 0 || (!last && elapsed - shown_ < (terminal_ ? 0.25 : 5.0))) return;
    shown_ = elapsed;
    const double rate = static_cast<double>(step) / elapsed;
    const double left =
        std::min(static_cast<double>(config_.steps - step) / rate, config_.seconds - elapsed);
    const std::string line =
        fmt::format("{}: step {} of {}, loss {:.3f}, {:.0f} tokens/s, {:.0f} s left", name_, step,
                    config_.steps, loss, rate * static_cast<double>(config_.batch * config_.length),
                    std::max(0.0, left));
    fmt::print(stderr, "{}{}{}", terminal_ ? "\r" : "", line, terminal_ ? "\x1b[K" : "\n");
  }
  void finish() const {
    if (terminal_) fmt::print(stderr, "\r\x1b[K");
  }

 private:
  std::string name_;
  const Config& config_;
  bool terminal_;
  Clock::time_point start_ = Clock::now();
  double shown_ = 0;
};

Program trace_training(const Config& config, const Entry& entry, const Bytes& text, State& state,
                       const ReceiveCallback& on_loss) {
  const auto windows = [&text, &config](std::int64_t step, std::span<std::int32_t> to) {
    const auto row_length = static_cast<std::size_t>(config.length + 1);
    for (std::size_t row = 0; row * row_length < to.size(); ++row) {
      const std::uint64_t draw =
          scrambled(scrambled(config.seed) ^ (static_cast<std::uint64_t>(step) << 24) ^ row);
      copy_window(text, draw % (text.size() - row_length + 1),
                  to.subspan(row * row_length, row_length));
    }
  };
  const auto body = [&] {
    set_seed(config.seed);
    const Model model = entry.make();
    const std::int64_t warmup = std::clamp<std::int64_t>(config.steps / 20, 1, 100);
    optim::AdamW adam({.lr = optim::cosine(config.rate, std::max(config.steps, warmup + 1), warmup,
                                           config.rate / 20),
                       .beta2 = 0.98,
                       .weight_decay = 0.01});
    loop(config.steps, [&](Tensor) {
      const Tensor tokens =
          feeder("tokens", {config.batch, config.length + 1}, DType::i32, windows);
      const Tensor logits = model(slice(tokens, 1, 0, config.length));
      const Tensor loss = cross_entropy(logits, slice(tokens, 1, 1, config.length + 1));
      backward(loss);
      optim::clip_grad_norm(1);
      adam.step();
      adam.zero_grad();
      receiver("loss", {loss}, on_loss, config.every);
    });
  };
  return trace(state, body, entry.short_name);
}

void write_file(const std::string& path, const std::string& content) {
  std::ofstream file(path, std::ios::binary);
  file << content;
  file.close();
  if (!file) throw Error(fmt::format("{} cannot be written", path));
}

/// The graph before and after compilation. Returns the paths.
std::vector<std::string> write_graphs(const Config& config, const std::string& name,
                                      const Executable& executable) {
  const std::string prefix = (std::filesystem::path(config.output) / name).string();
  std::vector<std::string> paths{prefix + "_traced.txt", prefix + "_fused.txt",
                                 prefix + "_traced.dot", prefix + "_kernels.dot"};
  write_file(paths[0], executable.dump("traced"));
  write_file(paths[1], executable.dump("fused"));
  write_file(paths[2], executable.dump("traced", Format::dot));
  write_file(paths[3], executable.dump("kernels", Format::dot));
  for (const std::size_t i : {2U, 3U}) {
    if (const std::string svg = picture::render(paths[i]); !svg.empty()) paths.push_back(svg);
  }
  return paths;
}

/// Mean loss over all of `text`, in nats a byte: window by window, each byte but the first is a
/// target once.
double evaluate(const Config& config, const Entry& entry, const Bytes& text, State& state,
                std::vector<std::string>& files) {
  const auto length = static_cast<std::size_t>(config.length);
  const std::size_t windows = (text.size() - 1) / length;
  const auto batch = static_cast<std::size_t>(config.batch);
  const auto count = static_cast<std::int64_t>((windows + batch - 1) / batch);
  // The last batch repeats the first window where there are no more, with a weight of 0.
  const auto window_of = [=](std::int64_t iteration, std::size_t row) {
    return static_cast<std::size_t>(iteration) * batch + row;
  };
  const auto fill = [&](std::int64_t iteration, std::span<std::int32_t> to) {
    for (std::size_t row = 0; row < batch; ++row) {
      const std::size_t window = window_of(iteration, row);
      copy_window(text, window < windows ? window * length : 0,
                  to.subspan(row * (length + 1), length + 1));
    }
  };
  const auto weigh = [&](std::int64_t iteration, std::span<float> to) {
    for (std::size_t row = 0; row < batch; ++row) {
      to[row] = window_of(iteration, row) < windows ? 1.0F : 0.0F;
    }
  };
  double sum_of_losses = 0;
  const auto body = [&] {
    set_training(false);
    const Model model = entry.make();
    const Tensor total = zeros({});
    loop(count, [&](Tensor) {
      const Tensor tokens = feeder("tokens", {config.batch, config.length + 1}, DType::i32, fill);
      const Tensor weights = feeder("weights", {config.batch}, DType::f32, weigh);
      const Tensor losses = cross_entropy(model(slice(tokens, 1, 0, config.length)),
                                          slice(tokens, 1, 1, config.length + 1), Reduction::none);
      assign(total, total + sum(mean(losses, 1) * weights));
    });
    receiver("total", {total}, [&](std::int64_t, const std::vector<HostTensor>& tensors) {
      sum_of_losses = tensors[0].item();
    });
  };
  const std::string name = entry.short_name + "_evaluation";
  Executable executable =
      trace(state, body, name).compile({.device = config.device, .threads = config.threads});
  const std::vector<std::string> graphs = write_graphs(config, name, executable);
  files.insert(files.end(), graphs.begin(), graphs.end());
  executable.run();
  return sum_of_losses / static_cast<double>(windows);
}

Result train(const Config& config, const Entry& entry, const Corpus& corpus,
             std::vector<std::string>& files) {
  Result result;
  result.name = entry.name;
  result.short_name = entry.short_name;
  result.parameters = parameters_in(entry.make);

  State state;
  Progress* progress = nullptr;
  const Program program =
      trace_training(config, entry, corpus.train, state,
                     [&](std::int64_t step, const std::vector<HostTensor>& tensors) {
                       const double loss = tensors[0].item();
                       result.curve.emplace_back(static_cast<double>(step), loss);
                       if (progress != nullptr) progress->report(step, loss);
                     });
  fmt::print(stderr, "{}: {} parameters, compiling\n", entry.name, result.parameters);
  Executable executable = program.compile({.device = config.device, .threads = config.threads});
  const Statistics& statistics = executable.statistics();
  result.kernels = statistics.kernels;
  result.launches_per_step = statistics.launches_per_step;
  result.arena_bytes = statistics.arena_bytes;
  result.compile_seconds = statistics.compile_seconds;
  const std::vector<std::string> graphs = write_graphs(config, entry.short_name, executable);
  files.insert(files.end(), graphs.begin(), graphs.end());

  Progress shown(entry.name, config);
  progress = &shown;
  executable.set_profiling(config.profile);
  const auto start = Clock::now();
  // In pieces, so that the clock is looked at.
  while (result.steps < config.steps && seconds_since(start) < config.seconds) {
    const std::int64_t to = std::min(config.steps, result.steps + config.every);
    executable.run(result.steps, to);
    result.steps = to;
  }
  result.training_seconds = seconds_since(start);
  if (config.profile) result.profile = executable.profile();
  shown.finish();
  if (result.steps < config.steps) {
    fmt::print(stderr, "{}: stopped after {} of {} steps, as {:.0f} s are over\n", entry.name,
               result.steps, config.steps, config.seconds);
  }
  result.tokens_per_second =
      static_cast<double>(result.steps * config.batch * config.length) / result.training_seconds;
  result.first_loss = result.curve.front().second;
  const std::size_t tail = std::max<std::size_t>(1, result.curve.size() / 10);
  for (std::size_t i = result.curve.size() - tail; i < result.curve.size(); ++i) {
    result.last_loss += result.curve[i].second / static_cast<double>(tail);
  }
  fmt::print(stderr, "{}: evaluating {} bytes\n", entry.name, corpus.held_out.size());
  result.held_out_loss = evaluate(config, entry, corpus.held_out, state, files);
  return result;
}

// ---- report -------------------------------------------------------------------------------------

void print_table(const std::vector<Result>& results) {
  const auto row = [&](const char* label, const std::function<std::string(const Result&)>& text) {
    fmt::print("{:<28}", label);
    for (const Result& result : results) fmt::print("{:>18}", text(result));
    fmt::print("\n");
  };
  row("", [](const Result& r) { return r.name; });
  row("parameters", [](const Result& r) { return fmt::format("{}", r.parameters); });
  row("steps", [](const Result& r) { return fmt::format("{}", r.steps); });
  row("training, s", [](const Result& r) { return fmt::format("{:.1f}", r.training_seconds); });
  row("tokens/s", [](const Result& r) { return fmt::format("{:.0f}", r.tokens_per_second); });
  row("first loss, nats a byte",
      [](const Result& r) { return fmt::format("{:.3f}", r.first_loss); });
  row("last loss, nats a byte", [](const Result& r) { return fmt::format("{:.3f}", r.last_loss); });
  row("held-out loss, nats a byte",
      [](const Result& r) { return fmt::format("{:.3f}", r.held_out_loss); });
  row("kernels a step", [](const Result& r) { return fmt::format("{}", r.launches_per_step); });
  row("compile, s", [](const Result& r) { return fmt::format("{:.2f}", r.compile_seconds); });
  row("arena, bytes", [](const Result& r) { return fmt::format("{}", r.arena_bytes); });
}

void print_profile(const Result& result) {
  std::vector<KernelProfile> kernels = result.profile;
  std::sort(kernels.begin(), kernels.end(),
            [](const KernelProfile& x, const KernelProfile& y) { return x.seconds > y.seconds; });
  double total = 0;
  for (const KernelProfile& kernel : kernels) total += kernel.seconds;
  fmt::print("\n{}: {:.2f} s in kernels\n{:<32}{:>10}{:>10}{:>8}{:>10}{:>10}\n", result.name, total,
             "kernel", "launches", "us each", "share", "GB/s", "Gop/s");
  for (std::size_t i = 0; i < std::min<std::size_t>(kernels.size(), 25); ++i) {
    const KernelProfile& kernel = kernels[i];
    const auto launches = static_cast<double>(kernel.launches);
    fmt::print("{:<32}{:>10}{:>10.1f}{:>7.1f}%{:>10.2f}{:>10.2f}\n", kernel.kernel, kernel.launches,
               kernel.seconds * 1e6 / launches, 100 * kernel.seconds / total,
               static_cast<double>(kernel.bytes) * launches / kernel.seconds / 1e9,
               static_cast<double>(kernel.operations) * launches / kernel.seconds / 1e9);
  }
}

nlohmann::json to_json(const Config& config, const Corpus& corpus,
                       const std::vector<Result>& results) {
  nlohmann::json models = nlohmann::json::array();
  for (const Result& result : results) {
    models.push_back({{"model", result.short_name},
                      {"parameters", result.parameters},
                      {"steps", result.steps},
                      {"training_seconds", result.training_seconds},
                      {"tokens_per_second", result.tokens_per_second},
                      {"first_loss", result.first_loss},
                      {"last_loss", result.last_loss},
                      {"held_out_loss", result.held_out_loss},
                      {"kernels_per_step", result.launches_per_step},
                      {"distinct_kernels", result.kernels},
                      {"compile_seconds", result.compile_seconds},
                      {"arena_bytes", result.arena_bytes}});
  }
  return {{"text", config.text},
          {"training_bytes", corpus.train.size()},
          {"held_out_bytes", corpus.held_out.size()},
          {"seed", config.seed},
          {"batch", config.batch},
          {"length", config.length},
          {"width", config.width},
          {"layers", config.layers},
          {"models", models}};
}

/// The loss curves as a table and as a picture. Returns the paths.
std::vector<std::string> write_curves(const Config& config, const std::vector<Result>& results) {
  const std::filesystem::path folder(config.output);
  const std::string csv = (folder / "losses.csv").string();
  const std::string svg = (folder / "loss.svg").string();
  std::string rows = "model,step,loss\n";
  plot::Plot picture{"Training loss", "step", "nats a byte", {}};
  for (const Result& result : results) {
    for (const auto& [step, loss] : result.curve) {
      rows += fmt::format("{},{:.0f},{:.6f}\n", result.short_name, step, loss);
    }
    picture.series.push_back(
        {fmt::format("{} (held out: {:.3f})", result.name, result.held_out_loss), result.curve});
  }
  write_file(csv, rows);
  if (!plot::write_svg(svg, picture)) throw Error(fmt::format("{} cannot be written", svg));
  return {csv, svg};
}

void add_options(CLI::App& app, Config& config) {
  constexpr std::int64_t large = std::int64_t{1} << 20;
  const auto positive = [&](const char* name, std::int64_t& value, const char* help) {
    app.add_option(name, value, help)
        ->check(CLI::Range(std::int64_t{1}, large))
        ->capture_default_str();
  };
  app.add_option("--text", config.text, "The text; its last tenth is held out")
      ->required()
      ->check(CLI::ExistingFile);
  app.add_option("--output", config.output, "Folder for graphs and loss curves")
      ->capture_default_str();
  app.add_option("--json", config.json, "File for the table's numbers");
  app.add_option("--only", config.only, "One of the models instead of both")
      ->check(CLI::IsMember({"tnn", "transformer"}));
  positive("--steps", config.steps, "Of training, for each model");
  positive("--every", config.every, "Steps from one point of the loss curve to the next");
  app.add_option("--seconds", config.seconds, "Training of a model ends after that time")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--device", config.device, "cpu, cuda or cuda:1")->capture_default_str();
  app.add_option("--threads", config.threads, "0: as many as cores")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  app.add_option("--seed", config.seed, "Of initial parameters and of the windows of the text")
      ->capture_default_str();
  positive("--batch", config.batch, "Windows a step");
  positive("--length", config.length, "Bytes a window");
  positive("--width", config.width, "Channels");
  positive("--layers", config.layers, "Layers");
  positive("--heads", config.heads, "Of the transformer's attention");
  app.add_option("--expand", config.expand, "Channels of the Toeplitz operator by width")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--profile", config.profile, "Print the kernels that training spends its time in");
  app.add_option("--rate", config.rate, "The highest learning rate")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

int run(int argc, char** argv) {
  CLI::App app("Trains and compares a Toeplitz neural network and a transformer on a text.");
  Config config;
  add_options(app, config);
  CLI11_PARSE(app, argc, argv);

  const Corpus corpus = read_corpus(config);
  std::filesystem::create_directories(config.output);
  std::vector<Result> results;
  std::vector<std::string> files;
  for (const Entry& entry : entries(config)) {
    if (!config.only.empty() && config.only != entry.short_name) continue;
    results.push_back(train(config, entry, corpus, files));
  }
  print_table(results);
  if (config.profile) {
    for (const Result& result : results) print_profile(result);
  }
  const std::vector<std::string> curves = write_curves(config, results);
  files.insert(files.end(), curves.begin(), curves.end());
  if (!config.json.empty()) {
    write_file(config.json, to_json(config, corpus, results).dump(2) + "\n");
    files.push_back(config.json);
  }
  fmt::print("\n");
  for (const std::string& file : files) fmt::print("{}\n", file);
  const bool finite = std::all_of(results.begin(), results.end(), [](const Result& result) {
    return std::isfinite(result.held_out_loss);
  });
  if (!finite) fmt::print(stderr, "language_models: a loss is not finite\n");
  return finite ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "language_models: {}\n", error.what());
    return 2;
  }
}
