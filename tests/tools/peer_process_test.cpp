#include "tools/bench/peer_process.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/plan/error.h"

namespace weft::bench {
namespace {

class PeerProtocol : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::system("python3 -c pass >/dev/null 2>&1") != 0) GTEST_SKIP() << "there is no python3";
  }

  static PeerCommand fake(const std::string& which) {
    const std::string source = WEFT_SOURCE_DIR;
    PeerCommand command;
    command.python = "python3";
    command.script = source + "/tests/tools/fake_peer.py";
    command.config =
        nlohmann::json{{"case", which}, {"protocol", source + "/tools/baselines"}}.dump();
    return command;
  }

  /// What the error of `action` says; fails where there is none.
  template <typename F>
  static std::string message_of(F action) {
    try {
      action();
    } catch (const Error& error) {
      return error.what();
    }
    ADD_FAILURE() << "no Error";
    return {};
  }
  static void expect_says(const std::string& message, const char* text) {
    EXPECT_NE(message.find(text), std::string::npos) << message << "\nlacks: " << text;
  }
  static std::string starting(const PeerCommand& command) {
    return message_of([&] { const PeerProcess peer(command); });
  }
};

TEST_F(PeerProtocol, AnswersRuns) {
  PeerCommand command = fake("good");
  command.environment = {{"FAKE_WORD", "of its kind"}};
  PeerProcess peer(command);
  EXPECT_EQ(peer.name(), "Fake 1.0 of its kind");
  EXPECT_EQ(peer.setup_seconds(), 1.5);
  EXPECT_EQ(peer.losses(), (std::vector<double>{3, 2.5}));
  EXPECT_EQ(peer.run(1), 0.25);
  EXPECT_EQ(peer.processor_seconds(), 0.5);
  EXPECT_EQ(peer.run(1000), 250);
  EXPECT_EQ(peer.processor_seconds(), 500.5);
}

TEST_F(PeerProtocol, TwoAtATime) {
  PeerProcess first(fake("good"));
  PeerProcess second(fake("good"));
  EXPECT_EQ(first.run(2), 0.5);
  EXPECT_EQ(second.run(4), 1);
  EXPECT_EQ(first.run(8), 2);
}

TEST_F(PeerProtocol, NoInterpreterNoScript) {
  PeerCommand command = fake("good");
  command.python = "/nowhere/python3";
  expect_says(starting(command), "/nowhere/python3");
  command = fake("good");
  command.script = "/nowhere/peer.py";
  expect_says(starting(command), "No such file");
}

TEST_F(PeerProtocol, ErrorsCarryTheReason) {
  expect_says(starting(fake("no library")), "ModuleNotFoundError: No module named 'torch'");
  PeerProcess peer(fake("raises"));
  const std::string message = message_of([&] { peer.run(1); });
  expect_says(message, "ValueError: out of range");
  expect_says(message, "Traceback");
}

TEST_F(PeerProtocol, Death) {
  const std::string at_start = starting(fake("exits"));
  expect_says(at_start, "ended while getting ready");
  expect_says(at_start, "exit code 3");
  expect_says(at_start, "no time today");

  PeerProcess peer(fake("dies"));
  const std::string message = message_of([&] { peer.run(7); });
  expect_says(message, "ended while run 7");
  expect_says(message, "signal 9");
  expect_says(message, "going down");
  expect_says(message_of([&] { peer.run(7); }), "has ended");
}

TEST_F(PeerProtocol, GarbageIsNoPeer) {
  expect_says(starting(fake("garbage")), "Segmentation fault");
  expect_says(starting(fake("number")), "no JSON object");
  expect_says(starting(fake("not ready")), "ready");
  expect_says(starting(fake("no name")), "setup_seconds");
  expect_says(starting(fake("losses are words")), "losses");
  expect_says(starting(fake("endless line")), "longer than");
}

TEST_F(PeerProtocol, GarbageIsNoTime) {
  for (const char* which : {"negative", "nothing", "null"}) {
    PeerProcess peer(fake(which));
    SCOPED_TRACE(which);
    expect_says(message_of([&] { peer.run(3); }), "run 3");
  }
}

TEST_F(PeerProtocol, TimesOut) {
  PeerCommand command = fake("silent");
  command.ready_seconds = 0.2;
  expect_says(starting(command), "no answer in 0.2 s while getting ready");

  command = fake("hangs");
  command.run_seconds = 0.2;
  PeerProcess peer(command);
  expect_says(message_of([&] { peer.run(1); }), "no answer in 0.2 s while run 1");
}

TEST_F(PeerProtocol, EndsThoseThatDoNot) {
  // Returns at all: the destructor does not wait for a script that never ends.
  const PeerProcess peer(fake("deaf"));
  EXPECT_EQ(peer.name(), "x");
}

}  // namespace
}  // namespace weft::bench
