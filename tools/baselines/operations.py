"""PyTorch on a GPU beside `weft bench gemm|attention|tno|fft --device cuda`: single operations.

CONFIG: device ("cuda", "cuda:1"). A case is
    {"kind": "gemm", "dtype": "bf16", "tf32": false, "batch": 0, "m": .., "n": .., "k": ..,
     "x_transposed": false, "w_transposed": false, "fused": false}   silu(x w + bias) where fused
    {"kind": "attention", "dtype": .., "batch": .., "heads": .., "n": .., "m": .., "d": ..,
     "causal": true, "gradients": false}
    {"kind": "tno", "dtype": "bf16", "batch": .., "n": .., "d": .., "gradients": false,
     "transposed": false}                              by transforms of twice the length
    {"kind": "fft", "transform": "c2c", "batch": .., "n": .., "d": ..}       along the middle axis
Each is captured as a CUDA graph, so that what is measured is the device; where that is not possible
it is called as it is, and so it is said on stderr.
"""

import sys
import time

import torch
import torch.nn.functional as F

from protocol import Peer, serve

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def noise(*shape, dtype=torch.float32, device):
    return torch.rand(*shape, device=device).mul_(2).sub_(1).to(dtype)


def gemm(case, device):
    dtype, m, n, k = DTYPES[case["dtype"]], case["m"], case["n"], case["k"]
    batch = [case["batch"]] if case["batch"] > 0 else []
    # Exact f32 otherwise, as weft's products are.
    torch.backends.cuda.matmul.allow_tf32 = case["tf32"]

    def operand(rows, columns, transposed):
        if not transposed:
            return noise(*batch, rows, columns, dtype=dtype, device=device)
        return noise(*batch, columns, rows, dtype=dtype, device=device).transpose(-1, -2)

    x, w = operand(m, k, case["x_transposed"]), operand(k, n, case["w_transposed"])
    if not case["fused"]:
        return lambda: x @ w
    bias = noise(n, dtype=dtype, device=device)
    return lambda: F.silu(torch.addmm(bias, x, w))


def attention(case, device):
    dtype = DTYPES[case["dtype"]]

    def operand(rows):
        shape = (case["batch"], rows, case["heads"], case["d"])
        return noise(*shape, dtype=dtype, device=device).transpose(1, 2)

    q, k, v = operand(case["n"]), operand(case["m"]), operand(case["m"])
    if not case["gradients"]:
        return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=case["causal"])
    for tensor in (q, k, v):
        tensor.requires_grad_()
    weights = noise(*q.shape, dtype=dtype, device=device)

    def both():
        y = F.scaled_dot_product_attention(q, k, v, is_causal=case["causal"])
        return torch.autograd.grad(y, (q, k, v), weights)

    return both


def tno(case, device):
    b, n, d = case["batch"], case["n"], case["d"]
    dtype = DTYPES[case["dtype"]]
    u, v, g = (noise(b, n, d, dtype=dtype, device=device) for _ in range(3))
    t = noise(n, d, dtype=dtype, device=device)

    def forward():
        # There are no transforms of 16-bit numbers of any length.
        if not case["transposed"]:
            spectrum = torch.fft.rfft(v.float(), 2 * n, dim=1) * torch.fft.rfft(t.float(), 2 * n, dim=0)
            return u * torch.fft.irfft(spectrum, 2 * n, dim=1)[:, :n].to(dtype)
        lines, lags = v.float().transpose(1, 2).contiguous(), t.float().t().contiguous()
        spectrum = torch.fft.rfft(lines, 2 * n) * torch.fft.rfft(lags, 2 * n)
        return u * torch.fft.irfft(spectrum, 2 * n)[..., :n].transpose(1, 2).to(dtype)

    if not case["gradients"]:
        return forward
    for tensor in (u, v, t):
        tensor.requires_grad_()

    def both():
        z = forward()
        return torch.autograd.grad(z, (u, v, t), g * z.detach())

    return both


def fft(case, device):
    b, n, d = case["batch"], case["n"], case["d"]
    bins = n // 2 + 1
    if case["transform"] == "r2c":
        x = noise(b, n, d, device=device)
        return lambda: torch.fft.rfft(x, dim=1)
    points = n if case["transform"] == "c2c" else bins
    x = torch.complex(noise(b, points, d, device=device), noise(b, points, d, device=device))
    if case["transform"] == "c2c":
        return lambda: torch.fft.fft(x, dim=1)
    return lambda: torch.fft.irfft(x, n, dim=1)


KINDS = {"gemm": gemm, "attention": attention, "tno": tno, "fft": fft}


def captured(function):
    """The function as one launch of a graph, or as it is."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            kept = function()
        return graph.replay, kept
    except RuntimeError as error:
        print(f"not as a graph: {error}", file=sys.stderr, flush=True)
        torch.cuda.synchronize()
        return function, None


def make(config):
    torch.cuda.set_device(torch.device(config["device"]))
    device = torch.device("cuda")
    torch.manual_seed(0)
    start = time.perf_counter()
    torch.zeros(1, device=device)
    torch.cuda.synchronize()
    setup_seconds = time.perf_counter() - start
    chosen = {}

    def choose(case):
        chosen.clear()  # what the one before held
        chosen["run"], chosen["kept"] = captured(KINDS[case["kind"]](case, device))

    def run(count):
        begin, processor = time.perf_counter(), time.process_time()
        for _ in range(count):
            chosen["run"]()
        torch.cuda.synchronize()
        return time.perf_counter() - begin, time.process_time() - processor

    version = torch.__version__.split("+")[0]
    return Peer(f"PyTorch {version}", setup_seconds, [], run, choose)


if __name__ == "__main__":
    serve(make)
