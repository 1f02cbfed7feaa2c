#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "tools/bench/bench.h"
#include "tools/bench/peer_process.h"

namespace weft::bench {

/// PyTorch's single operations on a GPU (tools/baselines/operations.py), in one process that is
/// started with the first of them.
class OperationsPeer {
 public:
  explicit OperationsPeer(const Settings& settings) : settings_(settings) {}

  /// A case, as the script has them; nothing where there is no PyTorch, or it cannot do that case,
  /// as is then said on stderr. What was given before is of no use from here on.
  std::optional<Work> work(const nlohmann::json& which);
  /// "PyTorch 2.9.0"; after work() has given something.
  const std::string& name() const { return peer_->name(); }

 private:
  Settings settings_;
  std::unique_ptr<PeerProcess> peer_;
  bool absent_ = false;
};

}  // namespace weft::bench
