#include "tools/selftest/supervise.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <iostream>
#include <memory>
#include <optional>
#include <utility>

#include "runtime/plan/error.h"

extern char** environ;

namespace weft::selftest {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view ended = "end";
constexpr std::string_view wrong = "wrong ";
constexpr std::string_view of_the_driver = "CUDA: ";
/// In an error of the driver's, where it does not know the kernel.
constexpr std::string_view one_by_one = "WEFT_CUDA_CHECK=1";

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

bool contains(const std::vector<std::string>& lines, std::string_view text) {
  return std::any_of(lines.begin(), lines.end(),
                     [&](const std::string& line) { return line.find(text) != std::string::npos; });
}

/// A file descriptor that is closed once.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  int get() const { return number_; }

 private:
  int number_ = -1;
};

std::pair<Descriptor, Descriptor> make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    throw Error(fmt::format("a pipe could not be made: {}", std::strerror(errno)));
  }
  return {Descriptor(ends[0]), Descriptor(ends[1])};
}

/// A process that serves.
class Server {
 public:
  Server(const std::vector<std::string>& command, bool checked) : checked_(checked) {
    auto [child_in, to_child] = make_pipe();
    auto [from_child, child_out] = make_pipe();
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, child_in.get(), STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, child_out.get(), STDOUT_FILENO);
    std::vector<char*> arguments;
    for (const std::string& text : command) arguments.push_back(const_cast<char*>(text.c_str()));
    arguments.push_back(nullptr);
    std::string check = "WEFT_CUDA_CHECK=1";
    std::vector<char*> environment;
    for (char** variable = environ; *variable != nullptr; ++variable) {
      environment.push_back(*variable);
    }
    if (checked) environment.insert(environment.begin(), check.data());
    environment.push_back(nullptr);
    const int result = posix_spawn(&process_, arguments[0], &actions, nullptr, arguments.data(),
                                   environment.data());
    posix_spawn_file_actions_destroy(&actions);
    if (result != 0) {
      throw Error(fmt::format("{} could not be started: {}", command[0], std::strerror(result)));
    }
    to_ = std::move(to_child);
    from_ = std::move(from_child);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() {
    if (process_ <= 0) return;
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
  }

  bool checked() const { return checked_; }
  bool idle() const { return name_.empty(); }
  const std::string& name() const { return name_; }
  double seconds() const { return seconds_since(begun_); }
  int descriptor() const { return from_.get(); }

  /// A server that has gone is noticed when it is read from.
  void begin(const std::string& name) {
    name_ = name;
    lines_.clear();
    begun_ = Clock::now();
    const std::string text = name + "\n";
    [[maybe_unused]] const ssize_t written = write(to_.get(), text.data(), text.size());
  }

  /// Whether it is about to end: serve() does so after an error of the driver.
  bool ruined() const { return contains(lines_, of_the_driver); }

  enum class State { running, done, gone };
  State read() {
    char piece[4096];
    const ssize_t count = ::read(from_.get(), piece, sizeof piece);
    if (count < 0 && errno == EINTR) return State::running;
    if (count <= 0) return State::gone;
    text_.append(piece, static_cast<std::size_t>(count));
    for (std::size_t at = text_.find('\n'); at != std::string::npos; at = text_.find('\n')) {
      const std::string line = text_.substr(0, at);
      text_.erase(0, at + 1);
      if (line == ended) return State::done;
      if (line.starts_with(wrong)) lines_.push_back(line.substr(wrong.size()));
    }
    return State::running;
  }

  Outcome finish(std::string last = {}) {
    Outcome outcome{std::exchange(name_, {}), std::exchange(lines_, {}), seconds()};
    if (!last.empty()) outcome.lines.push_back(std::move(last));
    return outcome;
  }

  /// Waits for a process that has closed its output: "killed by signal 11".
  std::string how_it_ended() {
    int status = 0;
    if (waitpid(std::exchange(process_, 0), &status, 0) < 0) return "it ended";
    if (WIFSIGNALED(status)) {
      return fmt::format("its process was killed by signal {} ({})", WTERMSIG(status),
                         strsignal(WTERMSIG(status)));
    }
    return fmt::format("its process ended with exit status {}", WEXITSTATUS(status));
  }

 private:
  bool checked_;
  pid_t process_ = 0;
  Descriptor to_;
  Descriptor from_;
  std::string text_;
  std::string name_;
  std::vector<std::string> lines_;
  Clock::time_point begun_;
};

class Supervisor {
 public:
  Supervisor(const std::vector<std::string>& names, const Supervision& supervision,
             const std::function<void(const Outcome&)>& done)
      : supervision_(supervision), done_(done), waiting_(names.begin(), names.end()) {}

