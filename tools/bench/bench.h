#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

/// What `weft bench` measures: each benchmark is one file of this folder.
namespace weft::bench {

/// Another implementation of the same work, measured in the same run.
struct PeerValue {
  std::string peer;  ///< with its version: "oneDNN 2.6.3"
  double value = 0;  ///< in the row's unit
};

/// One measured number.
struct Row {
  std::string bench;
  std::string name;  ///< of the case: "f32 512x512x512"
  std::string metric;
  double value = 0;
  std::string unit;
  std::optional<PeerValue> peer;
  std::optional<double> ratio;  ///< above 1: weft is better
  std::string error = {};       ///< what went wrong with the case, in place of the numbers
};

struct Settings {
  int threads = 0;             ///< that both sides compute with; at least 1
  double seconds = 0;          ///< for each case, about
  std::string filter;          ///< only cases whose name contains it
  std::string python;          ///< interpreter that has PyTorch, or ""
  std::string scripts;         ///< folder of the peers' scripts
  std::string cpu;             ///< gemm: an older processor, for both sides; "": this machine's
  std::string device = "cpu";  ///< as the front end names it; the peers use the same
  /// On a GPU: operands of products by tensor copies, where these take them.
  bool tensor_copies = true;

  bool on_gpu() const { return device != "cpu"; }
  bool wants(const std::string& name) const { return name.find(filter) != std::string::npos; }
};

/// Takes each number as soon as it is measured.
using Report = std::function<void(const Row&)>;

/// Does what a case takes; one that fails is reported as such, and the next goes on.
void run_case(const Report& report, const std::string& bench, const std::string& name,
              const std::function<void()>& body);

struct Benchmark {
  const char* name;
  const char* description;
  void (*run)(const Settings& settings, const Report& report);
};

void gemm(const Settings& settings, const Report& report);
void attention(const Settings& settings, const Report& report);
void tno(const Settings& settings, const Report& report);
void fft(const Settings& settings, const Report& report);
void sigmoid_mlp(const Settings& settings, const Report& report);
void short_transformer(const Settings& settings, const Report& report);
void language_models(const Settings& settings, const Report& report);

}  // namespace weft::bench
