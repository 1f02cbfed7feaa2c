#include <algorithm>
#include <optional>

#include "compiler/schedules/divide.h"
#include "compiler/schedules/dot_panels.h"

/// Matrix products by register tiles: a few rows by vectors of columns stay in registers while the
/// contracted axis runs. Operands that are costly to read in that order are packed into panels.
namespace weft::compiler {
namespace {

using loop::Ex;
using loop::Role;

class Tiled {
 public:
  Tiled(GroupEmitter& emitter, const Product& product, const HostTarget& target)
      : emitter_(emitter),
        a_(emitter.arena()),
        b_(emitter.builder()),
        p_(with_sums(emitter, product)),
        access_(emitter, p_, emitter.group().anchors),
        scalar_(register_of(product.node->results[0].dtype)),
        storage_(scalar_ == loop::Scalar::f64 ? DType::f64 : DType::f32),
        lanes_(target.vector_lanes(product.node->results[0].dtype)) {
    const OperandLayout rows = operand_layout(emitter.group(), p_, false);
    std::vector<OperandLayout> columns;
    for (const ir::Node* node : emitter.group().anchors) {
      Product own = analyse_product(*node);
      own.swapped = p_.swapped;
      columns.push_back(operand_layout(emitter.group(), own, true));
    }
    blocking_ = choose_blocking(p_, rows, columns, target);
    if (blocking_.pairs) storage_ = DType::i32;
    packer_.emplace(emitter_, access_, p_, blocking_, lanes_);
    rows_ = {false,          p_.tiled_rows(),           p_.tiled_rows() - p_.rows(),
             blocking_.tile, blocking_.tiles_per_block, {rows},
             blocking_.rows};
    columns_ = {true,    p_.columns(),     0, blocking_.width, blocking_.strips_per_block,
                columns, blocking_.columns};
    rows_.along = blocking_.rows_along;
    for (Panels* panels : {&rows_, &columns_}) {
      panels->length = panels->place == Place::shared ? blocking_.steps : blocking_.chunk;
      if (blocking_.tile_registers) panels->length = whole_tiles(panels->length);
      // An odd number of cache lines: rows begin in different sets.
      if (panels->along) panels->length = divide_up(panels->length, 32) * 32 + 16;
    }
  }

  void run() {
    make_buffers();
    if (rows_.place == Place::shared || columns_.place == Place::shared) pack_shared();
    const std::int64_t batches = p_.batches();
    const Shape grid{divide_up(batches, blocking_.batches_per_block), blocking_.parts,
                     divide_up(rows_.count(), rows_.per_block),
                     divide_up(columns_.count(), columns_.per_block)};
    b_.phase(grid.elements(), [&](Ex block) {
      const std::vector<Ex> at = a_.delinearize(block, grid);
      for_part(b_, at[0], blocking_.batches_per_block, batches,
               [&](Ex batch) { this->block({batch, at[1], at[2], at[3]}); });
    });
    if (blocking_.parts > 1) add_parts();
  }

 private:
  static Product with_sums(GroupEmitter& emitter, Product product) {
    product.with_sums = emitter.group().operand_sum != nullptr;
    return product;
  }

  /// What a block computes: numbers of parts.
  struct BlockIndex {
    Ex batch, depth, rows, columns;
  };
  /// A chunk of the contracted axis.
  struct Chunk {
    Ex begin, extent;
    Ex resumes;  ///< whether sums go on from another chunk's; null: no
    Ex ends;     ///< whether they are complete with this one; null: yes
    Ex depth_part;
  };

  /// Steps up to which tile registers are full.
  static std::int64_t whole_tiles(std::int64_t steps) {
    return divide_up(steps, loop::TileProduct::granule) * loop::TileProduct::granule;
  }

  std::int64_t chunks() const {
    return blocking_.steps == 0 ? 1 : divide_up(blocking_.steps, blocking_.chunk);
  }

  /// Whether the next tile's rows are asked for while a tile is computed: they come at the pace of
  /// the multiplications, where walking along many rows at once leaves the machine's own
  /// prefetching behind.
  bool prefetches_rows() const {
    const OperandLayout& layout = rows_.layouts[0];
    return rows_.place == Place::direct && layout.depth_contiguous &&
           layout.free_stride == p_.depth() && chunks() == 1 && rows_.count() > 1;
  }

