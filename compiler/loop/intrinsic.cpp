#include "compiler/loop/intrinsic.h"

#include <array>
#include <deque>
#include <functional>
#include <stdexcept>
#include <string>
#include <unordered_map>

#include "compiler/loop/intrinsic_rows.h"

namespace weft::loop {
namespace {

using Access = Intrinsic::Access;

constexpr Intrinsic::Operand f32{Scalar::f32};
constexpr Intrinsic::Operand i32{Scalar::i32};
constexpr Intrinsic::Operand boolean{Scalar::boolean};

const std::vector<Intrinsic::Operand> no_operands;
const std::vector<Scalar> no_results;
const std::vector<Intrinsic::Address> no_addresses;

/// One row of eight elements of 16 bits; where fewer than four matrices are loaded, the other
/// lanes' addresses are not used.
const std::vector<Intrinsic::Address> matrix_row = {{Space::shared, Access::read, 16, 16}};

/// The first elements of an operand of a group product.
const Intrinsic::Address product_operand = {.space = Space::shared,
                                            .access = Access::read,
                                            .bytes = 2,
                                            .alignment = 32,
                                            .asynchronous = true};

std::vector<Intrinsic::Address> copy(int bytes) {
  return {{Space::shared, Access::write, bytes, bytes},
          {Space::argument, Access::read, bytes, bytes}};
}

/// A and B in 32-bit registers (pairs of 16-bit elements, the first in the lower half, or one
/// tf32), C in f32.
std::vector<Intrinsic::Operand> fragments(std::size_t a, std::size_t b, std::size_t c) {
  std::vector<Intrinsic::Operand> all(a + b, i32);
  all.insert(all.end(), c, f32);
  return all;
}

/// "$first, $first + 1, ..."
std::string registers(std::size_t first, std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    if (i > 0) text += ", ";
    text += '$' + std::to_string(first + i);
  }
  return text;
}

/// Texts that are put together live as long as the table.
std::string_view kept(std::string text) {
  static std::deque<std::string> all;
  return all.emplace_back(std::move(text));
}

/// Products of four warps whose operands are in shared memory, in rows of 128 bytes whose pieces of
/// 16 are exchanged: those of row r of eight by exclusive or with r. An operand whose contracted
/// axis is in the rows ("k") has groups of eight rows one after the other; one whose rows are
/// neighbours of the other axis ("m", "n") has blocks of 64 of them by 64 steps, one after the
/// other. They run behind the threads' backs: results, and the memory that is read, must be left
/// alone until their group has been waited for.
void add_group_products(const std::function<void(Intrinsic)>& row) {
  struct Type {
    std::string_view name;
    std::array<Meaning, 4> meaning;
    std::array<Meaning, 2> of_registers;
  };
  const Type types[] = {
      {"f16",
       {meaning::group_product<DType::f16, false, false>,
        meaning::group_product<DType::f16, false, true>,
        meaning::group_product<DType::f16, true, false>,
        meaning::group_product<DType::f16, true, true>},
       {meaning::group_product_registers<DType::f16, false>,
        meaning::group_product_registers<DType::f16, true>}},
      {"bf16",
       {meaning::group_product<DType::bf16, false, false>,
        meaning::group_product<DType::bf16, false, true>,
        meaning::group_product<DType::bf16, true, false>,
        meaning::group_product<DType::bf16, true, true>},
       {meaning::group_product_registers<DType::bf16, false>,
        meaning::group_product_registers<DType::bf16, true>}},
  };
  for (const std::size_t columns : {64, 128, 256}) {
    const std::size_t sums = columns / 2;
    for (const Type& type : types) {
      for (std::size_t layout = 0; layout < 4; ++layout) {
        const bool a_across = layout / 2 == 1, b_across = layout % 2 == 1;
        // Descriptors: the distance of groups of eight rows or steps is 1024 bytes, of blocks of
        // 64 columns 64 rows of 128 bytes; exchanged within 128 bytes.
        const auto descriptor = [&](const char* name, std::size_t address, bool across) {
          return std::string("shr.u32 w, $") + std::to_string(address) + ", 4; or.b32 w, w, " +
                 (across ? "0x02000000" : "0x00010000") + "; mov.b64 " + name +
                 ", {w, 0x40000040}; ";
        };
        const std::string text =
            "{ .reg .pred p; .reg .b32 w; .reg .b64 a, b; setp.ne.b32 p, $" + std::to_string(sums) +
            ", 0; " + descriptor("a", sums + 1, a_across) + descriptor("b", sums + 2, b_across) +
            "wgmma.mma_async.sync.aligned.m64n" + std::to_string(columns) + "k16.f32." +
            std::string(type.name) + '.' + std::string(type.name) + " {" + registers(0, sums) +
            "}, a, b, p, 1, 1, " + (a_across ? '1' : '0') + ", " + (b_across ? '1' : '0') + "; }";
        std::vector<Intrinsic::Operand> operands = {boolean};
        operands.insert(operands.end(), sums, f32);
        row({.name =
                 kept("group_product.n" + std::to_string(columns) + '.' + std::string(type.name) +
                      (a_across ? ".m" : ".k") + (b_across ? "n" : "k")),
             .operands = operands,
             .results = std::vector<Scalar>(sums, Scalar::f32),
             .addresses = {product_operand, product_operand},
             .whole_warp = true,
             .ordered = true,
             .tied = sums,
             .specific = true,
             .capability = 90,
             .meaning = type.meaning[layout],
             .ptx = kept(text)});
      }
    }
    // The same with A in registers, fragments as of mma.m16n8k16 for each warp's 16 rows.
    for (const Type& type : types) {
      for (const bool across : {false, true}) {
        const std::string text =
            "{ .reg .pred p; .reg .b32 w; .reg .b64 b; setp.ne.b32 p, $" + std::to_string(sums) +
            ", 0; shr.u32 w, $" + std::to_string(sums + 5) + ", 4; or.b32 w, w, " +
            (across ? "0x02000000" : "0x00010000") +
            "; mov.b64 b, {w, 0x40000040}; wgmma.mma_async.sync.aligned.m64n" +
            std::to_string(columns) + "k16.f32." + std::string(type.name) + '.' +
            std::string(type.name) + " {" + registers(0, sums) + "}, {" + registers(sums + 1, 4) +
            "}, b, p, 1, 1, " + (across ? '1' : '0') + "; }";
        std::vector<Intrinsic::Operand> operands = {boolean, i32, i32, i32, i32};
        operands.insert(operands.end(), sums, f32);
        row({.name = kept("group_product_registers.n" + std::to_string(columns) + '.' +
                          std::string(type.name) + (across ? ".n" : ".k")),
             .operands = operands,
             .results = std::vector<Scalar>(sums, Scalar::f32),
             .addresses = {product_operand},
             .whole_warp = true,
             .ordered = true,
             .tied = sums,
             .specific = true,
             .capability = 90,
             .meaning = type.of_registers[across ? 1 : 0],
             .ptx = kept(text)});
      }
    }
    // Until at most that many groups are under way; registers may be read, memory written then.
    std::vector<Intrinsic::Operand> operands = {{Scalar::i32, true, 7}};
    operands.insert(operands.end(), sums, f32);
    row({.name = kept("group_product_wait.n" + std::to_string(columns)),
         .operands = operands,
         .results = std::vector<Scalar>(sums, Scalar::f32),
         .addresses = no_addresses,
         .whole_warp = true,
         .ordered = true,
         .tied = sums,
         .specific = true,
         .capability = 90,
         .meaning = meaning::group_product_wait,
         .ptx = kept("wgmma.wait_group.sync.aligned $" + std::to_string(sums) + "; // " +
                     registers(0, sums))});
  }
  // Before the first product, and where registers of its sums were written.
  row({.name = "group_product_fence",
       .operands = no_operands,
       .results = no_results,
       .addresses = no_addresses,
       .whole_warp = true,
       .ordered = true,
       .specific = true,
       .capability = 90,
       .meaning = meaning::nothing,
       .ptx = "wgmma.fence.sync.aligned;"});
  row({.name = "group_product_commit",
       .operands = no_operands,
       .results = no_results,
       .addresses = no_addresses,
       .whole_warp = true,
       .ordered = true,
       .specific = true,
       .capability = 90,
       .meaning = meaning::group_product_commit,
       .ptx = "wgmma.commit_group.sync.aligned;"});
  // Before what orders them: what the thread wrote to shared memory is seen by such products and
  // overwritten by tensor copies, and what it read is not what copies write there.
  row({.name = "fence_async_shared",
       .operands = no_operands,
       .results = no_results,
       .addresses = no_addresses,
       .ordered = true,
       .capability = 90,
       .meaning = meaning::fence_async,
       .ptx = "fence.proxy.async.shared::cta;"});
}

std::vector<Intrinsic> make_rows() {
  std::vector<Intrinsic> rows;
  const auto row = [&](Intrinsic intrinsic) { rows.push_back(std::move(intrinsic)); };

  // A value of another lane: operands (value, which).
  struct Shuffle {
    std::string_view f32_name, i32_name, ptx;
    Meaning meaning;
  };
  for (const Shuffle& shuffle : {
           Shuffle{"shuffle_xor.f32", "shuffle_xor.i32",
                   "shfl.sync.bfly.b32 $0, $1, $2, 0x1f, 0xffffffff;", meaning::shuffle_xor},
           Shuffle{"shuffle_down.f32", "shuffle_down.i32",
                   "shfl.sync.down.b32 $0, $1, $2, 0x1f, 0xffffffff;", meaning::shuffle_down},
           Shuffle{"shuffle_index.f32", "shuffle_index.i32",
                   "shfl.sync.idx.b32 $0, $1, $2, 0x1f, 0xffffffff;", meaning::shuffle_index},
       }) {
    row({.name = shuffle.f32_name,
         .operands = {f32, i32},
         .results = {Scalar::f32},
         .addresses = no_addresses,
         .whole_warp = true,
         .capability = 70,
         .meaning = shuffle.meaning,
         .ptx = shuffle.ptx});
    row({.name = shuffle.i32_name,
         .operands = {i32, i32},
         .results = {Scalar::i32},
         .addresses = no_addresses,
         .whole_warp = true,
         .capability = 70,
         .meaning = shuffle.meaning,
         .ptx = shuffle.ptx});
  }

  // Votes: ballot's bit l is lane l's operand.
  row({.name = "ballot",
       .operands = {boolean},
       .results = {Scalar::i32},
       .addresses = no_addresses,
       .whole_warp = true,
       .capability = 70,
       .meaning = meaning::ballot,
       .ptx = "{ .reg .pred p; setp.ne.b32 p, $1, 0; "
              "vote.sync.ballot.b32 $0, p, 0xffffffff; }"});
  row({.name = "any",
       .operands = {boolean},
       .results = {Scalar::boolean},
       .addresses = no_addresses,
       .whole_warp = true,
       .capability = 70,
       .meaning = meaning::any,
       .ptx = "{ .reg .pred p, q; setp.ne.b32 p, $1, 0; "
              "vote.sync.any.pred q, p, 0xffffffff; selp.b32 $0, 1, 0, q; }"});
  row({.name = "all",
       .operands = {boolean},
       .results = {Scalar::boolean},
       .addresses = no_addresses,
       .whole_warp = true,
       .capability = 70,
       .meaning = meaning::all,
       .ptx = "{ .reg .pred p, q; setp.ne.b32 p, $1, 0; "
              "vote.sync.all.pred q, p, 0xffffffff; selp.b32 $0, 1, 0, q; }"});

  // Over all lanes' values; sums wrap.
  struct Reduction {
    std::string_view name, ptx;
    Meaning meaning;
  };
  for (const Reduction& reduction : {
           Reduction{"reduce_add.i32", "redux.sync.add.s32 $0, $1, 0xffffffff;",
                     meaning::reduce_add},
           Reduction{"reduce_min.i32", "redux.sync.min.s32 $0, $1, 0xffffffff;",
                     meaning::reduce_min},
           Reduction{"reduce_max.i32", "redux.sync.max.s32 $0, $1, 0xffffffff;",
                     meaning::reduce_max},
           Reduction{"reduce_and.i32", "redux.sync.and.b32 $0, $1, 0xffffffff;",
                     meaning::reduce_and},
           Reduction{"reduce_or.i32", "redux.sync.or.b32 $0, $1, 0xffffffff;", meaning::reduce_or},
           Reduction{"reduce_xor.i32", "redux.sync.xor.b32 $0, $1, 0xffffffff;",
                     meaning::reduce_xor},
       }) {
    row({.name = reduction.name,
         .operands = {i32},
         .results = {Scalar::i32},
         .addresses = no_addresses,
         .whole_warp = true,
         .capability = 80,
         .meaning = reduction.meaning,
         .ptx = reduction.ptx});
  }

  // 8 by 8 matrices of 16-bit elements: lane 8 * m + r has the address of row r of matrix m.
  struct Load {
    std::string_view name, ptx;
    std::size_t matrices;
    bool transposed;
  };
  for (const Load& load : {
           Load{"load_matrix.x1", "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {$0}, [$1];", 1, false},
           Load{"load_matrix.x2", "ldmatrix.sync.aligned.m8n8.x2.shared.b16 {$0, $1}, [$2];", 2,
                false},
           Load{"load_matrix.x4",
                "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$0, $1, $2, $3}, [$4];", 4, false},
           Load{"load_matrix.x1.transposed",
                "ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {$0}, [$1];", 1, true},
           Load{"load_matrix.x2.transposed",
                "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {$0, $1}, [$2];", 2, true},
           Load{"load_matrix.x4.transposed",
                "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {$0, $1, $2, $3}, [$4];", 4, true},
       }) {
    row({.name = load.name,
         .operands = no_operands,
         .results = std::vector<Scalar>(load.matrices, Scalar::i32),
         .addresses = matrix_row,
         .whole_warp = true,
         .capability = 75,
         .meaning = load.transposed ? meaning::load_matrix_transposed : meaning::load_matrix,
         .ptx = load.ptx});
  }

  // D = A B + C: operands A, B, C, results D.
  struct Product {
    std::string_view name, ptx;
    Meaning meaning;
  };
  for (const Product& product : {
           Product{"mma.m16n8k16.f16",
                   "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {$0, $1, $2, $3}, "
                   "{$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};",
                   meaning::mma_f16},
           Product{"mma.m16n8k16.bf16",
                   "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {$0, $1, $2, $3}, "
                   "{$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};",
                   meaning::mma_bf16},
           Product{"mma.m16n8k8.tf32",
                   "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {$0, $1, $2, $3}, "
                   "{$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};",
                   meaning::mma_tf32},
       }) {
    row({.name = product.name,
         .operands = fragments(4, 2, 4),
         .results = std::vector<Scalar>(4, Scalar::f32),
         .addresses = no_addresses,
         .whole_warp = true,
         .capability = 80,
         .meaning = product.meaning,
         .ptx = product.ptx});
  }
  // f32 to the nearest tf32, ties away from zero; the product itself ignores the lowest 13 bits.
  row({.name = "round_tf32",
       .operands = {f32},
       .results = {Scalar::i32},
       .addresses = no_addresses,
       .capability = 80,
       .meaning = meaning::round_tf32,
       .ptx = "cvt.rna.tf32.f32 $0, $1;"});
  // Two f32 to nearest even: the first operand in the lower half.
  row({.name = "pack.f16",
       .operands = {f32, f32},
       .results = {Scalar::i32},
       .addresses = no_addresses,
       .capability = 80,
       .meaning = meaning::pack_f16,
       .ptx = "cvt.rn.f16x2.f32 $0, $2, $1;"});
  row({.name = "pack.bf16",
       .operands = {f32, f32},
       .results = {Scalar::i32},
       .addresses = no_addresses,
       .capability = 80,
       .meaning = meaning::pack_bf16,
       .ptx = "cvt.rn.bf16x2.f32 $0, $2, $1;"});

  // From global to shared memory, behind the thread's back: there once the group that it was
  // committed to has been waited for, and seen by other threads after a barrier that follows.
  // Where the operand is false zeros are written and nothing is read.
  row({.name = "copy_async.4",
       .operands = {boolean},
       .results = no_results,
       .addresses = copy(4),
       .ordered = true,
       .capability = 80,
       .meaning = meaning::copy_async,
       .ptx = "{ .reg .pred p; .reg .b32 n; setp.ne.b32 p, $0, 0; selp.b32 n, 4, 0, p; "
              "cp.async.ca.shared.global [$1], [$2], 4, n; }"});
  row({.name = "copy_async.8",
       .operands = {boolean},
       .results = no_results,
       .addresses = copy(8),
       .ordered = true,
       .capability = 80,
       .meaning = meaning::copy_async,
       .ptx = "{ .reg .pred p; .reg .b32 n; setp.ne.b32 p, $0, 0; selp.b32 n, 8, 0, p; "
              "cp.async.ca.shared.global [$1], [$2], 8, n; }"});
  row({.name = "copy_async.16",
       .operands = {boolean},
       .results = no_results,
       .addresses = copy(16),
       .ordered = true,
       .capability = 80,
       .meaning = meaning::copy_async,
       .ptx = "{ .reg .pred p; .reg .b32 n; setp.ne.b32 p, $0, 0; selp.b32 n, 16, 0, p; "
              "cp.async.cg.shared.global [$1], [$2], 16, n; }"});
  row({.name = "copy_commit",
       .operands = no_operands,
       .results = no_results,
       .addresses = no_addresses,
       .ordered = true,
       .capability = 80,
       .meaning = meaning::copy_commit,
       .ptx = "cp.async.commit_group;"});
  // Until at most that many of the thread's latest groups are under way.
  row({.name = "copy_wait",
       .operands = {{Scalar::i32, true, 7}},
       .results = no_results,
       .addresses = no_addresses,
       .ordered = true,
       .capability = 80,
       .meaning = meaning::copy_wait,
       .ptx = "cp.async.wait_group $0;"});

  // Lanes run each at its own pace: where one reads or writes shared memory that another has
  // written or read, this or a barrier is between. Shuffles, votes and products are none.
  row({.name = "sync_warp",
       .operands = no_operands,
       .results = no_results,
       .addresses = no_addresses,
       .whole_warp = true,
       .ordered = true,
       .acquires = true,
       .capability = 70,
       .meaning = meaning::sync_warp,
       .ptx = "bar.warp.sync 0xffffffff;"});

  row({.name = "atomic_add.global.f32",
       .operands = {f32},
       .results = no_results,
       .addresses = {{Space::argument, Access::update, 4, 4, DType::f32}},
       .ordered = true,
       .capability = 70,
       .meaning = meaning::atomic_add,
       .ptx = "red.relaxed.gpu.global.add.f32 [$1], $0;"});
  row({.name = "atomic_add.shared.f32",
       .operands = {f32},
       .results = no_results,
       .addresses = {{Space::shared, Access::update, 4, 4, DType::f32}},
       .ordered = true,
       .capability = 70,
       .meaning = meaning::atomic_add,
       .ptx = "red.relaxed.cta.shared.add.f32 [$1], $0;"});

  // One instruction each. Denormal operands and results are zero but for the hyperbolic tangent.
  // Errors: exp2 2 ulp; log2 2^-22 in [1/2, 2], 2 ulp elsewhere; reciprocal 1 ulp; rsqrt 2 ulp;
  // tanh 2^-11 relative; sin and cos 2^-20.5 within [-pi, pi], and growing outside.
  struct Function {
    std::string_view name, ptx;
    int capability;
    Meaning meaning;
  };
  for (const Function& function : {
           Function{"fast_exp2", "ex2.approx.ftz.f32 $0, $1;", 70, meaning::exp2},
           Function{"fast_log2", "lg2.approx.ftz.f32 $0, $1;", 70, meaning::log2},
           Function{"fast_reciprocal", "rcp.approx.ftz.f32 $0, $1;", 70, meaning::reciprocal},
           Function{"fast_rsqrt", "rsqrt.approx.ftz.f32 $0, $1;", 70, meaning::rsqrt},
           Function{"fast_tanh", "tanh.approx.f32 $0, $1;", 75, meaning::tanh},
           Function{"fast_sin", "sin.approx.ftz.f32 $0, $1;", 70, meaning::sin},
           Function{"fast_cos", "cos.approx.ftz.f32 $0, $1;", 70, meaning::cos},
       }) {
    row({.name = function.name,
         .operands = {f32},
         .results = {Scalar::f32},
         .addresses = no_addresses,
         .capability = function.capability,
         .meaning = function.meaning,
         .ptx = function.ptx});
  }
  add_group_products(row);
  for (Intrinsic& copy_row : tensor_copy_rows()) row(std::move(copy_row));
  return rows;
}

const std::vector<Intrinsic>& rows() {
  static const std::vector<Intrinsic> all = make_rows();
  return all;
}

char constraint(Scalar type) {
  switch (type) {
    case Scalar::f32:
      return 'f';
    case Scalar::f64:
      return 'd';
    case Scalar::i64:
      return 'l';
    default:
      return 'r';
  }
}

}  // namespace

