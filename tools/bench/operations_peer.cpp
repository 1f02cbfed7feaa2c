#include "tools/bench/operations_peer.h"

#include <fmt/format.h>

#include <cstdio>

#include "runtime/plan/error.h"

namespace weft::bench {

std::optional<Work> OperationsPeer::work(const nlohmann::json& which) {
  if (absent_ || !settings_.on_gpu()) return std::nullopt;
  try {
    if (peer_ == nullptr) {
      if (settings_.python.empty()) throw Error("no PyTorch beside it without --python");
      const nlohmann::json config{{"device", settings_.device}};
      PeerCommand command{settings_.python, settings_.scripts + "/operations.py", config.dump()};
      command.ready_seconds = 120;
      peer_ = std::make_unique<PeerProcess>(command);
    }
    peer_->choose(which.dump());
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    // One that never came does not come later either.
    absent_ = peer_ == nullptr;
    peer_ = nullptr;
    return std::nullopt;
  }
  return [this](std::int64_t count) { return peer_->run(count); };
}

}  // namespace weft::bench
