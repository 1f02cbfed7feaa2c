#include "tools/selftest/cases.h"

#include <exception>

#include "frontend/device.h"

namespace weft::selftest {

Target find_target(const std::string& device) {
  const detail::Device found = detail::find_device(device);
  return {device, found.gpu, found.index};
}

std::vector<Case> cases(const Target& target, const Selection& selection) {
  std::vector<Case> all;
  add_intrinsic_cases(all, target);
  add_op_cases(all, target);
  add_product_cases(all, target);
  add_random_cases(all, target, selection);
  add_training_cases(all, target);
  return all;
}

std::vector<std::string> run_case(const Case& one) {
  try {
    return one.run();
  } catch (const std::exception& error) {
    return {std::string("error: ") + error.what()};
  }
}

}  // namespace weft::selftest
