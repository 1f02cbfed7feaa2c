#include <algorithm>

#include "compiler/schedules/dot_product.h"
#include "compiler/schedules/schedule.h"

/// Products of a few rows with columns that lie along the contracted axis, which runs in vector
/// lanes: each column is read once, by loads, where tiles would have to transpose it first.
namespace weft::compiler {
namespace {

using loop::Ex;
using loop::Role;

/// Sums in registers: enough to hide the latency of additions, few enough to leave room for loads.
constexpr int most_sums = 16;

class FewRows {
 public:
  FewRows(GroupEmitter& emitter, const Product& product, const HostTarget& target)
      : emitter_(emitter),
        a_(emitter.arena()),
        b_(emitter.builder()),
        p_(product),
        access_(emitter, product),
        scalar_(register_of(product.node->results[0].dtype)),
        storage_(scalar_ == loop::Scalar::f64 ? DType::f64 : DType::f32),
        lanes_(target.vector_lanes(product.node->results[0].dtype)),
        rows_(static_cast<int>(product.rows())) {
    const int sums = target.vector_bits >= 512 ? most_sums : most_sums / 2;
    group_ = 1;
    while (group_ * 2 * rows_ <= sums) group_ *= 2;
    const std::int64_t work = std::max<std::int64_t>((p_.rows() + load_work) * p_.depth(), 1);
    const std::int64_t columns = product_block_work / work / lanes_ * lanes_;
    part_ = std::min(std::clamp<std::int64_t>(columns, 2L * lanes_, 16L * lanes_), p_.columns());
  }

  void run() {
    const OperandLayout layout = operand_layout(emitter_.group(), p_, false);
    sums_ = b_.kernel().local("sums", storage_, rows_ * part_);
    if (!layout.plain || !layout.depth_contiguous) {
      copy_ = b_.kernel().local("rows", storage_, rows_ * p_.depth());
    }
    const std::int64_t parts = (p_.columns() + part_ - 1) / part_;
    const Shape grid{p_.batches(), parts};
    b_.phase(grid.elements(), [&](Ex block) {
      const std::vector<Ex> at = a_.delinearize(block, grid);
      if (copy_ != nullptr) copy_rows(at[0]);
      for_chunk(emitter_, at[1], p_.columns(), part_,
                [&](Ex first, std::int64_t extent) { part(at[0], first, extent); });
    });
  }

 private:
  /// What is costly to read again for each column.
  void copy_rows(Ex batch) {
    b_.loop(p_.rows(), Role::serial, 1, [&](Ex row) {
      b_.loop(p_.depth(), Role::vector, lanes_, [&](Ex k) {
        access_.reset();
        const Ex to = a_.add(a_.mul(row, a_.integer(p_.depth())), k);
        b_.store(copy_, to, access_.row_operand(batch, row, k).re);
      });
    });
  }

  void part(Ex batch, Ex first, std::int64_t extent) {
    b_.loop(extent / group_, Role::serial, 1,
            [&](Ex i) { columns(batch, first, a_.mul(i, a_.integer(group_)), group_); });
    if (extent % group_ != 0) {
      columns(batch, first, a_.integer(extent / group_ * group_),
              static_cast<int>(extent % group_));
    }
    // What follows the product is computed for neighbouring columns at once.
    b_.loop(p_.rows(), Role::unrolled, 1, [&](Ex row) {
      b_.loop(extent, Role::vector, lanes_, [&](Ex column) {
        const Ex position = a_.add(a_.mul(row, a_.integer(part_)), column);
        const Ex sum = b_.let(a_.load(sums_, position));
        access_.store(batch, row, a_.add(first, column), {sum, nullptr});
      });
    });
  }

  void columns(Ex batch, Ex first, Ex offset, int count) {
    const auto sum_at = [&](int row, int column) {
      const auto width = static_cast<std::size_t>(count);
      return static_cast<std::size_t>(row) * width + static_cast<std::size_t>(column);
    };
    std::vector<loop::Accumulator*> sums;
    for (int i = 0; i < rows_ * count; ++i) {
      sums.push_back(b_.declare(scalar_, loop::Combine::add, a_.constant(scalar_, 0)));
    }
    b_.loop(p_.depth(), Role::vector, lanes_, [&](Ex k) {
      access_.reset();
      std::vector<Ex> x;
      for (int r = 0; r < rows_; ++r) {
        const Ex row = a_.integer(r);
        x.push_back(b_.let(copy_ == nullptr
                               ? access_.row_operand(batch, row, k).re
                               : a_.load(copy_, a_.add(a_.integer(r * p_.depth()), k))));
      }
      for (int c = 0; c < count; ++c) {
        const Ex column = a_.add(a_.add(first, offset), a_.integer(c));
        const Ex y = b_.let(access_.column_operand(batch, column, k).re);
        for (int r = 0; r < rows_; ++r) {
          b_.accumulate(sums[sum_at(r, c)], a_.mul(x[static_cast<std::size_t>(r)], y));
        }
      }
    });
    // One after the other: they are added up together.
    std::vector<Ex> values;
    for (loop::Accumulator* sum : sums) values.push_back(b_.read(sum));
    for (int r = 0; r < rows_; ++r) {
      for (int c = 0; c < count; ++c) {
        b_.store(sums_, a_.add(a_.add(a_.integer(r * part_), offset), a_.integer(c)),
                 values[sum_at(r, c)]);
      }
    }
  }

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  const Product& p_;
  ProductAccess access_;
  loop::Scalar scalar_;
  DType storage_;
  int lanes_;
  int rows_;
  int group_ = 1;          ///< columns at a time
  std::int64_t part_ = 1;  ///< columns of a block
  const loop::Buffer* sums_ = nullptr;
  const loop::Buffer* copy_ = nullptr;
};

}  // namespace

void schedule_dot_few_rows(GroupEmitter& emitter, const Product& product,
                           const HostTarget& target) {
  FewRows(emitter, product, target).run();
}

}  // namespace weft::compiler
