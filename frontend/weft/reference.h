#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "weft/program.h"

namespace weft {

struct ReferenceOptions {
  /// Called with the tensors of the receivers of these names, rounded to their types, as the
  /// compiled program would. The program's own callbacks are not called.
  std::map<std::string, ReceiveCallback> receivers;
  /// Values of scalars; the others have their defaults. Names that the program lacks are ignored.
  std::map<std::string, double> scalars;
};

/// Runs a program's traced graph without compiling it: node by node in double precision, as plain
/// as each operation's definition, on this thread, with the program's own feeders. Slow; what a
/// compiled run is to be compared with. Returns the states after the run, rounded to their types;
/// `state` itself, which the run starts from, stays as it is. Error where `state` lacks a tensor of
/// the program or has it with another type.
State reference_run(const Program& program, const State& state,
                    const ReferenceOptions& options = {});

}  // namespace weft
