#include <memory>

#include "compiler/codegen/codegen.h"
#include "tools/selftest/cases.h"
#include "tools/selftest/device_kernel.h"
#include "tools/selftest/intrinsics.h"

namespace weft::selftest {

void add_intrinsic_cases(std::vector<Case>& cases, const Target& target) {
  if (target.gpu.empty()) return;  // rows are a GPU's
  const compiler::DeviceTarget gpu = compiler::device_target(target.gpu);
  for (IntrinsicCase& made : intrinsic_cases()) {
    const bool there = made.specific ? gpu.specific && gpu.capability == made.capability
                                     : gpu.capability >= made.capability;
    if (!there) continue;
    const auto one = std::make_shared<const IntrinsicCase>(std::move(made));
    cases.push_back({"intrinsic/" + one->name, [one, target] {
                       std::vector<std::vector<std::byte>> found = one->arguments;
                       run_on_device(*one->kernel, found, target);
                       return compare_results(*one, expected_results(*one), found);
                     }});
  }
}

}  // namespace weft::selftest
