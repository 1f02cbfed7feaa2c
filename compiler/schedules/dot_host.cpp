#include <algorithm>
#include <stdexcept>

#include "compiler/schedules/access.h"
#include "compiler/schedules/schedule.h"

/// Matrix products on a CPU: a tile of rows by vector registers of columns stays in registers while
/// the contracted axis runs; the column operand is packed where it is not contiguous.
namespace weft::compiler {
namespace {

using ir::Node;
using ir::Value;
using loop::Ex;
using loop::Role;
using ops::Element;

/// Work of one block, in multiply-adds: enough to be worth handing to another thread.
constexpr std::int64_t block_work = 1 << 19;
/// Contracted extent of a packed panel: 128 KiB of f32 with two AVX-512 registers of columns.
constexpr std::int64_t panel_depth = 1024;

/// A product as a batch of matrices: rows of one operand by columns of the other.
struct Product {
  const Node* node;
  Shape batch, lhs_free, rhs_free, contracted;
  std::vector<std::int64_t> lhs_batch, rhs_batch, lhs_contract, rhs_contract;
  bool swapped = false;  ///< rows are the right operand's free axes

  std::int64_t rows() const { return (swapped ? rhs_free : lhs_free).elements(); }
  std::int64_t columns() const { return (swapped ? lhs_free : rhs_free).elements(); }
  std::int64_t depth() const { return contracted.elements(); }
};

Product analyse(const Node& node) {
  Product p;
  p.node = &node;
  const ir::Attributes& a = node.attributes;
  const auto get = [&](const char* name) {
    return a.has(name) ? a.integers(name) : std::vector<std::int64_t>{};
  };
  p.lhs_batch = get("lhs_batch");
  p.rhs_batch = get("rhs_batch");
  p.lhs_contract = get("lhs_contract");
  p.rhs_contract = get("rhs_contract");
  const Shape& lhs = node.operand_type(0).shape;
  const Shape& rhs = node.operand_type(1).shape;
  const auto contains = [](const std::vector<std::int64_t>& axes, int axis) {
    return std::find(axes.begin(), axes.end(), axis) != axes.end();
  };
  for (std::int64_t axis : p.lhs_batch) p.batch.push_back(lhs[static_cast<int>(axis)]);
  for (std::int64_t axis : p.lhs_contract) p.contracted.push_back(lhs[static_cast<int>(axis)]);
  for (int axis = 0; axis < lhs.rank(); ++axis) {
    if (!contains(p.lhs_batch, axis) && !contains(p.lhs_contract, axis)) {
      p.lhs_free.push_back(lhs[axis]);
    }
  }
  for (int axis = 0; axis < rhs.rank(); ++axis) {
    if (!contains(p.rhs_batch, axis) && !contains(p.rhs_contract, axis)) {
      p.rhs_free.push_back(rhs[axis]);
    }
  }
  return p;
}

/// Reads operands and writes results at flattened (batch, row, column, depth) positions.
class Access {
 public:
  Access(GroupEmitter& emitter, const Product& product) : emitter_(emitter), p_(product) {}

  Element row_operand(Ex batch, Ex row, Ex depth) {
    return p_.swapped ? rhs(batch, row, depth) : lhs(batch, row, depth);
  }
  Element column_operand(Ex batch, Ex column, Ex depth) {
    return p_.swapped ? lhs(batch, column, depth) : rhs(batch, column, depth);
  }
  void store(Ex batch, Ex row, Ex column, const Element& value) {
    loop::Arena& a = emitter_.arena();
    std::vector<Ex> index = a.delinearize(batch, p_.batch);
    const std::vector<Ex> left = a.delinearize(p_.swapped ? column : row, p_.lhs_free);
    const std::vector<Ex> right = a.delinearize(p_.swapped ? row : column, p_.rhs_free);
    index.insert(index.end(), left.begin(), left.end());
    index.insert(index.end(), right.begin(), right.end());
    emitter_.reset();
    emitter_.bind({const_cast<Node*>(p_.node), 0}, value);
    emitter_.store_outputs(index, p_.node->results[0].shape);
    emitter_.reset();
  }

