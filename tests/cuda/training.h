#pragma once

#include "fixture.h"
#include "tests/runtime/training.h"

namespace weft::runtime::testing {

/// The training loop in miniature, of tensors of so many elements.
struct Training : TrainingLoop<GpuPlan> {
  explicit Training(std::int64_t count = 20, std::int64_t every = 1, std::int64_t elements = 1)
      : TrainingLoop(count, every, {DType::i64, {elements}}, accumulate) {}

 private:
  static std::uint32_t accumulate(GpuPlan& b, const Type& type) {
    return b.kernel("accumulate", {stand_in::reads(type.bytes()), stand_in::changes(type.bytes())},
                    [elements = type.elements()](const stand_in::Call& call) {
                      for (std::int64_t i = 0; i < elements; ++i) {
                        call.pointer<std::int64_t>(1)[i] += call.pointer<std::int64_t>(0)[i];
                      }
                    });
  }
};

}  // namespace weft::runtime::testing