  std::vector<std::string> run() {
    const Clock::time_point start = Clock::now();
    while (true) {
      if (supervision_.total_seconds > 0 && seconds_since(start) > supervision_.total_seconds) {
        left_.insert(left_.end(), waiting_.begin(), waiting_.end());
        waiting_.clear();
      }
      hand_out();
      if (std::all_of(servers_.begin(), servers_.end(), [](const auto& s) { return s->idle(); })) {
        return std::move(left_);
      }
      wait();
    }
  }

 private:
  struct Again {
    std::string name;
    std::vector<std::string> lines;
    double seconds = 0;
  };

  void hand_out() {
    while (!again_.empty() && busy() < supervision_.jobs) {
      servers_.push_back(std::make_unique<Server>(supervision_.command, true));
      servers_.back()->begin(again_.front().name);
      repeated_.push_back(std::move(again_.front()));
      again_.pop_front();
    }
    while (!waiting_.empty() && busy() < supervision_.jobs) {
      auto server = std::find_if(servers_.begin(), servers_.end(),
                                 [](const auto& one) { return one->idle() && !one->checked(); });
      if (server == servers_.end()) {
        servers_.push_back(std::make_unique<Server>(supervision_.command, false));
        server = servers_.end() - 1;
      }
      (*server)->begin(waiting_.front());
      waiting_.pop_front();
    }
  }

  int busy() const {
    return static_cast<int>(std::count_if(servers_.begin(), servers_.end(),
                                          [](const auto& server) { return !server->idle(); }));
  }

  void wait() {
    std::vector<pollfd> watched;
    for (const auto& server : servers_) watched.push_back({server->descriptor(), POLLIN, 0});
    constexpr int milliseconds = 200;
    poll(watched.data(), watched.size(), milliseconds);
    std::vector<const Server*> over;
    for (std::size_t i = 0; i < watched.size(); ++i) {
      Server& server = *servers_[i];
      if (watched[i].revents != 0) {
        const Server::State state = server.read();
        if (state == Server::State::running) continue;
        const bool gone = state == Server::State::gone;
        if (gone || server.checked() || server.ruined()) over.push_back(&server);
        if (!server.idle()) finish(server, gone ? server.how_it_ended() : std::string());
      } else if (!server.idle() && server.seconds() > supervision_.case_seconds) {
        finish(server, fmt::format("not done after {} s", supervision_.case_seconds));
        over.push_back(&server);
      }
    }
    std::erase_if(servers_, [&](const auto& server) {
      return std::find(over.begin(), over.end(), server.get()) != over.end();
    });
  }

  void finish(Server& server, std::string last) {
    Outcome outcome = server.finish(std::move(last));
    const auto before = std::find_if(repeated_.begin(), repeated_.end(), [&](const Again& one) {
      return server.checked() && one.name == outcome.name;
    });
    if (before != repeated_.end()) {
      // What went wrong in graphs, then what the kernels one by one say of it.
      std::vector<std::string> lines = std::move(before->lines);
      if (outcome.lines.empty()) outcome.lines.emplace_back("nothing is wrong");
      for (const std::string& line : outcome.lines) {
        lines.push_back("with kernels one by one: " + line);
      }
      outcome.lines = std::move(lines);
      outcome.seconds += before->seconds;
      repeated_.erase(before);
    } else if (contains(outcome.lines, one_by_one)) {
      again_.push_back({outcome.name, std::move(outcome.lines), outcome.seconds});
      return;
    }
    done_(outcome);
  }

  const Supervision& supervision_;
  const std::function<void(const Outcome&)>& done_;
  std::deque<std::string> waiting_;
  std::deque<Again> again_;
  std::vector<Again> repeated_;  ///< under way
  std::vector<std::string> left_;
  std::vector<std::unique_ptr<Server>> servers_;
};

/// Writing to a server that has gone is an error of write(), not the end of this process.
class IgnoredPipeSignals {
 public:
  IgnoredPipeSignals() : before_(std::signal(SIGPIPE, SIG_IGN)) {}
  ~IgnoredPipeSignals() { std::signal(SIGPIPE, before_); }
  IgnoredPipeSignals(const IgnoredPipeSignals&) = delete;
  IgnoredPipeSignals& operator=(const IgnoredPipeSignals&) = delete;

 private:
  void (*before_)(int);
};

}  // namespace

int serve(const std::vector<Case>& cases) {
  std::string name;
  while (std::getline(std::cin, name)) {
    const auto found =
        std::find_if(cases.begin(), cases.end(), [&](const Case& one) { return one.name == name; });
    std::vector<std::string> lines = {"there is no such case"};
    if (found != cases.end()) lines = run_case(*found);
    for (const std::string& line : lines) std::cout << wrong << one_line(line) << '\n';
    std::cout << ended << std::endl;
    if (contains(lines, of_the_driver)) return 3;
  }
  return 0;
}

std::vector<std::string> supervise(const std::vector<std::string>& names,
                                   const Supervision& supervision,
                                   const std::function<void(const Outcome&)>& done) {
  const IgnoredPipeSignals ignored;
  return Supervisor(names, supervision, done).run();
}

}  // namespace weft::selftest
