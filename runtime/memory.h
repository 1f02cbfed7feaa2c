#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

namespace weft::runtime {

/// Alignment of every tensor, of the arena's buffers and of scratch: a cache line, an AVX-512
/// vector.
inline constexpr std::int64_t tensor_alignment = 64;

/// `bytes` rounded up to tensor_alignment.
constexpr std::int64_t align_up(std::int64_t bytes) {
  return (bytes + tensor_alignment - 1) / tensor_alignment * tensor_alignment;
}

/// Zeroed bytes at a fixed address, 64-byte aligned; large ones are 2 MiB-aligned and ask the
/// system for huge pages. The address is never null, even of an empty one made with size 0.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  /// Throws Error where there is not enough memory or `bytes` is negative.
  explicit AlignedBuffer(std::int64_t bytes);
  ~AlignedBuffer();
  AlignedBuffer(AlignedBuffer&& other) noexcept { swap(other); }
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    AlignedBuffer(std::move(other)).swap(*this);
    return *this;
  }

  std::byte* data() const { return data_; }
  std::int64_t size() const { return size_; }

 private:
  void swap(AlignedBuffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(mapped_, other.mapped_);
  }

  std::byte* data_ = nullptr;
  std::int64_t size_ = 0;
  std::size_t mapped_ = 0;  ///< bytes to unmap; 0: from operator new
};

/// Zeroed host memory that transfers go through, 64-byte aligned; a GPU wants a kind of its own.
using StagingMemory = std::shared_ptr<std::byte>;
using StagingAllocator = std::function<StagingMemory(std::int64_t bytes)>;
/// An AlignedBuffer; throws Error as that does.
StagingMemory ordinary_memory(std::int64_t bytes);

}  // namespace weft::runtime
