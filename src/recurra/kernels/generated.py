"""What the backends with generated kernels share: what they refuse, and dtypes at the door."""

from functools import cache
from typing import Any

import torch
from torch import Tensor, is_autocast_enabled

from recurra.cells import Cell
from recurra.errors import UntraceableCellError
from recurra.kernels.form import Machine
from recurra.kernels.operator import scan_with_gradient
from recurra.kernels.plan import Options
from recurra.kernels.planner import plan_for
from recurra.kernels.problem import Problem, Support, device_of
from recurra.reference import Controls, Parameters, Tensors

DTYPES = (torch.float32, torch.bfloat16)


def supports(problem: Problem) -> Support:
    """What generated kernels ask for on any device: dtype, a full batch, a step to be traced."""
    if problem.dtype not in DTYPES:
        return Support(False, f"runs float32 and bfloat16, not {problem.dtype}")
    if problem.is_transformed:
        return Support(False, "torch.func transforms need the reference's own operations")
    if problem.time == 0 or problem.batch == 0:
        return Support(False, "an empty batch has nothing to run")
    if problem.has_differentiable_mask:
        return Support(False, "masks and zoneout shares that need a gradient")
    found = obstacle(problem.cell)
    return Support(not found, found or "kernels generated from the cell's step")


def supports_in_graph(cell: Cell, x: Tensor) -> bool:
    """Whether a graph of `torch.compile` may hold the operator for a scan of this input."""
    return x.dtype in DTYPES and x.numel() > 0 and not _obstacle_of(*cell.fields)


@torch.compiler.assume_constant_result
def _obstacle_of(*fields: Any) -> str:
    return obstacle(Cell(*fields))


@cache
def obstacle(cell: Cell) -> str:
    """Why a cell has no kernels; empty if it has."""
    try:
        plan_for(cell, Options((False,) * len(cell.states), needs_gradient=True))
    except UntraceableCellError as error:
        return str(error)
    return ""


def run(
    cell: Cell,
    x: Tensor,
    state: Tensors,
    parameters: Parameters,
    controls: Controls,
    all_states: bool,
    machine: Machine,
    *,
    in_bfloat16: bool,
) -> tuple[Tensors, Tensors]:
    """The scan, its state in float32 from step to step, its results in the dtypes given."""
    if is_float32(x, state, parameters):
        return scan_with_gradient(
            cell, x, state, parameters, controls, all_states, machine, in_bfloat16=in_bfloat16
        )
    six = (None if p is None else p.float() for p in parameters[:6])
    sequences, last = scan_with_gradient(
        cell,
        x.float(),
        tuple(s.float() for s in state),
        Parameters._make((*six, tuple(v.float() for v in parameters.vectors))),
        _in_float32(controls),
        all_states,
        machine,
        in_bfloat16=in_bfloat16,
    )
    results = tuple(s.to(x.dtype) for s in sequences)
    return results, tuple(n.to(old.dtype) for n, old in zip(last, state, strict=True))


def is_float32(x: Tensor, state: Tensors, parameters: Parameters) -> bool:
    """Under autocast they may differ: a state may come from a product that was in bfloat16."""
    if x.dtype is not torch.float32 or parameters.weight_ih.dtype is not torch.float32:
        return False
    return all([s.dtype is torch.float32 for s in state])


def asks_for_bfloat16(x: Tensor) -> bool:
    """By its dtype, or under autocast."""
    device = device_of(x)
    if is_autocast_enabled(device):
        return torch.get_autocast_dtype(device) == torch.bfloat16
    return x.dtype is torch.bfloat16


def _in_float32(controls: Controls) -> Controls:
    mask = controls.hidden_mask
    return controls._replace(
        hidden_mask=None if mask is None else mask.float(),
        zoneout=tuple(None if z is None else z.float() for z in controls.zoneout),
    )
