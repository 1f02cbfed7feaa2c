#include "support.h"

#include <fmt/format.h>

#include "compiler/ir/text.h"
#include "ops/evaluate.h"

namespace weft::test {

namespace {

Values values_of(const ops::Array& array) {
  Values result;
  for (std::int64_t i = 0; i < array.elements(); ++i) {
    result.push_back(array.at(i));
    if (is_complex(array.type.dtype)) result.push_back(array.im[static_cast<std::size_t>(i)]);
  }
  return result;
}

}  // namespace

Outcome evaluate(const Program& program, State& state, int executions) {
  Outcome outcome;
  ops::Environment environment;
  for (const std::string& name : state.names()) {
    ops::Array array(state.type(name));
    const Values values = state.values(name);
    for (std::int64_t i = 0; i < array.elements(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      if (is_complex(array.type.dtype)) {
        array.re[at] = values[2 * at];
        array.im[at] = values[2 * at + 1];
      } else {
        array.set(i, values[at]);
      }
    }
    environment.state.emplace(name, std::move(array));
  }
  environment.feed = [](const std::string&, const Type& type, std::int64_t iteration) {
    ops::Array array(type);
    for (std::int64_t i = 0; i < array.elements(); ++i) {
      array.set(i, static_cast<double>(iteration) + 0.25 * static_cast<double>(i));
    }
    return array;
  };
  environment.receive = [&](const std::string& name, std::int64_t,
                            std::span<const ops::Array> arrays) {
    std::vector<Values> call;
    for (const ops::Array& array : arrays) call.push_back(values_of(array));
    outcome.received[name].push_back(std::move(call));
  };
  for (int i = 0; i < executions; ++i) {
    environment.iteration = i;
    ops::evaluate(program.graph(), environment);
  }
  for (const auto& [name, array] : environment.state) state.set_values(name, values_of(array));
  return outcome;
}

void check_graph(const Program& program) {
  ir::verify(program.graph(), "trace");
  const std::string text = ir::print(program.graph());
  const ir::Graph read = ir::parse(text, ops::table());
  std::string difference;
  if (!ir::equal(program.graph(), read, &difference)) {
    throw Error(fmt::format("the text reads back differently: {}\n{}", difference, text));
  }
}

int count(const Program& program, const std::string& op) {
  int found = 0;
  ir::walk(program.graph().body(), [&](const ir::Node& node) { found += node.is(op); });
  return found;
}

int nodes(const Program& program) {
  int found = 0;
  ir::walk(program.graph().body(), [&](const ir::Node&) { ++found; });
  return found;
}

std::vector<int> carried(const Program& program) {
  std::vector<int> numbers;
  ir::walk(program.graph().body(), [&](const ir::Node& node) {
    if (node.is("loop")) numbers.push_back(static_cast<int>(node.operands.size()));
  });
  return numbers;
}

void out(const std::string& name, const Tensor& tensor) {
  receiver(name, {tensor}, [](std::int64_t, const std::vector<HostTensor>&) {});
}

Values value_of(State& state, const std::function<Tensor()>& body) {
  const Program program = trace(state, [&] { out("value", body()); });
  check_graph(program);
  return evaluate(program, state).received.at("value").at(0).at(0);
}

Values value_of(const std::function<Tensor()>& body) {
  State state;
  return value_of(state, body);
}

std::string error_of(const std::function<void()>& body) {
  State state;
  try {
    trace(state, body);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

testing::AssertionResult names(const std::string& message, const std::string& text,
                               const std::string& file, int line) {
  if (message.find(text) == std::string::npos) {
    return testing::AssertionFailure() << "'" << text << "' is not in '" << message << "'";
  }
  const std::string place = fmt::format("({}:{})", file, line);
  if (message.find(place) == std::string::npos) {
    return testing::AssertionFailure() << place << " is not in '" << message << "'";
  }
  return testing::AssertionSuccess();
}

void expect_near(const Values& given, const Values& expected, double tolerance) {
  ASSERT_EQ(given.size(), expected.size());
  for (std::size_t i = 0; i < given.size(); ++i) {
    EXPECT_NEAR(given[i], expected[i], tolerance * std::max(1.0, std::abs(expected[i])))
        << "element " << i;
  }
}

}  // namespace weft::test
