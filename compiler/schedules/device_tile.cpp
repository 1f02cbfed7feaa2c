#include "compiler/schedules/device_tile.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "compiler/schedules/access.h"
#include "compiler/schedules/divide.h"
#include "compiler/schedules/thread_indices.h"

namespace weft::compiler {

using loop::Binary;
using loop::Ex;
using loop::ExprKind;
using loop::Role;
using loop::Scalar;

namespace {

constexpr std::int64_t widest_access = 16;
/// Neighbours along the axis that is contiguous in memory which neighbouring threads read where a
/// tile is transposed on the way: a sector of f32, and stores of a warp that hit all banks.
constexpr std::int64_t transposed_run = 8;
/// Elements of 16 bits in 128 and in 16 bytes.
constexpr std::int64_t exchanged_row = 64;
constexpr std::int64_t exchanged_piece = 8;

std::int64_t bytes_of(DType dtype) { return static_cast<std::int64_t>(size_of(dtype)); }

}  // namespace

bool is_multiple(Ex e, std::int64_t n) {
  if (n == 1) return true;
  if (e->kind == ExprKind::constant) return e->integer % n == 0;
  if (e->kind != ExprKind::binary) {
    return e->kind == ExprKind::select && is_multiple(e->arguments[1], n) &&
           is_multiple(e->arguments[2], n);
  }
  const Ex x = e->arguments[0];
  const Ex y = e->arguments[1];
  const bool constant = y->kind == ExprKind::constant;
  switch (static_cast<Binary>(e->code)) {
    case Binary::add:
    case Binary::subtract:
    case Binary::minimum:
    case Binary::maximum:
      return is_multiple(x, n) && is_multiple(y, n);
    case Binary::multiply:
      if (constant) return is_multiple(x, n / std::gcd(n, y->integer));
      return is_multiple(x, n) || is_multiple(y, n);
    case Binary::floor_modulo:
      return constant && y->integer % n == 0 && is_multiple(x, n);
    case Binary::floor_divide:
      return constant && y->integer > 0 && y->integer <= (std::int64_t{1} << 40) &&
             is_multiple(x, n * y->integer);
    default:
      return false;
  }
}

bool lanes_are_aligned(loop::Arena& a, Ex e, Ex lane, std::int64_t width) {
  if (e == nullptr || !depends_on(e, lane)) return true;
  if (e->kind == ExprKind::load) {
    const auto strides = strides_of(e->arguments[0], {&lane, 1});
    if (!strides) return false;
    if (strides->front() == 1) {
      const std::int64_t together = std::min(width, widest_access / bytes_of(e->buffer->dtype));
      // At lane 0 the index is what is left without the lane.
      if (!is_multiple(a.sub(e->arguments[0], lane), together)) return false;
    }
  }
  return std::all_of(e->arguments.begin(), e->arguments.end(),
                     [&](Ex argument) { return lanes_are_aligned(a, argument, lane, width); });
}

TileLoader::Route TileLoader::route(GroupEmitter& emitter, const TiledOperand& operand,
                                    DType storage, TileOrder order) {
  Route best;
  std::int64_t most = -1;
  for (const bool depth_inner : {true, false}) {
    const std::int64_t inner = depth_inner ? operand.depth : operand.free;
    const std::int64_t outer = depth_inner ? operand.free : operand.depth;
    const bool transposed = (order == TileOrder::free_inner && depth_inner) ||
                            (order == TileOrder::depth_inner && !depth_inner);
    const std::int64_t widest = transposed ? 1 : widest_access / bytes_of(storage);
    for (std::int64_t width = widest; width >= 1; width /= 2) {
      if (inner % width != 0) continue;
      loop::Kernel scratch;
      GroupEmitter probe(scratch, emitter.group());
      loop::Arena& a = probe.arena();
      const auto axis = [&](std::int64_t extent) {
        return a.variable(Scalar::i64, 0, std::max<std::int64_t>(extent - 1, 0));
      };
      const Ex batch = axis(operand.batches);
      const Ex chunk = axis(inner / width);
      const Ex lane = axis(width);
      const Ex along = a.add(a.mul(chunk, a.integer(width)), lane);
      const Ex across = axis(outer);
      const Ex e =
          operand.value(probe, batch, depth_inner ? across : along, depth_inner ? along : across);
      const bool stored = e->kind == ExprKind::load && e->arguments[1] == nullptr &&
                          e->buffer->space == loop::Space::argument && e->buffer->dtype == storage;
      // Where chunks are single elements, whether the axis is contiguous decides.
      const Ex direction = width > 1 ? lane : chunk;
      const bool contiguous = contiguous_along(e, direction) && depends_on(e, direction);
      bool together = lanes_are_aligned(a, e, lane, width);
      if (stored && width > 1) together = together && contiguous;
      if (!together) continue;
      const bool copies = stored && width * bytes_of(storage) >= 4;
      const std::int64_t score =
          (copies ? 1000 : 0) + (contiguous ? 100 : 0) + 2 * width + (depth_inner ? 1 : 0);
      if (score > most) {
        most = score;
        best = {depth_inner, copies, width};
      }
    }
  }
  return best;
}

TileLoader::TileLoader(GroupEmitter& emitter, TiledOperand operand, const TileShape& shape)
    : emitter_(emitter),
      a_(emitter.arena()),
      b_(emitter.builder()),
      operand_(std::move(operand)),
      shape_(shape),
      route_(route(emitter, operand_, shape.storage, shape.order)) {
  depth_inner_ = shape.order == TileOrder::as_stored ? route_.depth_inner
                                                     : shape.order == TileOrder::depth_inner;
  const std::int64_t inner = depth_inner_ ? shape.depth : shape.free;
  const std::int64_t outer = depth_inner_ ? shape.free : shape.depth;
  pitch_ = shape.exchanged ? exchanged_row : inner + shape.padding_bytes / bytes_of(shape.storage);
  stage_elements_ = shape.exchanged ? outer * inner : outer * pitch_;
  buffer_ = b_.kernel().shared(operand_.name, shape.storage, stage_elements_ * shape.stages);
  if (!route_.copies) {
    // As loaded: what is converted is converted when it is stored.
    const DType held = shape.storage == DType::f64 ? DType::f64 : DType::f32;
    held_ = b_.kernel().local(operand_.name + "_next", held, per_thread() * route_.width);
  }
}

Ex TileLoader::stage(Ex number) const { return a_.mul(number, a_.integer(stage_elements_)); }

Ex TileLoader::within(Ex free, Ex depth) const {
  const Ex outer = depth_inner_ ? free : depth;
  const Ex inner = depth_inner_ ? depth : free;
  if (!shape_.exchanged) return a_.add(a_.mul(outer, a_.integer(pitch_)), inner);
  const std::int64_t block = (depth_inner_ ? shape_.free : shape_.depth) * exchanged_row;
  const Ex piece = a_.floor_div(a_.floor_mod(inner, exchanged_row), exchanged_piece);
  const Ex place =
      b_.let_within(a_.binary(Binary::bitwise_xor, piece, a_.floor_mod(outer, exchanged_piece)), 0,
                    exchanged_piece - 1);
  const Ex row = a_.add(a_.mul(a_.floor_div(inner, exchanged_row), a_.integer(block)),
                        a_.mul(outer, a_.integer(exchanged_row)));
  return a_.add(row, a_.add(a_.mul(place, a_.integer(exchanged_piece)),
                            a_.floor_mod(inner, exchanged_piece)));
}

std::int64_t TileLoader::per_thread() const {
  return divide_up(shape_.free * shape_.depth / route_.width, shape_.threads);
}

void TileLoader::for_chunks(Ex thread, const std::function<void(const Chunk& chunk)>& body) {
  const std::int64_t inner = (route_.depth_inner ? shape_.depth : shape_.free) / route_.width;
  const std::int64_t outer = route_.depth_inner ? shape_.free : shape_.depth;
  const std::int64_t total = inner * outer;
  const bool transposed = route_.depth_inner != depth_inner_;
  for (std::int64_t i = 0; i < per_thread(); ++i) {
    const Ex number = a_.add(thread, a_.integer(i * shape_.threads));
    Chunk chunk{i, nullptr, nullptr};
    if (transposed && inner % transposed_run == 0) {
      const Ex run = a_.floor_div(number, transposed_run);
      chunk.outer = a_.floor_mod(run, outer);
      chunk.inner = a_.add(a_.mul(a_.floor_div(run, outer), a_.integer(transposed_run)),
                           a_.floor_mod(number, transposed_run));
    } else {
      chunk.outer = a_.floor_div(number, inner);
      chunk.inner = a_.floor_mod(number, inner);
    }
    if ((i + 1) * shape_.threads <= total) {
      body(chunk);
      continue;
    }
    b_.condition(a_.less(number, a_.integer(total)), [&] {
      body({i, b_.let_within(chunk.outer, 0, outer - 1), b_.let_within(chunk.inner, 0, inner - 1)});
    });
  }
}

void TileLoader::start(Ex stage, Ex batch, Ex free, Ex depth, Ex thread) {
  const std::int64_t width = route_.width;
  const std::int64_t free_width = route_.depth_inner ? 1 : width;
  const std::int64_t depth_width = route_.depth_inner ? width : 1;
  const Ex first = this->stage(stage);
  for_chunks(thread, [&](const Chunk& chunk) {
    // In chunks, so that the elements' position is known to be a multiple of their width.
    const Ex own_free = route_.depth_inner ? chunk.outer : chunk.inner;
    const Ex own_depth = route_.depth_inner ? chunk.inner : chunk.outer;
    const Ex free_chunk = at_most_last(b_, a_.add(a_.floor_div(free, free_width), own_free),
                                       operand_.free / free_width);
    Ex depth_chunk = a_.add(a_.floor_div(depth, depth_width), own_depth);
    const std::int64_t depth_chunks = operand_.depth / depth_width;
    Ex inside = nullptr;
    if (operand_.depth % shape_.depth != 0) {
      inside = b_.let(a_.less(depth_chunk, a_.integer(depth_chunks)));
      depth_chunk = at_most_last(b_, depth_chunk, depth_chunks);
    }
    const Ex at_free = a_.mul(free_chunk, a_.integer(free_width));
    const Ex at_depth = a_.mul(depth_chunk, a_.integer(depth_width));
    emitter_.reset();
    if (route_.copies) {
      const Ex from = operand_.value(emitter_, batch, at_free, at_depth);
      const Ex to = a_.add(first, within(a_.mul(own_free, a_.integer(free_width)),
                                         a_.mul(own_depth, a_.integer(depth_width))));
      const std::int64_t bytes = width * bytes_of(shape_.storage);
      const char* const name = bytes == 16  ? "copy_async.16"
                               : bytes == 8 ? "copy_async.8"
                                            : "copy_async.4";
      b_.call(loop::intrinsic(name), {inside != nullptr ? inside : a_.boolean(true)},
              {{buffer_, to}, {from->buffer, from->arguments[0]}});
      return;
    }
    const auto hold = [&](Ex lane) {
      emitter_.reset();
      const Ex along_free = route_.depth_inner ? at_free : a_.add(at_free, lane);
      const Ex along_depth = route_.depth_inner ? a_.add(at_depth, lane) : at_depth;
      Ex value = operand_.value(emitter_, batch, along_free, along_depth);
      if (inside != nullptr) value = a_.select(inside, value, a_.constant(value->type, 0));
      b_.store(held_, a_.add(a_.integer(chunk.number * width), lane), value);
    };
    if (width == 1) {
      hold(a_.integer(0));
    } else {
      b_.loop(width, Role::vector, static_cast<int>(width), hold);
    }
  });
  emitter_.reset();
}

void TileLoader::finish(Ex stage, Ex thread) {
  if (route_.copies) return;
  const std::int64_t width = route_.width;
  const Ex first = this->stage(stage);
  for_chunks(thread, [&](const Chunk& chunk) {
    const Ex outer = chunk.outer;
    const Ex inner = a_.mul(chunk.inner, a_.integer(width));
    const Ex to = a_.add(first, route_.depth_inner ? within(outer, inner) : within(inner, outer));
    const Ex from = a_.integer(chunk.number * width);
    if (width == 1) {
      b_.store(buffer_, to, a_.load(held_, from));
      return;
    }
    b_.loop(width, Role::vector, static_cast<int>(width), [&](Ex lane) {
      b_.store(buffer_, a_.add(to, lane), a_.load(held_, a_.add(from, lane)));
    });
  });
}

}  // namespace weft::compiler
