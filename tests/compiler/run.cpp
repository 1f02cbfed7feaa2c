#include "run.h"

#include <cmath>
#include <limits>
#include <random>

#include "runtime/executable.h"
#include "runtime/state.h"

namespace weft::test {

Values run_compiled(const ir::Graph& graph, const Values& inputs,
                    const compiler::CompileOptions& options) {
  return run_plan(compiler::compile(graph, options).plan, inputs);
}

Values run_plan(const plan::Plan& plan, const Values& inputs, int threads) {
  State state;
  for (const plan::Buffer& buffer : plan.buffers) {
    if (buffer.kind != plan::BufferKind::state || state.has(buffer.name)) continue;
    state.add(buffer.name, buffer.type);
    const auto given = inputs.find(buffer.name);
    if (given != inputs.end()) state.set_values(buffer.name, given->second);
  }
  runtime::RunOptions options;
  if (threads > 0) options.threads = threads;
  runtime::Executable executable(plan, options);
  executable.bind(state);
  executable.run();
  Values out;
  for (const std::string& name : state.names()) out[name] = state.values(name);
  return out;
}

Values run_reference(const ir::Graph& graph, const Values& inputs) {
  ops::Environment environment;
  ir::walk(graph.body(), [&](const ir::Node& node) {
    if (!node.is("state")) return;
    const std::string& name = node.attributes.text("name");
    ops::Array array(node.results[0]);
    const auto given = inputs.find(name);
    if (given != inputs.end()) {
      const bool complex = is_complex(array.type.dtype);
      for (std::int64_t i = 0; i < array.elements(); ++i) {
        const auto at = static_cast<std::size_t>(i);
        if (complex) {
          array.re[at] = given->second[2 * at];
          array.im[at] = given->second[2 * at + 1];
        } else {
          array.set(i, given->second[at]);
        }
      }
    }
    environment.state[name] = std::move(array);
  });
  ops::evaluate(graph, environment);
  Values out;
  for (const auto& [name, array] : environment.state) {
    for (std::int64_t i = 0; i < array.elements(); ++i) {
      out[name].push_back(array.at(i));
      if (is_complex(array.type.dtype)) out[name].push_back(array.im[static_cast<std::size_t>(i)]);
    }
  }
  return out;
}

double relative_error(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double error = 0;
  double norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    error += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return norm == 0 ? std::sqrt(error) : std::sqrt(error / norm);
}

std::vector<double> random_values(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<double> out(n);
  for (double& v : out) v = uniform(random);
  return out;
}

}  // namespace weft::test