 private:
  Element lhs(Ex batch, Ex free, Ex depth) {
    return read(0, p_.lhs_batch, p_.lhs_contract, p_.lhs_free, batch, free, depth);
  }
  Element rhs(Ex batch, Ex free, Ex depth) {
    return read(1, p_.rhs_batch, p_.rhs_contract, p_.rhs_free, batch, free, depth);
  }
  Element read(std::size_t operand, const std::vector<std::int64_t>& batch_axes,
               const std::vector<std::int64_t>& contract_axes, const Shape& free_shape, Ex batch,
               Ex free, Ex depth) {
    loop::Arena& a = emitter_.arena();
    const Value value = p_.node->operands[operand];
    std::vector<Ex> index(static_cast<std::size_t>(value.shape().rank()), nullptr);
    const std::vector<Ex> batches = a.delinearize(batch, p_.batch);
    const std::vector<Ex> depths = a.delinearize(depth, p_.contracted);
    const std::vector<Ex> frees = a.delinearize(free, free_shape);
    for (std::size_t i = 0; i < batch_axes.size(); ++i) {
      index[static_cast<std::size_t>(batch_axes[i])] = batches[i];
    }
    for (std::size_t i = 0; i < contract_axes.size(); ++i) {
      index[static_cast<std::size_t>(contract_axes[i])] = depths[i];
    }
    std::size_t next = 0;
    for (Ex& e : index) {
      if (e == nullptr) e = frees[next++];
    }
    return emitter_.value(value, index);
  }

  GroupEmitter& emitter_;
  const Product& p_;
};

/// One result at a time: complex products, and products with few rows and columns, whose contracted
/// axis runs in vector lanes.
void inner_products(GroupEmitter& emitter, const Product& p, int lanes) {
  loop::Arena& a = emitter.arena();
  loop::Builder& b = emitter.builder();
  Access access(emitter, p);
  const Type& type = p.node->results[0];
  const bool complex = is_complex(type.dtype);
  const loop::Scalar scalar = register_of(type.dtype);
  const Shape space{p.batch.elements(), p.rows(), p.columns()};
  const std::int64_t total = space.elements();
  const std::int64_t chunk =
      std::clamp<std::int64_t>(block_work / std::max<std::int64_t>(p.depth(), 1), 1, total);
  const bool vector = p.depth() >= lanes;
  const int width =
      vector ? static_cast<int>(std::min<std::int64_t>(4L * lanes, p.depth() / lanes * lanes)) : 1;
  b.phase((total + chunk - 1) / chunk, [&](Ex block) {
    for_chunk(emitter, block, total, chunk, [&](Ex first, std::int64_t extent) {
      b.loop(extent, Role::serial, 1, [&](Ex i) {
        const std::vector<Ex> at = a.delinearize(a.add(first, i), space);
        const Ex zero = a.constant(scalar, 0);
        loop::Accumulator* re = b.declare(scalar, loop::Combine::add, zero);
        loop::Accumulator* im = complex ? b.declare(scalar, loop::Combine::add, zero) : nullptr;
        b.loop(p.depth(), vector ? Role::vector : Role::serial, width, [&](Ex k) {
          emitter.reset();
          const Element x = access.row_operand(at[0], at[1], k);
          const Element y = access.column_operand(at[0], at[2], k);
          if (!complex) {
            b.accumulate(re, a.mul(x.re, y.re));
            return;
          }
          b.accumulate(re, a.sub(a.mul(x.re, y.re), a.mul(x.im, y.im)));
          b.accumulate(im, a.add(a.mul(x.re, y.im), a.mul(x.im, y.re)));
        });
        access.store(at[0], at[1], at[2], {b.read(re), complex ? b.read(im) : nullptr});
      });
    });
  });
}

/// Rows of a register tile: as many as registers allow, preferably dividing the rows evenly.
int tile_rows(std::int64_t rows, int limit) {
  if (rows <= limit) return static_cast<int>(rows);
  for (int candidate = limit; candidate >= (limit + 1) / 2; --candidate) {
    if (rows % candidate == 0) return candidate;
  }
  return limit;
}

class Tiled {
 public:
  Tiled(GroupEmitter& emitter, const Product& product, const HostTarget& target, int lanes)
      : emitter_(emitter),
        a_(emitter.arena()),
        b_(emitter.builder()),
        p_(product),
        access_(emitter, product),
        scalar_(register_of(product.node->results[0].dtype)) {
    const bool many_registers = target.vector_bits >= 512;  // 32 rather than 16
    int vectors = 2;
    int row_limit = many_registers ? 12 : 6;
    if (p_.rows() <= 4) {
      vectors = 4;
      row_limit = 4;
    }
    while (vectors > 1 && lanes * (vectors - 1) >= p_.columns()) --vectors;
    width_ = lanes * vectors;
    tile_ = tile_rows(p_.rows(), row_limit);
    contiguous_ = contiguous();
    // A strided panel misses the caches' sets; one that few tiles read is not worth the copy.
    pack_ = p_.rows() > 4 && (!contiguous_ || p_.rows() >= 4 * tile_);
  }

