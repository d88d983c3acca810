"""The loop of `recurra.reference` as a backend: runs everything."""

from torch import Tensor

from recurra.cells import Cell
from recurra.kernels.problem import Problem, Support
from recurra.reference import Controls, Parameters, Tensors, scan


def supports(problem: Problem) -> Support:
    return Support(True, "runs any cell, dtype and device, one step at a time")


def run(
    cell: Cell,
    x: Tensor,
    state: Tensors,
    parameters: Parameters,
    controls: Controls,
    all_states: bool,
) -> tuple[Tensors, Tensors]:
    sequences, last = scan(cell, x, state, parameters, controls)
    return sequences if all_states else sequences[:1], last
