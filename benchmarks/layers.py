"""The tables of `recurra bench layers --cells all` and `bench step`, kept as results.

python benchmarks/layers.py             about six minutes on two idle cores
"""

import argparse
from pathlib import Path

import machine
import torch

from recurra.cells import CELLS
from recurra.jobs.speed import LSTM_OPTIONS, time_layers, time_steps

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=1.0, help="for each line")
    arguments.add_argument("--threads", type=int, default=2)
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(1)
    layers = time_layers([*CELLS, *LSTM_OPTIONS], seconds=given.seconds)
    machine.write(RESULTS / "layers.json", {"rows": layers})
    machine.write(RESULTS / "step.json", {"rows": time_steps(seconds=given.seconds)})


if __name__ == "__main__":
    main()
