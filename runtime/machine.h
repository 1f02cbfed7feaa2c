#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace weft::runtime {

/// The processor's name as the system gives it ("AMD EPYC 9R14"), or the architecture's.
std::string machine_name();

/// What the processor has for vectors and matrices, as the system spells it ("avx2", "avx512f",
/// "amx_bf16", "sve"), in the system's order; empty where it does not say.
std::vector<std::string> vector_features();

/// Memory of the machine in bytes; 0 where the system does not say.
std::int64_t memory_bytes();

}  // namespace weft::runtime
