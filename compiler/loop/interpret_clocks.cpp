#include "compiler/loop/interpret_clocks.h"

#include <algorithm>

namespace weft::loop::interpreter {

void join(Knowledge& into, const Knowledge& other) {
  if (into.size() < other.size()) into.resize(other.size(), 0);
  for (std::size_t i = 0; i < other.size(); ++i) into[i] = std::max(into[i], other[i]);
}

void Clocks::begin_phase(bool on, std::size_t threads) {
  on_ = on;
  known_.assign(on ? threads : 0, {});
  times_.assign(on ? threads : 0, 1);
}

void Clocks::begin_block() {
  if (!on_) return;
  for (Knowledge& knowledge : known_) knowledge = times_;
  for (std::uint32_t& time : times_) ++time;
  for (std::size_t i = 0; i < known_.size(); ++i) known_[i][i] = times_[i];
}

void Clocks::meet() {
  if (!on_) return;
  Knowledge all;
  for (const Knowledge& knowledge : known_) join(all, knowledge);
  for (std::size_t i = 0; i < known_.size(); ++i) {
    known_[i] = all;
    known_[i][i] = ++times_[i];
  }
}

void Clocks::release(int thread, Knowledge& into) {
  const auto agent = static_cast<std::size_t>(thread);
  join(into, known_[agent]);
  known_[agent][agent] = ++times_[agent];
}

void Clocks::acquire(int thread, const Knowledge& from) {
  join(known_[static_cast<std::size_t>(thread)], from);
}

std::int32_t Clocks::copies(std::size_t mbarrier) {
  const std::size_t agent = known_.size() + mbarrier;
  if (times_.size() <= agent) times_.resize(agent + 1, 1);
  return static_cast<std::int32_t>(agent);
}

void Clocks::release_copies(std::int32_t agent, Knowledge& into) {
  const auto place = static_cast<std::size_t>(agent);
  if (into.size() <= place) into.resize(place + 1, 0);
  into[place] = times_[place]++;
}

}  // namespace weft::loop::interpreter
