"""Memory of one training step, ours beside torch.nn's: the rise of the process's peak.

    python benchmarks/memory.py             about six minutes

Each figure is the median of some processes of their own, as what the system's allocator gives back
in between depends on chance: weights, input and upstream gradient are there and one small step has
been made before the peak is reset (Linux: /proc/self/clear_refs), so it holds what the step itself
needs, the new gradients included.
"""

import argparse
import multiprocessing
import statistics
from pathlib import Path

import machine
import torch
from torch import nn

from recurra.cells import CELLS
from recurra.jobs.speed import SHAPES, TORCH_LAYERS, Shape
from recurra.layers import Recurrent

PROCESSES = 5
RESULT = Path(__file__).parent / "results" / "memory.json"


def rise_mib(cell: str, shape: Shape, is_ours: bool) -> float:
    """MiB by which a training step raises the peak."""
    torch.set_num_threads(2)
    steps, batch, inputs, hidden = shape
    layer: nn.Module = (
        Recurrent(CELLS[cell], inputs, hidden) if is_ours else TORCH_LAYERS[cell](inputs, hidden)
    )
    small = torch.randn(2, batch, inputs, requires_grad=True)
    layer(small)[0].sum().backward()
    layer.zero_grad()
    x, upstream = torch.randn(steps, batch, inputs), torch.randn(steps, batch, hidden)
    Path("/proc/self/clear_refs").write_text("5")
    before = _kib("VmRSS")
    layer(x.requires_grad_())[0].backward(upstream)
    return (_kib("VmHWM") - before) / 1024


def _kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    rows = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for cell in TORCH_LAYERS:
            for shape in SHAPES:
                ours, peer = (
                    statistics.median(
                        pool.apply(rise_mib, (cell, shape, is_ours)) for _ in range(PROCESSES)
                    )
                    for is_ours in (True, False)
                )
                row = {"cell": cell, "shape": shape, "ours_mib": ours, "torch_mib": peer}
                rows.append({k: round(v, 1) if isinstance(v, float) else v for k, v in row.items()})
                print(rows[-1])
    machine.write(RESULT, {"rows": rows})


if __name__ == "__main__":
    main()
