#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "compiler/ir/graph.h"

/// What `weft selftest` checks on a device. A case runs in a process that may have run others.
namespace weft::selftest {

/// The device under test.
struct Target {
  std::string device = "cpu";  ///< as the front end names it
  std::string gpu = {};        ///< what its kernels are generated for; "": this processor
  int index = 0;               ///< of a GPU
};
/// Throws Error that says what is missing where there is no such device.
Target find_target(const std::string& device);

/// Which cases there are to be.
struct Selection {
  std::uint64_t first_seed = 0;  ///< of the random graphs
  std::int64_t seeds = 64;
};

struct Case {
  std::string name;  ///< "op/softmax": a group and what it has of its own
  /// What is wrong, a line each; nothing where all is well. May throw.
  std::function<std::vector<std::string>()> run;
};

/// All cases for a device, in the order in which trust grows: intrinsics, ops, products of many
/// tiles, random graphs, training runs.
std::vector<Case> cases(const Target& target, const Selection& selection);

// One function for each group, in the file of its name.
void add_intrinsic_cases(std::vector<Case>& cases, const Target& target);
void add_op_cases(std::vector<Case>& cases, const Target& target);
void add_product_cases(std::vector<Case>& cases, const Target& target);
void add_random_cases(std::vector<Case>& cases, const Target& target, const Selection& selection);
void add_training_cases(std::vector<Case>& cases, const Target& target);

/// Where a graph's results on the device are not within the bounds of rounding, a line each.
std::vector<std::string> differences(const ir::Graph& graph, const Target& target);

/// Runs one, exceptions being lines as well.
std::vector<std::string> run_case(const Case& one);

}  // namespace weft::selftest
