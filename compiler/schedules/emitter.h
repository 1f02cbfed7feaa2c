#pragma once

#include <map>
#include <set>
#include <span>
#include <unordered_map>
#include <vector>

#include "compiler/codegen/codegen.h"
#include "compiler/fusion/fuse.h"
#include "compiler/loop/kernel.h"
#include "ops/op.h"

namespace weft::compiler {

/// Turns a group's values into loop-language expressions: a schedule asks for the values it stores,
/// and every pointwise node is inlined on the way, so that movement becomes index arithmetic.
class GroupEmitter final : public ops::Lowering {
 public:
  /// Makes an argument for each input and output of the group, in this order.
  GroupEmitter(loop::Kernel& kernel, const Group& group, bool strict = false);

  loop::Builder& builder() { return builder_; }
  loop::Arena& arena() override { return kernel_.arena; }
  const Group& group() const { return group_; }

  /// The value at an index, one i64 expression for each axis; computed, loaded or bound.
  ops::Element value(ir::Value value, std::span<const loop::Ex> index,
                     loop::Ex predicate = nullptr);
  ops::Element operand(const ir::Node& node, std::size_t operand,
                       std::span<const loop::Ex> index) override;
  ops::Element operand_if(const ir::Node& node, std::size_t operand,
                          std::span<const loop::Ex> index, loop::Ex predicate) override;

  /// Inside the anchor's loops its result is in registers: value() gives this, at whatever index
  /// (fusion admits only readers at the result's own index).
  void bind(ir::Value value, ops::Element element);
  /// Forgets bound and computed values: at the start of each loop body with bindings of its own.
  void reset();

  bool is_output(ir::Value value) const;
  void store(ir::Value output, loop::Ex position, ops::Element element,
             loop::Ex predicate = nullptr, bool streaming = false);
  /// Stores every output of the group at a row-major position of the (common) index space; `index`
  /// is the index in `shape`. An anchor's further results and the sum of an operand have shapes of
  /// their own, and are left to its schedule.
  /// `streaming`: none of them is read again soon.
  void store_outputs(std::span<const loop::Ex> index, const Shape& shape, bool streaming = false);
  /// The two halves of it, for several positions' loads ahead of their stores.
  struct Computed {
    ir::Value output;
    ops::Element element;
  };
  std::vector<Computed> compute_outputs(std::span<const loop::Ex> index, const Shape& shape);
  void store_computed(std::span<const Computed> computed, std::span<const loop::Ex> index,
                      const Shape& shape, bool streaming = false);
  /// Asks for the memory that value() would read, that store_outputs() would read beside the
  /// anchor's result, and that it would write.
  void prefetch(ir::Value value, std::span<const loop::Ex> index);
  void prefetch_epilogue(std::span<const loop::Ex> index, const Shape& shape);
  void prefetch_outputs(std::span<const loop::Ex> index, const Shape& shape);
  const loop::Buffer* input_buffer(ir::Value value) const;
  const loop::Buffer* output_buffer(ir::Value value) const;
  /// A further argument, private to the kernel: memory between its phases.
  const loop::Buffer* workspace(DType dtype, std::int64_t elements);
  std::int64_t workspace_bytes() const { return workspace_bytes_; }

 private:
  using Key = std::pair<const ir::Node*, std::uint32_t>;
  static Key key(ir::Value v) { return {v.node, v.index}; }
  ops::Element load(const loop::Buffer* buffer, const Type& type, std::span<const loop::Ex> index,
                    loop::Ex predicate);

  void prefetch_loads(loop::Ex value, std::set<loop::Ex>& seen);
  /// As a store would round it, in strict mode.
  ops::Element rounded(ir::Value value, ops::Element element);

  loop::Kernel& kernel_;
  bool strict_;
  loop::Builder builder_;
  const Group& group_;
  std::map<Key, const loop::Buffer*> inputs_;
  std::map<Key, const loop::Buffer*> outputs_;
  std::map<Key, ops::Element> bound_;
  std::map<std::pair<Key, std::vector<loop::Ex>>, ops::Element> memo_;
  loop::Ex predicate_ = nullptr;
  std::int64_t workspace_bytes_ = 0;
};

/// The loop-language type of a tensor's elements in registers (c64: of each part).
loop::Scalar register_of(DType dtype);
/// Elements of the buffer that holds a tensor (a complex one is twice as many f32).
std::int64_t buffer_elements(const Type& type);
DType buffer_dtype(DType dtype);

}  // namespace weft::compiler
