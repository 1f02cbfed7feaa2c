#include <fmt/format.h>

#include <stdexcept>
#include <unordered_map>

#include "ops/op.h"

namespace weft::ops {

namespace {

class Table final : public ir::OpTable {
 public:
  Table() {
    for (const auto family : {elementwise_unary_ops,
                              activation_ops,
                              elementwise_binary_ops,
                              comparison_ops,
                              integer_ops,
                              complex_ops,
                              cast_ops,
                              constant_ops,
                              movement_ops,
                              indexing_ops,
                              reduction_ops,
                              cumulative_ops,
                              dot_ops,
                              fft_ops,
                              tno_ops,
                              softmax_ops,
                              norm_ops,
                              attention_ops,
                              random_ops,
                              transfer_ops,
                              control_ops}) {
      for (const Op& row : family()) {
        if (!by_name_.emplace(row.name, &row).second) {
          throw std::logic_error(fmt::format("two rows of the op table are named {}", row.name));
        }
        rows_.push_back(&row);
      }
    }
  }

  const ir::OpInfo* find(std::string_view name) const override { return find_row(name); }
  const Op* find_row(std::string_view name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : found->second;
  }
  std::span<const Op* const> rows() const { return rows_; }

 private:
  std::vector<const Op*> rows_;
  std::unordered_map<std::string_view, const Op*> by_name_;
};

const Table& the_table() {
  static const Table table;
  return table;
}

}  // namespace

std::span<const Op* const> all_ops() { return the_table().rows(); }

const Op* find_op(std::string_view name) { return the_table().find_row(name); }

const Op& op(std::string_view name) {
  const Op* row = find_op(name);
  if (row == nullptr) throw std::logic_error(fmt::format("no op is named {}", name));
  return *row;
}

const ir::OpTable& table() { return the_table(); }

}  // namespace weft::ops
