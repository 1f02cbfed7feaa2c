#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/compile.h"
#include "compiler/ir/text.h"
#include "ops/evaluate.h"
#include "ops/op.h"

namespace weft::test {

using Values = std::map<std::string, std::vector<double>>;

inline ir::Graph parse(std::string_view text) { return ir::parse(text, ops::table()); }

/// States after one run of the compiled graph from `inputs` (others start as zeros).
Values run_compiled(const ir::Graph& graph, const Values& inputs,
                    const compiler::CompileOptions& options = {});
/// The same of what was compiled before, on a number of threads (0: as many as cores).
Values run_plan(const plan::Plan& plan, const Values& inputs, int threads = 0);
/// The same by the reference evaluation.
Values run_reference(const ir::Graph& graph, const Values& inputs);

/// |a - b| / |b|, norm-wise; infinite where sizes differ.
double relative_error(const std::vector<double>& a, const std::vector<double>& b);

/// n values in [-1, 1], a function of the seed.
std::vector<double> random_values(std::size_t n, unsigned seed);

}  // namespace weft::test
