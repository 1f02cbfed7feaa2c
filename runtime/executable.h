#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/plan.h"
#include "runtime/state.h"

namespace weft::runtime {

/// A tensor lent to a callback for the length of the call.
struct TensorView {
  Type type;
  std::span<const std::byte> bytes;
};

/// Fills `to` with the feeder's values for an iteration; a pure function of the iteration. Called
/// on a thread of the feeder's own, a few iterations ahead, once for each iteration, in order.
/// `to` holds the values of some earlier iteration or zeros.
using FeedFunction = std::function<void(std::int64_t iteration, std::span<std::byte> to)>;
/// Called on a thread of the receiver's own with a snapshot of the tensors, in order of iteration,
/// for those iterations that the receiver's `every` divides.
using ReceiveFunction =
    std::function<void(std::int64_t iteration, std::span<const TensorView> tensors)>;

struct RunOptions {
  int threads = 0;           ///< 0: WEFT_THREADS, or as many as cores
  bool synchronous = false;  ///< feeders and receivers on the calling thread
  int queue = 4;             ///< snapshots a receiver may have waiting
  int device = 0;            ///< of a plan for GPUs: which one, as the driver counts them
};

/// The function that a phase runs.
using PhaseFunction = void (*)(void* const* arguments, void* scratch, std::int64_t begin,
                               std::int64_t end);

/// Machine code in memory; released with the object.
class Code {
 public:
  virtual ~Code() = default;
  virtual PhaseFunction find(const std::string& symbol) const = 0;  ///< throws Error
  /// The machine that this process runs on, spelt as plan::Plan::target; Executable throws where
  /// the plan's differs. "": not known, only the architecture before the '/' is compared.
  virtual std::string target() const { return {}; }
};
/// Loads the plan's objects through LLVM ORC (object_loader.cpp).
std::unique_ptr<Code> load_objects(const plan::Plan& plan);

struct KernelTime {
  std::string kernel;
  std::int64_t launches = 0;
  double seconds = 0;
};

/// Runs a plan. Not to be used by two threads at once, nor by its own callbacks.
///
/// Iterations as feeders and receivers see them: under nested loops of counts c1 (outermost), c2,
/// ... the running number i1 * c2 + i2 and so on; outside of all loops 0, or the number that
/// run(from, to) runs the whole plan with. Denormals flush to zero in kernels; callbacks keep the
/// caller's mode.
class Executable {
 public:
  /// Checks the plan; `code` defaults to load_objects(plan). Throws Error where the plan is
  /// inconsistent or for another machine. A plan for "nvptx64/..." runs on the GPU that
  /// `options` names, in memory that is allocated here; Error also where there is no such GPU.
  explicit Executable(plan::Plan plan, RunOptions options = {}, std::unique_ptr<Code> code = {});
  ~Executable();
  Executable(Executable&&) noexcept;
  Executable& operator=(Executable&&) noexcept;

  const plan::Plan& plan() const;
  int threads() const;
  int device() const;  ///< see RunOptions
  /// Binds states by name; throws Error naming all that are missing or have another type, and then
  /// keeps what was bound before.
  void bind(State state);
  /// These throw Error with the names that there are where `name` is none of them. Feeders must be
  /// set before a run; receivers need not; scalars have defaults.
  void set_feeder(const std::string& name, FeedFunction fill);
  void set_receiver(const std::string& name, ReceiveFunction callback);
  void set_scalar(const std::string& name, double value);

  /// Iterations of the top-level loop where the plan has exactly one, else 1.
  std::int64_t iterations() const;
  /// Runs everything; returns when the last callback has. The first exception of a feeder or
  /// receiver comes out of here, with State that of the last completed iteration: states that a
  /// loop changes are as its last iteration left them, or as it found them; what is changed outside
  /// of the loop that was stopped (or of one before it) is as it was when the run, or the iteration
  /// of the loop around it, began. An exception is
  /// - a feeder's, before any kernel of its iteration runs, after the callbacks of earlier ones;
  /// - a receiver's, when the loop around its step (any outermost loop, where there is none) is to
  ///   begin another iteration. Snapshots waiting for that receiver are dropped; other receivers
  ///   get theirs.
  /// The executable can be run again after.
  void run();
  /// Iterations [from, to) only: of the top-level loop where the plan has exactly one; otherwise
  /// the whole plan is run once for each, with that number as the iteration that feeders see.
  void run(std::int64_t from, std::int64_t to);

  /// Time of each kernel while profiling is on; turning it on starts from zero. On a GPU kernels
  /// are then launched one by one, and measured there.
  void set_profiling(bool on);
  std::vector<KernelTime> profile() const;

  /// Records what each thread does and when, from here on; turning it on starts from nothing. Each
  /// thread records up to a million events.
  void set_tracing(bool on);
  /// What was recorded, as JSON for chrome://tracing and ui.perfetto.dev: tracks of the calling
  /// thread (iterations, launches, transfers), of workers (their parts of launches), of feeders'
  /// and receivers' calls. Error where tracing has never been on.
  std::string trace() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace weft::runtime
