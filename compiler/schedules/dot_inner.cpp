#include <algorithm>

#include "compiler/schedules/dot_product.h"
#include "compiler/schedules/schedule.h"

/// Products whose contracted axis runs in vector lanes, one result at a time: complex ones, and
/// those with few rows and columns.
namespace weft::compiler {

using loop::Ex;
using loop::Role;
using ops::Element;

void schedule_dot_inner(GroupEmitter& emitter, const Product& p, const HostTarget& target) {
  loop::Arena& a = emitter.arena();
  loop::Builder& b = emitter.builder();
  ProductAccess access(emitter, p);
  const Type& type = p.node->results[0];
  const bool complex = is_complex(type.dtype);
  const int lanes = target.vector_lanes(complex ? DType::f32 : type.dtype);
  const loop::Scalar scalar = register_of(type.dtype);
  const Shape space{p.batches(), p.rows(), p.columns()};
  const std::int64_t total = space.elements();
  const std::int64_t chunk =
      std::clamp<std::int64_t>(product_block_work / std::max<std::int64_t>(p.depth(), 1), 1, total);
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
          access.reset();
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

}  // namespace weft::compiler
