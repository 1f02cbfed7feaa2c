#pragma once

#include <fmt/format.h>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tools/selftest/intrinsics.h"
#include "tools/selftest/operands.h"

/// What cases of intrinsics are made of.
namespace weft::selftest {

using loop::Buffer;
using loop::Ex;
using loop::Intrinsic;
using loop::Scalar;
using loop::Space;
using Bytes = std::vector<std::byte>;

inline constexpr std::int64_t warp = 32;
inline constexpr std::int64_t threads = 64;

/// A kernel with its arguments' memory, while it is being made.
class CaseKernel {
 public:
  CaseKernel(std::string name, int capability) : kernel_(std::make_shared<loop::Kernel>()) {
    one_.name = std::move(name);
    one_.capability = capability;
    kernel_->name = one_.name;
  }

  loop::Arena& arena() { return kernel_->arena; }
  loop::Kernel& kernel() { return *kernel_; }

  const Buffer* input(DType dtype, Bytes bytes) {
    const auto elements = static_cast<std::int64_t>(bytes.size() / size_of(dtype));
    one_.arguments.push_back(std::move(bytes));
    return kernel_->argument(fmt::format("in{}", one_.arguments.size()), dtype, elements, false);
  }
  const Buffer* words(const std::vector<std::uint32_t>& values) {
    return input(DType::i32, bytes_of(values));
  }
  const Buffer* output(DType dtype, std::int64_t elements) {
    constexpr std::byte fresh{0xff};
    return output(dtype, Bytes(static_cast<std::size_t>(elements) * size_of(dtype), fresh));
  }
  const Buffer* output(DType dtype, Bytes bytes) {
    const auto elements = static_cast<std::int64_t>(bytes.size() / size_of(dtype));
    one_.arguments.push_back(std::move(bytes));
    return kernel_->argument(fmt::format("out{}", one_.arguments.size()), dtype, elements, true);
  }

  /// One phase over `count` positions; `body` is given a thread's own.
  void phase(std::int64_t count,
             const std::function<void(loop::Builder& b, Ex position, Ex thread)>& body,
             std::int64_t block_threads = threads) {
    loop::Builder b(*kernel_);
    b.phase(count / block_threads, block_threads, [&](Ex block, Ex thread) {
      loop::Arena& a = arena();
      body(b, b.let(a.add(a.mul(block, a.integer(block_threads)), thread)), thread);
    });
  }

  IntrinsicCase take() {
    one_.kernel = kernel_;
    return std::move(one_);
  }
  IntrinsicCase& one() { return one_; }

 private:
  IntrinsicCase one_;
  std::shared_ptr<loop::Kernel> kernel_;
};

inline DType memory_type(Scalar type) {
  switch (type) {
    case Scalar::f32:
      return DType::f32;
    case Scalar::f64:
      return DType::f64;
    case Scalar::i64:
      return DType::i64;
    case Scalar::u8:
      return DType::u8;
    default:
      return DType::i32;
  }
}

/// A register's value from its element in memory; truth values lie there as i32.
inline Ex taken(loop::Arena& a, const Buffer* buffer, Ex position, Scalar type) {
  const Ex value = a.load(buffer, position);
  return type == Scalar::boolean ? a.cast(value, Scalar::boolean) : value;
}

inline Ex stored(loop::Arena& a, Ex value) {
  return value->type == Scalar::boolean ? a.cast(value, Scalar::i32) : value;
}

/// Tensor copies, with their mbarriers.
void add_tensor_copy(std::vector<IntrinsicCase>& cases, const Intrinsic& row);
/// Registers that warps hand over.
void add_registers(std::vector<IntrinsicCase>& cases, const Intrinsic& row);
void add_operations(std::vector<IntrinsicCase>& cases);
/// On elements of 16 bits.
void add_narrow_operations(std::vector<IntrinsicCase>& cases);
/// Every type in memory to every other: the load's conversion, the cast and the store's rounding.
void add_casts(std::vector<IntrinsicCase>& cases);

}  // namespace weft::selftest
