#pragma once

#include <memory>
#include <string_view>

#include "runtime/runner.h"

namespace weft::runtime::cuda {

/// How the target of a plan for a GPU begins: "nvptx64/sm_90a".
inline constexpr std::string_view architecture = "nvptx64/";

/// On the GPU that `options` names. `plan` and `info` must outlive it. Throws Error where
/// there is no such GPU, the plan is for another, or its memory does not suffice.
std::unique_ptr<Runner> make_runner(const plan::Plan& plan, const PlanInfo& info,
                                    const RunOptions& options);

}  // namespace weft::runtime::cuda