  void make_buffers() {
    constexpr std::int64_t line = 64;
    std::int64_t shared = 0;
    for (Panels* panels : {&rows_, &columns_}) {
      if (panels->place == Place::shared) {
        panels->offset = shared;
        shared += divide_up(p_.batches() * panels->count() * panels->room(), line) * line;
      } else if (panels->place == Place::local) {
        const std::int64_t count = panels->one_at_a_time() ? 1 : panels->per_block;
        panels->buffer = b_.kernel().local(panels->columns ? "columns" : "rows", storage_,
                                           std::max<std::int64_t>(count * panels->room(), 1));
      }
    }
    if (blocking_.parts > 1) {
      parts_offset_ = shared;
      shared += blocking_.parts * part_values();
    }
    if (shared > 0) {
      const loop::Buffer* workspace = emitter_.workspace(storage_, shared);
      for (Panels* panels : {&rows_, &columns_}) {
        if (panels->place == Place::shared) panels->buffer = workspace;
      }
      if (blocking_.parts > 1) parts_ = workspace;
    }
    if (blocking_.chunks_per_part > 1 || blocking_.tile_registers) {
      const std::int64_t tiles =
          blocking_.chunks_per_part > 1 ? columns_.per_block * rows_.per_block : 1;
      sums_ = b_.kernel().local("sums", blocking_.pairs ? DType::f32 : storage_,
                                tiles * rows_.size * columns_.step_values());
    }
  }

  /// A phase that packs what several blocks read.
  void pack_shared() {
    // 16 KiB of f32: a few microseconds, of which small products have several.
    constexpr std::int64_t block_values = 1 << 12;
    struct Share {
      const Panels* panels;
      std::int64_t per_part;
      std::int64_t parts;
      std::int64_t blocks;
    };
    std::vector<Share> work;
    std::int64_t blocks = 0;
    for (const Panels* panels : {&rows_, &columns_}) {
      if (panels->place != Place::shared) continue;
      const std::int64_t values =
          panels->step_values() * std::max<std::int64_t>(blocking_.steps, 1);
      const std::int64_t per_part =
          std::clamp<std::int64_t>(block_values / values, 1, panels->count());
      const std::int64_t parts = divide_up(panels->count(), per_part);
      work.push_back({panels, per_part, parts, parts * p_.batches()});
      blocks += work.back().blocks;
    }
    b_.phase(blocks, [&](Ex block) {
      const auto pack = [&](const Share& part, Ex index) {
        const std::vector<Ex> at = a_.delinearize(index, {p_.batches(), part.parts});
        packer_->pack(*part.panels, at[0], at[1], part.per_part, a_.integer(0),
                      a_.integer(blocking_.steps));
      };
      if (work.size() == 1) {
        pack(work[0], block);
        return;
      }
      const Ex border = a_.integer(work[0].blocks);
      b_.condition(a_.less(block, border),
                   [&] { pack(work[0], b_.let_within(block, 0, work[0].blocks - 1)); });
      b_.condition(a_.less_equal(border, block), [&] {
        pack(work[1], b_.let_within(a_.sub(block, border), 0, work[1].blocks - 1));
      });
    });
  }

  // ---- multiplying ------------------------------------------------------------------------------

