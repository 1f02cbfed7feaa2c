#include "runtime/cuda/dependences.h"

#include <algorithm>
#include <functional>
#include <iterator>

namespace weft::runtime::cuda {
namespace {

constexpr std::size_t word_bits = 64;
/// Which nodes wait for which is known this far back, so that memory grows with the number of nodes
/// and not with its square. An edge from further back is there though others may imply it.
constexpr std::size_t horizon = std::size_t{1} << 14;

}  // namespace

template <typename Body>
void Dependences::for_pieces(std::uint64_t begin, std::uint64_t end, const Body& body) const {
  auto piece = pieces_.upper_bound(begin);
  if (piece != pieces_.begin() && std::prev(piece)->second.end > begin) --piece;
  for (; piece != pieces_.end() && piece->first < end; ++piece) body(piece->second);
}

bool Dependences::is_before(std::uint32_t node, std::uint32_t other) const {
  const Before& before = before_[other];
  const std::size_t word = node / word_bits;
  if (word < before.first_word || word - before.first_word >= before.bits.size()) return false;
  return (before.bits[word - before.first_word] >> (node % word_bits) & 1) != 0;
}

std::vector<std::uint32_t> Dependences::wanted(std::span<const Touch> touches) const {
  std::vector<std::uint32_t> candidates;
  for (const Touch& touch : touches) {
    if (touch.bytes <= 0) continue;
    const std::uint64_t end = touch.address + static_cast<std::uint64_t>(touch.bytes);
    for_pieces(touch.address, end, [&](const Piece& piece) {
      // Readers wait for the writer themselves.
      if (touch.writes && !piece.readers.empty()) {
        candidates.insert(candidates.end(), piece.readers.begin(), piece.readers.end());
      } else if (piece.writer != nobody) {
        candidates.push_back(static_cast<std::uint32_t>(piece.writer));
      }
    });
  }
  // Nodes wait for earlier ones only.
  std::sort(candidates.begin(), candidates.end(), std::greater<>());
  candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
  std::vector<std::uint32_t> kept;
  for (const std::uint32_t node : candidates) {
    if (std::none_of(kept.begin(), kept.end(),
                     [&](std::uint32_t other) { return is_before(node, other); })) {
      kept.push_back(node);
    }
  }
  std::reverse(kept.begin(), kept.end());
  return kept;
}

void Dependences::add(std::span<const std::uint32_t> after, std::span<const Touch> touches) {
  const auto node = static_cast<std::uint32_t>(before_.size());
  Before before;
  before.first_word = (node - std::min<std::size_t>(node, horizon)) / word_bits;
  before.bits.resize(node / word_bits + 1 - before.first_word);
  for (const std::uint32_t other : after) {
    const Before& its = before_[other];
    for (std::size_t i = 0; i < its.bits.size(); ++i) {
      const std::size_t word = its.first_word + i;
      if (word >= before.first_word) before.bits[word - before.first_word] |= its.bits[i];
    }
    const std::size_t word = other / word_bits;
    if (word >= before.first_word) {
      before.bits[word - before.first_word] |= std::uint64_t{1} << (other % word_bits);
    }
  }
  before_.push_back(std::move(before));
  // Reads first: what the node writes as well is its own from here on.
  for (const bool writes : {false, true}) {
    for (const Touch& touch : touches) {
      if (touch.bytes <= 0 || touch.writes != writes) continue;
      const std::uint64_t end = touch.address + static_cast<std::uint64_t>(touch.bytes);
      writes ? record_write(touch.address, end, node) : record_read(touch.address, end, node);
    }
  }
}

void Dependences::split(std::uint64_t address) {
  auto piece = pieces_.lower_bound(address);
  if (piece == pieces_.begin()) return;
  --piece;
  if (piece->second.end <= address) return;
  Piece rest = piece->second;
  piece->second.end = address;
  pieces_.emplace_hint(std::next(piece), address, std::move(rest));
}

void Dependences::record_read(std::uint64_t begin, std::uint64_t end, std::uint32_t node) {
  split(begin);
  split(end);
  std::uint64_t at = begin;
  for (auto piece = pieces_.lower_bound(begin); at < end;) {
    if (piece == pieces_.end() || piece->first > at) {
      // Nothing has touched this yet.
      const std::uint64_t next = piece == pieces_.end() ? end : std::min(end, piece->first);
      piece = pieces_.emplace_hint(piece, at, Piece{next});
    }
    std::vector<std::uint32_t>& readers = piece->second.readers;
    if (readers.empty() || readers.back() != node) readers.push_back(node);
    at = piece->second.end;
    ++piece;
  }
}

void Dependences::record_write(std::uint64_t begin, std::uint64_t end, std::uint32_t node) {
  split(begin);
  split(end);
  pieces_.erase(pieces_.lower_bound(begin), pieces_.lower_bound(end));
  pieces_.emplace(begin, Piece{end, node});
}

}  // namespace weft::runtime::cuda
