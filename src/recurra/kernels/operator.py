"""Scans as differentiable operations.

The gradient is the kernels' own. A gradient of that gradient is computed by running the reference
again on the inputs, so that autograd can go on from there.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.compiler import is_compiling

from recurra.cells import Cell
from recurra.kernels.form import Machine
from recurra.kernels.gradient import scan_backward
from recurra.kernels.library import scan_in_graph
from recurra.kernels.scan import Outline, Wishes, outline_for, scan_forward
from recurra.reference import Controls, Parameters, Tensors, scan


class Setup(NamedTuple):
    """A scan without its tensors that may need gradients."""

    outline: Outline
    controls: Controls
    has: tuple[bool, ...]  # which of the first six parameters are there


def scan_with_gradient(
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
    """The meaning of `recurra.reference.scan`, by a machine's kernels, with gradients.

    All tensors are float32; `in_bfloat16` rounds the products' operands, in both passes.
    """
    if is_compiling():
        return scan_in_graph(cell, x, state, parameters, controls, all_states, in_bfloat16)
    given = [p for p in parameters[:6] if p is not None]
    tensors = (x, *state, *given, *parameters.vectors)
    needs_gradient = torch.is_grad_enabled() and any([t.requires_grad for t in tensors])
    if not needs_gradient and x.shape[0] == 1 and _is_plain(controls):
        new = machine.step(cell, x[0], state, parameters)
        if new is not None:
            return tuple([s.unsqueeze(0) for s in new[: len(state) if all_states else 1]]), new
    wishes = Wishes(all_states, needs_gradient, in_bfloat16)
    outline = outline_for(cell, x, state, parameters, controls, machine, wishes)
    if not needs_gradient:
        sequences, last, _ = scan_forward(outline, x, state, parameters, controls)
        return sequences, last
    setup = Setup(outline, controls, tuple([p is not None for p in parameters[:6]]))
    apply = _Scan.apply if any(map(is_functorch_wrapped_tensor, tensors)) else _apply_at_once
    results = apply(setup, (x, state, parameters), *tensors)  # type: ignore[no-untyped-call]
    count = len(outline.sizes.sequences)
    return results[:count], results[count:]


def _is_plain(controls: Controls) -> bool:
    has_none = controls.lengths is controls.reset is controls.hidden_mask is controls.rows is None
    return has_none and not any(z is not None for z in controls.zoneout)


def _unpack(setup: Setup, tensors: tuple[Tensor, ...]) -> tuple[Tensor, Tensors, Parameters]:
    states = len(setup.outline.form.cell.states)
    x, state, rest = tensors[0], tensors[1 : 1 + states], list(tensors[1 + states :])
    six = [rest.pop(0) if is_there else None for is_there in setup.has]
    return x, state, Parameters._make([*six, tuple(rest)])


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, setup: Setup, call: tuple[Tensor, Tensors, Parameters], *tensors: Tensor
    ) -> Tensors:
        x, state, parameters = call  # the tensors once more, in their places
        sequences, last, ctx.run = scan_forward(setup.outline, x, state, parameters, setup.controls)
        ctx.setup = setup
        ctx.set_materialize_grads(False)
        # the sequences share memory with what is kept: autograd sees if they are written to
        ctx.save_for_backward(*tensors, *sequences)
        return *sequences, *last

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        setup: Setup = ctx.setup
        count, states = len(setup.outline.sizes.sequences), len(setup.outline.form.cell.states)
        tensors, needs = ctx.saved_tensors[:-count], ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            return None, None, *_by_reference(setup, tensors, gradients, needs)
        x, _, parameters = _unpack(setup, tensors)
        result = scan_backward(
            ctx.run,
            x,
            parameters,
            gradients[:count],
            gradients[count:],
            needs_x=needs[0],
            needs_state=True in needs[1 : 1 + states],
            needs_weights=True in needs[1 + states :],
        )
        if result.parameters is None:
            return None, None, result.x, *result.state, *([None] * (len(needs) - 1 - states))
        six = [g for g, is_there in zip(result.parameters[:6], setup.has, strict=True) if is_there]
        return None, None, result.x, *result.state, *six, *result.parameters.vectors


# What `_Scan.apply` does with tensors that were never part of a transform of torch.func, after it
# has looked for that at each of them, in Python.
_apply_at_once = super(torch.autograd.Function, _Scan).apply


def _by_reference(
    setup: Setup,
    tensors: tuple[Tensor, ...],
    gradients: tuple[Tensor | None, ...],
    needs: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """The same gradients, themselves differentiable."""
    x, state, parameters = _unpack(setup, tensors)
    outline = setup.outline
    sequences, last = scan(outline.form.cell, x, state, parameters, setup.controls)
    results = [*sequences[: len(outline.sizes.sequences)], *last]
    pairs = [(r, g) for r, g in zip(results, gradients, strict=True) if g is not None]
    wanted = [t for t, needed in zip(tensors, needs, strict=True) if needed]
    found = iter(
        torch.autograd.grad(
            [r for r, _ in pairs],
            wanted,
            [g for _, g in pairs],
            create_graph=True,
            allow_unused=True,
        )
    )
    return tuple(next(found) if needed else None for needed in needs)
