#include "compiler/schedules/dot_device.h"

#include <algorithm>

/// Matrix products on a GPU: what is common to those on matrix units and those in exact arithmetic.
namespace weft::compiler {

using loop::Ex;
using loop::Role;
using loop::Scalar;
using ops::Element;

namespace {

constexpr std::int64_t threads = 256;

/// Of a part's results.
std::int64_t elements_of(const DeviceProduct& product) {
  const Product& p = product.p;
  const std::int64_t sums = product.operand_sum != nullptr ? p.columns() : 0;
  return product.products() * p.batches() * p.rows() * p.columns() + sums;
}

TiledOperand operand_of(const DeviceProduct& product, bool columns, std::size_t index) {
  const Product& p = product.p;
  TiledOperand operand;
  operand.name = (columns ? "columns" : "rows") + std::to_string(index);
  operand.batches = p.batches();
  operand.free = columns ? p.columns() : p.rows();
  operand.depth = p.depth();
  operand.value = [&p, nodes = product.nodes, columns, index](GroupEmitter& emitter, Ex batch,
                                                              Ex free, Ex depth) {
    ProductAccess access(emitter, p, nodes);
    access.reset();
    return columns ? access.column_operand(batch, free, depth, index).re
                   : access.row_operand(batch, free, depth, index).re;
  };
  return operand;
}

/// How many neighbouring columns of a row everything that is stored with it may access together.
std::int64_t epilogue_width(GroupEmitter& emitter, const DeviceProduct& product) {
  const Product& p = product.p;
  return aligned_columns(emitter, p.columns(), [&](GroupEmitter& probe, Ex column) {
    loop::Arena& a = probe.arena();
    const auto axis = [&](std::int64_t extent) { return a.variable(Scalar::i64, 0, extent - 1); };
    std::vector<Ex> index = a.delinearize(axis(p.batches()), p.batch);
    const std::vector<Ex> left = a.delinearize(axis(p.rows()), p.lhs_free);
    const std::vector<Ex> right = a.delinearize(column, p.rhs_free);
    index.insert(index.end(), left.begin(), left.end());
    index.insert(index.end(), right.begin(), right.end());
    const Scalar type = register_of(p.node->results[0].dtype);
    for (const ir::Node* node : product.nodes) {
      probe.bind({const_cast<ir::Node*>(node), 0}, {a.variable(type), nullptr});
    }
    return output_accesses(probe, index, p.node->results[0].shape);
  });
}

}  // namespace

DeviceProduct::DeviceProduct(GroupEmitter& emitter, const DeviceOptions& options)
    : p(analyse_product(*emitter.group().anchor)),
      nodes(emitter.group().anchors),
      operand_sum(emitter.group().operand_sum),
      shared_bytes(options.shared_bytes()),
      processors(options.processors) {
  const auto shared = [&](std::size_t operand) {
    return nodes.size() == 1 || nodes[0]->operands[operand] == nodes[1]->operands[operand];
  };
  for (std::size_t i = 0; i < (shared(0) ? 1 : nodes.size()); ++i) {
    rows.push_back(operand_of(*this, false, i));
  }
  for (std::size_t i = 0; i < (shared(1) ? 1 : nodes.size()); ++i) {
    columns.push_back(operand_of(*this, true, i));
  }
}

// ---- results ------------------------------------------------------------------------------------

ProductParts::ProductParts(GroupEmitter& emitter, const DeviceProduct& product, std::int64_t parts)
    : emitter_(emitter),
      a_(emitter.arena()),
      b_(emitter.builder()),
      product_(product),
      parts_(parts),
      part_elements_(elements_of(product)),
      width_(epilogue_width(emitter, product)),
      rows_(b_, product.p.rows(), product.p.columns(),
            parts == 1                                                ? width_
            : product.p.columns() % 4 == 0 && part_elements_ % 4 == 0 ? 4
                                                                      : 1,
            product.products()) {
  if (parts == 1) return;
  const bool wide = register_of(product.p.node->results[0].dtype) == Scalar::f64;
  workspace_ = emitter.workspace(wide ? DType::f64 : DType::f32, parts * part_elements_);
}

Ex ProductParts::position(Ex part, std::int64_t product, Ex batch, Ex row, Ex column) {
  const Product& p = product_.p;
  Ex matrix = a_.add(a_.integer(product * p.batches()), batch);
  Ex line = a_.add(a_.mul(matrix, a_.integer(p.rows())), row);
  return a_.add(a_.mul(part, a_.integer(part_elements_)),
                a_.add(a_.mul(line, a_.integer(p.columns())), column));
}

void ProductParts::store(Ex part, Ex batch, Ex row, Ex column, const std::vector<Ex>& values) {
  rows_.store(row, column, values, [&](Ex own_row, Ex at, const std::vector<Ex>& results) {
    if (parts_ == 1) {
      store_results(batch, own_row, at, results);
      return;
    }
    for (std::int64_t i = 0; i < product_.products(); ++i) {
      b_.store(workspace_, position(part, i, batch, own_row, at),
               results[static_cast<std::size_t>(i)]);
    }
  });
}

void ProductParts::store(MatrixUnit& unit, const TileGrid::Place& place, Ex row, Ex column,
                         std::int64_t row_fragments, std::int64_t column_fragments,
                         const std::function<MatrixUnit::Sums(
                             std::int64_t product, std::int64_t row, std::int64_t column)>& sums) {
  for (std::int64_t r = 0; r < row_fragments; ++r) {
    for (std::int64_t c = 0; c < column_fragments; c += 2) {
      for (std::size_t half = 0; half < 2; ++half) {
        std::vector<Ex> values;
        for (std::int64_t q = 0; q < product_.products(); ++q) {
          const auto pair = [&](std::int64_t fragment) {
            const MatrixUnit::Sums own = sums(q, r, fragment);
            return std::array<Ex, 2>{b_.read(own[2 * half]), b_.read(own[2 * half + 1])};
          };
          const std::array<Ex, 4> four = unit.neighbours(pair(c), pair(c + 1));
          values.insert(values.end(), four.begin(), four.end());
        }
        const Ex own_row = a_.add(row, a_.integer(16 * r + 8 * static_cast<std::int64_t>(half)));
        store(place.part, place.batch, own_row, a_.add(column, a_.integer(8 * c)), values);
      }
    }
  }
}

void ProductParts::store_results(Ex batch, Ex row, Ex column, const std::vector<Ex>& values) {
  std::vector<Element> elements;
  for (const Ex value : values) elements.push_back({value, nullptr});
  ProductAccess access(emitter_, product_.p, product_.nodes);
  access.store(batch, row, column, elements);
}

void ProductParts::store_sum(Ex part, Ex column, Ex value) {
  if (parts_ == 1) {
    emitter_.store({const_cast<ir::Node*>(product_.operand_sum), 0}, column, {value, nullptr});
    return;
  }
  const Ex first = a_.mul(part, a_.integer(part_elements_));
  const std::int64_t results = part_elements_ - product_.p.columns();
  b_.store(workspace_, a_.add(first, a_.add(a_.integer(results), column)), value);
}

void ProductParts::add_up() {
  if (parts_ == 1) return;
  const Product& p = product_.p;
  const std::int64_t width = width_ == 4 && part_elements_ % 4 == 0 ? width_ : 1;
  const std::int64_t count = p.batches() * p.rows() * p.columns() / width;
  const std::int64_t sums = product_.operand_sum != nullptr ? p.columns() : 0;
  const Shape shape{p.batches(), p.rows(), p.columns() / width};
  const auto added = [&](const std::function<Ex(Ex part)>& at) {
    Ex total = a_.load(workspace_, at(a_.integer(0)));
    for (std::int64_t part = 1; part < parts_; ++part) {
      total = a_.add(total, a_.load(workspace_, at(a_.integer(part))));
    }
    return b_.let(total);
  };
  b_.phase(divide_up(count + sums, threads), threads, [&](Ex block, Ex thread) {
    const Ex number = b_.let(a_.add(a_.mul(block, a_.integer(threads)), thread));
    b_.condition(a_.less(number, a_.integer(count)), [&] {
      const std::vector<Ex> at = a_.delinearize(b_.let_within(number, 0, count - 1), shape);
      const Ex batch = b_.let(at[0]);
      const Ex row = b_.let(at[1]);
      const Ex first = a_.mul(b_.let(at[2]), a_.integer(width));
      const auto one = [&](Ex column) {
        std::vector<Ex> results;
        for (std::int64_t i = 0; i < product_.products(); ++i) {
          results.push_back(added([&](Ex part) { return position(part, i, batch, row, column); }));
        }
        store_results(batch, row, column, results);
      };
      if (width == 1) {
        one(first);
      } else {
        b_.loop(width, Role::vector, static_cast<int>(width),
                [&](Ex lane) { one(a_.add(first, lane)); });
      }
    });
    if (sums == 0) return;
    const Ex column = a_.sub(number, a_.integer(count));
    b_.condition(a_.logical_and(a_.less_equal(a_.integer(count), number),
                                a_.less(number, a_.integer(count + sums))),
                 [&] {
                   const Ex own = b_.let_within(column, 0, sums - 1);
                   const Ex total = added([&](Ex part) {
                     return a_.add(a_.mul(part, a_.integer(part_elements_)),
                                   a_.add(a_.integer(part_elements_ - sums), own));
                   });
                   emitter_.store({const_cast<ir::Node*>(product_.operand_sum), 0}, own,
                                  {total, nullptr});
                 });
  });
}

// ---- blocks -------------------------------------------------------------------------------------

TileGrid::TileGrid(const DeviceProduct& product, const BlockTiling& tiling) {
  const std::int64_t row_tiles = divide_up(product.p.rows(), tiling.rows);
  const std::int64_t column_tiles = divide_up(product.p.columns(), tiling.columns);
  // The operands of as many row tiles stay in the second-level cache while columns pass.
  for (together = 8; row_tiles % together != 0;) together /= 2;
  grid = {tiling.parts, product.p.batches(), row_tiles / together, column_tiles, together};
}

TileGrid::Place TileGrid::place(loop::Builder& b, Ex block) const {
  loop::Arena& a = b.arena();
  const std::vector<Ex> at = a.delinearize(block, grid);
  const Ex row = a.add(a.mul(at[2], a.integer(together)), at[4]);
  return {b.let(at[0]), b.let(at[1]), b.let(row), b.let(at[3])};
}

// ---- operands -----------------------------------------------------------------------------------

ProductSteps::ProductSteps(const DeviceProduct& product, const BlockTiling& tiling)
    : depth(tiling.depth),
      total(divide_up(product.p.depth(), tiling.depth)),
      of_each(divide_up(total, tiling.parts)) {}

ProductSteps::Range ProductSteps::of_part(loop::Builder& b, Ex part) const {
  loop::Arena& a = b.arena();
  const Ex all = a.integer(of_each);
  const Ex first = b.let(a.mul(part, all));
  if (even()) return {first, all};
  const Ex left = a.sub(a.integer(total), first);
  return {first, b.let_within(a.binary(loop::Binary::minimum, all, left), 1, of_each)};
}

Ex ProductSteps::element(loop::Builder& b, const Range& range, Ex number) const {
  loop::Arena& a = b.arena();
  return a.mul(b.let_within(a.add(range.first, number), 0, total - 1), a.integer(depth));
}

double waves(const DeviceProduct& product, const BlockTiling& tiling) {
  const std::int64_t blocks = TileGrid(product, tiling).blocks();
  return static_cast<double>(divide_up(blocks, product.processors));
}

double part_cycles(const DeviceProduct& product, const BlockTiling& tiling) {
  if (tiling.parts == 1) return 0;
  const auto real = [](std::int64_t x) { return static_cast<double>(x); };
  const Product& p = product.p;
  const double results = real(product.products()) * real(p.batches() * p.rows() * p.columns());
  const bool wide = register_of(p.node->results[0].dtype) == Scalar::f64;
  return 4000 + real(2 * tiling.parts) * results * (wide ? 8 : 4) / 1500;
}

OperandTiles::OperandTiles(GroupEmitter& emitter, const DeviceProduct& product,
                           const BlockTiling& tiling,
                           const std::function<TileShape(const TiledOperand&)>& shape)
    : b_(emitter.builder()), tiling_(tiling), steps_(product, tiling) {
  const auto bring = [&](std::vector<TileLoader>& loaders,
                         const std::vector<TiledOperand>& operands, std::int64_t free) {
    for (const TiledOperand& operand : operands) {
      TileShape own = shape(operand);
      own.free = free;
      own.depth = tiling.depth;
      own.stages = tiling.stages;
      loaders.emplace_back(emitter, operand, own);
    }
  };
  bring(rows_, product.rows, tiling.rows);
  bring(columns_, product.columns, tiling.columns);
}

void OperandTiles::for_steps(const TilePipeline::Depth& turns, const TileGrid::Place& place,
                             Ex thread, const std::function<void(Ex stage)>& body) {
  loop::Arena& a = b_.arena();
  const ProductSteps::Range range = steps_.of_part(b_, place.part);
  const Ex row = b_.let(a.mul(place.row, a.integer(tiling_.rows)));
  const Ex column = b_.let(a.mul(place.column, a.integer(tiling_.columns)));
  std::vector<TileLoader*> operands;
  for (TileLoader& loader : rows_) operands.push_back(&loader);
  for (TileLoader& loader : columns_) operands.push_back(&loader);
  TilePipeline pipeline(b_, operands, turns, thread, [&](Ex number, Ex stage) {
    const Ex depth = steps_.element(b_, range, number);
    for (TileLoader& loader : rows_) loader.start(stage, place.batch, row, depth, thread);
    for (TileLoader& loader : columns_) loader.start(stage, place.batch, column, depth, thread);
  });
  pipeline.run(a.integer(0), range.count, [&](Ex number) { body(pipeline.stage(number)); });
}

void schedule_dot_device(GroupEmitter& emitter, const DeviceOptions& options) {
  const DeviceProduct product(emitter, options);
  const DType type = product.p.node->results[0].dtype;
  if (product.p.node->results[0].elements() == 0) {
    emitter.builder().phase(0, threads, [](Ex, Ex) {});
    return;
  }
  const bool tf32 = type == DType::f32 && options.tf32;
  const bool units = type == DType::f16 || type == DType::bf16 || tf32;
  if (units && suits_dot_wgmma(product, options)) {
    if (options.tensor_copies && schedule_dot_wgmma_copies(emitter, product, type)) return;
    schedule_dot_wgmma(emitter, product, type);
  } else if (units && product.p.depth() > 0) {
    schedule_dot_mma(emitter, product, type);
  } else {
    schedule_dot_simt(emitter, product);
  }
}

}  // namespace weft::compiler
