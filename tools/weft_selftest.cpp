#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "runtime/plan/error.h"
#include "tools/command.h"
#include "tools/selftest/cases.h"
#include "tools/selftest/supervise.h"

namespace weft::command {

namespace {

struct SelftestOptions {
  std::string device = "cpu";
  std::vector<std::string> only;
  selftest::Selection selection;
  selftest::Supervision supervision;
  std::string json;
  bool list = false;
  bool serve = false;
};

int default_jobs() {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(cores / 2, 1, 8);
}

/// The whole name, or a beginning that ends where a part of it does.
bool matches(const std::string& name, const std::string& wanted) {
  return name.starts_with(wanted) &&
         (name.size() == wanted.size() || wanted.ends_with('/') || name[wanted.size()] == '/');
}

std::vector<std::string> chosen_names(const std::vector<selftest::Case>& cases,
                                      const std::vector<std::string>& only) {
  std::vector<std::string> names;
  for (const selftest::Case& one : cases) {
    const bool chosen =
        only.empty() || std::any_of(only.begin(), only.end(), [&](const std::string& wanted) {
          return matches(one.name, wanted);
        });
    if (chosen) names.push_back(one.name);
  }
  if (names.empty()) throw Error("no case of that name; `weft selftest --list` shows them");
  return names;
}

std::string group_of(const std::string& name) { return name.substr(0, name.find('/')); }

struct Count {
  int passed = 0;
  int failed = 0;
  double seconds = 0;
};

class Report {
 public:
  Report(std::string device, bool seeds) : device_(std::move(device)), seeds_(seeds) {}

  void add(const selftest::Outcome& outcome) {
    Count& count = counts_[group_of(outcome.name)];
    ++(outcome.lines.empty() ? count.passed : count.failed);
    count.seconds += outcome.seconds;
    rows_.push_back({{"case", outcome.name},
                     {"passed", outcome.lines.empty()},
                     {"wrong", outcome.lines},
                     {"seconds", outcome.seconds}});
    if (outcome.lines.empty()) return;
    const std::size_t more = outcome.lines.size() - 1;
    fmt::print("FAILED {}: {}{}; again: {}\n", outcome.name, outcome.lines.front(),
               more > 0 ? fmt::format(" (and {} more, last: {})", more, outcome.lines.back()) : "",
               repeat(outcome.name));
    std::fflush(stdout);
  }
  void add_left(const std::vector<std::string>& names) {
    if (!names.empty()) fmt::print("not run, the time was over: {} cases\n", names.size());
    left_ = names;
  }

  /// Prints the sums; returns whether all is well.
  bool finish(double seconds) const {
    Count all;
    for (const auto& [group, count] : counts_) {
      fmt::print("{:<12} {:4} passed, {:3} failed, {:7.1f} s of its processes\n", group,
                 count.passed, count.failed, count.seconds);
      all.passed += count.passed;
      all.failed += count.failed;
    }
    fmt::print("on {}, in {:.1f} s:\n{} passed, {} failed\n", device_, seconds, all.passed,
               all.failed);
    return all.failed == 0 && left_.empty();
  }
  void write(const std::string& path) const {
    std::ofstream file(path);
    file << nlohmann::json{{"device", device_}, {"cases", rows_}, {"not_run", left_}}.dump(1)
         << '\n';
    file.close();
    if (!file) throw Error(path + ": could not be written");
  }

 private:
  std::string repeat(const std::string& name) const {
    std::string text = fmt::format("weft selftest --device {} --only {}", device_, name);
    if (seeds_ && name.starts_with("random/")) {
      text += fmt::format(" --first-seed {} --seeds 1", name.substr(name.find('/') + 1));
    }
    return text;
  }

  std::string device_;
  bool seeds_;  ///< other ones than by default
  std::map<std::string, Count> counts_;
  nlohmann::json rows_ = nlohmann::json::array();
  std::vector<std::string> left_;
};

int selftest_command(const SelftestOptions& options) {
  const selftest::Target target = selftest::find_target(options.device);
  const std::vector<selftest::Case> cases = selftest::cases(target, options.selection);
  if (options.serve) return selftest::serve(cases);
  const std::vector<std::string> names = chosen_names(cases, options.only);
  if (options.list) {
    for (const std::string& name : names) fmt::print("{}\n", name);
    return 0;
  }
  selftest::Supervision supervision = options.supervision;
  if (supervision.jobs <= 0) supervision.jobs = default_jobs();
  const selftest::Selection defaults;
  supervision.command = {std::filesystem::read_symlink("/proc/self/exe").string(),
                         "selftest",
                         "--serve",
                         "--device",
                         options.device,
                         "--first-seed",
                         std::to_string(options.selection.first_seed),
                         "--seeds",
                         std::to_string(options.selection.seeds)};
  Report report(options.device, options.selection.seeds != defaults.seeds ||
                                    options.selection.first_seed != defaults.first_seed);
  const auto start = std::chrono::steady_clock::now();
  report.add_left(selftest::supervise(
      names, supervision, [&](const selftest::Outcome& outcome) { report.add(outcome); }));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  if (!options.json.empty()) report.write(options.json);
  return report.finish(seconds.count()) ? 0 : 1;
}

}  // namespace

void add_selftest(CLI::App& app, Action& chosen) {
  auto options = std::make_shared<SelftestOptions>();
  options->supervision.jobs = 0;
  CLI::App* command = app.add_subcommand(
      "selftest",
      "Whether a device computes what it should: intrinsics, every op, random graphs, training");
  command->add_option("--device", options->device, device_help);
  command
      ->add_option("--only", options->only,
                   "Only these cases: a name, or its first parts (op, op/softmax, random/7)")
      ->delimiter(',');
  command->add_flag("--list", options->list, "Names the cases");
  command->add_option("--first-seed", options->selection.first_seed, "Of the random graphs");
  command->add_option("--seeds", options->selection.seeds, "How many random graphs (default 64)")
      ->check(CLI::Range(0, 1 << 20));
  command
      ->add_option("--jobs", options->supervision.jobs,
                   "Processes at one time (default: half as many as cores, 8 at most)")
      ->check(CLI::Range(0, 256));
  command
      ->add_option("--case-seconds", options->supervision.case_seconds,
                   "After which a case has failed (default 60)")
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--seconds", options->supervision.total_seconds,
                   "After which no further case is begun (default: none)")
      ->check(CLI::PositiveNumber);
  command->add_option("--json", options->json, "Write all results to this file");
  command->add_flag("--serve", options->serve)->group("");  // for its own processes
  command->callback(
      [options, &chosen] { chosen = [options] { return selftest_command(*options); }; });
}

}  // namespace weft::command
