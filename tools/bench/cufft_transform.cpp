#include "tools/bench/cufft_transform.h"

#ifdef WEFT_WITH_CUDA

#include <charconv>

#include "runtime/cuda/fourier.h"

namespace weft::bench {
namespace {

using plan::Transform;
using Kind = FftwTransform::Kind;

Transform transform_of(Kind kind, const FftwTransform::Sizes& sizes) {
  Transform transform;
  transform.kind = kind == Kind::complex     ? Transform::Kind::forward
                   : kind == Kind::from_real ? Transform::Kind::from_real
                                             : Transform::Kind::to_real;
  transform.length = sizes.n;
  transform.lines = sizes.d > 1 ? sizes.d : sizes.b;
  transform.repetitions = sizes.d > 1 ? sizes.b : 1;
  const auto lay_out = [&](Transform::Side& side, std::int64_t points) {
    side.stride = sizes.d;
    side.distance = sizes.d > 1 ? 1 : points;
    side.repeat = points * sizes.d;
  };
  lay_out(transform.from, transform.from_points());
  lay_out(transform.to, transform.to_points());
  transform.to.argument = 1;
  return transform;
}

class Bare {
 public:
  Bare(int device, Kind kind, const FftwTransform::Sizes& sizes)
      : device_(runtime::cuda::Device::number(device)),
        transform_(transform_of(kind, sizes)),
        plan_(*device_, transform_),
        scope_(*device_),
        stream_(device_),
        from_(device_, transform_.from_end(), "a transform's operand"),
        to_(device_, transform_.to_end(), "a transform's result"),
        workspace_(device_, plan_.workspace_bytes(), "a transform's workspace") {
    stream_.clear(from_.address(), from_.bytes());
  }

  void run(std::int64_t count) {
    const runtime::cuda::Device::Scope scope(*device_);
    for (std::int64_t i = 0; i < count; ++i) {
      plan_.execute(stream_, {.plan = &plan_,
                              .workspace = workspace_.address(),
                              .from = from_.address(),
                              .to = to_.address(),
                              .touches = {}});
    }
    stream_.wait();
  }

 private:
  runtime::cuda::DeviceHandle device_;
  Transform transform_;
  runtime::cuda::FourierPlan plan_;
  runtime::cuda::Device::Scope scope_;
  runtime::cuda::Stream stream_;
  runtime::cuda::DeviceMemory from_, to_, workspace_;
};

/// "cuda:1" is 1.
int number_of(const std::string& device) {
  int number = 0;
  const std::size_t colon = device.find(':');
  if (colon != std::string::npos) {
    std::from_chars(device.data() + colon + 1, device.data() + device.size(), number);
  }
  return number;
}

}  // namespace

std::optional<Work> cufft_transform(const std::string& device, Kind kind,
                                    const FftwTransform::Sizes& sizes) {
  const auto bare = std::make_shared<Bare>(number_of(device), kind, sizes);
  bare->run(1);
  return timed([bare](std::int64_t count) { bare->run(count); });
}

}  // namespace weft::bench

#else

namespace weft::bench {

std::optional<Work> cufft_transform(const std::string&, FftwTransform::Kind,
                                    const FftwTransform::Sizes&) {
  return std::nullopt;
}

}  // namespace weft::bench

#endif
