"""The backend "cpu": generated kernels that compute in float32, from float32 or bfloat16."""

from functools import cache

import torch
from torch import Tensor

from recurra.cells import Cell
from recurra.errors import UntraceableCellError
from recurra.kernels.cpu.host import find_host
from recurra.kernels.cpu.streaming import MOST_ROWS, step_forward
from recurra.kernels.machines import CPU
from recurra.kernels.operator import scan_with_gradient
from recurra.kernels.plan import Options
from recurra.kernels.planner import plan_for
from recurra.kernels.problem import Problem, Support
from recurra.reference import Controls, Parameters, Tensors


def supports(problem: Problem) -> Support:
    """Whether the kernels run a problem: float32 or bfloat16, CPU, a step that can be traced."""
    if problem.device != "cpu":
        return Support(False, f"generated for the CPU, not for {problem.device!r}")
    if problem.dtype not in (torch.float32, torch.bfloat16):
        return Support(False, f"runs float32 and bfloat16, not {problem.dtype}")
    if problem.is_transformed:
        return Support(False, "torch.func transforms need the reference's own operations")
    if problem.time == 0 or problem.batch == 0:
        return Support(False, "an empty batch has nothing to run")
    if problem.has_differentiable_mask:
        return Support(False, "masks and zoneout shares that need a gradient")
    obstacle = _obstacle(problem.cell)
    return Support(not obstacle, obstacle or "kernels generated from the cell's step")


def supports_in_graph(cell: Cell, x: Tensor) -> bool:
    """Whether a graph of `torch.compile` may hold the operator for a scan of this input."""
    is_of_dtype = x.dtype in (torch.float32, torch.bfloat16)
    return x.device.type == "cpu" and is_of_dtype and x.numel() > 0 and not _obstacle(cell)


@torch.compiler.assume_constant_result
def _obstacle(cell: Cell) -> str:
    """Why a cell has no kernels; empty if it has."""
    return _found_obstacle(cell)


@cache
def _found_obstacle(cell: Cell) -> str:
    try:
        plan_for(cell, Options((False,) * len(cell.states), needs_gradient=True))
    except UntraceableCellError as error:
        return str(error)
    return ""


def step(cell: Cell, x: Tensor, state: Tensors, parameters: Parameters) -> Tensors | None:
    """One step without gradients and masks; None where only `run` can do it."""
    is_plain = x.device.type == "cpu" and _is_float32(x, state, parameters)
    if not is_plain or not 0 < x.shape[0] <= MOST_ROWS or _obstacle(cell):
        return None
    return step_forward(cell, x, state, parameters, find_host())


def run(
    cell: Cell,
    x: Tensor,
    state: Tensors,
    parameters: Parameters,
    controls: Controls,
    all_states: bool,
) -> tuple[Tensors, Tensors]:
    """The scan, its state in float32 from step to step.

    In bfloat16, or under autocast to it, the products' operands are rounded to bfloat16 where the
    processor multiplies that; elsewhere it is the form of storage alone.
    """
    in_bfloat16 = _asks_for_bfloat16(x) and _multiplies_bfloat16()
    if _is_float32(x, state, parameters):
        return scan_with_gradient(
            cell, x, state, parameters, controls, all_states, CPU, in_bfloat16=in_bfloat16
        )
    six = (None if p is None else p.float() for p in parameters[:6])
    sequences, last = scan_with_gradient(
        cell,
        x.float(),
        tuple(s.float() for s in state),
        Parameters._make((*six, tuple(v.float() for v in parameters.vectors))),
        _in_float32(controls),
        all_states,
        CPU,
        in_bfloat16=in_bfloat16,
    )
    results = tuple(s.to(x.dtype) for s in sequences)
    return results, tuple(n.to(old.dtype) for n, old in zip(last, state, strict=True))


def _is_float32(x: Tensor, state: Tensors, parameters: Parameters) -> bool:
    """Under autocast they may differ: a state may come from a product that was in bfloat16."""
    return all(t.dtype == torch.float32 for t in (x, parameters.weight_ih, *state))


@torch.compiler.assume_constant_result
def _multiplies_bfloat16() -> bool:
    return find_host().multiplies_bfloat16


def _asks_for_bfloat16(x: Tensor) -> bool:
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") == torch.bfloat16
    return x.dtype == torch.bfloat16


def _in_float32(controls: Controls) -> Controls:
    mask = controls.hidden_mask
    return controls._replace(
        hidden_mask=None if mask is None else mask.float(),
        zoneout=tuple(None if z is None else z.float() for z in controls.zoneout),
    )
