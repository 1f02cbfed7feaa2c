#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/loop/kernel.h"

/// Whether a device does what the rows of compiler/loop/intrinsic.h, the loop language's operations
/// and its conversions mean: small kernels over operands of all kinds, whose results are compared
/// with the interpreter's.
namespace weft::selftest {

struct IntrinsicCase {
  std::string name;                            ///< "mma.m16n8k16.bf16/random"
  int capability = 70;                         ///< least that the kernel needs, 10 * major + minor
  bool specific = false;                       ///< and that one only ("sm_90a")
  std::shared_ptr<const loop::Kernel> kernel;  ///< of one phase
  std::vector<std::vector<std::byte>> arguments;  ///< their memory before the launch
  std::vector<std::vector<double>> tolerances;    ///< by argument and element; empty: exact
  /// Elements of 32 bits that are pairs of 16-bit floats or a tf32: any NaN is one.
  enum class Packing : std::uint8_t { none, f16, bf16, tf32 };
  Packing packing = Packing::none;
};

/// A case or more for each row but those of rows_without_case(), and for the language's own
/// operations.
std::vector<IntrinsicCase> intrinsic_cases();
/// Rows that make sense only together with others, in the kernels of products.
std::span<const std::string_view> rows_without_case();

/// The arguments' memory after the launch, by the interpreter. Throws Error with what it reports.
std::vector<std::vector<std::byte>> expected_results(const IntrinsicCase& one);
/// Where a device's results differ, a line each and at most a few; empty where they do not.
std::vector<std::string> compare_results(const IntrinsicCase& one,
                                         std::span<const std::vector<std::byte>> expected,
                                         std::span<const std::vector<std::byte>> found);

}  // namespace weft::selftest
