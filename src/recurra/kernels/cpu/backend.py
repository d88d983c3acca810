"""The backend "cpu": generated kernels for float32 on the CPU."""

import torch
from torch import Tensor

from recurra.cells import Cell
from recurra.errors import UntraceableCellError
from recurra.kernels.cpu.code import plan_for
from recurra.kernels.cpu.operator import scan_with_gradient
from recurra.kernels.plan import Options
from recurra.kernels.problem import Problem, Support
from recurra.reference import Controls, Parameters, Tensors


def supports(problem: Problem) -> Support:
    """Whether the kernels run a problem: float32, CPU, a step that can be traced."""
    if problem.device != "cpu":
        return Support(False, f"generated for the CPU, not for {problem.device!r}")
    if problem.dtype != torch.float32:
        return Support(False, f"computes in float32, not in {problem.dtype}")
    if problem.is_transformed:
        return Support(False, "torch.func transforms need the reference's own operations")
    if problem.time == 0 or problem.batch == 0:
        return Support(False, "an empty batch has nothing to run")
    if problem.has_differentiable_mask:
        return Support(False, "masks and zoneout shares that need a gradient")
    try:
        plan_for(problem.cell, Options((False,) * len(problem.cell.states), needs_gradient=True))
    except UntraceableCellError as error:
        return Support(False, str(error))
    return Support(True, "kernels generated from the cell's step")


def run(
    cell: Cell,
    x: Tensor,
    state: Tensors,
    parameters: Parameters,
    controls: Controls,
    all_states: bool,
) -> tuple[Tensors, Tensors]:
    return scan_with_gradient(cell, x, state, parameters, controls, all_states)
