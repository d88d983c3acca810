"""The tables of `recurra bench layers --cells all` and `bench step`, kept as results.

python benchmarks/layers.py             about eight minutes on two idle cores

`rows_with_kept_memory` are the cells that torch.nn has once more in a process that keeps what it
freed, as `recurra train` does: torch.nn asks for new memory in each training step, and at large
shapes the system takes as long to clear its pages as the products take.
"""

import argparse
from pathlib import Path

import machine
import torch

from recurra.cells import CELLS
from recurra.jobs.speed import LSTM_OPTIONS, TORCH_LAYERS, time_layers, time_steps
from recurra.training.allocation import keep_freed_memory

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=1.0, help="for each line")
    arguments.add_argument("--threads", type=int, default=2)
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(1)
    layers = time_layers([*CELLS, *LSTM_OPTIONS], seconds=given.seconds)
    machine.write(RESULTS / "step.json", {"rows": time_steps(seconds=given.seconds)})
    keep_freed_memory()  # for the rest of the process
    kept = time_layers(list(TORCH_LAYERS), seconds=given.seconds)
    machine.write(RESULTS / "layers.json", {"rows": layers, "rows_with_kept_memory": kept})


if __name__ == "__main__":
    main()