  void block(const BlockIndex& at) {
    const auto compute = [&](const Chunk& chunk) {
      if (rows_.place == Place::local) {
        packer_->pack(rows_, at.batch, at.rows, rows_.per_block, chunk.begin, chunk.extent);
      }
      const bool strips = columns_.place == Place::local && columns_.one_at_a_time();
      if (columns_.place == Place::local && !strips) {
        packer_->pack(columns_, at.batch, at.columns, columns_.per_block, chunk.begin,
                      chunk.extent);
      }
      const PanelBody strip = [&](Ex panel, Ex local, std::int64_t count, std::int64_t) {
        if (strips) packer_->pack_one(columns_, at.batch, panel, count, chunk.begin, chunk.extent);
        const PanelBody tile = [&](Ex tile_panel, Ex tile_local, std::int64_t tile_rows,
                                   std::int64_t extra) {
          const Part rows{tile_panel, tile_local, tile_rows, extra > 0};
          const Part columns{panel, local, count, false};
          if (blocking_.tile_registers) {
            multiply_tiles(at.batch, rows, columns, chunk);
          } else {
            multiply(at.batch, rows, columns, chunk);
          }
        };
        for_panels(b_, rows_, at.rows, rows_.per_block, tile);
      };
      for_panels(b_, columns_, at.columns, columns_.per_block, strip);
    };
    const Ex steps = a_.integer(blocking_.steps);
    if (chunks() == 1) {
      compute({a_.integer(0), steps, nullptr, nullptr, at.depth});
      return;
    }
    const Ex per_part = a_.integer(blocking_.chunks_per_part);
    const Ex first = a_.mul(at.depth, per_part);
    const Ex end = a_.binary(loop::Binary::minimum, a_.add(first, per_part), a_.integer(chunks()));
    for_part(b_, at.depth, blocking_.chunks_per_part, chunks(), [&](Ex i) {
      const Ex begin = a_.mul(i, a_.integer(blocking_.chunk));
      const Ex extent =
          a_.binary(loop::Binary::minimum, a_.integer(blocking_.chunk), a_.sub(steps, begin));
      const bool whole = blocking_.chunks_per_part == 1;
      compute({begin, extent, whole ? nullptr : a_.less(first, i),
               whole ? nullptr : a_.equal(i, a_.sub(end, a_.integer(1))), at.depth});
    });
  }

  /// A panel that a register tile is made of.
  struct Part {
    Ex panel;
    Ex local;  ///< its number in the block
    std::int64_t count;
    bool with_sums;  ///< the last row is of ones
  };

  static bool is_sum(const Part& tile, std::size_t row) {
    return tile.with_sums && static_cast<std::int64_t>(row) == tile.count - 1;
  }

  void multiply(Ex batch, const Part& tile, const Part& strip, const Chunk& chunk) {
    const Ex begin = chunk.begin;
    const Ex row = a_.mul(tile.panel, a_.integer(rows_.size));
    const Ex first = a_.mul(strip.panel, a_.integer(columns_.size));
    const Ex row_base = rows_.place == Place::direct
                            ? nullptr
                            : packer_->base(rows_, batch, tile.panel, tile.local, begin);
    const Ex column_base = columns_.place == Place::direct
                               ? nullptr
                               : packer_->base(columns_, batch, strip.panel, strip.local, begin);
    const auto rows = static_cast<std::size_t>(tile.count);
    const std::size_t products = columns_.products();
    const auto at = [&](std::size_t r) { return a_.integer(static_cast<std::int64_t>(r)); };
    b_.loop(strip.count, Role::vector, static_cast<int>(columns_.size), [&](Ex lane) {
      const Ex column = a_.add(first, lane);
      // Of the products' values in a step, or in a row of sums.
      const auto within = [&](std::size_t product) {
        return a_.add(a_.integer(static_cast<std::int64_t>(product) * columns_.size), lane);
      };
      const auto sum_position = [&](std::size_t r, std::size_t product) {
        const Ex to = a_.mul(at(r), a_.integer(columns_.step_values()));
        return a_.add(a_.add(sums_base(tile, strip), to), within(product));
      };
      std::vector<std::vector<loop::Accumulator*>> sums(rows);  // [row][product]
      for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t k = 0; k < products; ++k) {
          sums[r].push_back(b_.declare(scalar_, loop::Combine::add, a_.constant(scalar_, 0)));
          if (sums_ == nullptr) continue;
          b_.assign(sums[r][k], a_.load(sums_, sum_position(r, k), chunk.resumes));
        }
      }
      const Ex next = prefetches_rows() ? packer_->fetch(rows_, 0, batch,
                                                         a_.add(row, a_.integer(rows_.size)), begin)
                                        : nullptr;
      b_.loop(chunk.extent, [&](Ex step) {
        if (next != nullptr) {
          // A tile is one piece of memory: it is asked for bit by bit.
          const Ex position = a_.mul(step, a_.integer(rows_.size));
          b_.prefetch(next->buffer, a_.add(next->arguments[0], position));
        }
        const auto value = [&](const Panels& panels, std::size_t product, Ex base, Ex free,
                               Ex inside) {
          if (panels.place == Place::direct) {
            return packer_->fetch(panels, product, batch, free, a_.add(begin, step));
          }
          return a_.load(panels.buffer, a_.add(base, packer_->within(panels, inside, step)));
        };
        std::vector<Ex> y;
        for (std::size_t k = 0; k < products; ++k) {
          y.push_back(b_.let(value(columns_, k, column_base, column, within(k))));
        }
        for (std::size_t r = 0; r < rows; ++r) {
          const Ex x = is_sum(tile, r) ? a_.constant(scalar_, 1)
                                       : value(rows_, 0, row_base, a_.add(row, at(r)), at(r));
          for (std::size_t k = 0; k < products; ++k) {
            const Ex sum = b_.read(sums[r][k]);
            b_.assign(sums[r][k],
                      blocking_.pairs ? a_.dot_pair(x, y[k], sum) : a_.fma(x, y[k], sum));
          }
        }
      });
      const auto store_results = [&] {
        for (std::size_t r = 0; r < rows; ++r) {
          std::vector<ops::Element> results;
          for (loop::Accumulator* sum : sums[r]) results.push_back({b_.read(sum), nullptr});
          if (is_sum(tile, r) && parts_ == nullptr) {
            store_sum(column, results[0]);
          } else {
            store(batch, a_.add(row, at(r)), column, results, chunk);
          }
        }
      };
      if (sums_ == nullptr) {
        store_results();
        return;
      }
      b_.condition(chunk.ends, store_results);
      b_.condition(a_.logical_not(chunk.ends), [&] {
        for (std::size_t r = 0; r < rows; ++r) {
          for (std::size_t k = 0; k < products; ++k) {
            b_.store(sums_, sum_position(r, k), b_.read(sums[r][k]));
          }
        }
      });
    });
  }

