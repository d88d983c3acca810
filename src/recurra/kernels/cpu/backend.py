"""The backend "cpu": generated kernels that compute in float32, from float32 or bfloat16."""

import torch
from torch import Tensor
from torch._C._functorch import maybe_current_level

from recurra.cells import Cell
from recurra.kernels import generated
from recurra.kernels.cpu.host import find_host
from recurra.kernels.cpu.streaming import MOST_ROWS, step_forward
from recurra.kernels.machines import CPU
from recurra.kernels.problem import Problem, Support
from recurra.reference import Controls, Parameters, Tensors


def supports(problem: Problem) -> Support:
    """Whether the kernels run a problem: float32 or bfloat16, CPU, a step that can be traced."""
    if problem.device != "cpu":
        return Support(False, f"generated for the CPU, not for {problem.device!r}")
    return generated.supports(problem)


def runs_plainly(cell: Cell, x: Tensor, controls: Controls) -> bool:
    """Whether `supports` is sure to say yes, at a glance.

    Each call of a layer asks this first: a description of the whole problem takes as long as the
    steps of a small one.
    """
    has_masks = controls.hidden_mask is not None or controls.zoneout
    is_plain = x.is_cpu and x.dtype in generated.DTYPES and not has_masks
    is_full = controls.rows is None and x.numel() > 0
    is_transformed = maybe_current_level() is not None
    return is_plain and is_full and not is_transformed and not generated.obstacle(cell)


def supports_in_graph(cell: Cell, x: Tensor) -> bool:
    """Whether a graph of `torch.compile` may hold the operator for a scan of this input."""
    return x.device.type == "cpu" and generated.supports_in_graph(cell, x)


def step(cell: Cell, x: Tensor, state: Tensors, parameters: Parameters) -> Tensors | None:
    """One step without gradients and masks; None where only `run` can do it."""
    is_plain = x.is_cpu and generated.is_float32(x, state, parameters)
    if not is_plain or not 0 < x.shape[0] <= MOST_ROWS or generated.obstacle(cell):
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
    """The scan.

    In bfloat16, or under autocast to it, the products' operands are rounded to bfloat16 where the
    processor multiplies that; elsewhere it is the form of storage alone.
    """
    in_bfloat16 = generated.asks_for_bfloat16(x) and _multiplies_bfloat16()
    return generated.run(
        cell, x, state, parameters, controls, all_states, CPU, in_bfloat16=in_bfloat16
    )


@torch.compiler.assume_constant_result
def _multiplies_bfloat16() -> bool:
    return find_host().multiplies_bfloat16
