#include "assembled.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <vector>

#include "ptxas.h"

namespace weft::test {

namespace {

/// What follows each `phrase`, up to a space.
std::vector<std::string> words_after(const std::string& phrase, const std::string& text) {
  std::vector<std::string> words;
  for (std::size_t at = 0; (at = text.find(phrase, at)) != std::string::npos;) {
    at += phrase.size();
    words.push_back(text.substr(at, text.find(' ', at) - at));
  }
  return words;
}

}  // namespace

std::string Assembled::registers() const {
  return fmt::format("{}", fmt::join(words_after("Used ", said), ", "));
}

Assembled assembled(const compiler::Group& group, const std::string& processor,
                    compiler::DeviceOptions options) {
  options.target = compiler::device_target(processor);
  Assembled made;
  made.scheduled = compiler::schedule_device(group, options);
  made.code = compiler::generate_device(*made.scheduled.kernel, "test", options.target);
  EXPECT_LE(made.code.shared_bytes, options.shared_bytes()) << group.name;
  made.said = assemble(made.code.ptx, processor);
  if (!made.said.empty()) {
    EXPECT_EQ(words_after("Compiling entry function ", made.said).size(),
              made.scheduled.kernel->phases.size())
        << made.said;
  }
  EXPECT_EQ(spills(made.said), std::vector<std::string>()) << group.name << ' ' << processor;
  EXPECT_EQ(made.said.find("C75"), std::string::npos) << made.said;
  return made;
}

}  // namespace weft::test
