#pragma once

#include <cstdint>

// Where an operand of wgmma lies in shared memory. After the PTX ISA 9.7.15.5.1.2, "Shared Memory
// Matrix Layout", with its subsections "Major-ness supported by Strides", "Canonical Layouts" (and
// the worked examples there) and "Matrix Descriptor Format". In a canonical layout the leading and
// the stride byte offset (LBO, SBO) mean, in units of T elements = 16 bytes and with W = 2, 4, 8
// for swizzles of 32, 64, 128 bytes:
//
//   MN-major, none      ((T,1,m),(8,k)):((1,T,SBO),(1T,LBO))
//   MN-major, swizzled  ((T,W,m),(8,k)):((1,T,LBO),(WT,SBO))
//   K-major, none       ((8,m),(T,2k)):((1T,SBO),(1,LBO))
//   K-major, swizzled   ((8,m),(T,2k)):((WT,SBO),(1,T))       LBO is not used
//
// The comments of CUTLASS's make_gmma_desc (mma_traits_sm90_gmma.hpp) say the same. The shorter
// ones of its bit field (mma_sm90_desc.hpp: for T, leading is "from the first 8 rows to the next 8
// rows") fit only MN-major without a swizzle if rows are taken for k, and are not relied upon.

namespace weft::ptx {

struct MatrixDescriptor {
  std::uint32_t start = 0;    ///< Bytes from the beginning of shared memory.
  std::uint32_t leading = 0;  ///< Bytes.
  std::uint32_t stride = 0;   ///< Bytes.
  /// (Address of the start of the swizzle's pattern >> 7) & 7.
  std::uint32_t base_offset = 0;
  /// 16-byte chunks that change places: 1 (none), 2, 4 or 8.
  std::uint32_t width = 1;
};

/// What the 64 bits say; bits that the format reserves are ignored.
constexpr MatrixDescriptor decode_descriptor(std::uint64_t bits) {
  const auto offset = [&](int shift) {
    return static_cast<std::uint32_t>(bits >> shift & 0x3fff) << 4;
  };
  constexpr std::uint32_t widths[] = {1, 8, 4, 2};
  return {offset(0), offset(16), offset(32), static_cast<std::uint32_t>(bits >> 49 & 7),
          widths[bits >> 62]};
}

/// The bits of a descriptor: the inverse of decode_descriptor.
constexpr std::uint64_t encode_descriptor(const MatrixDescriptor& descriptor) {
  const auto field = [](std::uint32_t bytes) {
    return static_cast<std::uint64_t>((bytes & 0x3ffff) >> 4);
  };
  const std::uint64_t mode = descriptor.width == 8   ? 1
                             : descriptor.width == 4 ? 2
                             : descriptor.width == 2 ? 3
                                                     : 0;
  return field(descriptor.start) | field(descriptor.leading) << 16 |
         field(descriptor.stride) << 32 |
         static_cast<std::uint64_t>(descriptor.base_offset & 7) << 49 | mode << 62;
}

/// Where a byte lies when 16-byte chunks are exchanged: bits 4 and up of the address are combined
/// with bits 7 and up (CuTe's Swizzle<log2 width, 4, 3>). The pattern is one of addresses, not of
/// offsets into a matrix, so it begins where those bits are zero, or at the base offset: (address
/// >> 7) counts rows of 128 bytes, from the pattern's start if its own are taken away.
constexpr std::uint32_t swizzled(std::uint32_t address, std::uint32_t width,
                                 std::uint32_t base_offset = 0) {
  return address ^ ((((address >> 7) - base_offset) & (width - 1)) << 4);
}

/// The address of an operand's element: `mn` counts rows of A or columns of B, `k` the other axis.
constexpr std::uint32_t element_address(const MatrixDescriptor& descriptor, int element_bytes,
                                        bool mn_major, int mn, int k) {
  const auto across = static_cast<std::uint32_t>(mn);
  const auto along = static_cast<std::uint32_t>(k);
  const auto bytes = static_cast<std::uint32_t>(element_bytes);
  const std::uint32_t chunk = 16 / bytes;
  const std::uint32_t width = descriptor.width;
  std::uint32_t offset = 0;
  if (!mn_major) {
    offset = across % 8 * width * 16 + across / 8 * descriptor.stride + along % chunk * bytes +
             along / chunk * (width == 1 ? descriptor.leading : 16);
  } else if (width == 1) {
    offset = across % chunk * bytes + across / chunk * descriptor.stride + along % 8 * 16 +
             along / 8 * descriptor.leading;
  } else {
    offset = across % chunk * bytes + across / chunk % width * 16 +
             across / chunk / width * descriptor.leading + along % 8 * width * 16 +
             along / 8 * descriptor.stride;
  }
  return swizzled(descriptor.start + offset, width, width == 1 ? 0 : descriptor.base_offset);
}

}  // namespace weft::ptx
