"""PyTorch beside `weft bench short_transformer`.

CONFIG, beside that of training.py: layers, heads, rate. The file holds "input" (batch, n, d) and
"targets" (batch, n) as well.
"""

import torch
import torch.nn.functional as F
from torch import nn

from training import compiled, load, serve_training


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(b, n, d))


class Feed(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.inner = nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, width)

    def forward(self, x):
        return self.out(F.relu(self.inner(x)))


class EncoderLayer(nn.Module):
    """torch.nn.TransformerEncoderLayer (post-norm, no dropout) without its options, which cost
    time in every call."""

    def __init__(self, width, heads, hidden):
        super().__init__()
        self.attention = Attention(width, heads)
        self.attention_norm = nn.LayerNorm(width)
        self.feed = Feed(width, hidden)
        self.feed_norm = nn.LayerNorm(width)

    def forward(self, x):
        x = self.attention_norm(x + self.attention(x))
        return self.feed_norm(x + self.feed(x))


class Encoder(nn.Module):
    def __init__(self, layers, width, heads, hidden):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(width, heads, hidden) for _ in range(layers))

    def forward(self, x, targets):
        for layer in self.layers:
            x = layer(x)
        return F.cross_entropy(x.flatten(0, -2), targets.flatten())


def make_step(config, tensors):
    x = tensors["input"]
    targets = tensors["targets"].long()
    rate = config["rate"]
    hidden = tensors["layers.0.feed.in.weight"].shape[1]
    model = Encoder(config["layers"], x.shape[-1], config["heads"], hidden)
    load(model, tensors)

    if config["mode"] == "compile":
        # The whole step is one graph, with gradients as a function: several times faster here than
        # compiling the model alone, where backward() and the optimizer remain calls of their own.
        parameters = {name: value.detach() for name, value in model.named_parameters()}

        def loss_of(values):
            return torch.func.functional_call(model, values, (x, targets))

        def whole_step(values):
            gradients, loss = torch.func.grad_and_value(loss_of)(values)
            for name, gradient in gradients.items():
                values[name].sub_(gradient, alpha=rate)
            return loss

        fast = compiled(whole_step, config["mode"])
        torch.set_grad_enabled(False)
        return lambda _: fast(parameters)

    optimizer = torch.optim.SGD(model.parameters(), lr=rate, fused=True)

    def step(_):
        optimizer.zero_grad(set_to_none=True)
        loss = model(x, targets)
        loss.backward()
        optimizer.step()
        return loss

    return step


if __name__ == "__main__":
    serve_training(make_step)
