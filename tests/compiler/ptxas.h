#pragma once

#include <string>
#include <vector>

namespace weft::test {

/// What ptxas says with -v of PTX for "sm_80", ..., or nothing where there is no ptxas (on the
/// PATH, in CUDA's usual folder, or named by WEFT_PTXAS). Fails the test where it refuses.
std::string assemble(const std::string& ptx, const std::string& processor);

/// The same of many modules at once, which takes far less time than one after the other. Their
/// entries have different names; equal modules count once.
std::string assemble(const std::vector<std::string>& modules, const std::string& processor);

/// Entries that keep registers in memory, by what ptxas said: "name: 16 bytes", a line each.
std::vector<std::string> spills(const std::string& said);

}  // namespace weft::test
