#include "tools/bench/peer_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>

#include "runtime/plan/error.h"

extern char** environ;  // NOLINT(readability-redundant-declaration): POSIX declares it nowhere

namespace weft::bench {

namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

constexpr std::size_t longest_answer = 1 << 20;  // bytes
constexpr std::size_t stderr_shown = 4000;       // bytes

Clock::time_point after(double seconds) {
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(
                            std::chrono::duration<double>(std::min(seconds, 1e6)));
}

/// A file descriptor.
class Handle {
 public:
  Handle() = default;
  explicit Handle(int number) : number_(number) {}
  ~Handle() { reset(); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  int get() const { return number_; }
  void reset(int number = -1) {
    if (number_ >= 0) close(number_);
    number_ = number;
  }

 private:
  int number_ = -1;
};

[[noreturn]] void fail_with(const std::string& what, int error) {
  throw Error(fmt::format("{}: {}", what, std::generic_category().message(error)));
}

/// NAME=value of this process's environment and of the additions, which win.
std::vector<std::string> environment_with(
    const std::vector<std::pair<std::string, std::string>>& additions) {
  std::vector<std::string> entries;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const bool replaced = std::any_of(additions.begin(), additions.end(), [&](const auto& added) {
      return text.starts_with(added.first + "=");
    });
    if (!replaced) entries.emplace_back(text);
  }
  for (const auto& [name, value] : additions) entries.push_back(fmt::format("{}={}", name, value));
  return entries;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  result.reserve(texts.size() + 1);
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

}  // namespace

struct PeerProcess::Child {
  std::string what;  ///< for messages
  double run_seconds = 0;
  pid_t process = -1;
  bool running = false;
  Handle
      channel;    ///< its stdin and stdout: a socket, as writing to one that is closed is no signal
  Handle errors;  ///< its stderr: a file that has no name any more
  std::string received;

  explicit Child(const PeerCommand& command);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  void send(const std::string& line);
  Json receive(double seconds, const char* doing);
  /// Whether it has ended; waits for it up to some seconds.
  bool ended(double seconds);
  void kill();
  [[noreturn]] void fail(const std::string& message);

 private:
  int status_ = 0;
};

PeerProcess::Child::Child(const PeerCommand& command)
    : what(fmt::format("{} {}", command.python, command.script)), run_seconds(command.run_seconds) {
  std::array<int, 2> sockets{-1, -1};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()) != 0) {
    fail_with("socketpair", errno);
  }
  channel.reset(sockets[0]);
  const Handle theirs(sockets[1]);
  std::FILE* file = std::tmpfile();
  if (file == nullptr) fail_with("a temporary file for a peer's stderr", errno);
  errors.reset(fcntl(fileno(file), F_DUPFD_CLOEXEC, 0));
  std::fclose(file);
  if (errors.get() < 0) fail_with("fcntl", errno);

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_adddup2(&actions, theirs.get(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, theirs.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, errors.get(), STDERR_FILENO);
  // A group of its own, so that what it starts (compilers) can be ended with it.
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  posix_spawnattr_setpgroup(&attributes, 0);
  std::vector<std::string> arguments{command.python, command.script, command.config};
  std::vector<std::string> variables = environment_with(command.environment);
  const int error = posix_spawnp(&process, command.python.c_str(), &actions, &attributes,
                                 pointers(arguments).data(), pointers(variables).data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) fail_with(fmt::format("{} cannot be started", what), error);
  running = true;
}

