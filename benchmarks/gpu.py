"""Layers on a GPU beside cuDNN's and beside a Python loop, kept as a result.

python benchmarks/gpu.py [--out FILE]      three minutes on an H100, two of them compiling

Training steps (forward, backward, gradient of the input) and inference of one layer at the shapes
of `recurra bench layers`: medians of single calls with the device waited for before and after, ours
and the peer's in turn. Float32 is as torch sets it for recurrent layers by default: TF32 products.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import machine
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from recurra.cells import CELLS, Cell
from recurra.jobs.speed import SHAPES, TORCH_LAYERS
from recurra.layers import Recurrent

LOOP_SHAPE = SHAPES[0]
OTHERS = ("lstm_peephole", "lstm_coupled", "lstm_layer_norm", "gru_reset_before", "jordan", "mine")
RESULT = Path(__file__).parent / "results" / "gpu.json"


def _step(from_input: Any, from_hidden: Any, state: Any) -> Any:
    """A user's cell: a GRU whose gates are one, and whose candidate is a softsign."""
    (h,) = state
    z, n = (x + r for x, r in zip(from_input, from_hidden, strict=True))
    z, n = z.sigmoid(), n / (1 + n.abs())
    return ((1 - z) * n + z * h,)


def cell_of(name: str) -> Cell:
    return Cell("mine", ("z", "n"), ("h",), _step) if name == "mine" else CELLS[name]


def layer_of(name: str, shape: tuple[int, ...], backend: str = "triton") -> Recurrent:
    return Recurrent(cell_of(name), shape[2], shape[3], backend=backend).cuda()


def train(layer: nn.Module, x: torch.Tensor, upstream: torch.Tensor) -> None:
    layer.zero_grad()
    x.grad = None
    layer(x)[0].backward(upstream)


def calls(layer: nn.Module, shape: tuple[int, ...], what: str) -> Callable[[], None]:
    steps, batch, inputs, hidden = shape
    x = torch.randn(steps, batch, inputs, device="cuda", requires_grad=True)
    upstream = torch.randn(steps, batch, hidden, device="cuda")

    if what == "training, ragged":
        return ragged_call(layer, x, upstream)

    def call() -> None:
        with torch.autocast("cuda", torch.bfloat16, enabled="bfloat16" in what):
            if what.startswith("training"):
                with torch.no_grad():
                    g = upstream.bfloat16() if layer_gives_bfloat16(layer, what) else upstream
                train(layer, x, g)
            else:
                with torch.no_grad():
                    layer(x)

    return call


def ragged_call(layer: nn.Module, x: torch.Tensor, upstream: torch.Tensor) -> Callable[[], None]:
    """Lengths uniform in steps/5..steps, others in each call; torch.nn's layer gets them packed."""
    steps, batch = x.shape[:2]
    lengths = torch.randint(max(steps // 5, 1), steps + 1, (batch,))
    lengths[0] = steps

    def call() -> None:
        own = lengths[torch.randperm(batch)]
        x.grad = None
        layer.zero_grad()
        if isinstance(layer, Recurrent):
            layer(x, lengths=own)[0].backward(upstream)
            return
        given = pack_padded_sequence(x, own, enforce_sorted=False)
        pad_packed_sequence(layer(given)[0])[0].backward(upstream)

    return call


def layer_gives_bfloat16(layer: nn.Module, what: str) -> bool:
    return "bfloat16" in what and not isinstance(layer, Recurrent)


def medians(*functions: Callable[[], None], repeats: int = 15) -> list[float]:
    """Milliseconds of each, called in turn."""
    times: list[list[float]] = [[] for _ in functions]
    for repeat in range(repeats + 3):
        for function, own in zip(functions, times, strict=True):
            torch.cuda.synchronize()
            begin = time.perf_counter()
            function()
            torch.cuda.synchronize()
            if repeat >= 3:
                own.append(1e3 * (time.perf_counter() - begin))
    return [statistics.median(own) for own in times]


def warm(job: tuple[str, tuple[int, ...], str]) -> None:
    """Compile in a process of its own; Triton keeps the code on disk."""
    name, shape, what = job
    try:
        calls(layer_of(name, shape), shape, what)()
        torch.cuda.synchronize()
    except Exception as error:  # the run itself will meet it again, and say so
        print("warm", job, repr(error)[:300], flush=True)


def jobs() -> list[tuple[str, tuple[int, ...], str]]:
    kinds = ("training", "inference", "training, bfloat16", "training, ragged")
    found = [(name, shape, what) for name in TORCH_LAYERS for shape in SHAPES for what in kinds]
    return found + [(name, shape, "training") for name in OTHERS for shape in SHAPES]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, default=RESULT)
    given = arguments.parse_args()
    begin = time.perf_counter()
    workers = max(1, min(12, (os.cpu_count() or 2) - 2))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(warm, jobs(), chunksize=4))
    print(f"compiled in {time.perf_counter() - begin:.0f} s", flush=True)
    rows = []
    for name, shape, what in jobs():
        peer_name = name if name in TORCH_LAYERS else "lstm"
        peer = TORCH_LAYERS[peer_name](shape[2], shape[3]).cuda()
        ours, theirs = medians(calls(layer_of(name, shape), shape, what), calls(peer, shape, what))
        row = {"cell": name, "shape": shape, "pass": what, "ours_ms": round(ours, 4)}
        row |= {"peer": f"cuDNN {peer_name}", "peer_ms": round(theirs, 4)}
        rows.append({**row, "ratio": round(theirs / ours, 3)})
        print(*rows[-1].values(), flush=True)
    for name in ("gru", "lstm", "mine"):
        loop = layer_of(name, LOOP_SHAPE, "reference")
        ours, theirs = medians(
            calls(layer_of(name, LOOP_SHAPE), LOOP_SHAPE, "training"),
            calls(loop, LOOP_SHAPE, "training"),
        )
        row = {"cell": name, "shape": LOOP_SHAPE, "pass": "training", "ours_ms": round(ours, 4)}
        row |= {"peer": "autograd, Python loop", "peer_ms": round(theirs, 4)}
        rows.append({**row, "ratio": round(theirs / ours, 3)})
        print(*rows[-1].values(), flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    machine.write(given.out, {"gpu": torch.cuda.get_device_name(), "rows": rows})


if __name__ == "__main__":
    main()