  void run() {
    const std::int64_t strips = (p_.columns() + width_ - 1) / width_;
    const std::int64_t tiles = (p_.rows() + tile_ - 1) / tile_;
    const std::int64_t batches = p_.batch.elements();
    // A constant for the prologue and epilogue, which a short contracted axis does not hide.
    const std::int64_t tile_work = tile_ * width_ * (p_.depth() + 8);
    std::int64_t tiles_per_block = std::clamp<std::int64_t>(block_work / tile_work, 1, tiles);
    // Packing a panel pays off over at least this many tiles.
    if (pack_) tiles_per_block = std::min(std::max<std::int64_t>(tiles_per_block, 16), tiles);
    std::int64_t strips_per_block = 1;
    std::int64_t batches_per_block = 1;
    if (tiles_per_block == tiles) {
      strips_per_block = std::clamp<std::int64_t>(block_work / (tile_work * tiles), 1, strips);
      if (strips_per_block == strips) {
        batches_per_block =
            std::clamp<std::int64_t>(block_work / (tile_work * tiles * strips), 1, batches);
      }
    }
    const Shape grid{(batches + batches_per_block - 1) / batches_per_block,
                     (strips + strips_per_block - 1) / strips_per_block,
                     (tiles + tiles_per_block - 1) / tiles_per_block};
    depth_chunk_ = p_.depth();
    if (pack_) {
      const std::int64_t chunks = (p_.depth() + panel_depth - 1) / panel_depth;
      depth_chunk_ = chunks > 0 ? (p_.depth() + chunks - 1) / chunks : 0;
      const DType storage = storage_type();
      panel_ = emitter_.builder().kernel().local("panel", storage, depth_chunk_ * width_);
      if (chunks > 1) {
        sums_ =
            emitter_.builder().kernel().local("sums", storage, tiles_per_block * tile_ * width_);
      }
    }
    b_.phase(grid.elements(), [&](Ex block) {
      const std::vector<Ex> at = a_.delinearize(block, grid);
      range(at[0], batches_per_block, batches, [&](Ex batch) {
        range(at[1], strips_per_block, strips,
              [&](Ex strip) { this->strip(batch, strip, at[2], tiles_per_block); });
      });
    });
  }

 private:
  DType storage_type() const {
    switch (scalar_) {
      case loop::Scalar::f64:
        return DType::f64;
      case loop::Scalar::i32:
        return DType::i32;
      case loop::Scalar::i64:
        return DType::i64;
      case loop::Scalar::u8:
        return DType::u8;
      default:
        return DType::f32;
    }
  }

  /// A serial loop over the part of [0, total) that belongs to one block.
  void range(Ex block, std::int64_t part, std::int64_t total, const std::function<void(Ex)>& body) {
    if (part == 1) {
      body(block);
      return;
    }
    const Ex first = a_.mul(block, a_.integer(part));
    if (total % part == 0) {
      b_.loop(part, Role::serial, 1, [&](Ex i) { body(a_.add(first, i)); });
      return;
    }
    const Ex extent =
        a_.binary(loop::Binary::minimum, a_.integer(part), a_.sub(a_.integer(total), first));
    b_.loop(extent, [&](Ex i) { body(a_.add(first, i)); });
  }