PeerProcess::Child::~Child() {
  if (!running) return;
  constexpr std::string_view quit = "quit\n";
  // Where this fails it is dead already, or about to be killed.
  (void)!::send(channel.get(), quit.data(), quit.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  shutdown(channel.get(), SHUT_WR);
  if (!ended(2)) kill();
}

bool PeerProcess::Child::ended(double seconds) {
  const Clock::time_point deadline = after(seconds);
  while (running) {
    const pid_t result = waitpid(process, &status_, WNOHANG);
    if (result == process || (result < 0 && errno != EINTR)) running = false;
    if (!running || Clock::now() >= deadline) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return !running;
}

void PeerProcess::Child::kill() {
  if (!running) return;
  ::kill(-process, SIGKILL);
  while (waitpid(process, &status_, 0) < 0 && errno == EINTR) {
  }
  running = false;
}

void PeerProcess::Child::fail(const std::string& message) {
  std::string text = fmt::format("{}: {}", what, message);
  if (ended(0.5)) {
    if (WIFSIGNALED(status_)) text += fmt::format(" (ended by signal {})", WTERMSIG(status_));
    if (WIFEXITED(status_)) text += fmt::format(" (exit code {})", WEXITSTATUS(status_));
  }
  kill();
  const off_t size = lseek(errors.get(), 0, SEEK_END);
  std::string tail(stderr_shown, '\0');
  const off_t from = std::max<off_t>(0, size - static_cast<off_t>(stderr_shown));
  const ssize_t got = pread(errors.get(), tail.data(), tail.size(), from);
  tail.resize(static_cast<std::size_t>(std::max<ssize_t>(0, got)));
  if (!tail.empty()) text += fmt::format("\nIts stderr{}:\n{}", from > 0 ? " ends with" : "", tail);
  throw Error(text);
}

void PeerProcess::Child::send(const std::string& line) {
  const std::string text = line + "\n";
  // A command is shorter than a socket's buffer, so that it goes at once or not at all.
  const ssize_t sent = ::send(channel.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent != static_cast<ssize_t>(text.size())) {
    fail(fmt::format("takes no command: {}", std::generic_category().message(errno)));
  }
}

Json PeerProcess::Child::receive(double seconds, const char* doing) {
  const Clock::time_point deadline = after(seconds);
  std::size_t end = received.find('\n');
  while (end == std::string::npos) {
    if (received.size() > longest_answer) fail("an answer is longer than a line should be");
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd waiting{channel.get(), POLLIN, 0};
    const int ready =
        left <= 0 ? 0 : poll(&waiting, 1, static_cast<int>(std::min<std::int64_t>(left, 60000)));
    if (ready < 0 && errno != EINTR) fail(std::generic_category().message(errno));
    if (ready == 0 && left <= 0)
      fail(fmt::format("no answer in {:.3g} s while {}", seconds, doing));
    if (ready <= 0) continue;
    std::array<char, 4096> chunk{};
    const ssize_t got = read(channel.get(), chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) fail(fmt::format("ended while {}", doing));
    received.append(chunk.data(), static_cast<std::size_t>(got));
    end = received.find('\n');
  }
  const std::string line = received.substr(0, end);
  received.erase(0, end + 1);
  Json answer = Json::parse(line, nullptr, false);
  if (!answer.is_object()) {
    fail(fmt::format("answers \"{}\", which is no JSON object, while {}", line.substr(0, 200),
                     doing));
  }
  if (const auto error = answer.find("error"); error != answer.end()) {
    fail(error->is_string() ? error->get<std::string>() : error->dump());
  }
  return answer;
}

namespace {

/// A number of seconds in an answer, or a negative one where there is none.
double seconds_in(const Json& answer, const char* field) {
  const auto found = answer.find(field);
  if (found == answer.end() || !found->is_number()) return -1;
  const double seconds = found->get<double>();
  return std::isfinite(seconds) ? seconds : -1;
}

}  // namespace

PeerProcess::PeerProcess(const PeerCommand& command) : child_(std::make_unique<Child>(command)) {
  const Json answer = child_->receive(command.ready_seconds, "getting ready");
  const auto ready = answer.find("ready");
  const auto peer = answer.find("peer");
  setup_seconds_ = seconds_in(answer, "setup_seconds");
  if (ready == answer.end() || *ready != true || peer == answer.end() || !peer->is_string() ||
      setup_seconds_ < 0) {
    child_->fail(fmt::format("answers {} where it should say that it is ready", answer.dump()));
  }
  name_ = peer->get<std::string>();
  if (const auto losses = answer.find("losses"); losses != answer.end()) {
    const bool numbers =
        losses->is_array() &&
        std::all_of(losses->begin(), losses->end(), [](const Json& x) { return x.is_number(); });
    if (!numbers) child_->fail(fmt::format("its losses are {}", losses->dump()));
    losses_ = losses->get<std::vector<double>>();
  }
}

PeerProcess::~PeerProcess() = default;

const std::string& PeerProcess::name() const { return name_; }
double PeerProcess::setup_seconds() const { return setup_seconds_; }
const std::vector<double>& PeerProcess::losses() const { return losses_; }

void PeerProcess::choose(const std::string& which) {
  const std::string command = "case " + which;
  if (!child_->running) throw Error(fmt::format("{}: has ended", child_->what));
  child_->send(command);
  const Json answer = child_->receive(child_->run_seconds, command.c_str());
  if (answer.value("chosen", false)) return;
  child_->fail(fmt::format("answers {} to \"{}\"", answer.dump(), command));
}

double PeerProcess::run(std::int64_t count) {
  const std::string command = fmt::format("run {}", count);
  if (!child_->running) throw Error(fmt::format("{}: has ended", child_->what));
  child_->send(command);
  const Json answer = child_->receive(child_->run_seconds, command.c_str());
  const double seconds = seconds_in(answer, "seconds");
  const double processor_seconds = seconds_in(answer, "processor_seconds");
  if (seconds < 0 || processor_seconds < 0)
    child_->fail(fmt::format("answers {} to \"{}\"", answer.dump(), command));
  processor_seconds_ += processor_seconds;
  return seconds;
}

}  // namespace weft::bench
