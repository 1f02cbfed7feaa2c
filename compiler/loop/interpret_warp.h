#pragma once

#include <array>
#include <coroutine>
#include <cstdint>
#include <deque>
#include <exception>
#include <random>
#include <unordered_map>
#include <utility>
#include <vector>

#include "compiler/loop/interpret_code.h"
#include "compiler/loop/interpret_mbarrier.h"
#include "compiler/loop/interpret_memory.h"
#include "compiler/loop/interpret_traffic.h"

/// A warp that runs until its turn is over.
namespace weft::loop::interpreter {

/// A coroutine that others of its kind wait for. Whoever gives control away names the next in
/// `next`, and run() resumes one after the other: so the stack does not grow with the number of
/// turns, whether or not the compiler makes a jump of a last call.
class Task {
 public:
  static inline thread_local std::coroutine_handle<> next;
  static void run(std::coroutine_handle<> first) {
    for (next = first; next;) std::exchange(next, nullptr).resume();
  }

  struct promise_type {
    std::coroutine_handle<> caller;
    std::exception_ptr exception;

    Task get_return_object() { return Task(Handle::from_promise(*this)); }
    std::suspend_always initial_suspend() noexcept { return {}; }
    struct Final {
      bool await_ready() noexcept { return false; }
      void await_suspend(std::coroutine_handle<promise_type> handle) noexcept {
        next = handle.promise().caller;
      }
      void await_resume() noexcept {}
    };
    Final final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { exception = std::current_exception(); }
  };
  using Handle = std::coroutine_handle<promise_type>;

  Task() = default;
  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  ~Task() {
    if (handle_) handle_.destroy();
  }

  Handle handle() const { return handle_; }
  bool done() const { return !handle_ || handle_.done(); }
  void rethrow() const {
    if (handle_ && handle_.promise().exception) {
      std::rethrow_exception(handle_.promise().exception);
    }
  }

  // co_await task: runs it to its end.
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> caller) noexcept {
    handle_.promise().caller = caller;
    next = handle_;
  }
  void await_resume() const { rethrow(); }

 private:
  Handle handle_ = nullptr;
};

/// What the warps of one phase have in common.
struct Machine {
  const Phase& phase;
  Program& program;
  Memory& memory;
  Mbarriers& mbarriers;
  Reports& reports;
  const InterpretOptions& options;
  std::mt19937_64 random;
  TrafficCounter* traffic = nullptr;
};

class Warp {
 public:
  /// Lanes are threads number * 32 and on, as far as there are.
  Warp(Machine& machine, int number);
  Warp(const Warp&) = delete;
  Warp& operator=(const Warp&) = delete;

  void start(std::int64_t block);
  /// Runs until its turn is over, it waits, or it has ended.
  void resume();
  bool finished() const { return task_.done(); }
  const Statement* waiting() const { return waiting_; }  ///< the barrier that it is at, or null
  void pass_barrier() { waiting_ = nullptr; }
  bool waits_for_phase() const { return missing_phases_ > 0; }
  /// Where it has handed over registers.
  const std::vector<const Statement*>& registers() const { return registers_; }
  int first_thread() const { return number_ * warp_lanes; }

 private:
  class Call;
  struct Site {
    std::array<std::int64_t, warp_lanes> first;
    std::array<std::int8_t, warp_lanes> count;  ///< -1: not neighbours
    /// For counting traffic: by position in the group, the accesses' lanes and offsets.
    struct Position {
      std::uint32_t mask;
      std::array<std::int64_t, warp_lanes> offsets;
    };
    std::vector<Position> positions;
    const Statement* statement = nullptr;
    bool write = false;
  };
  /// Gives the turn back.
  struct Turn {
    Warp& warp;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> here) const noexcept { warp.here_ = here; }
    void await_resume() const noexcept {}
  };

  Task run(std::vector<Code>& block, std::uint32_t mask);
  Task loop(Code& code, std::uint32_t mask);
  bool turn_ends();
  void statement(Code& code, std::uint32_t mask);
  void evaluate(Code& code, std::uint32_t mask);
  void evaluate(Code& code, std::uint32_t mask, std::size_t first, std::size_t last);
  void load(const Step& step, Code& code, std::uint32_t mask);
  void store(Code& code, std::uint32_t mask);
  void accumulate(const Code& code, std::uint32_t mask);
  void call(const Code& code, std::uint32_t mask);
  void tile_product(const Code& code, int lane);
  void touch(int site, int lane, std::int64_t index);
  void count_traffic(const Code& code, const Region& region, bool write, const Lanes& index,
                     std::uint32_t mask, int site);
  void count_group(Site& site, const Region& region);
  void count_call(const Code& code, std::uint32_t mask);
  void begin_group(const Code& code);
  void check_group(const Code& code, std::uint32_t mask);
  Access access(const Statement* statement, int lane) const;

  Machine& machine_;
  Arithmetic arithmetic_;
  int number_;
  std::uint32_t lanes_ = 0;  ///< that exist
  std::int64_t block_ = 0;
  std::vector<Lanes> variables_;
  std::vector<Lanes> accumulators_;
  std::vector<Site> sites_;
  /// Work under way, by groups in the order of their commits; the last is not committed yet.
  struct Deferred {
    std::uint32_t number;
    IntrinsicCall::Deferred what;
  };
  std::deque<std::vector<Deferred>> deferred_ = std::deque<std::vector<Deferred>>(1);
  std::unordered_map<std::uint32_t, std::vector<Lanes>> deferred_results_;
  std::uint32_t deferred_count_ = 0;
  std::int64_t position_ = -1;  ///< in a full group of a vector loop, or -1
  const Statement* waiting_ = nullptr;
  int missing_phases_ = 0;  ///< of mbarriers that lanes wait for
  std::vector<const Statement*> registers_;
  std::coroutine_handle<> here_;
  Task task_;
};

}  // namespace weft::loop::interpreter
