"""What `recurra doctor` finds: versions, threads, backends and why, and a check of each cell."""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from recurra.cells import CELLS, Cell
from recurra.layers import Recurrent

# Float32 against float64 over a sequence this short: rounding stays far below, a wrong gate far
# above.
TOLERANCE = 1e-4
# With five rows the input's product comes before the loop, with sixteen it is part of it.
TIME, BATCHES, SIZE = 11, (5, 16), 32


@dataclass(frozen=True)
class CellCheck:
    """One cell on the backend that users get.

    Attributes:
        cell: its name.
        backend: what "auto" chooses for training in float32.
        reasons: every backend's answer, in the order of preference.
        error: largest difference of outputs and gradients from the float64 reference, relative
            to the largest value.
    """

    cell: str
    backend: str
    reasons: dict[str, str]
    error: float

    @property
    def is_ok(self) -> bool:
        """Whether the backend computes the cell."""
        return self.error < TOLERANCE


def check_cells(seed: int = 0) -> list[CellCheck]:
    """Run every shipped cell on its backend, and compare with the reference.

    Example:
        >>> all(check.is_ok for check in check_cells())
        True
    """
    return [_check(name, cell, seed) for name, cell in CELLS.items()]


def _check(name: str, cell: Cell, seed: int) -> CellCheck:
    torch.manual_seed(seed)
    layer = Recurrent(cell, SIZE, SIZE)
    truth = deepcopy(layer).double()
    truth.backend = "reference"
    explanation = layer.explain(torch.zeros(TIME, BATCHES[0], SIZE))
    errors = []
    for batch in BATCHES:
        x = torch.randn(TIME, batch, SIZE)
        pairs = zip(_values(truth, x.double()), _values(layer, x), strict=True)
        errors += [_difference(expected, got) for expected, got in pairs]
    return CellCheck(name, explanation.chosen, dict(explanation.reasons), max(errors))


def _values(layer: Recurrent, x: Tensor) -> list[Tensor]:
    """Output and all gradients, for a fixed random gradient from above."""
    x.requires_grad_()
    y, _ = layer(x)
    generator = torch.Generator().manual_seed(1)
    upstream = torch.randn(y.shape, generator=generator).to(y.dtype)
    inputs = [x, *layer.parameters()]
    return [y.detach(), *torch.autograd.grad(y, inputs, upstream)]


def _difference(expected: Tensor, got: Tensor) -> float:
    largest = float(expected.abs().max())
    return float((expected - got.double()).abs().max()) / max(largest, 1e-6)
