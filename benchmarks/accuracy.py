"""Errors of the CPU kernels against float64, beside those of plain torch in float32.

    python benchmarks/accuracy.py

For every cell at four of the shapes of `benchmarks/layers.py` (those with H up to 256, since the
float64 reference is a Python loop): of every output, last state and gradient the relative error on
the whole tensor and at the worst step, ours and the reference loop's in float32. Weights, states
and the gradients from above are random. The contract is four times the reference's error, or 2e-6
(`recurra.testing.FLOOR`).
"""

from pathlib import Path

import machine
import torch

from recurra.cells import CELLS
from recurra.testing import Error, errors_against_float64

SHAPES = ((24, 32, 8, 64), (35, 20, 200, 200), (100, 32, 256, 256), (200, 16, 64, 128))
RESULT = Path(__file__).parent / "results" / "accuracy.json"


def worst(errors: list[Error]) -> dict[str, object]:
    """The result that is furthest off, and the one that is furthest off beside plain torch."""
    largest = max(errors, key=lambda e: max(e.ours, e.ours_worst_step))
    ratio = max(errors, key=lambda e: e.ours / max(e.torch, 1e-9))
    return {
        "largest": largest.name,
        "ours": largest.ours,
        "torch": largest.torch,
        "ours_worst_step": largest.ours_worst_step,
        "torch_worst_step": largest.torch_worst_step,
        "largest_ratio": ratio.name,
        "ratio": ratio.ours / max(ratio.torch, 1e-9),
        "ratio_ours": ratio.ours,
        "all_ok": all(e.is_ok for e in errors),
    }


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for name, cell in CELLS.items():
        for time, batch, inputs, hidden in SHAPES:
            torch.manual_seed(1)
            errors = errors_against_float64(
                cell, backend="cpu", time=time, batch=batch, input_size=inputs, hidden_size=hidden
            )
            rows.append({"cell": name, "shape": [time, batch, inputs, hidden], **worst(errors)})
            print(rows[-1])
    machine.write(RESULT, {"rows": rows})


if __name__ == "__main__":
    main()
