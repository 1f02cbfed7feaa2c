#include "compiler/loop/interpret_clocks.h"

#include <algorithm>

namespace weft::loop::interpreter {

namespace {

void join(std::vector<std::uint32_t>& into, const std::vector<std::uint32_t>& other) {
  if (into.size() < other.size()) into.resize(other.size(), 0);
  for (std::size_t i = 0; i < other.size(); ++i) into[i] = std::max(into[i], other[i]);
}

}  // namespace

void join(Knowledge& into, const Knowledge& other) {
  join(into.before, other.before);
  join(into.fenced, other.fenced);
}

void Clocks::begin_phase(bool on, std::size_t threads) {
  on_ = on;
  known_.assign(on ? threads : 0, {});
  times_.assign(on ? threads : 0, 1);
}

void Clocks::begin_block() {
  if (!on_) return;
  for (Knowledge& knowledge : known_) knowledge = {.before = times_, .fenced = times_};
  for (std::uint32_t& time : times_) ++time;
  for (std::size_t i = 0; i < known_.size(); ++i) known_[i].before[i] = times_[i];
}

void Clocks::meet(std::size_t first, std::size_t count) {
  if (!on_) return;
  const std::size_t end = std::min(first + count, known_.size());
  Knowledge all;
  for (std::size_t i = first; i < end; ++i) join(all, known_[i]);
  for (std::size_t i = first; i < end; ++i) {
    known_[i] = all;
    known_[i].before[i] = ++times_[i];
  }
}

void Clocks::fence(int thread) {
  if (!on_) return;
  const auto agent = static_cast<std::size_t>(thread);
  known_[agent].fenced[agent] = times_[agent];
  known_[agent].before[agent] = ++times_[agent];
}

void Clocks::release(int thread, Knowledge& into) {
  const auto agent = static_cast<std::size_t>(thread);
  join(into, known_[agent]);
  known_[agent].before[agent] = ++times_[agent];
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
  if (into.before.size() <= place) into.before.resize(place + 1, 0);
  into.before[place] = times_[place]++;
}

}  // namespace weft::loop::interpreter
