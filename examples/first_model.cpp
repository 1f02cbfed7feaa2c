// A first model: a small network learns the exclusive or.
#include <fmt/format.h>
#include <weft/weft.h>

using namespace weft;

int main() {
  State state;
  const auto train = [] {
    const Tensor x = constant({0, 0, 0, 1, 1, 0, 1, 1}, {4, 2});
    const Tensor target = constant({0, 1, 1, 0}, {4, 1});
    const nn::Sequential model(nn::Linear("hidden", 2, 16), weft::tanh, nn::Linear("out", 16, 1));
    optim::Adam adam({.lr = 0.02});
    loop(500, [&](Tensor) {
      const Tensor loss = mse_loss(model(x), target);
      backward(loss);
      adam.step();
      adam.zero_grad();
      const auto print = [](std::int64_t step, const std::vector<HostTensor>& tensors) {
        fmt::print("step {:3}: loss {:.6f}\n", step, tensors[0].item());
      };
      receiver("loss", {loss}, print, 100);
    });
  };
  trace(state, train).compile().run();
}
