#include "compiler/loop/kernel.h"

#include <stdexcept>
#include <utility>

namespace weft::loop {

const Buffer* Kernel::argument(std::string buffer_name, DType dtype, std::int64_t elements,
                               bool writable) {
  buffers.push_back({.name = std::move(buffer_name),
                     .dtype = dtype,
                     .elements = elements,
                     .space = Space::argument,
                     .writable = writable,
                     .index = static_cast<int>(arguments.size()),
                     .values = {}});
  arguments.push_back(&buffers.back());
  return &buffers.back();
}

const Buffer* Kernel::local(std::string buffer_name, DType dtype, std::int64_t elements) {
  buffers.push_back({.name = std::move(buffer_name),
                     .dtype = dtype,
                     .elements = elements,
                     .space = Space::local,
                     .writable = true,
                     .index = -1,
                     .values = {}});
  return &buffers.back();
}

const Buffer* Kernel::shared(std::string buffer_name, DType dtype, std::int64_t elements) {
  buffers.push_back({.name = std::move(buffer_name),
                     .dtype = dtype,
                     .elements = elements,
                     .space = Space::shared,
                     .writable = true,
                     .index = -1,
                     .values = {}});
  return &buffers.back();
}

const Buffer* Kernel::table(std::string buffer_name, DType dtype, std::vector<double> values) {
  const auto elements = static_cast<std::int64_t>(values.size());
  buffers.push_back({.name = std::move(buffer_name),
                     .dtype = dtype,
                     .elements = elements,
                     .space = Space::table,
                     .writable = false,
                     .index = -1,
                     .values = std::move(values)});
  return &buffers.back();
}

const Buffer* Kernel::tensor_map(std::string buffer_name, TensorView view) {
  if (const std::optional<std::string> why = refusal(view)) {
    throw std::logic_error("tensor map " + buffer_name + " of kernel " + name + " " + *why);
  }
  buffers.push_back({.name = std::move(buffer_name),
                     .dtype = view.buffer->dtype,
                     .elements = 1,
                     .space = Space::tensor_map,
                     .writable = false,
                     .index = static_cast<int>(tensor_maps.size()),
                     .values = {}});
  tensor_maps.push_back(std::move(view));
  return &buffers.back();
}

Statement* Builder::append(StatementKind kind) {
  if (!block_) throw std::logic_error("a statement outside of a phase");
  Statement& statement = kernel_.statements.emplace_back();
  statement.kind = kind;
  block_->push_back(&statement);
  return block_->back();
}

void Builder::nested(Block& block, const std::function<void()>& body) {
  Block* const outer = std::exchange(block_, &block);
  try {
    body();
  } catch (...) {
    block_ = outer;
    throw;
  }
  block_ = outer;
}

void Builder::phase(std::int64_t grid, const std::function<void(Ex block)>& body) {
  if (block_) throw std::logic_error("a phase inside a phase");
  if (grid < 0) throw std::logic_error("a phase with a negative grid");
  Phase phase;
  phase.grid = grid;
  phase.block = arena().variable(Scalar::i64, 0, grid > 0 ? grid - 1 : 0);
  nested(phase.body, [&] { body(phase.block); });
  kernel_.phases.push_back(std::move(phase));
}

void Builder::phase(std::int64_t grid, std::int64_t threads,
                    const std::function<void(Ex block, Ex thread)>& body) {
  if (threads < 1 || threads > 1024) {
    throw std::logic_error("a block of " + std::to_string(threads) + " threads");
  }
  const Ex thread = arena().variable(Scalar::i64, 0, threads - 1);
  phase(grid, [&](Ex block) {
    threads_ = true;
    try {
      body(block, thread);
    } catch (...) {
      threads_ = false;
      throw;
    }
    threads_ = false;
  });
  kernel_.phases.back().threads = threads;
  kernel_.phases.back().thread = thread;
}

void Builder::phase(const plan::Transform& transform) {
  if (block_) throw std::logic_error("a phase inside a phase");
  const auto check = [&](const plan::Transform::Side& side, std::int64_t end, bool written) {
    const Buffer* buffer =
        side.argument < kernel_.arguments.size() ? kernel_.arguments[side.argument] : nullptr;
    if (buffer == nullptr || (written && !buffer->writable) || side.offset < 0 ||
        end > buffer->elements * static_cast<std::int64_t>(size_of(buffer->dtype))) {
      throw std::logic_error("a transform of memory that the kernel does not have");
    }
  };
  const bool overwritten = transform.kind == plan::Transform::Kind::to_real;
  check(transform.from, transform.from_end(), overwritten);
  check(transform.to, transform.to_end(), true);
  Phase phase;
  phase.transform = transform;
  kernel_.phases.push_back(std::move(phase));
}

void Builder::loop(std::int64_t extent, Role role, int width,
                   const std::function<void(Ex index)>& body) {
  if (extent < 0) throw std::logic_error("a loop with a negative extent");
  if (width < 1) throw std::logic_error("a vector loop with a width below 1");
  if (extent == 0) return;
  if (extent == 1) {
    body(arena().integer(0));
    return;
  }
  Statement* statement = append(StatementKind::loop);
  statement->role = role;
  statement->width = role == Role::vector ? width : 1;
  statement->extent = arena().integer(extent);
  statement->variable = arena().variable(Scalar::i64, 0, extent - 1);
  const bool outer = std::exchange(vector_, vector_ || statement->width > 1);
  nested(statement->body, [&] { body(statement->variable); });
  vector_ = outer;
}

void Builder::loop(Ex extent, const std::function<void(Ex index)>& body) {
  if (extent->type != Scalar::i64) throw std::logic_error("loop: the extent must be i64");
  if (extent->kind == ExprKind::constant) {
    loop(extent->integer > 0 ? extent->integer : 0, Role::serial, 1, body);
    return;
  }
  Statement* statement = append(StatementKind::loop);
  statement->extent = extent;
  statement->variable =
      arena().variable(Scalar::i64, 0, extent->maximum > 0 ? extent->maximum - 1 : 0);
  nested(statement->body, [&] { body(statement->variable); });
}

void Builder::condition(Ex condition, const std::function<void()>& body) {
  if (condition->type != Scalar::boolean) throw std::logic_error("condition: not boolean");
  if (condition->kind == ExprKind::constant) {
    if (condition->integer) body();
    return;
  }
  Statement* statement = append(StatementKind::condition);
  statement->value = condition;
  nested(statement->body, body);
}

void Builder::prefetch(const Buffer* buffer, Ex index) {
  if (index->type != Scalar::i64) throw std::logic_error("prefetch: the index must be i64");
  Statement* statement = append(StatementKind::prefetch);
  statement->buffer = buffer;
  statement->index = index;
}

void Builder::tile_product(const TileProduct& product) {
  const auto check = [](const MatrixView& view, DType dtype) {
    if (!view.buffer || view.buffer->dtype != dtype || view.index->type != Scalar::i64) {
      throw std::logic_error("tile_product: sums are f32, operands pairs in i32");
    }
  };
  check(product.sums, DType::f32);
  check(product.left, DType::i32);
  check(product.right, DType::i32);
  if (!product.sums.buffer->writable) throw std::logic_error("tile_product to a constant buffer");
  constexpr int granule = TileProduct::granule;
  const auto fits = [](int extent) { return extent == granule || extent == 2 * granule; };
  if (!fits(product.rows) || !fits(product.columns)) {
    throw std::logic_error("tile_product: 16 or 32 rows and columns");
  }
  const Ex steps = product.steps;
  if (steps->type != Scalar::i64 ||
      (steps->kind == ExprKind::constant && (steps->integer < 1 || steps->integer % granule))) {
    throw std::logic_error("tile_product: the number of steps is a positive multiple of 16");
  }
  append(StatementKind::tile_product)->tile = product;
}

void Builder::store(const Buffer* buffer, Ex index, Ex value, Ex predicate) {
  if (!buffer || !buffer->writable) throw std::logic_error("store to a buffer that is read-only");
  if (index->type != Scalar::i64) throw std::logic_error("store: the index must be i64");
  if (value->type != register_type(buffer->dtype)) {
    throw std::logic_error("store of " + std::string(name(value->type)) + " to " + buffer->name +
                           ", which holds " + std::string(weft::name(buffer->dtype)));
  }
  if (predicate) {
    if (predicate->type != Scalar::boolean) throw std::logic_error("store: predicate not boolean");
    if (predicate->kind == ExprKind::constant) {
      if (!predicate->integer) return;
      predicate = nullptr;
    }
  }
  Statement* statement = append(StatementKind::store);
  statement->buffer = buffer;
  statement->index = index;
  statement->value = value;
  statement->predicate = predicate;
}

void Builder::stream(const Buffer* buffer, Ex index, Ex value, Ex predicate) {
  const std::size_t before = block_->size();
  store(buffer, index, value, predicate);
  if (block_->size() > before) block_->back()->streaming = true;
}

Ex Builder::let(Ex value) {
  if (value->kind == ExprKind::constant || value->kind == ExprKind::variable) return value;
  Statement* statement = append(StatementKind::let);
  statement->value = value;
  statement->variable = arena().variable(value->type, value->minimum, value->maximum);
  return statement->variable;
}

Ex Builder::let_within(Ex value, std::int64_t minimum, std::int64_t maximum) {
  if (value->type != Scalar::i64) throw std::logic_error("let_within: the value must be i64");
  if (value->minimum >= minimum && value->maximum <= maximum) return value;
  if (minimum == maximum) return arena().integer(minimum);
  Statement* statement = append(StatementKind::let);
  statement->value = value;
  statement->variable = arena().variable(Scalar::i64, minimum, maximum);
  return statement->variable;
}

Accumulator* Builder::declare(Scalar type, Combine combine, Ex initial) {
  if (initial->type != type) throw std::logic_error("declare: initial value of another type");
  kernel_.accumulators.push_back({.type = type,
                                  .combine = combine,
                                  .initial = initial,
                                  .id = static_cast<int>(kernel_.accumulators.size())});
  Accumulator* accumulator = &kernel_.accumulators.back();
  append(StatementKind::declare)->accumulator = accumulator;
  return accumulator;
}

void Builder::accumulate(Accumulator* accumulator, Ex value) {
  if (value->type != accumulator->type) throw std::logic_error("accumulate: another type");
  Statement* statement = append(StatementKind::accumulate);
  statement->accumulator = accumulator;
  statement->value = value;
}

void Builder::assign(Accumulator* accumulator, Ex value) {
  if (value->type != accumulator->type) throw std::logic_error("assign: another type");
  Statement* statement = append(StatementKind::assign);
  statement->accumulator = accumulator;
  statement->value = value;
}

Ex Builder::read(Accumulator* accumulator) {
  Statement* statement = append(StatementKind::let);
  statement->accumulator = accumulator;
  statement->variable = arena().variable(accumulator->type);
  return statement->variable;
}

void Builder::barrier() {
  if (!threads_) throw std::logic_error("a barrier outside of a phase with threads");
  if (vector_) throw std::logic_error("a barrier inside a vector loop");
  append(StatementKind::barrier);
}

std::vector<Ex> Builder::call(const Intrinsic& intrinsic, std::vector<Ex> operands,
                              std::vector<Address> addresses) {
  const std::string row(intrinsic.name);
  if (!threads_) throw std::logic_error(row + " outside of a phase with threads");
  if (vector_ && !intrinsic.pure()) throw std::logic_error(row + " inside a vector loop");
  if (operands.size() != intrinsic.operands.size() ||
      addresses.size() != intrinsic.addresses.size()) {
    throw std::logic_error(row + " with another number of operands or addresses");
  }
  for (std::size_t i = 0; i < operands.size(); ++i) {
    const Intrinsic::Operand& wanted = intrinsic.operands[i];
    if (operands[i]->type != wanted.type) {
      throw std::logic_error(row + ": operand " + std::to_string(i) + " is " +
                             std::string(name(operands[i]->type)) + " instead of " +
                             std::string(name(wanted.type)));
    }
    if (wanted.immediate &&
        (operands[i]->kind != ExprKind::constant || operands[i]->integer < wanted.least ||
         operands[i]->integer > wanted.limit || operands[i]->integer % wanted.multiple != 0)) {
      throw std::logic_error(row + ": operand " + std::to_string(i) + " must be a constant from " +
                             std::to_string(wanted.least) + " to " + std::to_string(wanted.limit) +
                             ", a multiple of " + std::to_string(wanted.multiple));
    }
  }
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    const Intrinsic::Address& wanted = intrinsic.addresses[i];
    const Buffer* buffer = addresses[i].buffer;
    if (!buffer || !addresses[i].index || addresses[i].index->type != Scalar::i64) {
      throw std::logic_error(row + ": an address is a buffer and an index of i64");
    }
    if (buffer->space != wanted.space || (wanted.dtype && buffer->dtype != *wanted.dtype)) {
      throw std::logic_error(row + ": " + buffer->name + " is of another space or type");
    }
    if (wanted.access != Intrinsic::Access::read && !buffer->writable) {
      throw std::logic_error(row + ": " + buffer->name + " is read-only");
    }
    if (wanted.space == Space::tensor_map) {
      const Ex index = addresses[i].index;
      const std::size_t axes =
          kernel_.tensor_maps.at(static_cast<std::size_t>(buffer->index)).extents.size();
      if (index->kind != ExprKind::constant || index->integer != 0 || axes != operands.size()) {
        throw std::logic_error(row + ": " + buffer->name + " has " + std::to_string(axes) +
                               " axes and is named with index 0");
      }
    }
  }
  Statement* statement = append(StatementKind::intrinsic);
  statement->intrinsic = &intrinsic;
  statement->operands = std::move(operands);
  statement->addresses = std::move(addresses);
  for (const Scalar type : intrinsic.results) {
    statement->results.push_back(arena().variable(type));
  }
  return statement->results;
}

}  // namespace weft::loop
