#include "tools/bench/training_peers.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <weft/io.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <numeric>
#include <system_error>

namespace weft::bench {

TemporaryFolder::TemporaryFolder() {
  path_ = (std::filesystem::temp_directory_path() / "weft-bench-XXXXXX").string();
  if (mkdtemp(path_.data()) == nullptr) {
    throw Error(fmt::format("{}: {}", path_, std::generic_category().message(errno)));
  }
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

ScopedVariable::ScopedVariable(std::string name, const std::string& value)
    : name_(std::move(name)) {
  if (const char* old = std::getenv(name_.c_str()); old != nullptr) {
    was_set_ = true;
    old_ = old;
  }
  setenv(name_.c_str(), value.c_str(), 1);
}

ScopedVariable::~ScopedVariable() {
  if (was_set_) {
    setenv(name_.c_str(), old_.c_str(), 1);
  } else {
    unsetenv(name_.c_str());
  }
}

double difference(const std::vector<double>& losses, const std::vector<double>& others) {
  constexpr double infinite = std::numeric_limits<double>::infinity();
  if (losses.size() != others.size()) return infinite;
  double largest = 0;
  for (std::size_t i = 0; i < losses.size(); ++i) {
    const double error = std::abs(losses[i] - others[i]) / std::max(std::abs(losses[i]), 1e-30);
    if (!std::isfinite(error)) return infinite;
    largest = std::max(largest, error);
  }
  return largest;
}

namespace {

constexpr double tolerance = 1e-3;

/// Whether the peer computes what weft does; says so on stderr.
bool agrees(const Training& training, const PeerProcess& peer) {
  const double error = difference(training.losses, peer.losses());
  const bool agree = error <= tolerance;
  fmt::print(stderr, "{}: losses {:.6f}; {}: {:.6f}; {:.1e} apart{}\n", training.name,
             fmt::join(training.losses, " "), peer.name(), fmt::join(peer.losses(), " "), error,
             agree ? "" : ", so that it does something else and is left out");
  return agree;
}

}  // namespace

std::vector<std::unique_ptr<PeerProcess>> start(const Settings& settings,
                                                const Training& training) {
  std::vector<std::unique_ptr<PeerProcess>> peers;
  if (settings.python.empty()) {
    fmt::print(stderr, "{}: no PyTorch beside it without --python\n", training.name);
    return peers;
  }
  const TemporaryFolder folder;
  nlohmann::json config = training.config;
  config["threads"] = training.threads;
  config["device"] = settings.device;
  config["parameters"] = folder.path() + "/values.safetensors";
  config["check"] = training.losses.size();
  io::save(config["parameters"], training.values);
  for (const std::string& mode : training.modes) {
    config["mode"] = mode;
    try {
      PeerCommand command{settings.python, settings.scripts + "/" + training.script, config.dump()};
      // Threads that wait for each other by spinning take the processors from the other side, and
      // from themselves wherever there is anything else to run: it is slower that way.
      command.environment = {{"OMP_WAIT_POLICY", "passive"}};
      auto peer = std::make_unique<PeerProcess>(command);
      if (agrees(training, *peer)) peers.push_back(std::move(peer));
    } catch (const Error& error) {
      fmt::print(stderr, "{}, {}: {}\n", training.name, mode, error.what());
    }
  }
  return peers;
}

Turns take_turns(const Work& weft, std::vector<std::unique_ptr<PeerProcess>>& peers,
                 double seconds) {
  std::size_t failed = peers.size();  // the peer that did, last of all
  for (;;) {
    std::vector<double> processor(peers.size() + 1);
    std::vector<double> executions(peers.size() + 1);
    std::vector<Work> works{[&](std::int64_t count) {
      const double before = processor_seconds();
      const double taken = weft(count);
      processor[0] += processor_seconds() - before;
      executions[0] += static_cast<double>(count);
      return taken;
    }};
    for (std::size_t i = 0; i < peers.size(); ++i) {
      works.emplace_back([&, i](std::int64_t count) {
        failed = i;
        const double before = peers[i]->processor_seconds();
        const double taken = peers[i]->run(count);
        processor[i + 1] += peers[i]->processor_seconds() - before;
        executions[i + 1] += static_cast<double>(count);
        failed = peers.size();
        return taken;
      });
    }
    try {
      constexpr int count = 21;
      const Comparison comparison = compare(works, seconds / count, count);
      const std::vector<Timing>& timings = comparison.timings;
      Turns turns;
      turns.median.weft = timings[0].median;
      turns.fastest.weft = timings[0].lowest;
      turns.processor.weft = processor[0] / executions[0];
      for (std::size_t i = 0; i < peers.size(); ++i) {
        const Timing& timing = timings[i + 1];
        turns.median.peers.push_back({peers[i]->name(), timing.median});
        turns.median.ratios.push_back(comparison.ratio(i + 1));
        turns.fastest.peers.push_back({peers[i]->name(), timing.lowest});
        turns.fastest.ratios.push_back(timing.lowest / timings[0].lowest);
        turns.processor.peers.push_back({peers[i]->name(), processor[i + 1] / executions[i + 1]});
        turns.processor.ratios.push_back(turns.processor.peers[i].value / turns.processor.weft);
      }
      return turns;
    } catch (const Error& error) {
      if (failed == peers.size()) throw;  // weft's own
      fmt::print(stderr, "{}\n", error.what());
      peers.erase(peers.begin() + static_cast<std::ptrdiff_t>(failed));
      failed = peers.size();
    }
  }
}

void report_beside(const Report& report, const Row& row, std::vector<PeerValue> peers,
                   std::vector<double> ratios) {
  if (peers.empty()) {
    report(row);
    return;
  }
  std::vector<std::size_t> order(peers.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t x, std::size_t y) { return peers[x].value < peers[y].value; });
  for (const std::size_t i : order) {
    Row beside = row;
    beside.ratio = ratios.empty() ? peers[i].value / row.value : ratios[i];
    beside.peer = peers[i];
    report(beside);
  }
}

void report_turns(const Report& report, Row row, const Turns& turns, double scale) {
  const std::string metric = row.metric;
  const auto part = [&](const Beside& beside) {
    std::vector<PeerValue> peers = beside.peers;
    for (PeerValue& peer : peers) peer.value *= scale;
    row.value = beside.weft * scale;
    report_beside(report, row, std::move(peers), beside.ratios);
  };
  part(turns.median);
  row.metric = metric + ", fastest turn";
  part(turns.fastest);
  row.metric = metric + ", processor time";
  part(turns.processor);
}

}  // namespace weft::bench