std::span<const Intrinsic> intrinsics() { return rows(); }

const Intrinsic& intrinsic(std::string_view name) {
  static const std::unordered_map<std::string_view, const Intrinsic*> by_name = [] {
    std::unordered_map<std::string_view, const Intrinsic*> map;
    for (const Intrinsic& row : rows()) map.emplace(row.name, &row);
    return map;
  }();
  const auto found = by_name.find(name);
  if (found == by_name.end()) throw std::logic_error("no intrinsic " + std::string(name));
  return *found->second;
}

std::string constraints(const Intrinsic& row) {
  std::string text;
  const auto add = [&](std::string_view constraint) {
    if (!text.empty()) text += ',';
    text += constraint;
  };
  for (const Scalar type : row.results) add(std::string("=") + constraint(type));
  const std::size_t untied = row.operands.size() - row.tied;
  for (std::size_t i = 0; i < untied; ++i) {
    const Intrinsic::Operand& operand = row.operands[i];
    add(std::string(1, operand.immediate ? 'n' : constraint(operand.type)));
  }
  for (const Intrinsic::Address& address : row.addresses) {
    add(address.space == Space::shared ? "r" : "l");
  }
  // After the addresses, so that the text counts as if they were not there.
  for (std::size_t i = 0; i < row.tied; ++i) {
    add(std::to_string(row.results.size() - row.tied + i));
  }
  if (row.ordered || !row.addresses.empty()) add("~{memory}");
  return text;
}

}  // namespace weft::loop
