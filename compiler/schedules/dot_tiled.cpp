#include "compiler/schedules/dot_tiled.h"

#include <algorithm>
#include <bit>
#include <functional>

/// Matrix products by register tiles: a few rows by vectors of columns stay in registers while the
/// contracted axis runs. Operands that are costly to read in that order are packed into panels.
namespace weft::compiler {
namespace {

using loop::Ex;
using loop::Role;

/// The index space of one operand's free axis, in panels of `size`: tiles of rows, strips of
/// columns. A panel holds, for each step of the contracted axis, `size` neighbours of each product;
/// or, where `along`, the steps of each row in a line: a copy of rows that lie along the axis,
/// which are then not so far apart that they share a cache's sets.
struct Panels {
  bool columns;
  std::int64_t total;  ///< rows or columns
  std::int64_t extra;  ///< of which are no part of the operand: the row of ones
  std::int64_t size;
  std::int64_t per_block;
  std::vector<OperandLayout> layouts;  ///< of each product's operand; rows are of all of them
  Place place;
  bool along = false;       ///< of rows only
  std::int64_t length = 0;  ///< steps that a panel has room for
  const loop::Buffer* buffer = nullptr;
  std::int64_t offset = 0;  ///< of the panels in the buffer

  std::int64_t count() const { return (total + size - 1) / size; }
  std::size_t products() const { return layouts.size(); }
  /// Values of a panel at one step.
  std::int64_t step_values() const { return size * static_cast<std::int64_t>(products()); }
  std::int64_t room() const { return step_values() * length; }
  std::int64_t step_stride() const { return along ? 1 : step_values(); }
  std::int64_t free_stride() const { return along ? length : 1; }
  /// Whether a block packs its panels one after the other: strips that are transposed.
  bool one_at_a_time() const {
    return columns && !std::all_of(layouts.begin(), layouts.end(), [](const OperandLayout& layout) {
             return layout.free_contiguous;
           });
  }
};

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
    // The last step of an odd number of pairs has one value only.
    whole_steps_ = blocking_.pairs ? p_.depth() / 2 : p_.depth();
    rows_ = {false,          p_.tiled_rows(),           p_.tiled_rows() - p_.rows(),
             blocking_.tile, blocking_.tiles_per_block, {rows},
             blocking_.rows};
    columns_ = {true,    p_.columns(),     0, blocking_.width, blocking_.strips_per_block,
                columns, blocking_.columns};
    rows_.along = blocking_.rows_along;
    for (Panels* panels : {&rows_, &columns_}) {
      panels->length = panels->place == Place::shared ? blocking_.steps : blocking_.chunk;
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
      for_part(at[0], blocking_.batches_per_block, batches,
               [&](Ex batch) { this->block({batch, at[1], at[2], at[3]}); });
    });
    if (blocking_.parts > 1) add_parts();
  }

 private:
  static Product with_sums(GroupEmitter& emitter, Product product) {
    product.with_sums = emitter.group().operand_sum != nullptr;
    return product;
  }

  /// `extra` of the `count` rows or columns are no part of the operand.
  using PanelBody = std::function<void(Ex panel, Ex local, std::int64_t count, std::int64_t extra)>;

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

  static std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

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
    if (blocking_.chunks_per_part > 1) {
      sums_ = b_.kernel().local(
          "sums", blocking_.pairs ? DType::f32 : storage_,
          columns_.per_block * rows_.per_block * blocking_.tile * columns_.step_values());
    }
  }

  /// A serial loop over the part of [0, total) that belongs to one block.
  void for_part(Ex block, std::int64_t part, std::int64_t total,
                const std::function<void(Ex)>& body) {
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
    b_.loop(extent, [&](Ex i) { body(b_.let_within(a_.add(first, i), 0, total - 1)); });
  }

  /// `body` for the panels of one part: full ones in a loop, then the last one if it is smaller or
  /// has an extra row.
  void for_panels(const Panels& panels, Ex part, std::int64_t per_part, const PanelBody& full_body,
                  const PanelBody& rest_body) {
    const std::int64_t full = (panels.total - panels.extra) / panels.size;
    const std::int64_t rest = panels.total - full * panels.size;
    const Ex first = a_.mul(part, a_.integer(per_part));
    if (full > 0) {
      const Ex extent = full % per_part == 0 && rest == 0
                            ? a_.integer(per_part)
                            : a_.binary(loop::Binary::minimum, a_.integer(per_part),
                                        a_.sub(a_.integer(full), first));
      b_.loop(extent, [&](Ex i) {
        full_body(b_.let_within(a_.add(first, i), 0, full - 1), i, panels.size, 0);
      });
    }
    if (rest == 0) return;
    const auto last = [&] {
      rest_body(a_.integer(full), a_.sub(a_.integer(full), first), rest, panels.extra);
    };
    if (full < per_part) {
      last();
    } else {
      b_.condition(a_.equal(part, a_.integer(full / per_part)), last);
    }
  }

  // ---- packing ----------------------------------------------------------------------------------

  Ex fetch(const Panels& panels, std::size_t product, Ex batch, Ex free, Ex depth) {
    access_.reset();
    return panels.columns ? access_.column_operand(batch, free, depth, product).re
                          : access_.row_operand(batch, free, depth).re;
  }

  /// What a panel holds of one product for one step.
  Ex fetch_step(const Panels& panels, std::size_t product, Ex batch, Ex free, Ex step,
                bool whole = true) {
    if (!blocking_.pairs) return fetch(panels, product, batch, free, step);
    const auto bits = [&](Ex depth) {
      const Ex value = fetch(panels, product, batch, free, depth);
      return a_.bits(
          panels.layouts[product].stored ? value : a_.unary(loop::Unary::round_bf16, value),
          loop::Scalar::i32);
    };
    const Ex first = a_.mul(step, a_.integer(2));
    const Ex low = a_.binary(loop::Binary::shift_right_logical, bits(first),
                             a_.integer(loop::Scalar::i32, 16));
    if (!whole) return low;
    const Ex high = a_.binary(loop::Binary::bitwise_and, bits(a_.add(first, a_.integer(1))),
                              a_.integer(loop::Scalar::i32, -65536));
    return a_.binary(loop::Binary::bitwise_or, low, high);
  }

  /// The steps of a chunk that are whole.
  Ex whole_extent(Ex begin, Ex extent) {
    if (whole_steps_ == blocking_.steps) return extent;
    return a_.binary(loop::Binary::minimum, extent, a_.sub(a_.integer(whole_steps_), begin));
  }

  /// `body` with the last step's number in the chunk, if that is not whole and in this chunk.
  void for_last_step(Ex begin, Ex extent, const std::function<void(Ex step)>& body) {
    if (whole_steps_ == blocking_.steps) return;
    b_.condition(a_.equal(a_.add(begin, extent), a_.integer(blocking_.steps)),
                 [&] { body(a_.sub(extent, a_.integer(1))); });
  }

  /// Where a panel's values begin for one chunk, in elements.
  Ex panel_base(const Panels& panels, Ex batch, Ex panel, Ex local, Ex begin) {
    if (panels.place == Place::local) {
      return a_.mul(panels.one_at_a_time() ? a_.integer(0) : local, a_.integer(panels.room()));
    }
    const Ex index = a_.add(a_.mul(batch, a_.integer(panels.count())), panel);
    const Ex to = a_.add(a_.mul(index, a_.integer(panels.room())),
                         a_.mul(begin, a_.integer(panels.step_stride())));
    return a_.add(a_.integer(panels.offset), to);
  }

  /// Of one value, from where its panel's begin.
  Ex within_panel(const Panels& panels, Ex free, Ex step) {
    return a_.add(a_.mul(step, a_.integer(panels.step_stride())),
                  a_.mul(free, a_.integer(panels.free_stride())));
  }

  /// The same of one product's values.
  Ex product_base(const Panels& panels, std::size_t product, Ex batch, Ex panel, Ex local,
                  Ex begin) {
    return a_.add(panel_base(panels, batch, panel, local, begin),
                  a_.integer(static_cast<std::int64_t>(product) * panels.size));
  }

  /// Packs the panels of a part, along the contracted axis from `begin` on.
  void pack_panels(const Panels& panels, Ex batch, Ex part, std::int64_t per_part, Ex begin,
                   Ex extent) {
    for (std::size_t product = 0; product < panels.products(); ++product) {
      pack_panels(panels, product, batch, part, per_part, begin, extent);
    }
  }

  void pack_panels(const Panels& panels, std::size_t product, Ex batch, Ex part,
                   std::int64_t per_part, Ex begin, Ex extent) {
    if (panels.layouts[product].free_contiguous) {
      // Along the memory of several panels at once.
      const auto copy_step = [&](Ex step, bool whole) {
        const auto body = [&](Ex panel, Ex local, std::int64_t count, std::int64_t extra) {
          copy(panels, product, batch, panel, local, count - extra, begin, step, whole);
        };
        for_panels(panels, part, per_part, body, body);
      };
      b_.loop(whole_extent(begin, extent), [&](Ex step) { copy_step(step, true); });
      for_last_step(begin, extent, [&](Ex step) { copy_step(step, false); });
      return;
    }
    const auto body = [&](Ex panel, Ex local, std::int64_t count, std::int64_t extra) {
      transpose(panels, product, batch, panel, local, count - extra, begin, extent);
    };
    for_panels(panels, part, per_part, body, body);
  }

  /// One step of a panel whose neighbours are neighbours in memory.
  void copy(const Panels& panels, std::size_t product, Ex batch, Ex panel, Ex local,
            std::int64_t count, Ex begin, Ex step, bool whole) {
    const Ex first = a_.mul(panel, a_.integer(panels.size));
    const Ex base = product_base(panels, product, batch, panel, local, begin);
    const auto width = static_cast<int>(std::bit_ceil(static_cast<std::uint64_t>(panels.size)));
    b_.loop(count, Role::vector, width, [&](Ex lane) {
      const Ex value =
          fetch_step(panels, product, batch, a_.add(first, lane), a_.add(begin, step), whole);
      b_.store(panels.buffer, a_.add(base, within_panel(panels, lane, step)), value);
    });
  }

  /// Packs one panel by vectors along the contracted axis, which the stores transpose.
  void transpose(const Panels& panels, std::size_t product, Ex batch, Ex panel, Ex local,
                 std::int64_t count, Ex begin, Ex extent) {
    const Ex first = a_.mul(panel, a_.integer(panels.size));
    const Ex base = product_base(panels, product, batch, panel, local, begin);
    const auto group = [&](Ex from, std::int64_t steps) {
      b_.loop(steps, Role::vector, lanes_, [&](Ex lane) {
        const Ex step = a_.add(from, lane);
        // As many at a time as a vector register holds.
        for (std::int64_t start = 0; start < count; start += lanes_) {
          const std::int64_t stop = std::min<std::int64_t>(count, start + lanes_);
          std::vector<Ex> values;
          for (std::int64_t i = start; i < stop; ++i) {
            values.push_back(b_.let(fetch_step(panels, product, batch, a_.add(first, a_.integer(i)),
                                               a_.add(begin, step))));
          }
          for (std::int64_t i = start; i < stop; ++i) {
            b_.store(panels.buffer, a_.add(base, within_panel(panels, a_.integer(i), step)),
                     values[static_cast<std::size_t>(i - start)]);
          }
        }
      });
    };
    const Ex whole = whole_extent(begin, extent);
    b_.loop(a_.floor_div(whole, lanes_),
            [&](Ex i) { group(a_.mul(i, a_.integer(lanes_)), lanes_); });
    // Chunks but the last are multiples of the lanes.
    const std::int64_t rest = whole_steps_ % lanes_;
    if (rest != 0) {
      b_.condition(a_.equal(a_.add(begin, extent), a_.integer(blocking_.steps)),
                   [&] { group(a_.sub(whole, a_.integer(rest)), rest); });
    }
    for_last_step(begin, extent, [&](Ex step) {
      copy(panels, product, batch, panel, local, count, begin, step, false);
    });
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
        pack_panels(*part.panels, at[0], at[1], part.per_part, a_.integer(0),
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
        pack_panels(rows_, at.batch, at.rows, rows_.per_block, chunk.begin, chunk.extent);
      }
      const bool strips = columns_.place == Place::local && columns_.one_at_a_time();
      if (columns_.place == Place::local && !strips) {
        pack_panels(columns_, at.batch, at.columns, columns_.per_block, chunk.begin, chunk.extent);
      }
      const PanelBody strip = [&](Ex panel, Ex local, std::int64_t count, std::int64_t) {
        if (strips) pack_strip(at.batch, panel, count, chunk.begin, chunk.extent);
        const PanelBody tile = [&](Ex tile_panel, Ex tile_local, std::int64_t tile_rows,
                                   std::int64_t extra) {
          multiply(at.batch, {tile_panel, tile_local, tile_rows, extra > 0},
                   {panel, local, count, false}, chunk);
        };
        for_panels(rows_, at.rows, rows_.per_block, tile, tile);
      };
      for_panels(columns_, at.columns, columns_.per_block, strip, strip);
    };
    const Ex steps = a_.integer(blocking_.steps);
    if (chunks() == 1) {
      compute({a_.integer(0), steps, nullptr, nullptr, at.depth});
      return;
    }
    const Ex per_part = a_.integer(blocking_.chunks_per_part);
    const Ex first = a_.mul(at.depth, per_part);
    const Ex end = a_.binary(loop::Binary::minimum, a_.add(first, per_part), a_.integer(chunks()));
    for_part(at.depth, blocking_.chunks_per_part, chunks(), [&](Ex i) {
      const Ex begin = a_.mul(i, a_.integer(blocking_.chunk));
      const Ex extent =
          a_.binary(loop::Binary::minimum, a_.integer(blocking_.chunk), a_.sub(steps, begin));
      const bool whole = blocking_.chunks_per_part == 1;
      compute({begin, extent, whole ? nullptr : a_.less(first, i),
               whole ? nullptr : a_.equal(i, a_.sub(end, a_.integer(1))), at.depth});
    });
  }

  void pack_strip(Ex batch, Ex panel, std::int64_t count, Ex begin, Ex extent) {
    for (std::size_t product = 0; product < columns_.products(); ++product) {
      if (!columns_.layouts[product].free_contiguous) {
        transpose(columns_, product, batch, panel, a_.integer(0), count, begin, extent);
        continue;
      }
      const auto step_copy = [&](Ex step, bool whole) {
        copy(columns_, product, batch, panel, a_.integer(0), count, begin, step, whole);
      };
      b_.loop(whole_extent(begin, extent), [&](Ex step) { step_copy(step, true); });
      for_last_step(begin, extent, [&](Ex step) { step_copy(step, false); });
    }
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
                            : panel_base(rows_, batch, tile.panel, tile.local, begin);
    const Ex column_base = columns_.place == Place::direct
                               ? nullptr
                               : panel_base(columns_, batch, strip.panel, strip.local, begin);
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
        const Ex index = a_.add(a_.mul(strip.local, a_.integer(rows_.per_block)), tile.local);
        const Ex sum_row = a_.add(a_.mul(index, a_.integer(rows_.size)), at(r));
        return a_.add(a_.mul(sum_row, a_.integer(columns_.step_values())), within(product));
      };
      std::vector<std::vector<loop::Accumulator*>> sums(rows);  // [row][product]
      for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t k = 0; k < products; ++k) {
          sums[r].push_back(b_.declare(scalar_, loop::Combine::add, a_.constant(scalar_, 0)));
          if (sums_ == nullptr) continue;
          b_.assign(sums[r][k], a_.load(sums_, sum_position(r, k), chunk.resumes));
        }
      }
      const Ex next = prefetches_rows()
                          ? fetch(rows_, 0, batch, a_.add(row, a_.integer(rows_.size)), begin)
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
            return fetch(panels, product, batch, free, a_.add(begin, step));
          }
          return a_.load(panels.buffer, a_.add(base, within_panel(panels, inside, step)));
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
          const Ex result_row = a_.add(row, at(r));
          if (parts_ == nullptr) {
            is_sum(tile, r) ? store_sum(column, results[0])
                            : access_.store(batch, result_row, column, results);
            continue;
          }
          for (std::size_t k = 0; k < products; ++k) {
            const Ex sum = results[k].re;
            b_.store(parts_, part_position(chunk.depth_part, batch, result_row, k, column),
                     blocking_.pairs ? a_.bits(sum, loop::Scalar::i32) : sum);
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
      for_part(at[1], per_block, p_.rows(), [&](Ex row) {
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
  std::int64_t whole_steps_ = 0;
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
