#include <gtest/gtest.h>

#include <array>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/ir/text.h"
#include "tests/ir/support.h"

/// Damaged texts: they are either read to a graph that is valid and prints stably, or throw Error.
namespace weft::ir {
namespace {

const char* const seed_texts[] = {test::example_text,
                                  R"(graph @main {
  %w = state {name = "w", dtype = f32, shape = [2, 3]} : f32[2, 3]
  %c = constant {dtype = f32, shape = [3, 2], value = 1.5} : f32[3, 2]
  %loss, %m = loop %w, %c {count = 5} (%i: i64[], %a: f32[2, 3], %b: f32[3, 2]) {
    %7 = matmul %a, %b : f32[2, 2]
    loop {count = 2} (%j: i64[]) {
      %8 = exp %7 : f32[2, 2]
      receiver %8, %i {name = "inner", every = 3} @ "model.cpp":12
    }
    yield %a, %b
  } : f32[2, 3], f32[3, 2]
  state_write %loss {name = "w"}
})",
                                  R"(graph @scan {
  %c = state {name = "c", dtype = f64, shape = [3]} : f64[3]
  %x = state {name = "x", dtype = f64, shape = [5, 3]} : f64[5, 3]
  %s#0, %s#1 = scan %c, %x {length = 5, carried = 1, reverse = false} (%i: i64[], %p: f64[3], %q: f64[3]) {
    %t = add %p, %q : f64[3]
    %u = fill %t {factors = [nan, -inf, 1e-300], axes = [], note = "\x00\n"} : f64[3]
    yield %t, %u
  } : f64[3], f64[5, 3]
})"};

class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed) {}

  std::string operator()() {
    std::string text = seed_texts[below(std::size(seed_texts))];
    const std::size_t count = 1 + below(4);
    for (std::size_t i = 0; i < count; ++i) mutate(text);
    return text;
  }

 private:
  std::size_t below(std::size_t bound) { return bound == 0 ? 0 : random_() % bound; }

  void mutate(std::string& text) {
    static constexpr std::array<std::string_view, 36> pieces = {
        "{",     "}",   "(",    ")",         "[",      "]",        ",",
        ":",     "=",   "@",    "%",         "\"",     "\\",       "#1",
        "~2",    "-",   "0",    "1",         "9",      ".",        "e",
        "nan(",  "inf", "f32[", "i64[]",     "yield ", "loop ",    "exp %w",
        "state", "// ", "\n",   "-99999999", "%i",     "argument", "9223372036854775807",
        "true"};
    const std::size_t place = below(text.size() + 1);
    const std::size_t other = below(text.size() + 1);
    const std::size_t length = below(random_() % 4 == 0 ? 200 : 8);
    switch (below(7)) {
      case 0:
        if (!text.empty()) text[below(text.size())] = static_cast<char>(random_());
        break;
      case 1:
        text.erase(place, length);
        break;
      case 2:
        text.insert(place, pieces[below(pieces.size())]);
        break;
      case 3:  // repeats a part somewhere else
        text.insert(place, text.substr(other, length));
        break;
      case 4:
        text.resize(place);
        break;
      case 5:
        swap_lines(text);
        break;
      default:  // another number in place of a digit
        if (const std::size_t digit = text.find_first_of("0123456789", place);
            digit != std::string::npos) {
          text.replace(digit, 1, std::to_string(random_() >> below(64)));
        }
        break;
    }
  }

  void swap_lines(std::string& text) {
    std::vector<std::string> lines(1);
    for (const char c : text) {
      if (c == '\n') {
        lines.emplace_back();
      } else {
        lines.back() += c;
      }
    }
    std::swap(lines[below(lines.size())], lines[below(lines.size())]);
    text.clear();
    for (const std::string& line : lines) text += line + '\n';
  }

  std::mt19937_64 random_;
};

TEST(Fuzz, DamagedTextsAreReadOrRefused) {
  constexpr std::uint64_t count = 40000;
  std::size_t read = 0;
  for (std::uint64_t seed = 0; seed < count; ++seed) {
    const std::string text = Mutator(seed)();
    try {
      const Graph graph = parse(text, test::table(), "fuzz");
      ++read;
      verify(graph, "parsed");
      const std::string printed = print(graph);
      const Graph again = parse(printed, test::table(), "printed");
      ASSERT_EQ(print(again), printed) << "seed " << seed;
      std::string difference;
      ASSERT_TRUE(equal(graph, again, &difference)) << "seed " << seed << ": " << difference;
    } catch (const Error& error) {
      // Every message of the parser has a position; the verifier's would name its pass.
      ASSERT_EQ(std::string_view(error.what()).substr(0, 5), "fuzz:")
          << "seed " << seed << ": " << error.what();
    }
  }
  // Both outcomes occur, or the mutations test nothing.
  EXPECT_GT(read, count / 100);
  EXPECT_LT(read, count / 2);
}

TEST(Fuzz, EveryPrefixIsRefused) {
  const std::string text = test::example_text;
  for (std::size_t length = 0; length + 2 < text.size(); ++length) {
    EXPECT_THROW(parse(text.substr(0, length), test::table()), Error) << length;
  }
}

}  // namespace
}  // namespace weft::ir