  bool contiguous() {
    loop::Kernel scratch;
    GroupEmitter probe(scratch, emitter_.group());
    Access access(probe, p_);
    loop::Arena& a = probe.arena();
    const auto axis = [&](std::int64_t extent) {
      return a.variable(loop::Scalar::i64, 0, std::max<std::int64_t>(extent - 1, 0));
    };
    const Ex column = axis(p_.columns());
    return contiguous_along(
        access.column_operand(axis(p_.batch.elements()), column, axis(p_.depth())).re, column);
  }

  void strip(Ex batch, Ex strip, Ex row_block, std::int64_t tiles_per_block) {
    const std::int64_t full = p_.columns() / width_;
    const std::int64_t rest = p_.columns() % width_;
    const Ex first = a_.mul(strip, a_.integer(width_));
    if (rest == 0) {
      columns(batch, first, width_, row_block, tiles_per_block);
    } else if (full == 0) {
      columns(batch, a_.integer(0), rest, row_block, tiles_per_block);
    } else {
      b_.condition(a_.less(strip, a_.integer(full)),
                   [&] { columns(batch, first, width_, row_block, tiles_per_block); });
      b_.condition(a_.equal(strip, a_.integer(full)), [&] {
        columns(batch, a_.integer(full * width_), rest, row_block, tiles_per_block);
      });
    }
  }

  void columns(Ex batch, Ex first, std::int64_t count, Ex row_block, std::int64_t tiles_per_block) {
    if (panel_ == nullptr) {
      tiles(batch, first, count, row_block, tiles_per_block, a_.integer(0), a_.integer(p_.depth()));
      return;
    }
    const std::int64_t chunks =
        sums_ != nullptr ? (p_.depth() + depth_chunk_ - 1) / depth_chunk_ : 1;
    if (chunks == 1) {
      pack(batch, first, count, a_.integer(0), a_.integer(p_.depth()));
      tiles(batch, first, count, row_block, tiles_per_block, a_.integer(0), a_.integer(p_.depth()));
      return;
    }
    b_.loop(chunks, Role::serial, 1, [&](Ex chunk) {
      const Ex begin = a_.mul(chunk, a_.integer(depth_chunk_));
      const Ex extent = a_.binary(loop::Binary::minimum, a_.integer(depth_chunk_),
                                  a_.sub(a_.integer(p_.depth()), begin));
      pack(batch, first, count, begin, extent);
      tiles(batch, first, count, row_block, tiles_per_block, begin, extent);
    });
    for_tiles(row_block, tiles_per_block, [&](Ex row, int rows, Ex tile) {
      b_.loop(count, Role::vector, width_, [&](Ex lane) {
        for (int r = 0; r < rows; ++r) {
          const Ex sum = b_.let(a_.load(sums_, sum_position(tile, r, lane)));
          access_.store(batch, a_.add(row, a_.integer(r)), a_.add(first, lane), {sum, nullptr});
        }
      });
    });
  }

  void pack(Ex batch, Ex first, std::int64_t count, Ex begin, Ex extent) {
    const auto copy = [&](Ex column, Ex k) {
      emitter_.reset();
      const Element element =
          access_.column_operand(batch, a_.add(first, column), a_.add(begin, k));
      b_.store(panel_, a_.add(a_.mul(k, a_.integer(width_)), column), element.re);
    };
    if (contiguous_) {
      b_.loop(extent, [&](Ex k) {
        b_.loop(count, Role::vector, width_, [&](Ex column) { copy(column, k); });
      });
    } else {
      b_.loop(count, Role::serial, 1,
              [&](Ex column) { b_.loop(extent, [&](Ex k) { copy(column, k); }); });
    }
  }

