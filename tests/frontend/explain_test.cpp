#include <gtest/gtest.h>
#include <weft/nn.h>
#include <weft/optim.h>
#include <weft/weft.h>

#include "tests/compiler/separations.h"

// Fusion has a reason for all that it did not do: on models as the examples train them.
namespace weft {
namespace {

using Body = std::function<Tensor(const Tensor& ids)>;

int separations_of(const std::function<Body()>& make) {
  State state;
  const Program program = trace(state, [&] {
    const Body model = make();
    optim::AdamW adam({.lr = optim::cosine(1e-3, 100, 10, 1e-4), .weight_decay = 0.01});
    loop(3, [&](Tensor) {
      const Tensor tokens =
          feeder("tokens", {2, 17}, DType::i32, [](std::int64_t, std::span<std::int32_t> to) {
            for (std::size_t i = 0; i < to.size(); ++i) {
              to[i] = static_cast<std::int32_t>(i % 11);
            }
          });
      const Tensor loss = cross_entropy(model(slice(tokens, 1, 0, 16)), slice(tokens, 1, 1, 17));
      backward(loss);
      optim::clip_grad_norm(1);
      adam.step();
      adam.zero_grad();
      receiver("loss", {loss}, [](std::int64_t, const std::vector<HostTensor>&) {});
    });
  });
  return test::expect_reasons(program.graph());
}

TEST(Refusals, ToeplitzModelsHaveReasons) {
  EXPECT_GT(separations_of([] {
              nn::TnnLmOptions options;
              options.vocabulary = 11;
              options.width = 8;
              options.layers = 2;
              options.layer.gtu.tno.use_decay = true;
              return Body(nn::TnnLm("", options));
            }),
            20);
}

TEST(Refusals, TransformersHaveReasons) {
  EXPECT_GT(separations_of([] {
              nn::TransformerLmOptions options;
              options.vocabulary = 11;
              options.width = 8;
              options.layers = 2;
              options.max_length = 16;
              options.block.heads = 2;
              options.block.hidden = 16;
              return Body(nn::TransformerLm("", options));
            }),
            20);
}

}  // namespace
}  // namespace weft