  /// The same through tile registers, whose sums go through memory.
  void multiply_tiles(Ex batch, const Part& tile, const Part& strip, const Chunk& chunk) {
    const bool several = blocking_.chunks_per_part > 1;
    const std::int64_t width = columns_.step_values();
    const Ex sums = several ? b_.let(sums_base(tile, strip)) : a_.integer(0);
    if (several) {
      b_.condition(a_.logical_not(chunk.resumes), [&] {
        b_.loop(rows_.size * width, Role::vector, lanes_,
                [&](Ex lane) { b_.store(sums_, a_.add(sums, lane), a_.constant(scalar_, 0)); });
      });
    }
    const Ex granule = a_.integer(loop::TileProduct::granule);
    const Ex full = a_.floor_div(a_.add(chunk.extent, a_.sub(granule, a_.integer(1))),
                                 loop::TileProduct::granule);
    loop::TileProduct product;
    product.sums = {sums_, sums, width};
    product.left = {rows_.buffer, packer_->base(rows_, batch, tile.panel, tile.local, chunk.begin),
                    rows_.length};
    product.right = {columns_.buffer,
                     packer_->base(columns_, batch, strip.panel, strip.local, chunk.begin), width};
    product.rows = static_cast<int>(rows_.size);
    product.columns = static_cast<int>(width);
    product.steps = a_.mul(full, granule);
    product.accumulate = several;
    b_.tile_product(product);
    const Ex first_row = a_.mul(tile.panel, a_.integer(rows_.size));
    const Ex first_column = a_.mul(strip.panel, a_.integer(columns_.size));
    const auto store_results = [&] {
      b_.loop(tile.count, Role::serial, 1, [&](Ex row) {
        b_.loop(strip.count, Role::vector, static_cast<int>(columns_.size), [&](Ex lane) {
          std::vector<ops::Element> results;
          for (std::size_t k = 0; k < columns_.products(); ++k) {
            const Ex within = a_.integer(static_cast<std::int64_t>(k) * columns_.size);
            const Ex from = a_.add(a_.mul(row, a_.integer(width)), a_.add(within, lane));
            results.push_back({b_.let(a_.load(sums_, a_.add(sums, from))), nullptr});
          }
          store(batch, a_.add(first_row, row), a_.add(first_column, lane), results, chunk);
        });
      });
    };
    if (chunk.ends == nullptr) {
      store_results();
    } else {
      b_.condition(chunk.ends, store_results);
    }
  }

  /// Where the sums of a tile are kept between chunks.
  Ex sums_base(const Part& tile, const Part& strip) {
    const Ex index = a_.add(a_.mul(strip.local, a_.integer(rows_.per_block)), tile.local);
    return a_.mul(index, a_.integer(rows_.size * columns_.step_values()));
  }

