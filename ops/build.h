#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ops/op.h"

namespace weft::ops {

/// Appends nodes to a region: runs the shape rule and reports errors at `location`.
class Builder {
 public:
  Builder(ir::Graph& graph, ir::Region& region) : graph_(graph), region_(&region) {}

  ir::Graph& graph() { return graph_; }
  ir::Region& region() { return *region_; }
  void set_region(ir::Region& region) { region_ = &region; }
  /// Location given to nodes that are emitted from now on.
  void set_location(const Location& location) { location_ = location; }
  const Location& location() const { return location_; }

  /// Throws Error "add: shapes differ: f32[2, 3] and f32[4] (file:line)". `regions` are filled
  /// regions made by graph().new_region(nullptr); the node becomes their owner.
  Node* emit(const Op& op, std::vector<Value> operands, Attributes attributes = {},
             std::vector<ir::Region*> regions = {});
  Value emit1(std::string_view op_name, std::vector<Value> operands, Attributes attributes = {}) {
    return emit(op(op_name), std::move(operands), std::move(attributes))->result();
  }
  /// A new argument of a region.
  Value argument(ir::Region& region, const Type& type);

 private:
  ir::Graph& graph_;
  ir::Region* region_;
  Location location_;
};

// Short names for derivative rules and decompositions. Binary operations need equal types:
// broadcasting is explicit here (the front end inserts it).

Value constant(Builder& b, DType dtype, double value, const Shape& shape = {});
Value constant_like(Builder& b, Value like, double value);  ///< splat of like's type
Value unary(Builder& b, std::string_view op_name, Value x);
Value binary(Builder& b, std::string_view op_name, Value x, Value y);
Value add(Builder& b, Value x, Value y);
Value sub(Builder& b, Value x, Value y);
Value mul(Builder& b, Value x, Value y);
Value div(Builder& b, Value x, Value y);
Value neg(Builder& b, Value x);
Value exp(Builder& b, Value x);
Value log(Builder& b, Value x);
Value mul(Builder& b, Value x, double y);
Value add(Builder& b, Value x, double y);
Value where(Builder& b, Value condition, Value x, Value y);
Value cast(Builder& b, Value x, DType dtype);
Value conj(Builder& b, Value x);  ///< x itself where not complex

Value reshape(Builder& b, Value x, const Shape& shape);
Value permute(Builder& b, Value x, std::vector<std::int64_t> order);
Value transpose(Builder& b, Value x, int axis0, int axis1);
/// Numpy rules: aligns trailing axes, expands axes of extent 1.
Value broadcast_to(Builder& b, Value x, const Shape& shape);
Value slice(Builder& b, Value x, std::vector<std::int64_t> start, std::vector<std::int64_t> limit,
            std::vector<std::int64_t> stride = {});
/// One axis of slice().
Value slice_axis(Builder& b, Value x, int axis, std::int64_t start, std::int64_t limit,
                 std::int64_t stride = 1);
Value pad(Builder& b, Value x, std::vector<std::int64_t> low, std::vector<std::int64_t> high,
          double value = 0);
Value pad_axis(Builder& b, Value x, int axis, std::int64_t low, std::int64_t high,
               double value = 0);
Value flip(Builder& b, Value x, std::vector<std::int64_t> axes);
Value concat(Builder& b, std::vector<Value> xs, int axis);

Value sum(Builder& b, Value x, std::vector<std::int64_t> axes, bool keep = false);
Value max(Builder& b, Value x, std::vector<std::int64_t> axes, bool keep = false);
Value mean(Builder& b, Value x, std::vector<std::int64_t> axes, bool keep = false);
/// The adjoint of broadcast_to: sums over the axes that were expanded.
Value sum_to(Builder& b, Value x, const Shape& shape);

/// Result axes: batch (in lhs order), lhs free, rhs free.
Value dot(Builder& b, Value lhs, Value rhs, std::vector<std::int64_t> lhs_contract,
          std::vector<std::int64_t> rhs_contract, std::vector<std::int64_t> lhs_batch = {},
          std::vector<std::int64_t> rhs_batch = {});
Value rfft(Builder& b, Value x, int axis, std::int64_t length);
Value irfft(Builder& b, Value x, int axis, std::int64_t length);
Value fft(Builder& b, Value x, int axis);
Value ifft(Builder& b, Value x, int axis);

}  // namespace weft::ops
