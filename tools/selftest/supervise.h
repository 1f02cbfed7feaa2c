#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tools/selftest/cases.h"

namespace weft::selftest {

/// Serves a supervisor: runs the cases whose names come on the standard input, a line each, and
/// writes what is wrong with them to the standard output. Ends with the input, or after an error of
/// CUDA's driver, after which nothing that a process does there can be believed.
int serve(const std::vector<Case>& cases);

struct Supervision {
  std::vector<std::string> command;  ///< what serves, with its arguments; looked up as a path
  int jobs = 1;                      ///< processes at one time
  double case_seconds = 60;          ///< after which a case has failed
  double total_seconds = 0;          ///< after which no further case is begun; 0: none
};

struct Outcome {
  std::string name;
  std::vector<std::string> lines;  ///< what is wrong
  double seconds = 0;
};

/// Runs cases in processes of their own, several cases in each while all is well: one that crashes,
/// hangs or ruins CUDA's context fails alone. Where the driver cannot say which kernel went wrong,
/// the case is run again with kernels one by one. Returns the names that were not begun in time.
std::vector<std::string> supervise(const std::vector<std::string>& names,
                                   const Supervision& supervision,
                                   const std::function<void(const Outcome&)>& done);

}  // namespace weft::selftest
