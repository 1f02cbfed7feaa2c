#include <algorithm>

#include "trace.h"

namespace weft {

namespace detail {
namespace {

/// A body being traced: closed with finish(), or dropped where the body throws.
class Body {
 public:
  Body(Recorder& record, std::string_view what)
      : trace_(record.trace()),
        what_(what),
        at_(record.at()),
        region_(trace_.graph.new_region(nullptr)) {
    trace_.open(region_, at_);
    index_ = trace_.builder.argument(*region_, {DType::i64, {}});
    depth_ = trace_.depth();
  }
  ~Body() {
    while (!closed_ && trace_.depth() >= depth_) trace_.abandon();
  }
  Body(const Body&) = delete;
  Body& operator=(const Body&) = delete;

  Tensor index() { return trace_.handle(index_); }
  Tensor argument(const Type& type) {
    const Value value = trace_.builder.argument(*region_, type);
    arguments_.push_back(value.node);
    return trace_.handle(value);
  }
  /// Values of the body, read while it is open.
  std::vector<Value> read(const std::vector<Tensor>& tensors) {
    trace_.builder.set_location(at_);
    std::vector<Value> values;
    for (const Tensor& tensor : tensors) values.push_back(trace_.read(tensor, what_));
    return values;
  }

  /// Emits the node. `carried` and `xs` are what argument() was called for, in this order.
  ir::Node* finish(const std::vector<Value>& carried, const std::vector<Value>& xs,
                   const std::vector<Value>& next, const std::vector<Value>& ys,
                   ir::Attributes attributes) {
    trace_.builder.set_location(at_);
    region_->yields = next;
    const std::size_t explicit_yields = next.size();
    region_->yields.insert(region_->yields.end(), ys.begin(), ys.end());
    closed_ = true;
    Trace::Carried captured = trace_.close(what_);
    // close() has appended the captured values' yields: they go before the ys.
    auto& yields = region_->yields;
    std::rotate(yields.begin() + static_cast<std::ptrdiff_t>(explicit_yields),
                yields.begin() + static_cast<std::ptrdiff_t>(explicit_yields + ys.size()),
                yields.end());
    std::vector<Value> operands = carried;
    operands.insert(operands.end(), captured.inits.begin(), captured.inits.end());
    const std::size_t all_carried = operands.size();
    operands.insert(operands.end(), xs.begin(), xs.end());
    const auto first_x = arguments_.begin() + static_cast<std::ptrdiff_t>(carried.size());
    region_->arguments = {index_.node};
    region_->arguments.insert(region_->arguments.end(), arguments_.begin(), first_x);
    region_->arguments.insert(region_->arguments.end(), captured.arguments.begin(),
                              captured.arguments.end());
    region_->arguments.insert(region_->arguments.end(), first_x, arguments_.end());
    if (what_ == "scan") attributes.set("carried", static_cast<std::int64_t>(all_carried));
    ir::Node* node =
        trace_.builder.emit(ops::op(what_), std::move(operands), std::move(attributes), {region_});
    for (std::size_t i = 0; i < captured.cells.size(); ++i) {
      const auto result = static_cast<std::uint32_t>(carried.size() + i);
      trace_.write(captured.cells[i], node->result(result), trace_.depth(), what_);
      trace_.entry(captured.cells[i], trace_.depth()).carried = true;
    }
    return node;
  }

 private:
  Trace& trace_;
  std::string_view what_;
  Location at_;
  ir::Region* region_;
  Value index_;
  std::vector<ir::Node*> arguments_;
  std::size_t depth_ = 0;
  bool closed_ = false;
};

void check_next(Recorder& record, const std::vector<Value>& carried,
                const std::vector<Value>& next) {
  record.require(next.size() == carried.size(), "the body returns {} carried values for {}",
                 next.size(), carried.size());
  for (std::size_t i = 0; i < next.size(); ++i) {
    record.require(next[i].type() == carried[i].type(),
                   "carried value {} starts as {}, but the body returns {}", i,
                   carried[i].type().text(), next[i].type().text());
  }
}

}  // namespace
}  // namespace detail

inline namespace frontend {

std::vector<Tensor> loop(
    std::int64_t n, const std::vector<Tensor>& inits,
    const std::function<std::vector<Tensor>(Tensor, const std::vector<Tensor>&)>& body, Source at) {
  detail::Recorder record("loop", at);
  record.require(n >= 0, "a count of {}", n);
  const std::vector<detail::Value> carried = record.values(inits);
  detail::Body traced(record, "loop");
  std::vector<Tensor> arguments;
  for (const detail::Value value : carried) arguments.push_back(traced.argument(value.type()));
  const std::vector<Tensor> returned = body(traced.index(), arguments);
  const std::vector<detail::Value> next = traced.read(returned);
  detail::check_next(record, carried, next);
  ir::Node* node = traced.finish(carried, {}, next, {}, {{"count", n}});
  std::vector<Tensor> results;
  for (std::uint32_t i = 0; i < carried.size(); ++i) results.push_back(record(node->result(i)));
  return results;
}

void loop(std::int64_t n, const std::function<void(Tensor)>& body, Source at) {
  frontend::loop(
      n, {},
      [&](Tensor index, const std::vector<Tensor>&) {
        body(std::move(index));
        return std::vector<Tensor>{};
      },
      at);
}

}  // namespace frontend

ScanValues scan(std::int64_t length, const std::vector<Tensor>& carried,
                const std::vector<Tensor>& xs,
                const std::function<ScanValues(Tensor, const std::vector<Tensor>&,
                                               const std::vector<Tensor>&)>& body,
                bool reverse, Source at) {
  detail::Recorder record("scan", at);
  record.require(length >= 0, "a length of {}", length);
  const std::vector<detail::Value> inits = record.values(carried);
  const std::vector<detail::Value> inputs = record.values(xs);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Type& type = inputs[i].type();
    record.require(type.rank() > 0 && type.shape[0] == length,
                   "input {} is {}; its first axis must have the length {}", i, type.text(),
                   length);
  }
  detail::Body traced(record, "scan");
  std::vector<Tensor> arguments;
  for (const detail::Value value : inits) arguments.push_back(traced.argument(value.type()));
  std::vector<Tensor> slices;
  for (const detail::Value value : inputs) {
    Type type = value.type();
    type.shape.erase(0);
    slices.push_back(traced.argument(type));
  }
  const ScanValues returned = body(traced.index(), arguments, slices);
  const std::vector<detail::Value> next = traced.read(returned.carried);
  const std::vector<detail::Value> ys = traced.read(returned.ys);
  detail::check_next(record, inits, next);
  ir::Node* node =
      traced.finish(inits, inputs, next, ys,
                    {{"length", length}, {"carried", std::int64_t{0}}, {"reverse", reverse}});
  ScanValues results;
  for (std::uint32_t i = 0; i < inits.size(); ++i) {
    results.carried.push_back(record(node->result(i)));
  }
  const std::size_t first_y = node->results.size() - ys.size();
  for (std::size_t i = first_y; i < node->results.size(); ++i) {
    results.ys.push_back(record(node->result(static_cast<std::uint32_t>(i))));
  }
  return results;
}

}  // namespace weft
