#pragma once

#include <cstdint>

#include "compiler/schedules/emitter.h"
#include "compiler/schedules/reduction_space.h"

namespace weft::compiler {

/// A reduction on a GPU, of whatever kind: a thread for each result or a block, and few results of
/// many terms in parts, which a further phase combines in order.
class DeviceReduction {
 public:
  void run();

 protected:
  using Ex = loop::Ex;

  static constexpr std::int64_t threads = 256;

  /// `neighbours`: those of the results are neighbours in memory, so that threads read them
  /// together. `storage`: of what is found in a part. `lanes`: that sweep_by_thread() has share a
  /// result.
  DeviceReduction(GroupEmitter& emitter, bool neighbours, DType storage, std::int64_t lanes = 1);
  DeviceReduction(const DeviceReduction&) = delete;
  DeviceReduction& operator=(const DeviceReduction&) = delete;
  ~DeviceReduction() = default;

  // Phases. The first two put() what they find in each part.
  virtual void sweep_by_thread() = 0;
  virtual void sweep_by_block() = 0;
  virtual void combine_parts() = 0;

  /// What was found in a part is kept, or the result where there are no others.
  void put(Ex part, Ex result, const ops::Element& value);
  ops::Element found(Ex part, Ex result);
  void finish(Ex result, const ops::Element& value);
  /// The reduction's operand.
  ops::Element term(Ex result, Ex number);

  std::int64_t halves() const { return r_.complex ? 2 : 1; }

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  Reduction r_;
  std::int64_t results_, terms_;
  std::int64_t lanes_;           ///< of a result, where threads have results
  std::int64_t parts_ = 1;       ///< of the terms
  std::int64_t part_terms_ = 0;  ///< of each but the last

 private:
  Ex slot(Ex part, Ex result, std::int64_t half);

  DType storage_;
  bool by_thread_;
  const loop::Buffer* found_ = nullptr;
};

}  // namespace weft::compiler
