"""The GPU's kernels, interpreted on the CPU by Triton: each cell against float64.

In a process of its own, since Triton decides when it is imported whether it interprets. A group of
rows is then one program, so that what programs do together is for `tests/gpu` alone.
"""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")
pytestmark = pytest.mark.kernels

CHECK = """
import torch
from recurra.cells import CELLS
from recurra.testing import errors_against_float64

for index, (name, cell) in enumerate(CELLS.items()):
    for turn, controls in enumerate(("plain", "lengths", "reset", "masks")):
        torch.manual_seed(index)
        errors = errors_against_float64(
            cell, backend="triton", controls=controls, is_reverse=(index + turn) % 2 == 1,
            time=4, batch=19 if turn == 1 else 3, input_size=5, hidden_size=6,
        )
        wrong = [error for error in errors if not error.is_ok]
        assert not wrong, (name, controls, wrong)
print("all")
"""


def test_interpreted_kernels_are_as_exact_as_plain_torch() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-W", "ignore", "-c", CHECK]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert found.stdout.strip() == "all", found.stderr[-3000:]