  /// Complete sums, or those of one part of the contracted axis.
  void store(Ex batch, Ex row, Ex column, const std::vector<ops::Element>& results,
             const Chunk& chunk) {
    if (parts_ == nullptr) {
      access_.store(batch, row, column, results);
      return;
    }
    for (std::size_t k = 0; k < results.size(); ++k) {
      const Ex sum = results[k].re;
      b_.store(parts_, part_position(chunk.depth_part, batch, row, k, column),
               blocking_.pairs ? a_.bits(sum, loop::Scalar::i32) : sum);
    }
  }

  // ---- adding up --------------------------------------------------------------------------------

  /// Sums of one part of the contracted axis.
  std::int64_t part_values() const {
    return p_.batches() * p_.tiled_rows() * p_.columns() *
           static_cast<std::int64_t>(columns_.products());
  }

  Ex part_position(Ex part, Ex batch, Ex row, std::size_t product, Ex column) {
    const auto products = static_cast<std::int64_t>(columns_.products());
    const Ex index[] = {part, batch, row, a_.integer(static_cast<std::int64_t>(product)), column};
    const Shape shape{blocking_.parts, p_.batches(), p_.tiled_rows(), products, p_.columns()};
    return a_.add(a_.integer(parts_offset_), a_.linearize(index, shape));
  }

  /// What the parts add up to, from the first to the last.
  ops::Element added(Ex batch, Ex row, std::size_t product, Ex column) {
    const auto value = [&](std::int64_t part) {
      const Ex sum = a_.load(parts_, part_position(a_.integer(part), batch, row, product, column));
      return blocking_.pairs ? a_.bits(sum, loop::Scalar::f32) : sum;
    };
    Ex sum = value(0);
    for (std::int64_t part = 1; part < blocking_.parts; ++part) sum = a_.add(sum, value(part));
    return {b_.let(sum), nullptr};
  }

  void store_sum(Ex column, const ops::Element& value) {
    emitter_.store({const_cast<ir::Node*>(emitter_.group().operand_sum), 0}, column, value);
  }

  /// A phase that adds up the parts of the contracted axis.
  void add_parts() {
    constexpr std::int64_t block_values = 1 << 15;
    const std::int64_t values = part_values() / p_.tiled_rows() / p_.batches() * blocking_.parts;
    const std::int64_t per_block = std::clamp<std::int64_t>(block_values / values, 1, p_.rows());
    const Shape grid{p_.batches(), divide_up(p_.rows(), per_block)};
    b_.phase(grid.elements(), [&](Ex block) {
      const std::vector<Ex> at = a_.delinearize(block, grid);
      for_part(b_, at[1], per_block, p_.rows(), [&](Ex row) {
        b_.loop(p_.columns(), Role::vector, 2 * lanes_, [&](Ex column) {
          std::vector<ops::Element> results;
          for (std::size_t k = 0; k < columns_.products(); ++k) {
            results.push_back(added(at[0], row, k, column));
          }
          access_.store(at[0], row, column, results);
        });
      });
      if (!p_.with_sums) return;
      b_.condition(a_.equal(at[1], a_.integer(grid[1] - 1)), [&] {
        b_.loop(p_.columns(), Role::vector, 2 * lanes_, [&](Ex column) {
          store_sum(column, added(at[0], a_.integer(p_.rows()), 0, column));
        });
      });
    });
  }

  GroupEmitter& emitter_;
  loop::Arena& a_;
  loop::Builder& b_;
  Product p_;
  ProductAccess access_;
  loop::Scalar scalar_;
  DType storage_;
  int lanes_;
  Blocking blocking_;
  std::optional<PanelPacker> packer_;
  Panels rows_{};
  Panels columns_{};
  const loop::Buffer* sums_ = nullptr;   ///< of tiles, between chunks
  const loop::Buffer* parts_ = nullptr;  ///< sums of parts of the contracted axis
  std::int64_t parts_offset_ = 0;
};

}  // namespace

void schedule_dot_tiled(GroupEmitter& emitter, const Product& product, const HostTarget& target) {
  Tiled(emitter, product, target).run();
}

}  // namespace weft::compiler
