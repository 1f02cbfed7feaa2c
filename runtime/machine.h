#pragma once

#include <string>

namespace weft::runtime {

/// The processor's name as the system gives it ("AMD EPYC 9R14"), or the architecture's.
std::string machine_name();

}  // namespace weft::runtime
