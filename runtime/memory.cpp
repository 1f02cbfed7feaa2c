#include "runtime/memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "runtime/plan/error.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace weft::runtime {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;

[[noreturn]] void out_of_memory(std::int64_t bytes) {
  throw Error(fmt::format("out of memory: {} bytes could not be allocated", bytes));
}

#ifdef __linux__
/// Maps `bytes` (a multiple of huge_page) at a multiple of huge_page; null where that fails.
std::byte* map_huge(std::size_t bytes) {
  const std::size_t room = bytes + huge_page;
  void* raw = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  auto* start = static_cast<std::byte*>(raw);
  const std::size_t past = reinterpret_cast<std::uintptr_t>(raw) % huge_page;
  const std::size_t head = past == 0 ? 0 : huge_page - past;
  if (head > 0) munmap(start, head);
  if (room - head > bytes) munmap(start + head + bytes, room - head - bytes);
  // A hint: where huge pages are off, small ones serve as well.
  madvise(start + head, bytes, MADV_HUGEPAGE);
  return start + head;
}
#endif

}  // namespace

AlignedBuffer::AlignedBuffer(std::int64_t bytes) : size_(bytes) {
  if (bytes < 0 || bytes > (std::int64_t{1} << 56)) out_of_memory(bytes);
  const auto size = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1));
#ifdef __linux__
  if (size >= 2 * huge_page) {
    // Fresh pages are zero, and come when they are first touched.
    mapped_ = (size + huge_page - 1) / huge_page * huge_page;
    data_ = map_huge(mapped_);
    if (data_ == nullptr) out_of_memory(bytes);
    return;
  }
#endif
  data_ = static_cast<std::byte*>(::operator new(
      size, std::align_val_t{static_cast<std::size_t>(tensor_alignment)}, std::nothrow));
  if (data_ == nullptr) out_of_memory(bytes);
  std::memset(data_, 0, size);
}

AlignedBuffer::~AlignedBuffer() {
  if (data_ == nullptr) return;
#ifdef __linux__
  if (mapped_ > 0) {
    munmap(data_, mapped_);
    return;
  }
#endif
  ::operator delete(data_, std::align_val_t{static_cast<std::size_t>(tensor_alignment)});
}

StagingMemory ordinary_memory(std::int64_t bytes) {
  auto buffer = std::make_shared<AlignedBuffer>(bytes);
  std::byte* data = buffer->data();
  return {std::move(buffer), data};
}

}  // namespace weft::runtime
