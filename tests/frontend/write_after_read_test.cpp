// Values that are updated while something else still needs them as they were, on the real compiler
// and runtime; exceptions in the middle of it.

#include <algorithm>
#include <cstddef>
#include <stdexcept>

#include "support.h"

namespace weft::test {
namespace {

struct Way {
  const char* name;
  bool fuse;
  int threads;
  bool synchronous;
};

/// Large enough for kernels of several blocks. All numbers here are exact in f32.
constexpr std::int64_t size = 5000;

class WriteAfterRead : public testing::TestWithParam<Way> {
 protected:
  Executable compile(const std::function<void()>& body) {
    const Program program = trace(state_, body);
    check_graph(program);
    return program.compile({.fuse = GetParam().fuse,
                            .threads = GetParam().threads,
                            .synchronous = GetParam().synchronous});
  }
  void run(const std::function<void()>& body) { compile(body).run(); }

  /// A parameter "name" of `size` elements: offset + i mod 7.
  Tensor ramp(const std::string& name, double offset) {
    return parameter(name, {size}, init::values(ramp_values(offset)));
  }
  static Values ramp_values(double offset) {
    Values values;
    for (std::int64_t i = 0; i < size; ++i) values.push_back(offset + static_cast<double>(i % 7));
    return values;
  }
  /// receiver() that keeps its first tensor's values.
  void keep(const std::string& name, const Tensor& tensor) {
    receiver(name, {tensor}, [&, name](std::int64_t, const std::vector<HostTensor>& tensors) {
      received_[name].push_back(tensors[0].values());
    });
    received_[name];  // made here: callbacks come on threads of their own
  }

