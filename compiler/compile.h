#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/codegen/target.h"
#include "compiler/ir/graph.h"
#include "compiler/object_cache.h"
#include "runtime/plan.h"

namespace weft::loop {
struct Kernel;
}

namespace weft::compiler {

struct CompileOptions {
  bool fuse = true;  ///< false: every op is a kernel of its own
  /// Composites that have a schedule are anchors; false: all of them are decomposed.
  bool composites = true;
  int threads = 0;     ///< for generating code; 0: as many as cores
  bool verify = true;  ///< run the verifier after every pass
  /// Round 16-bit values after every op, as if each were stored; otherwise they stay f32 inside a
  /// kernel.
  bool strict = false;
  /// f16 or bf16: products of f32 tensors round their operands to it.
  std::optional<DType> autocast = std::nullopt;
  /// On a GPU, products of f32 (those of attention as well) round their operands to tf32, 10 bits
  /// of fraction, and sum in f32.
  bool tf32 = false;
  /// On a GPU of sm_90a: operands of products of f16 and bf16 come to shared memory by tensor
  /// copies, where these take them; false: by the asynchronous copies of the threads that multiply.
  bool tensor_copies = true;
  /// "sm_90a": for a GPU of this kind, whose kernels are PTX; "": for the machine that this runs
  /// on.
  std::string gpu = {};
  /// GPU: which Fourier transforms its library computes; null: none. Any thread may call it.
  std::function<bool(const ir::Node& node)> library_transform = {};
  /// GPU: whether products on matrix units compute a Toeplitz operator, or its gradients, in place
  /// of transforms; asked of those that they may compute. Null: by what is counted. Any thread may
  /// call it.
  std::function<bool(const ir::Node& node)> tno_by_products = {};
  bool keep_assembly = false;
  bool keep_kernels = false;  ///< Compilation::loop_kernels
  bool generate_code = true;  ///< false: the plan's objects stay empty
  /// The machine to generate code for; nothing: the one that this process runs on.
  std::optional<HostTarget> target = std::nullopt;
  ObjectCache* cache = nullptr;  ///< of machine code; not owned
  /// Called after each pass that yields a graph.
  std::function<void(std::string_view pass, const ir::Graph& graph, double seconds)> after_pass;
};

/// A node of the graph before fusion.
struct NodeReport {
  std::string name;      ///< "%5"
  std::string op;        ///< "exp"
  std::string location;  ///< the user's line, or ""
};

/// What became a kernel and why: for dumps.
struct KernelReport {
  std::string name;                ///< as in the plan
  std::string kind;                ///< "dot_elw"
  std::string anchor;              ///< the anchor node's name, or ""
  std::vector<std::string> lines;  ///< nodes with access expressions: "%5 = dot %x[i, k], %w[k, j]"
  std::vector<NodeReport> nodes;   ///< all that are computed inside
  std::vector<std::string> inputs;
  std::vector<std::string> outputs;
  std::vector<std::string> locations;  ///< the user's lines
  std::int64_t grid = 1;
  std::int64_t bytes_read = 0;
  std::int64_t bytes_written = 0;
  std::int64_t operations = 0;
  // After a run with profiling:
  std::int64_t launches = 0;
  double seconds = 0;     ///< of all launches
  double roof_share = 0;  ///< the least time that the machine needs for them, over that
  std::string loops;      ///< the loop language
  std::string assembly;   ///< where asked for
};

/// A value that a kernel loads from another one in place of computing it, and why.
struct FusionRefusal {
  NodeReport producer;
  NodeReport consumer;
  std::string producer_kernel;
  std::string consumer_kernel;
  std::string reason;
};

/// Two kernels that load the same tensor at the same positions and are not one, and why.
struct SiblingRefusal {
  NodeReport first;
  NodeReport second;
  std::string shared;  ///< "%5"
  std::string first_kernel;
  std::string second_kernel;
  std::string reason;
};

struct PassTime {
  std::string pass;
  double seconds = 0;
  bool graph = false;  ///< yields a graph: after_pass has been called
};

struct Compilation {
  plan::Plan plan;
  std::vector<KernelReport> kernels;
  /// Where asked for: what each of the plan's kernels was generated from, for the interpreter.
  std::vector<std::shared_ptr<const loop::Kernel>> loop_kernels;
  std::vector<FusionRefusal> refusals;
  std::vector<SiblingRefusal> sibling_refusals;
  std::vector<PassTime> passes;
  std::int64_t distinct_kernels = 0;  ///< equal ones, of different layers say, share their code
  std::int64_t cached_kernels = 0;    ///< distinct ones whose code was in the cache
  /// Names in the State of values that are read from it: "%17" is "hidden.weight".
  std::map<std::string, std::string> states;
  std::string simplified;  ///< text of the graph before fusion
  std::string fused;       ///< text of the graph after fusion, kernels as nested blocks
};

/// Graph to plan. Throws Error.
Compilation compile(const ir::Graph& graph, const CompileOptions& options = {});

/// One pass by name, for `weft opt`. Throws Error where there is no such pass.
void run_pass(ir::Graph& graph, std::string_view pass);
/// Names that run_pass() knows, in pipeline order.
std::vector<std::string> pass_names();

}  // namespace weft::compiler
