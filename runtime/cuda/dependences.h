#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

namespace weft::runtime::cuda {

/// Memory that work reads, or may write.
struct Touch {
  std::uint64_t address = 0;
  std::int64_t bytes = 0;
  bool writes = false;
};

/// What has to wait for what, of work that comes in an order: each piece of memory knows the node
/// that wrote it last and those that have read it since.
class Dependences {
 public:
  /// The nodes that one with these touches is to wait for, ascending: a read for the last write of
  /// its memory, a write for that and the reads since. Without those that others of them wait for
  /// anyway.
  std::vector<std::uint32_t> wanted(std::span<const Touch> touches) const;
  /// The next node (they are numbered from 0), which waits for those.
  void add(std::span<const std::uint32_t> after, std::span<const Touch> touches);

 private:
  static constexpr std::int64_t nobody = -1;

  struct Piece {
    std::uint64_t end = 0;
    std::int64_t writer = nobody;
    std::vector<std::uint32_t> readers = {};
  };
  using Pieces = std::map<std::uint64_t, Piece>;  ///< by their first address; they do not overlap

  /// The nodes that a node waits for, directly or not, as bits from 64 * first_word on.
  struct Before {
    std::size_t first_word = 0;
    std::vector<std::uint64_t> bits = {};
  };

  /// Calls `body` with each piece in [begin, end).
  template <typename Body>
  void for_pieces(std::uint64_t begin, std::uint64_t end, const Body& body) const;
  /// No piece has this address inside of it.
  void split(std::uint64_t address);
  void record_read(std::uint64_t begin, std::uint64_t end, std::uint32_t node);
  void record_write(std::uint64_t begin, std::uint64_t end, std::uint32_t node);
  bool is_before(std::uint32_t node, std::uint32_t other) const;

  Pieces pieces_;
  std::vector<Before> before_;  ///< by node
};

}  // namespace weft::runtime::cuda
