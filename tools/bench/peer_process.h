#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/bench/measure.h"

/// Peers that are scripts of their own: Python with PyTorch.
namespace weft::bench {

struct PeerCommand {
  std::string python;  ///< the interpreter, a path or a name to be found on PATH
  std::string script;  ///< file
  std::string config;  ///< the script's argument, JSON
  std::vector<std::pair<std::string, std::string>> environment = {};  ///< added to this process's
  double ready_seconds = 900;                                         ///< that the set-up may take
  double run_seconds = 300;  ///< that an answer to run() may take
};

/// A running script that answers on its stdout, a line of JSON for each of the commands on its
/// stdin (tools/baselines/protocol.py):
///
///     (at first)  {"ready": true, "peer": name, "setup_seconds": s, "losses": [numbers]}
///     run N       {"seconds": s, "processor_seconds": s}
///     case JSON   {"chosen": true}
///     quit        (ends)
///
/// or {"error": text}. What it says is checked. Every failure (a script that cannot be started,
/// says something else, dies, or takes too long) is an Error with the end of the script's stderr;
/// the script is ended then.
class PeerProcess {
 public:
  /// Starts it and waits until it is ready.
  explicit PeerProcess(const PeerCommand& command);
  /// Asks it to quit, and ends it where it does not.
  ~PeerProcess();
  PeerProcess(const PeerProcess&) = delete;
  PeerProcess& operator=(const PeerProcess&) = delete;

  const std::string& name() const;  ///< "PyTorch 2.9.0 eager"
  double setup_seconds() const;     ///< imports of the interpreter are not part of it
  /// Of the first steps, which are part of the set-up; may be empty.
  const std::vector<double>& losses() const;
  /// What is to be done from here on, of a script that knows several cases: a line of JSON.
  void choose(const std::string& which);
  /// Does `count` steps; the seconds that they took, by the script's clock.
  double run(std::int64_t count);
  /// Of all processors together, in all runs so far.
  double processor_seconds() const { return processor_seconds_; }

 private:
  struct Child;
  std::unique_ptr<Child> child_;
  std::string name_;
  double setup_seconds_ = 0;
  double processor_seconds_ = 0;
  std::vector<double> losses_;
};

}  // namespace weft::bench
