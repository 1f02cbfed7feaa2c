#pragma once

#include <string>

namespace weft::test {

/// What ptxas says with -v of PTX for "sm_80", ..., or nothing where there is no ptxas (on the
/// PATH, in CUDA's usual folder, or named by WEFT_PTXAS). Fails the test where it refuses.
std::string assemble(const std::string& ptx, const std::string& processor);

}  // namespace weft::test
