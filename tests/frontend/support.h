#pragma once

#include <gtest/gtest.h>
#include <weft/weft.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

/// Traces evaluated by the reference. Apart from ops/*.h, whose namespace loop would make the
/// front end's loop() ambiguous.
namespace weft::test {

using Values = std::vector<double>;

struct Outcome {
  /// Each receiver's calls, in order: the values of its tensors (complex as pairs).
  std::map<std::string, std::vector<std::vector<Values>>> received;
};

/// Runs the program `executions` times by the reference evaluation, on the values of `state`, which
/// are changed as the program says. Feeders give iteration + 0.25 * element.
Outcome evaluate(const Program& program, State& state, int executions = 1);

/// The verifier's and the text form's opinion of the traced graph; throws Error.
void check_graph(const Program& program);

/// Number of nodes of an op, loop bodies included.
int count(const Program& program, const std::string& op);

/// Number of nodes, loop bodies included.
int nodes(const Program& program);

/// Numbers of values that the loops carry, in order of execution.
std::vector<int> carried(const Program& program);

/// Hands a tensor to evaluate() under a name.
void out(const std::string& name, const Tensor& tensor);

/// The values of the tensor that `body` returns.
Values value_of(const std::function<Tensor()>& body);
Values value_of(State& state, const std::function<Tensor()>& body);

/// The message of the Error that tracing `body` throws, "" where it throws none.
std::string error_of(const std::function<void()>& body);

/// Whether the message has the text and the place of this test, "file:line".
testing::AssertionResult names(const std::string& message, const std::string& text,
                               const std::string& file, int line);

void expect_near(const Values& given, const Values& expected, double tolerance = 1e-12);

}  // namespace weft::test
