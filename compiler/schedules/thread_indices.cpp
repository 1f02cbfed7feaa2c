#include "compiler/schedules/thread_indices.h"

#include <algorithm>

#include "compiler/schedules/divide.h"

namespace weft::compiler {

using loop::Ex;

std::int64_t parts_to_fill(std::int64_t threads, std::int64_t most) {
  const std::int64_t wanted = divide_up(enough_threads, std::max<std::int64_t>(threads, 1));
  return std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>(most, 1));
}

void if_below(loop::Builder& b, Ex index, std::int64_t extent,
              const std::function<void(Ex index)>& body) {
  loop::Arena& a = b.arena();
  b.condition(a.less(index, a.integer(extent)), [&] { body(b.let_within(index, 0, extent - 1)); });
}

Ex at_most_last(loop::Builder& b, Ex index, std::int64_t extent) {
  loop::Arena& a = b.arena();
  return b.let_within(a.binary(loop::Binary::minimum, index, a.integer(extent - 1)), 0, extent - 1);
}

Ex in_pieces(loop::Arena& a, Ex thread, std::int64_t threads, std::int64_t piece, std::int64_t i) {
  return a.add(a.mul(thread, a.integer(piece)), a.integer(i / piece * piece * threads + i % piece));
}

void for_own_numbers(loop::Builder& b, Ex thread, std::int64_t threads, std::int64_t total,
                     const std::function<void(Ex number)>& body) {
  loop::Arena& a = b.arena();
  b.loop(divide_up(total, threads), loop::Role::serial, 1, [&](Ex turn) {
    if_below(b, a.add(a.mul(turn, a.integer(threads)), thread), total, body);
  });
}

}  // namespace weft::compiler
