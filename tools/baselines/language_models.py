"""PyTorch beside `weft bench language_models`.

CONFIG, beside that of training.py: model ("tnn" or "transformer"), layers, heads (of the
transformer), gamma (decay of the Toeplitz coefficients), rate, beta2, weight_decay, autocast
(products of bf16 operands). The file holds
"tokens" (batches, b, n + 1) as well, of which a step takes one after the other.
"""

import torch
import torch.nn.functional as F
from torch import nn

from training import compiled, load, serve_training


def simple_rms_norm(x):
    """x / (|x| / sqrt(width)); of the ways to write it, this is the fastest."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-16)


class Rpe(nn.Module):
    """From a lag to the coefficients of all channels."""

    def __init__(self, width, out, layers=1):
        super().__init__()
        self.position = nn.Linear(1, width)
        self.layers = nn.ModuleList(
            nn.ModuleDict({"norm": nn.LayerNorm(width), "linear": nn.Linear(width, width)})
            for _ in range(layers)
        )
        self.out_norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, out)

    def forward(self, positions):
        x = self.position(positions)
        for layer in self.layers:
            x = layer["linear"](F.relu(layer["norm"](x)))
        return self.out(F.relu(self.out_norm(x)))


class Tno(nn.Module):
    """The causal Toeplitz operator along the sequence, by transforms of twice its length."""

    def __init__(self, rpe_width, channels, n, gamma):
        super().__init__()
        self.rpe = Rpe(rpe_width, channels)
        lags = torch.arange(n, dtype=torch.float32).unsqueeze(-1)
        self.register_buffer("lags", lags)
        self.register_buffer("decay", gamma**lags)

    def forward(self, x):
        n = x.shape[-2]
        t = self.rpe(self.lags) * self.decay
        # Along the last axis: transforms of columns take 1.4 (n 512) to 2.8 times (2048) as long.
        # There are none of bf16.
        x, t = x.float().transpose(-1, -2).contiguous(), t.float().t().contiguous()
        spectrum = torch.fft.rfft(x, 2 * n) * torch.fft.rfft(t, 2 * n)
        return torch.fft.irfft(spectrum, 2 * n)[..., :n].transpose(-1, -2)


class Gtu(nn.Module):
    def __init__(self, width, rpe_width, n, gamma):
        super().__init__()
        self.u = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.tno = Tno(rpe_width, width, n, gamma)
        self.o = nn.Linear(width, width)

    def forward(self, x):
        return self.o(F.silu(self.u(x)) * self.tno(F.silu(self.v(x))))


class Glu(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.l1 = nn.Linear(width, hidden)
        self.l2 = nn.Linear(width, hidden)
        self.l3 = nn.Linear(hidden, width)

    def forward(self, x):
        return self.l3(F.silu(self.l1(x)) * self.l2(x))


class TnnLayer(nn.Module):
    def __init__(self, width, hidden, rpe_width, n, gamma):
        super().__init__()
        self.mixer = Gtu(width, rpe_width, n, gamma)
        self.feed = Glu(width, hidden)

    def forward(self, x):
        x = x + self.mixer(simple_rms_norm(x))
        return x + self.feed(simple_rms_norm(x))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(b, n, d))


class Feed(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.inner = nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, width)

    def forward(self, x):
        return self.out(F.gelu(self.inner(x)))


class TransformerLayer(nn.Module):
    def __init__(self, width, hidden, heads):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.feed_norm = nn.LayerNorm(width)
        self.feed = Feed(width, hidden)

    def forward(self, x):
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed(self.feed_norm(x))


class LanguageModel(nn.Module):
    """Ids (b, n) and targets (b, n) to the mean cross entropy."""

    def __init__(self, config, tensors):
        super().__init__()
        vocabulary, width = tensors["embedding.weight"].shape
        n = tensors["tokens"].shape[-1] - 1
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = None
        if config["model"] == "tnn":
            hidden = tensors["layers.0.feed.l1.weight"].shape[1]
            rpe_width = tensors["layers.0.mixer.tno.rpe.position.weight"].shape[1]
            self.layers = nn.ModuleList(
                TnnLayer(width, hidden, rpe_width, n, config["gamma"])
                for _ in range(config["layers"])
            )
            self.norm = simple_rms_norm
        else:
            hidden = tensors["layers.0.feed.in.weight"].shape[1]
            self.positions = nn.Embedding(n, width)
            self.layers = nn.ModuleList(
                TransformerLayer(width, hidden, config["heads"]) for _ in range(config["layers"])
            )
            self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, ids, targets):
        x = self.embedding(ids)
        if self.positions is not None:
            x = x + self.positions.weight
        x = x * x.shape[-1] ** 0.5
        for layer in self.layers:
            x = layer(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.flatten(0, -2), targets.flatten())


def make_step(config, tensors):
    tokens = tensors["tokens"].long()
    batches = [(batch[:, :-1].contiguous(), batch[:, 1:].contiguous()) for batch in tokens]
    model = LanguageModel(config, tensors)
    load(model, tensors)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        parameters,
        lr=config["rate"],
        betas=(0.9, config["beta2"]),
        weight_decay=config["weight_decay"],
        fused=True,
    )
    loss_of = compiled(model, config["mode"])
    autocast = config.get("autocast", False)

    def step(i):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=autocast):
            loss = loss_of(*batches[i % len(batches)])
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1, foreach=True)
        optimizer.step()
        return loss

    return step


if __name__ == "__main__":
    serve_training(make_step)
