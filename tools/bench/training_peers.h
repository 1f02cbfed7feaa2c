#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "runtime/state.h"
#include "tools/bench/bench.h"
#include "tools/bench/peer_process.h"

/// What the benchmarks that train a model beside PyTorch share.
namespace weft::bench {

/// A folder of its own below the system's temporary one; removed with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Sets an environment variable while it lives. Not while other threads run that read them.
class ScopedVariable {
 public:
  ScopedVariable(std::string name, const std::string& value);
  ~ScopedVariable();
  ScopedVariable(const ScopedVariable&) = delete;
  ScopedVariable& operator=(const ScopedVariable&) = delete;

 private:
  std::string name_;
  bool was_set_ = false;
  std::string old_;
};

/// What the peers train.
struct Training {
  std::string name;                 ///< for messages
  std::string script;               ///< a file of Settings::scripts
  nlohmann::json config;            ///< for the script, beside what training.py lists
  std::vector<std::string> modes;   ///< "eager", "compile", "max-autotune"
  int threads = 1;                  ///< of PyTorch
  State values;                     ///< the first values, and what the steps are fed
  std::vector<double> losses = {};  ///< of weft's first steps
};

/// Largest relative difference of two curves; infinite where they are not of one length, or have
/// numbers that are not finite.
double difference(const std::vector<double>& losses, const std::vector<double>& others);

/// Starts a process for each mode, with the compilers' caches empty. What cannot be started, and
/// what does not compute weft's losses to 1e-3, is reported on stderr and is not among them; so are
/// all, shortly, where no Python is given.
std::vector<std::unique_ptr<PeerProcess>> start(const Settings& settings, const Training& training);

/// Seconds of one execution.
struct Beside {
  double weft = 0;
  std::vector<PeerValue> peers;
  std::vector<double> ratios;  ///< theirs by weft's
};
struct Turns {
  Beside median;   ///< medians over the turns, of the times and of their ratios
  Beside fastest;  ///< of the fastest turn of each
  /// Of all processors together, means over all executions: what waits for a processor on a busy
  /// machine does not count.
  Beside processor;
};
/// weft's work and that of the peers in turns; `seconds` for each side, about. Peers that fail are
/// reported on stderr and removed.
Turns take_turns(const Work& weft, std::vector<std::unique_ptr<PeerProcess>>& peers,
                 double seconds);
/// Rows `metric`, `metric` "fastest turn" and `metric` "processor time", in a unit of which a
/// second has `scale`.
void report_turns(const Report& report, Row row, const Turns& turns, double scale);

/// A row for each peer, the best first; one without a peer where there is none. `ratios` are those
/// of the peers, or empty: then they are the quotients of the values.
void report_beside(const Report& report, const Row& row, std::vector<PeerValue> peers,
                   std::vector<double> ratios = {});

}  // namespace weft::bench
