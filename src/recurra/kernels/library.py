"""The scan as one operator of torch's graphs: what `torch.compile` puts in place of the loop.

`recurra::scan` takes lists of tensors and plain values only, as operators must: a cell is named by
the number that `_number` gave it. What the backward pass needs is returned as further results,
which autograd then keeps, as integers so that nobody asks for their gradients. With lengths their
sizes would depend on data, so there they are as long as for full rows.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recurra.cells import Cell
from recurra.kernels.gradient import scan_backward
from recurra.kernels.machines import machine_of
from recurra.kernels.planner import plan_for
from recurra.kernels.scan import (
    Wishes,
    kept_buffers,
    kept_shapes,
    options_for,
    outline_for,
    reopen,
    scan_forward,
)
from recurra.reference import Controls, Parameters, Tensors

_cells: list[Cell] = []
_numbers: dict[Cell, int] = {}


def _number(cell: Cell) -> int:
    """The number that stands for a cell in graphs of this process."""
    return _number_of(*cell.fields)  # type: ignore[no-any-return]


@torch.compiler.assume_constant_result
def _number_of(*fields: Any) -> int:
    cell = Cell(*fields)
    if cell not in _numbers:
        _numbers[cell] = len(_cells)
        _cells.append(cell)
    return _numbers[cell]


def scan_in_graph(
    cell: Cell,
    x: Tensor,
    state: Tensors,
    parameters: Parameters,
    controls: Controls,
    all_states: bool,
    in_bfloat16: bool,
) -> tuple[Tensors, Tensors]:
    """`scan_with_gradient` for graphs."""
    given = [p for p in parameters[:6] if p is not None]
    tensors = [x, *state, *given, *parameters.vectors]
    zoneout = controls.zoneout or (None,) * len(cell.states)
    optional = (controls.lengths, controls.reset, controls.hidden_mask, *zoneout)
    needs_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    results = torch.ops.recurra.scan(
        tensors,
        [c for c in optional if c is not None],
        _number(cell),
        [p is not None for p in parameters[:6]],
        [c is not None for c in optional],
        controls.is_reverse,
        all_states,
        in_bfloat16,
        needs_gradient,
    )
    count, states = len(cell.states) if all_states else 1, len(cell.states)
    return tuple(results[:count]), tuple(results[count : count + states])


@torch.library.custom_op("recurra::scan", mutates_args=())
def _scan(
    tensors: Sequence[Tensor],
    controls: Sequence[Tensor],
    cell: int,
    has: Sequence[bool],
    has_controls: Sequence[bool],
    is_reverse: bool,
    all_states: bool,
    in_bfloat16: bool,
    keeps: bool,
) -> list[Tensor]:
    x, state, parameters = _unflatten(_cells[cell], tensors, has)
    wishes = _controls(controls, has_controls, is_reverse)
    asked = Wishes(all_states, keeps, in_bfloat16)
    outline = outline_for(_cells[cell], x, state, parameters, wishes, machine_of(x), asked)
    sequences, last, run = scan_forward(outline, x, state, parameters, wishes)
    if not keeps:
        return [*sequences, *last]
    sizes = (*x.shape[:2], run.form.hidden, run.form.output)
    pairs = zip(kept_buffers(run), kept_shapes(run.form.plan, *sizes), strict=True)
    kept = [_with_rows(buffer, shape[0]).contiguous().view(torch.int32) for buffer, shape in pairs]
    # an operator's results must not share memory: the sequences do with what is kept
    return [*(s.clone() for s in sequences), *last, *kept]


@_scan.register_fake
def _(  # type: ignore[no-untyped-def]
    tensors, controls, cell, has, has_controls, is_reverse, all_states, in_bfloat16, keeps
):
    kind = _cells[cell]
    x, state, parameters = _unflatten(kind, tensors, has)
    time, batch = x.shape[:2]
    sequences = [x.new_empty(time, batch, s.shape[1]) for s in (state if all_states else state[:1])]
    results = [*sequences, *(torch.empty_like(s) for s in state)]
    if keeps:
        wishes = _controls(controls, has_controls, is_reverse)
        options = options_for(kind, wishes, all_states, True, in_bfloat16)
        hidden = parameters.weight_ih.shape[0] // len(kind.gates)
        sizes = (time, batch, hidden, state[0].shape[1])
        shapes = kept_shapes(plan_for(kind, options), *sizes)
        results += [x.new_empty(shape, dtype=torch.int32) for shape in shapes]
    return results


@torch.library.custom_op("recurra::scan_backward", mutates_args=())
def _scan_backward(
    gradients: Sequence[Tensor],
    tensors: Sequence[Tensor],
    controls: Sequence[Tensor],
    kept: Sequence[Tensor],
    cell: int,
    has: Sequence[bool],
    has_controls: Sequence[bool],
    is_reverse: bool,
    all_states: bool,
    in_bfloat16: bool,
) -> list[Tensor]:
    x, state, parameters = _unflatten(_cells[cell], tensors, has)
    wishes = _controls(controls, has_controls, is_reverse)
    asked = Wishes(all_states, True, in_bfloat16)
    outline = outline_for(_cells[cell], x, state, parameters, wishes, machine_of(x), asked)
    run = reopen(outline, state, wishes, [k.view(torch.float32) for k in kept])
    count = len(state) if all_states else 1
    found = scan_backward(run, x, parameters, gradients[:count], gradients[count:])
    assert found.parameters is not None
    six = [g for g, is_there in zip(found.parameters[:6], has, strict=True) if is_there]
    vectors = (v.clone() for v in found.parameters.vectors)  # they share memory
    return [found.x, *found.state, *six, *vectors]  # type: ignore[list-item]


@_scan_backward.register_fake
def _(gradients, tensors, *others):  # type: ignore[no-untyped-def]
    return [torch.empty_like(t, memory_format=torch.contiguous_format) for t in tensors]


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    tensors, controls, *ctx.setup, keeps = inputs
    assert keeps, "a scan that keeps nothing has no gradient"
    ctx.counts = len(tensors), len(controls)
    results = (len(_cells[ctx.setup[0]].states), ctx.setup[-2])
    ctx.results = results[0] * (1 + results[1]) if results[1] else results[0] + 1
    ctx.save_for_backward(*tensors, *controls, *output[ctx.results :])


def _backward(ctx: Any, gradients: list[Tensor]) -> tuple[Any, ...]:
    tensors, controls = ctx.counts
    saved = list(ctx.saved_tensors)
    found = torch.ops.recurra.scan_backward(
        [g.contiguous() for g in gradients[: ctx.results]],
        saved[:tensors],
        saved[tensors : tensors + controls],
        saved[tensors + controls :],
        *ctx.setup,
    )
    return list(found), [None] * controls, *(None,) * 7


_scan.register_autograd(_backward, setup_context=_keep_for_backward)


def _unflatten(
    cell: Cell, tensors: Sequence[Tensor], has: Sequence[bool]
) -> tuple[Tensor, Tensors, Parameters]:
    states, rest = len(cell.states), list(tensors[1 + len(cell.states) :])
    six = [rest.pop(0) if is_there else None for is_there in has]
    return tensors[0], tuple(tensors[1 : 1 + states]), Parameters._make([*six, tuple(rest)])


def _with_rows(buffer: Tensor, count: int) -> Tensor:
    """So many rows, the new ones zero."""
    if len(buffer) == count:
        return buffer
    result = buffer.new_zeros(count, buffer.shape[1])
    result[: len(buffer)] = buffer
    return result


def _controls(given: Sequence[Tensor], has: Sequence[bool], is_reverse: bool) -> Controls:
    rest = list(given)
    lengths, reset, mask, *zoneout = (rest.pop(0) if is_there else None for is_there in has)
    return Controls(lengths, reset, is_reverse, mask, tuple(zoneout))
