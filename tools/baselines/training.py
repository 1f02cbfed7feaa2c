"""Training steps in PyTorch, shared by the peers of `weft bench`.

CONFIG of every script:
    mode        "eager", "compile" or "max-autotune" (torch.compile's mode)
    threads     of PyTorch
    device      "cpu" (default), "cuda", "cuda:1"
    parameters  a safetensors file: the first values, by weft's names, and what the steps are fed
    check       steps whose losses the first answer gives
"""

import json
import os
import shutil
import struct
import tempfile
import time

# Compilers' caches are empty at the start, so that set-up times are those of a first run. Before
# PyTorch is imported, which reads this.
_caches = tempfile.mkdtemp(prefix="weft-peer-")
os.environ["TORCHINDUCTOR_CACHE_DIR"] = _caches

import torch  # noqa: E402
import torch._dynamo  # noqa: E402  (imports are no part of the set-up)
import torch._inductor.compile_fx  # noqa: E402

from protocol import Peer, serve  # noqa: E402


def read_safetensors(path, device="cpu"):
    """Tensors of a file by name."""
    dtypes = {"F32": torch.float32, "I32": torch.int32, "I64": torch.int64}
    with open(path, "rb") as file:
        content = file.read()
    (length,) = struct.unpack("<Q", content[:8])
    tensors = {}
    for name, entry in json.loads(content[8 : 8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        flat = torch.frombuffer(bytearray(content[begin:end]), dtype=dtypes[entry["dtype"]])
        tensors[name] = flat.reshape(entry["shape"]).to(device)
    return tensors


@torch.no_grad()
def load(model, tensors):
    """Copies first values: weft's names are the modules' ("inner" for "in"), its matrices are
    (in, out)."""
    for name, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            value = tensors[f"{name}.{key}".replace(".inner.", ".in.")]
            transposed = isinstance(module, torch.nn.Linear) and key == "weight"
            value = value.t() if transposed else value
            if value.shape != parameter.shape:
                raise ValueError(f"{name}.{key}: {value.shape} is not {parameter.shape}")
            parameter.copy_(value)


def compiled(function, mode):
    """The function as the mode has it."""
    if mode == "eager":
        return function
    if mode == "compile":
        return torch.compile(function, dynamic=False)
    return torch.compile(function, dynamic=False, mode=mode)


def serve_training(make_step):
    """Answers `weft bench` for make_step(config, tensors): (number of the step) -> loss tensor."""

    def make(config):
        mode = config["mode"]
        torch.set_num_threads(config["threads"])
        torch.manual_seed(0)
        device = torch.device(config.get("device", "cpu"))
        if device.type == "cuda":
            torch.cuda.set_device(device)
        torch.set_default_device(device)
        tensors = read_safetensors(config["parameters"], device)

        def finish():
            if device.type == "cuda":
                torch.cuda.synchronize()

        start = time.perf_counter()
        step = make_step(config, tensors)
        losses = [step(i).item() for i in range(config["check"])]
        setup_seconds = time.perf_counter() - start
        done = config["check"]

        def run(count):
            nonlocal done
            begin, processor = time.perf_counter(), time.process_time()
            for i in range(done, done + count):
                step(i)
            finish()
            done += count
            return time.perf_counter() - begin, time.process_time() - processor

        version = torch.__version__.split("+")[0]
        words = {"eager": "eager", "compile": "torch.compile"}.get(mode, f"torch.compile {mode}")
        alone = ", 1 thread" if config["threads"] == 1 else ""
        return Peer(f"PyTorch {version} {words}{alone}", setup_seconds, losses, run)

    try:
        serve(make)
    finally:
        shutil.rmtree(_caches, ignore_errors=True)