  /// `body(first row, rows, tile number in the block)` for the tiles of a block.
  void for_tiles(Ex row_block, std::int64_t tiles_per_block,
                 const std::function<void(Ex row, int rows, Ex tile)>& body) {
    const std::int64_t full = p_.rows() / tile_;
    const int rest = static_cast<int>(p_.rows() % tile_);
    const Ex first = a_.mul(row_block, a_.integer(tiles_per_block));
    if (full > 0) {
      const Ex extent = full % tiles_per_block == 0 && rest == 0
                            ? a_.integer(tiles_per_block)
                            : a_.binary(loop::Binary::minimum, a_.integer(tiles_per_block),
                                        a_.sub(a_.integer(full), first));
      b_.loop(extent, [&](Ex t) { body(a_.mul(a_.add(first, t), a_.integer(tile_)), tile_, t); });
    }
    if (rest == 0) return;
    const auto last = [&] {
      body(a_.integer(full * tile_), rest, a_.sub(a_.integer(full), first));
    };
    if (full < tiles_per_block) {
      last();
    } else {
      b_.condition(a_.equal(row_block, a_.integer(full / tiles_per_block)), last);
    }
  }

  Ex sum_position(Ex tile, int row, Ex lane) {
    const Ex r = a_.add(a_.mul(tile, a_.integer(tile_)), a_.integer(row));
    return a_.add(a_.mul(r, a_.integer(width_)), lane);
  }

  void tiles(Ex batch, Ex first, std::int64_t count, Ex row_block, std::int64_t tiles_per_block,
             Ex begin, Ex extent) {
    for_tiles(row_block, tiles_per_block, [&](Ex row, int rows, Ex tile) {
      b_.loop(count, Role::vector, width_, [&](Ex lane) {
        const Ex column = a_.add(first, lane);
        std::vector<loop::Accumulator*> sums;
        const Ex zero = a_.constant(scalar_, 0);
        for (int r = 0; r < rows; ++r) {
          sums.push_back(b_.declare(scalar_, loop::Combine::add, zero));
          if (sums_ == nullptr) continue;
          const Ex position = sum_position(tile, r, lane);
          b_.assign(sums.back(), a_.load(sums_, position, a_.less(a_.integer(0), begin)));
        }
        b_.loop(extent, [&](Ex k) {
          emitter_.reset();
          const Ex depth = a_.add(begin, k);
          const Ex y = b_.let(panel_ != nullptr
                                  ? a_.load(panel_, a_.add(a_.mul(k, a_.integer(width_)), lane))
                                  : access_.column_operand(batch, column, depth).re);
          for (int r = 0; r < rows; ++r) {
            const Ex x = access_.row_operand(batch, a_.add(row, a_.integer(r)), depth).re;
            const Ex sum = b_.read(sums[static_cast<std::size_t>(r)]);
            b_.assign(sums[static_cast<std::size_t>(r)],
                      loop::is_float(scalar_) ? a_.fma(x, y, sum) : a_.add(sum, a_.mul(x, y)));
          }
        });
        for (int r = 0; r < rows; ++r) {
          const Ex sum = b_.read(sums[static_cast<std::size_t>(r)]);
          if (sums_ != nullptr) {
            b_.store(sums_, sum_position(tile, r, lane), sum);
          } else {
            access_.store(batch, a_.add(row, a_.integer(r)), column, {sum, nullptr});
          }
        }
      });
    });
  }

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  const Product& p_;
  Access access_;
  loop::Scalar scalar_;
  int width_ = 1;
  int tile_ = 1;
  bool contiguous_ = false;
  bool pack_ = false;
  std::int64_t depth_chunk_ = 0;
  const loop::Buffer* panel_ = nullptr;
  const loop::Buffer* sums_ = nullptr;
};

}  // namespace

void schedule_dot(GroupEmitter& emitter, const HostTarget& target) {
  Product p = analyse(*emitter.group().anchor);
  const Type& type = p.node->results[0];
  if (type.elements() == 0) {
    emitter.builder().phase(0, [](Ex) {});
    return;
  }
  const int lanes = target.vector_lanes(is_complex(type.dtype) ? DType::f32 : type.dtype);
  if (is_complex(type.dtype)) {
    inner_products(emitter, p, lanes);
    return;
  }
  if (p.columns() < lanes / 2 && p.rows() > p.columns()) p.swapped = true;
  if (p.columns() < lanes / 2 && p.depth() >= lanes) {
    inner_products(emitter, p, lanes);
    return;
  }
  Tiled(emitter, p, target, lanes).run();
}

}  // namespace weft::compiler