  State state_;
  std::map<std::string, std::vector<Values>> received_;
};

Values map(Values values, const std::function<double(double)>& f) {
  std::ranges::transform(values, values.begin(), f);
  return values;
}

Values plus(Values a, const Values& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

Values reversed(Values values) {
  std::ranges::reverse(values);
  return values;
}

// ---- values -------------------------------------------------------------------------------------

TEST_P(WriteAfterRead, AReceiverSeesItsOwnIteration) {
  run([&] {
    Tensor w = ramp("w", 1);
    loop(6, [&](Tensor) {
      keep("before", w);
      w += 1;
      keep("between", w);
      w *= 2;
    });
    keep("after", w);
  });
  Values w = ramp_values(1);
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(received_["before"].at(i), w);
    w = map(w, [](double x) { return x + 1; });
    EXPECT_EQ(received_["between"].at(i), w);
    w = map(w, [](double x) { return 2 * x; });
  }
  EXPECT_EQ(received_["before"].size(), 6U);
  EXPECT_EQ(received_["after"].at(0), w);
  EXPECT_EQ(state_.values("w"), w);
}

TEST_P(WriteAfterRead, ReadsBeforeAndAfterAnAssignment) {
  run([&] {
    Tensor w = ramp("w", 0);
    Tensor total = weft::state("total", {size});
    loop(5, [&](Tensor) {
      const Tensor before = flip(w, {0});
      assign(w, w + before);
      const Tensor after = flip(w, {0});
      assign(total, total + after - before);
    });
  });
  Values w = ramp_values(0);
  Values total(w.size());
  for (int i = 0; i < 5; ++i) {
    const Values before = reversed(w);
    w = plus(w, before);
    const Values after = reversed(w);
    for (std::size_t k = 0; k < w.size(); ++k) total[k] += after[k] - before[k];
  }
  EXPECT_EQ(state_.values("w"), w);
  EXPECT_EQ(state_.values("total"), total);
}

TEST_P(WriteAfterRead, ExchangesOutsideOfLoops) {
  run([&] {
    Tensor a = ramp("a", 1);
    Tensor b = ramp("b", 20);
    const Tensor old = a * 1;
    assign(a, b * 1);
    assign(b, old);
  });
  EXPECT_EQ(state_.values("a"), ramp_values(20));
  EXPECT_EQ(state_.values("b"), ramp_values(1));
}

TEST_P(WriteAfterRead, ExchangesInLoops) {
  for (const std::int64_t count : {1, 2, 5}) {
    state_ = State();
    run([&] {
      Tensor a = ramp("a", 1);
      Tensor b = ramp("b", 20);
      loop(count, [&](Tensor) {
        const Tensor old = a * 1;
        assign(a, b * 1);
        assign(b, old + 1);
      });
    });
    Values a = ramp_values(1);
    Values b = ramp_values(20);
    for (std::int64_t i = 0; i < count; ++i) {
      std::swap(a, b);
      b = map(b, [](double x) { return x + 1; });
    }
    EXPECT_EQ(state_.values("a"), a) << count;
    EXPECT_EQ(state_.values("b"), b) << count;
  }
}

TEST_P(WriteAfterRead, RotatesThree) {
  run([&] {
    Tensor a = ramp("a", 1);
    Tensor b = ramp("b", 20);
    Tensor c = ramp("c", 300);
    loop(4, [&](Tensor) {
      const Tensor old = a * 1;
      assign(a, b * 1);
      assign(b, c * 1);
      assign(c, old);
    });
  });
  EXPECT_EQ(state_.values("a"), ramp_values(20));
  EXPECT_EQ(state_.values("b"), ramp_values(300));
  EXPECT_EQ(state_.values("c"), ramp_values(1));
}

/// Each of two updates needs the other's old value at the same and at other elements.
TEST_P(WriteAfterRead, UpdatesThatNeedEachOther) {
  run([&] {
    Tensor a = ramp("a", 1);
    Tensor b = ramp("b", 20);
    loop(3, [&](Tensor) {
      const Tensor next = a + b;
      assign(b, b - a);
      assign(a, next);
    });
    loop(3, [&](Tensor) {
      const Tensor next = a + flip(b, {0});
      assign(b, b - flip(a, {0}));
      assign(a, next);
    });
  });
  Values a = ramp_values(1);
  Values b = ramp_values(20);
  for (int i = 0; i < 6; ++i) {
    const Values old_a = i < 3 ? a : reversed(a);
    const Values old_b = i < 3 ? b : reversed(b);
    a = plus(a, old_b);
    b = plus(b, map(old_a, [](double x) { return -x; }));
  }
  EXPECT_EQ(state_.values("a"), a);
  EXPECT_EQ(state_.values("b"), b);
}

TEST_P(WriteAfterRead, AStateIsReadAfterTheLoopThatUpdatedIt) {
  run([&] {
    Tensor w = ramp("w", 1);
    Tensor copy = weft::state("copy", {size});
    Tensor initial = weft::state("initial", {size});
    const Tensor first = w * 1;
    loop(3, [&](Tensor) { w += 2; });
    assign(copy, flip(w, {0}));
    assign(initial, first);
    keep("w", w);
    keep("first", first);
  });
  const Values w = ramp_values(7);
  EXPECT_EQ(state_.values("w"), w);
  EXPECT_EQ(state_.values("copy"), reversed(w));
  EXPECT_EQ(state_.values("initial"), ramp_values(1));
  EXPECT_EQ(received_["w"].at(0), w);
  EXPECT_EQ(received_["first"].at(0), ramp_values(1));
}

TEST_P(WriteAfterRead, ALoopReadsWhatItsStateWasBefore) {
  run([&] {
    Tensor w = ramp("w", 1);
    const Tensor first = w * 1;
    loop(3, [&](Tensor) { w += flip(first, {0}); });
    w += first;
  });
  const Values first = ramp_values(1);
  Values w = first;
  for (int i = 0; i < 3; ++i) w = plus(w, reversed(first));
  EXPECT_EQ(state_.values("w"), plus(w, first));
}

/// Written, and never read: other updates must not reach it.
TEST_P(WriteAfterRead, ANewStateTakesAnOldValue) {
  run([&] {
    Tensor w = ramp("w", 1);
    Tensor fresh = weft::state("fresh", {size});
    assign(fresh, w * 1);
    assign(w, w + 1);
  });
  EXPECT_EQ(state_.values("fresh"), ramp_values(1));
  EXPECT_EQ(state_.values("w"), ramp_values(2));
}

TEST_P(WriteAfterRead, TwoLoopsHandAStateOn) {
  run([&] {
    Tensor w = ramp("w", 1);
    loop(2, [&](Tensor) { w += 1; });
    const Tensor middle = w * 1;
    loop(2, [&](Tensor) { w += middle; });
    loop(2, [&](Tensor) { w *= 2; });
  });
  const Values middle = ramp_values(3);
  EXPECT_EQ(state_.values("w"), map(middle, [](double x) { return 12 * x; }));
}

// ---- exceptions ---------------------------------------------------------------------------------

struct Stopped : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Feeds 1, 2, 3, ... and stops before iteration `stop`.
auto counting(std::int64_t stop) {
  return [stop](std::int64_t iteration, std::span<float> to) {
    if (iteration == stop) throw Stopped("no more data");
    std::ranges::fill(to, static_cast<float>(iteration + 1));
  };
}

/// Programs whose loop is the only one: what State holds after k iterations is what run(0, k)
/// leaves.
class Interrupted : public WriteAfterRead {
 protected:
  static constexpr std::int64_t count = 6;

