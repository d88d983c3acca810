"""The backward pass of a scan: the loop run back, then the weights' gradients as large products."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from recurra.kernels.scan import Outline, Scan, as_rows
from recurra.kernels.schedule import Rows
from recurra.reference import Parameters, Tensors


class Gradients(NamedTuple):
    """What a backward pass gives: for x, the initial states, and the weights; None: not asked."""

    x: Tensor | None
    state: list[Tensor | None]
    parameters: Parameters | None


class Back(NamedTuple):
    """Buffers of a backward pass.

    Attributes:
        gates, inner: of all rows that were kept.
        vectors: (workers, blocks·hidden), which each worker adds to.
        carry: room for each state's gradient on its way back, (batch, size padded).
        initial: with resets, what belongs to each initial state.
    """

    gates: Tensor
    inner: Tensor
    vectors: Tensor
    carry: list[Tensor]
    initial: list[Tensor]


def scan_backward(
    run: Scan,
    x: Tensor,
    parameters: Parameters,
    sequences: Sequence[Tensor | None],
    last: Sequence[Tensor | None],
    *,
    needs_x: bool = True,
    needs_state: bool = True,
    needs_weights: bool = True,
) -> Gradients:
    """Gradients from those of the results; None stands for zeros.

    Args:
        run, x, parameters: of the forward pass.
        sequences: gradient of each sequence of states, (time, batch, size).
        last: gradient of each last state, (batch, size).
        needs_x, needs_state, needs_weights: what is not needed is left out.
    """
    outline, back = run.outline, _buffers(run)
    form, grad_x = outline.form, None
    if needs_x and outline.sizes.gives_input:
        grad_x = _input_room(outline, x)
    state = form.run_backward(
        run, back, parameters, sequences, last, grad_x, needs_state=needs_state
    )
    blocks, columns = back.gates, len(form.cell.gates) * form.hidden
    if form.gradient_columns != columns:
        blocks = blocks[:, :columns]
    if run.rows is not None:  # Σ over the steps that read it, for each distinct input
        blocks = blocks.new_zeros(len(x), columns).index_add_(0, run.rows, blocks)
    return Gradients(
        _input_gradient(run, blocks, grad_x, x, parameters) if needs_x else None,
        state,
        _weight_gradients(run, back, blocks, x) if needs_weights else None,
    )


def _buffers(run: Scan) -> Back:
    form, rows, batch = run.outline.form, run.outline.schedule.rows, run.outline.schedule.batch
    carry = [form.scratch(name, batch, size) for name, size in form.carry_sizes]
    gates = form.scratch("grad_gates", rows, form.gradient_columns)
    inner = vectors = carry[0]  # which stand for what the cell does not have
    if form.cell.output is not None:
        inner = form.scratch("grad_inner", rows, form.output)
    if form.cell.vectors:
        columns = len(form.cell.vectors) * form.padded(form.hidden)
        vectors = inner.new_zeros(form.workers, columns)
    initial = [c.new_zeros(c.shape) for c in carry] if form.options.has_reset else []
    return Back(gates, inner, vectors, carry, initial)


def _input_room(outline: Outline, x: Tensor) -> Tensor:
    """Memory for the gradient of x, of whole vectors, which the loop writes."""
    width, inputs = outline.form.padded(outline.sizes.inputs), outline.sizes.inputs
    if width == inputs or not outline.sizes.is_full:  # rows that are spread are no whole vectors
        return x.new_empty(x.shape)
    time, batch, _ = x.shape
    room = x.new_empty(time * batch * width)
    return room.as_strided(x.shape, (batch * width, width, 1))


def _input_gradient(
    run: Scan, blocks: Tensor, made: Tensor | None, x: Tensor, parameters: Parameters
) -> Tensor:
    """Of x; `made`: by the loop, or None."""
    if made is not None:
        return made
    (sizes, schedule), form = run.outline, run.outline.form
    weight = form.ordered(parameters.weight_ih, form.input_order)
    rows = form.times(blocks, weight, is_full=sizes.is_full and run.rows is None)
    if not sizes.is_full and run.rows is None:
        rows = form.spread(rows, schedule)
    return rows.view(x.shape)


def _weight_gradients(run: Scan, back: Back, blocks: Tensor, x: Tensor) -> Parameters:
    form = run.outline.form
    rows = Rows(x) if run.rows is not None else Rows(as_rows(x), run.outline.schedule.places)
    weight_hh = bias_hh = weight_hr = bias_hr = None
    vectors: Tensors = ()
    if form.shares_gradients and run.rows is None:  # which are then read once, for W and for R
        (weight, bias), (weight_hh, bias_hh) = form.sums_of_products(blocks, [rows, _operand(run)])
        weight_hh = form.by_gate(weight_hh, form.input_order)
        bias_hh = form.by_gate(bias_hh, form.input_order)
    else:
        ((weight, bias),) = form.sums_of_products(blocks, [rows])
        if form.cell.recurrent:
            weight_hh, bias_hh = _recurrent_gradients(run, back)
    if form.cell.output is not None:
        inner = Rows(run.kept["inner"])
        ((weight_hr, bias_hr),) = form.sums_of_products(back.inner, [inner])
    if form.cell.vectors:
        total = back.vectors.sum(0).view(len(form.cell.vectors), -1)
        vectors = total[:, : form.hidden].unbind()
    weight = form.by_gate(weight, form.input_order)
    bias = form.by_gate(bias, form.input_order)
    return Parameters(weight, weight_hh, bias, bias_hh, weight_hr, bias_hr, vectors)


def _recurrent_gradients(run: Scan, back: Back) -> tuple[Tensor, Tensor]:
    """Gradients of R and its bias, where W's are of other numbers."""
    form, order = run.outline.form, run.outline.form.hidden_order
    columns, late = len(form.cell.gates) * form.hidden, len(form.cell.late_gates) * form.hidden
    if not late:
        ((weight, bias),) = form.sums_of_products(back.gates[:, -columns:], [_operand(run)])
    else:
        early, operand = back.gates[:, -columns:-late], Rows(run.kept["late_operand"])
        ((weight, bias),) = form.sums_of_products(early, [_operand(run)])
        ((other, other_bias),) = form.sums_of_products(back.gates[:, -late:], [operand])
        weight, bias = torch.cat([weight, other]), torch.cat([bias, other_bias])
    return form.by_gate(weight, order), form.by_gate(bias, order)


def _operand(run: Scan) -> Rows:
    """What R was multiplied by, for each row that is kept."""
    schedule, states = run.outline.schedule, run.states[0]
    if "operand" in run.kept:
        return Rows(run.kept["operand"])
    if not schedule.is_full:
        return Rows(states, schedule.previous)
    return Rows(states, first=schedule.batch if schedule.is_reverse else 0)
