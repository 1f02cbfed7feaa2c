#include "tests/ptx/machine/mbarrier.h"

#include <fmt/format.h>

#include <stdexcept>

namespace weft::ptx::mbarrier {

namespace {

constexpr std::uint64_t kTag = 0b01;

struct Fields {
  std::uint32_t expected = 0;
  std::uint32_t pending = 0;
  std::int64_t transactions = 0;
  bool parity = false;
};

std::uint64_t pack(const Fields& fields) {
  const auto transactions = static_cast<std::uint64_t>(fields.transactions) & 0x1fffff;
  return fields.expected | static_cast<std::uint64_t>(fields.pending) << 20 | transactions << 40 |
         static_cast<std::uint64_t>(fields.parity ? 1 : 0) << 61 | kTag << 62;
}

Fields unpack(std::uint64_t object) {
  Fields fields;
  fields.expected = static_cast<std::uint32_t>(object & kMaximumCount);
  fields.pending = static_cast<std::uint32_t>(object >> 20 & kMaximumCount);
  fields.transactions = static_cast<std::int64_t>(object << 3) >> 43;
  fields.parity = (object >> 61 & 1) != 0;
  // A phase that could complete has done so.
  if (object >> 62 != kTag || fields.pending > fields.expected ||
      (fields.pending == 0 && fields.transactions == 0 && fields.expected != 0)) {
    throw std::logic_error(fmt::format("mbarrier: {:#018x} is no mbarrier object", object));
  }
  return fields;
}

void complete(Fields& fields) {
  if (fields.pending != 0 || fields.transactions != 0) return;
  fields.parity = !fields.parity;
  fields.pending = fields.expected;
}

void add_transactions(std::uint64_t& object, std::int64_t bytes) {
  Fields fields = unpack(object);
  fields.transactions += bytes;
  if (fields.transactions > kMaximumCount || fields.transactions < -std::int64_t{kMaximumCount}) {
    throw std::logic_error(fmt::format("mbarrier: a tx-count of {}, outside of -{} to {}",
                                       fields.transactions, kMaximumCount, kMaximumCount));
  }
  complete(fields);
  object = pack(fields);
}

Fields take(std::uint64_t object, std::uint32_t count) {
  Fields fields = unpack(object);
  if (count < 1 || count > fields.pending) {
    throw std::logic_error(
        fmt::format("mbarrier: {} arrivals where {} are pending", count, fields.pending));
  }
  fields.pending -= count;
  return fields;
}

}  // namespace

void init(std::uint64_t& object, std::uint32_t count) {
  if (count < 1 || count > kMaximumCount) {
    throw std::logic_error(
        fmt::format("mbarrier: {} expected arrivals, not 1 to {}", count, kMaximumCount));
  }
  object = pack({count, count, 0, false});
}

void invalidate(std::uint64_t& object) {
  unpack(object);
  object = ~std::uint64_t{0};
}

std::uint64_t arrive(std::uint64_t& object, std::uint32_t count) {
  const std::uint64_t before = object;
  Fields fields = take(object, count);
  complete(fields);
  object = pack(fields);
  return before;
}

std::uint64_t arrive_no_complete(std::uint64_t& object, std::uint32_t count) {
  const std::uint64_t before = object;
  const Fields fields = take(object, count);
  if (fields.pending == 0 && fields.transactions == 0) {
    throw std::logic_error("mbarrier: an arrival with .noComplete completes the phase");
  }
  object = pack(fields);
  return before;
}

std::uint64_t arrive_drop(std::uint64_t& object, std::uint32_t count) {
  const std::uint64_t before = object;
  Fields fields = take(object, count);
  fields.expected -= count;
  complete(fields);
  object = pack(fields);
  return before;
}

void expect_tx(std::uint64_t& object, std::uint32_t bytes) { add_transactions(object, bytes); }

void complete_tx(std::uint64_t& object, std::uint32_t bytes) {
  add_transactions(object, -std::int64_t{bytes});
}

bool test_parity(std::uint64_t object, bool parity) { return unpack(object).parity != parity; }

bool test_state(std::uint64_t object, std::uint64_t state) {
  return unpack(object).parity != unpack(state).parity;
}

std::uint32_t pending_count(std::uint64_t state) { return unpack(state).pending; }

}  // namespace weft::ptx::mbarrier
