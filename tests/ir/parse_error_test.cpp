#include <gtest/gtest.h>

#include "compiler/ir/text.h"
#include "tests/ir/support.h"

namespace weft::ir {
namespace {

struct Malformed {
  const char* text;
  const char* expected;  ///< after "t:"
};

class ParseError : public testing::TestWithParam<Malformed> {};

TEST_P(ParseError, SaysWhatAndWhere) {
  const auto read = [] { parse(GetParam().text, test::table(), "t"); };
  EXPECT_EQ(test::error_of(read), std::string("t:") + GetParam().expected);
}

// Texts of one line where it does not matter, so that the column tells the place.
#define W "%w = state {name = \"w\", dtype = f32, shape = [2]} : f32[2]\n"

const Malformed malformed[] = {
    // The frame.
    {"", "1:1: expected 'graph', not the end of the text"},
    {"grap @m {}", "1:1: expected 'graph', not 'grap'"},
    {"graph m {}", "1:7: expected '@', not 'm'"},
    {"graph @ {}", "1:9: expected the graph's name, not '{'"},
    {"graph @-1 {}", "1:8: expected the graph's name, not '-1'"},
    {"graph @m (%x: f32[]) {}", "1:10: the top level has no arguments"},
    {"graph @m", "1:9: expected '{', not the end of the text"},
    {"graph @m {", "1:11: expected a node or '}', not the end of the text"},
    {"graph @m {}\n graph @n {}", "2:2: 'graph' after the end of the graph"},
    {"graph @m {} }", "1:13: '}' after the end of the graph"},
    {"graph @m { yield }", "1:12: the top level yields nothing"},
    {"graph @m { ? }", "1:12: unexpected character \"?\""},
    {"graph @m { \x01 }", "1:12: unexpected character \"\\x01\""},
    {"graph @m { / }", "1:12: unexpected character \"/\""},

    // Nodes.
    {"graph @m { frobnicate }", "1:12: unknown op 'frobnicate'"},
    {"graph @m { %x frobnicate }", "1:15: expected '=', not 'frobnicate'"},
    {"graph @m { %x, = iota2 }", "1:16: expected a value, not '='"},
    {"graph @m { %x = %y }", "1:17: expected an op, not %y"},
    {"graph @m { %x = 12 }", "1:17: expected an op, not '12'"},
    {"graph @m { %x = argument : f32[] }", "1:17: an argument stands in a region's parentheses"},
    {"graph @m { %x = exp %y : f32[] }", "1:21: %y is not defined"},
    {"graph @m { %x = exp %x : f32[] }", "1:21: %x is not defined"},
    {"graph @m {\n" W "%y = exp %w, : f32[2] }", "3:14: expected a value, not ':'"},
    {"graph @m {\n" W W "}", "3:1: %w is defined already, on line 2"},
    {"graph @m { %x, %x = iota2 : i64[], f32[] }", "1:16: %x is defined already, on line 1"},
    {"graph @m {\n" W "%\"w\" = exp %w : f32[2] }", "3:1: %\"w\" is defined already, on line 2"},
    {"graph @m { %x = iota2 : i64[], f32[] }", "1:12: iota2 has 2 results, 1 are named"},
    {"graph @m { iota2 : i64[], f32[] }", "1:12: iota2 has 2 results, 0 are named"},
    {"graph @m { %x#0, %x#1 = iota2 : i64[], f32[] %y = exp %x : f32[] }",
     "1:55: %x is not defined"},
    {"graph @m {\n" W "%y = exp %w#0 : f32[2] }", "3:10: %w#0 is not defined"},
    {"graph @m {\n" W "%y = exp %w }", "3:6: exp(f32[2]) gives f32[2], the text says no results"},
    {"graph @m {\n" W "%y = exp %w : f32[3] }",
     "3:15: exp(f32[2]) gives f32[2], the text says f32[3]"},
    {"graph @m {\n" W "%y = exp %w : f32[2], f32[2] }",
     "3:15: exp(f32[2]) gives f32[2], the text says f32[2], f32[2]"},
    {"graph @m {\n" W "%y = exp %w : f32[2] : f32[2] }", "3:22: expected an op, not ':'"},
    {"graph @m {\n" W "%y = exp %w, %w : f32[2] }", "3:6: exp: takes 1 operand, has 2"},
    {"graph @m {\n" W "%y = exp\n %w : f32[2] }", "3:6: exp: takes 1 operand, has 0"},
    {"graph @m { %x#0, %x#1 = iota2 : i64[], f32[]\n%y = add %x#0, %x#1 : f32[] }",
     "2:6: add(i64[], f32[]): shapes differ: i64[] and f32[]"},
    {"graph @m {\n" W "state_write %w {name = \"w\"} state_write %w {name = \"w\"} }",
     "3:29: state_write(f32[2]): state 'w' is written twice"},
    {"graph @m {\n" W "%v = state {name = \"w\", dtype = f32, shape = [3]} : f32[3] }",
     "3:6: state(): state 'w' is f32[3] here and f32[2] before"},

    // Types.
    {"graph @m { %x = iota2 : 5 }", "1:25: expected a type, not '5'"},
    {"graph @m { %x = iota2 : f8[] }", "1:25: 'f8' is not a dtype"},
    {"graph @m { %x = iota2 : f32 }", "1:29: expected '[', not '}'"},
    {"graph @m { %x = iota2 : f32[2 }", "1:31: expected ']', not '}'"},
    {"graph @m { %x = iota2 : f32[2,] }", "1:31: expected an integer, not ']'"},
    {"graph @m { %x = iota2 : f32[x] }", "1:29: expected an integer, not 'x'"},
    {"graph @m { %x = iota2 : f32[2.0] }", "1:29: expected an integer, not '2.0'"},
    {"graph @m { %x = iota2 : f32[-2] }", "1:25: type f32[-2] has a negative extent"},
    {"graph @m { %x = iota2 : f32[1, 1, 1, 1, 1, 1, 1, 1, 1] }",
     "1:25: rank 9 is above the maximum of 8"},
    {"graph @m { %x = iota2 : f32[4294967296, 4294967296] }",
     "1:25: shape [4294967296, 4294967296] has too many elements"},
    {"graph @m { %x = iota2 : f32[9223372036854775808] }",
     "1:29: '9223372036854775808' does not fit into 64 bits"},
    {"graph @m { %x = constant {dtype = f32, shape = [-1], value = 0} : f32[] }",
     "1:17: constant(): type f32[-1] has a negative extent"},
    {"graph @m { %x = constant {dtype = f32, shape = [1, 1, 1, 1, 1, 1, 1, 1, 1], value = 0} }",
     "1:17: constant(): rank 9 is above the maximum of 8"},

    // Attributes.
    {"graph @m { receiver {name = \"r\"} }", "1:12: receiver: attribute 'every' is missing"},
    {"graph @m { receiver {speed = 1} }", "1:22: receiver has no attribute 'speed'"},
    {"graph @m { receiver {name = \"r\", name = \"s\"} }", "1:34: 'name' is given twice"},
    {"graph @m { receiver {name \"r\"} }", "1:27: expected '=', not \"r\""},
    {"graph @m { receiver {name = r} }",
     "1:29: attribute 'name' of receiver needs a text, not 'r'"},
    {"graph @m { receiver {every = \"1\"} }",
     "1:30: attribute 'every' of receiver needs an integer, not \"1\""},
    {"graph @m { receiver {every = 1.0} }", "1:30: expected an integer, not '1.0'"},
    {"graph @m { receiver {every = 1x} }", "1:30: expected an integer, not '1x'"},
    {"graph @m { receiver {every = -} }", "1:30: expected an integer, not '-'"},
    {"graph @m { receiver {every = [1]} }",
     "1:30: attribute 'every' of receiver needs an integer, not a list"},
    {"graph @m { receiver {every = 9999999999999999999} }",
     "1:30: '9999999999999999999' does not fit into 64 bits"},
    {"graph @m { receiver {every = 1", "1:31: expected '}', not the end of the text"},
    {"graph @m { receiver {every = 1, }", "1:33: expected an attribute, not '}'"},
    {"graph @m { receiver {every = 1; } }", "1:31: unexpected character \";\""},
    {"graph @m { %x = constant {dtype = f33} }", "1:35: 'f33' is not a dtype"},
    {"graph @m { %x = constant {dtype = 32} }",
     "1:35: attribute 'dtype' of constant needs a dtype, not '32'"},
    {"graph @m { %x = constant {shape = 2} }",
     "1:35: attribute 'shape' of constant needs a list of integers, not '2'"},
    {"graph @m { %x = constant {shape = [2, 1.5]} }", "1:39: expected an integer, not '1.5'"},
    {"graph @m { %x = constant {shape = [\"2\"]} }", "1:36: expected a number, not \"2\""},
    {"graph @m { %x = constant {shape = [inf]} }", "1:36: expected an integer, not 'inf'"},
    {"graph @m { %x = constant {value = true} }",
     "1:35: attribute 'value' of constant needs a number, not 'true'"},
    {"graph @m {\n" W "%y = fill %w {exact = 1} : f32[2] }",
     "3:23: attribute 'exact' of fill needs true or false, not '1'"},
    {"graph @m {\n" W "%y = fill %w {factor = 1.2.3} : f32[2] }",
     "3:24: expected a real, not '1.2.3'"},
    {"graph @m {\n" W "%y = fill %w {factor = 0x10} : f32[2] }",
     "3:24: expected a real, not '0x10'"},
    {"graph @m {\n" W "%y = fill %w {factor = 1e999} : f32[2] }", "3:24: '1e999' is out of range"},
    {"graph @m {\n" W "%y = fill %w {factor = -infinity} : f32[2] }",
     "3:24: expected a real, not '-infinity'"},
    {"graph @m {\n" W "%y = fill %w {factor = nan(0x1)} : f32[2] }",
     "3:28: '0x1' are not the bits of a nan"},
    {"graph @m {\n" W "%y = fill %w {factors = [1, true]} : f32[2] }",
     "3:29: expected a number, not 'true'"},

    // Strings and values.
    {"graph @\"m", "1:8: unterminated string"},
    {"graph @\"m\n\"", "1:8: unterminated string"},
    {"graph @\"m\\", "1:8: unterminated string"},
    {"graph @\"m\\q\" {}", "1:10: unknown escape in a string"},
    {"graph @\"m\\x4\" {}", "1:10: unknown escape in a string"},
    {"graph @m { % = iota2 }", "1:12: expected a name or a number after '%'"},
    {"graph @m { %\"\" = iota2 }", "1:12: a value needs a name"},
    {"graph @m { %x~ = iota2 }", "1:12: expected a number after '~'"},
    {"graph @m { %x#99999999999 = iota2 }", "1:12: expected a number after '#'"},
    {"graph @m { %aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeee ? }",
     "1:64: unexpected character \"?\""},
    {"graph @m { aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeee }",
     "1:12: unknown op 'aaaaaaaaaabbbbbbbbbbccccccccccdddddddddd...'"},

    // Regions.
    {"graph @m { loop {count = 1} }", "1:29: expected '(', not '}'"},
    {"graph @m {\n" W "%y = exp %w (%i: i64[]) {} : f32[2] }",
     "3:6: exp(f32[2]) gives f32[2], the text says no results"},
    {"graph @m { loop {count = 1} (i: i64[]) {} }", "1:30: expected an argument, not 'i'"},
    {"graph @m { loop {count = 1} (%i) {} }", "1:32: expected ':', not ')'"},
    {"graph @m { loop {count = 1} (%i: i64[]) }", "1:41: expected '{', not '}'"},
    {"graph @m { loop {count = 1} (%i: i64[], %i: i64[]) {} }",
     "1:41: %i is defined already, on line 1"},
    {"graph @m { loop {count = 1} () {} }",
     "1:12: loop(): the body has 0 arguments and needs 1: the index and one for each operand"},
    {"graph @m { loop {count = 1} (%i: i32[]) {} }",
     "1:12: loop(): argument 0 of the body is i32[], not i64[]"},
    {"graph @m { loop {count = 1} (%i: i64[]) { yield %i } }",
     "1:12: loop(): the body yields 1 value and carries 0"},
    {"graph @m { loop {count = 1} (%i: i64[]) { yield %j } }", "1:49: %j is not defined"},
    {"graph @m { loop {count = 1} (%i: i64[]) { yield yield } }",
     "1:49: expected '}', not 'yield'"},
    {"graph @m { loop {count = -1} (%i: i64[]) {} }", "1:12: loop(): count is negative"},
    {"graph @m {\n" W "%y = loop %w {count = 1} (%i: i64[], %a: f32[2]) { yield %i } : f32[2] }",
     "3:6: loop(f32[2]): yield 0 is i64[], the carried value is f32[2]"},
    {"graph @m { loop {count = 1} (%i: i64[]) {} %y = exp %i : i64[] }",
     "1:53: %i belongs to a region that does not enclose its use"},
    {"graph @m { loop {count = 1} (%i: i64[]) {} loop {count = 1} (%j: i64[]) { %y = exp %i : "
     "i64[] } }",
     "1:84: %i belongs to a region that does not enclose its use"},
    {"graph @m {\n" W "loop {count = 1} (%i: i64[]) { state_write %w {name = \"w\"} } }",
     "3:32: state_write(f32[2]): writes state 'w' in a body; states are written on the top level "
     "only"},
    {"graph @m {\n" W "state_carry %w {name = \"w\"} }",
     "3:1: state_carry(f32[2]): its operand is no argument that the loop around it carries"},
    {"graph @m {\n" W "%y = loop %w {count = 1} (%i: i64[], %a: f32[2]) {\n"
     "state_carry %w {name = \"w\"} yield %a } : f32[2] }",
     "4:1: state_carry(f32[2]): its operand is no argument that the loop around it carries"},
    {"graph @m { loop {count = 1} (%i: i64[]) { state_carry %i {name = \"i\"} } }",
     "1:43: state_carry(i64[]): its operand is no argument that the loop around it carries"},
    {"graph @m {\n" W "%y = loop %w {count = 1} (%i: i64[], %a: f32[2]) {\n"
     "loop {count = 1} (%j: i64[]) { state_carry %a {name = \"w\"} } yield %a } : f32[2] }",
     "4:32: state_carry(f32[2]): its operand is no argument that the loop around it carries"},
    {"graph @m {\n" W "%s = state {name = \"s\", dtype = f32, shape = []} : f32[]\n"
     "%y = loop %s {count = 1} (%i: i64[], %a: f32[]) { state_carry %a {name = \"w\"} yield %a } "
     ": f32[] }",
     "4:51: state_carry(f32[]): state 'w' is f32[] here and f32[2] before"},

    // Locations.
    {"graph @m { receiver {name = \"r\", every = 1} @ file:1 }",
     "1:47: expected a file name, not 'file'"},
    {"graph @m { receiver {name = \"r\", every = 1} @ \"f\" 1 }", "1:51: expected ':', not '1'"},
    {"graph @m { receiver {name = \"r\", every = 1} @ \"f\":-1 }", "1:51: '-1' is not a line"},
    {"graph @m { receiver {name = \"r\", every = 1} @ \"f\":4294967296 }",
     "1:51: '4294967296' is not a line"},
};

INSTANTIATE_TEST_SUITE_P(Text, ParseError, testing::ValuesIn(malformed),
                         [](const auto& tested) { return "case_" + std::to_string(tested.index); });

TEST(ParseError, ATableWithoutArguments) {
  struct Empty : OpTable {
    const OpInfo* find(std::string_view name) const override {
      return name == "loop" ? test::op(name) : nullptr;
    }
  };
  EXPECT_EQ(test::error_of([] { parse("graph @m { loop {count = 1} (%i: i64[]) {} }", Empty()); }),
            "<text>:1:30: the op table has no 'argument'");
}

}  // namespace
}  // namespace weft::ir
