"""Gradient checkpointing over time: a long scan that keeps its states every so many steps only.

The backward pass runs each stretch again, the last one first, so that at any time only one of them
has its gates in memory: √time steps to a stretch keep the least (Chen et al. 2016, section 4.1).
The numbers are those of the whole scan.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recurra import kernels
from recurra.cells import Cell
from recurra.reference import Controls, Parameters, Tensors


def run_by_stretches(
    every: int,
    cell: Cell,
    x: Tensor,
    state: Tensors,
    parameters: Parameters,
    controls: Controls,
    *,
    all_states: bool,
    backend: str,
) -> tuple[Tensors, Tensors]:
    """`kernels.run`, one stretch of `every` steps after the other; `controls` has no reset."""
    count = len(state) if all_states else 1
    starts = range(0, x.shape[0], every)
    sequences: dict[int, Tensors] = {}
    for start in reversed(starts) if controls.is_reverse else starts:
        steps = x[start : start + every]
        part = _controls_of(controls, start, len(steps))
        inputs = (steps, *state, *(p for p in parameters[:6] if p is not None), *parameters.vectors)

        def scan(*given: Tensor, part: Controls = part) -> Tensors:
            x, state, parameters_ = _unflatten(given, len(cell.states), parameters)
            result = kernels.run(
                cell, x, state, parameters_, part, all_states=all_states, backend=backend
            )
            return *result[0], *result[1]

        results = _Again.apply(scan, *inputs)  # type: ignore[no-untyped-call]
        sequences[start], state = results[:count], results[count:]
    ordered = [sequences[start] for start in starts]
    return tuple(torch.cat(parts) for parts in zip(*ordered, strict=True)), state


def _controls_of(controls: Controls, start: int, steps: int) -> Controls:
    lengths = controls.lengths
    if lengths is not None:
        lengths = (lengths - start).clamp(0, steps)
    zoneout = tuple(
        z[start : start + steps] if z is not None and z.dim() == 3 else z for z in controls.zoneout
    )
    return controls._replace(lengths=lengths, zoneout=zoneout)


def _unflatten(given: Tensors, states: int, like: Parameters) -> tuple[Tensor, Tensors, Parameters]:
    rest = list(given[1 + states :])
    six = [None if p is None else rest.pop(0) for p in like[:6]]
    return given[0], given[1 : 1 + states], Parameters._make([*six, tuple(rest)])


class _Again(torch.autograd.Function):
    """A function of tensors that keeps its inputs only, and is run again for its gradient."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensors], *inputs: Tensor) -> Tensors:
        ctx.function = function
        ctx.save_for_backward(*inputs)
        ctx.set_materialize_grads(False)
        return function(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        inputs, is_differentiable = ctx.saved_tensors, torch.is_grad_enabled()
        needs = ctx.needs_input_grad[1:]
        if not is_differentiable:
            inputs = tuple(t.detach().requires_grad_(n) for t, n in zip(inputs, needs, strict=True))
        with torch.enable_grad():
            results = ctx.function(*inputs)
        pairs = [(r, g) for r, g in zip(results, gradients, strict=True) if g is not None]
        found = iter(
            torch.autograd.grad(
                [r for r, _ in pairs],
                [t for t, needed in zip(inputs, needs, strict=True) if needed],
                [g for _, g in pairs],
                create_graph=is_differentiable,
                allow_unused=True,
            )
        )
        return None, *(next(found) if needed else None for needed in needs)