  void check(
      const std::function<void(const Tensor& x)>& step,
      const std::function<void()>& before = [] {}) {
    const auto body = [&] {
      before();
      loop(count, [&](Tensor) {
        step(feeder("x", {}, DType::f32, counting(-1)));
        Tensor steps = weft::state("steps", {}, DType::i64);
        steps += 1;
      });
    };
    Executable executable = compile(body);
    const State initial = state_.clone();
    for (std::int64_t stop = 0; stop < count; ++stop) {
      SCOPED_TRACE(stop);
      State whole = initial.clone();
      executable.bind(whole);
      executable.set_feeder("x", counting(-1));
      if (stop > 0) executable.run(0, stop);
      State interrupted = initial.clone();
      executable.bind(interrupted);
      executable.set_feeder("x", counting(stop));
      EXPECT_THROW(executable.run(), Stopped);
      expect_equal(interrupted, whole);
      EXPECT_EQ(interrupted.values("steps"), Values{static_cast<double>(stop)});
      // And it can go on from there.
      executable.set_feeder("x", counting(-1));
      executable.run(stop, count);
      executable.bind(whole);
      executable.run(stop, count);
      expect_equal(interrupted, whole);
    }
  }

  static void expect_equal(const State& a, const State& b) {
    for (const std::string& name : b.names()) EXPECT_EQ(a.values(name), b.values(name)) << name;
  }
};

TEST_P(Interrupted, Training) {
  check([&](const Tensor& x) {
    Tensor w = ramp("w", 1);
    Tensor moment = weft::state("moment", {size});
    assign(moment, moment * 0.5 + w * x);
    w -= moment;
  });
}

TEST_P(Interrupted, Exchanges) {
  check([&](const Tensor& x) {
    Tensor a = ramp("a", 1);
    Tensor b = ramp("b", 20);
    const Tensor old = a * 1;
    assign(a, b * 1);
    assign(b, old + x);
  });
}

TEST_P(Interrupted, UpdatesThatCannotBeInPlace) {
  check([&](const Tensor& x) {
    Tensor w = ramp("w", 1);
    Tensor sum = weft::state("sum", {size});
    assign(w, flip(w, {0}) + x);
    assign(sum, sum + flip(w, {0}));
  });
}

TEST_P(Interrupted, TheInitialValueIsNeededThroughout) {
  Tensor first;
  check(
      [&](const Tensor& x) {
        Tensor w = ramp("w", 1);
        w += flip(first, {0}) * x;
      },
      [&] { first = ramp("w", 1) * 1; });
}

TEST_P(WriteAfterRead, AFeederStopsALoopWhoseStateIsReadLater) {
  const auto body = [&](std::int64_t stop) {
    return [&, stop] {
      Tensor w = ramp("w", 1);
      Tensor backup = weft::state("backup", {size});
      const Tensor first = w * 1;
      loop(5, [&](Tensor) { w += feeder("x", {}, DType::f32, counting(stop)); });
      assign(backup, first);
      w += first;
    };
  };
  EXPECT_THROW(run(body(3)), Stopped);
  EXPECT_EQ(state_.values("w"), ramp_values(1 + 1 + 2 + 3));
  EXPECT_EQ(state_.values("backup"), Values(size));
}

TEST_P(WriteAfterRead, AFeederStopsALoopInALoop) {
  const auto body = [&] {
    Tensor w = ramp("w", 1);
    Tensor steps = weft::state("steps", {}, DType::i64);
    Tensor exchanged = weft::state("exchanged", {size});
    loop(3, [&](Tensor) {
      loop(4, [&](Tensor) {
        const Tensor old = w * 1;
        assign(w, exchanged + feeder("x", {}, DType::f32, counting(6)));
        assign(exchanged, old);
        steps += 1;
      });
    });
  };
  EXPECT_THROW(run(body), Stopped);
  Values w = ramp_values(1);
  Values exchanged(size);
  for (int i = 0; i < 6; ++i) {
    std::swap(w, exchanged);
    w = map(w, [&](double x) { return x + i + 1; });
  }
  EXPECT_EQ(state_.values("steps"), Values{6});
  EXPECT_EQ(state_.values("w"), w);
  EXPECT_EQ(state_.values("exchanged"), exchanged);
}

/// What the inner loop did is in all states, though one of them is changed after it as well.
TEST_P(WriteAfterRead, AFeederStopsALoopWhoseStateTheOuterLoopChanges) {
  const auto body = [&] {
    Tensor w = ramp("w", 1);
    Tensor steps = weft::state("steps", {}, DType::i64);
    loop(3, [&](Tensor) {
      const Tensor before = w * 1;
      loop(4, [&](Tensor) {
        w += feeder("x", {}, DType::f32, counting(6));
        steps += 1;
      });
      w += flip(before, {0});
    });
  };
  EXPECT_THROW(run(body), Stopped);
  const Values first = plus(ramp_values(1 + 1 + 2 + 3 + 4), reversed(ramp_values(1)));
  EXPECT_EQ(state_.values("steps"), Values{6});
  EXPECT_EQ(state_.values("w"), map(first, [](double x) { return x + 5 + 6; }));
}

TEST_P(WriteAfterRead, AReceiverStopsBetweenIterations) {
  constexpr std::int64_t stop = 2;
  constexpr std::int64_t count = 50;
  const auto body = [&] {
    Tensor w = ramp("w", 1);
    Tensor other = ramp("other", 20);
    Tensor steps = weft::state("steps", {}, DType::i64);
    const Tensor first = w * 1;
    loop(count, [&](Tensor) {
      receiver("w", {w}, [](std::int64_t iteration, const std::vector<HostTensor>&) {
        if (iteration == stop) throw Stopped("enough");
      });
      const Tensor old = w * 1;
      assign(w, other + first);
      assign(other, old);
      steps += 1;
    });
  };
  EXPECT_THROW(run(body), Stopped);
  const double steps = state_.values("steps").at(0);
  EXPECT_GE(steps, stop + 1);
  EXPECT_LE(steps, count);
  if (GetParam().synchronous) {
    EXPECT_EQ(steps, stop + 1);
  }
  Values w = ramp_values(1);
  Values other = ramp_values(20);
  for (double i = 0; i < steps; ++i) {
    const Values old = w;
    w = plus(other, ramp_values(1));
    other = old;
  }
  EXPECT_EQ(state_.values("w"), w);
  EXPECT_EQ(state_.values("other"), other);
}

std::vector<Way> ways() {
  return {{"Fused", true, 1, true},
          {"FusedOnThreads", true, 3, false},
          {"EveryOpAlone", false, 1, false},
          {"EveryOpAloneOnThreads", false, 3, true}};
}
std::string name_of(const testing::TestParamInfo<Way>& test) { return test.param.name; }

INSTANTIATE_TEST_SUITE_P(Ways, WriteAfterRead, testing::ValuesIn(ways()), name_of);
INSTANTIATE_TEST_SUITE_P(Ways, Interrupted, testing::ValuesIn(ways()), name_of);

}  // namespace
}  // namespace weft::test
