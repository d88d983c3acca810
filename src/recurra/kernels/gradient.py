"""The backward pass of a scan: the loop run back, then the weights' gradients as large products."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from recurra.kernels.form import Order
from recurra.kernels.scan import Scan, as_rows
from recurra.kernels.schedule import Rows
from recurra.reference import Parameters


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
    back = _buffers(run)
    own = [*sequences, *[None] * (len(back.carry) - len(sequences))]
    grad_x = _input_room(run, x) if needs_x else None
    state = run.form.run_backward(run, back, parameters, own, last, grad_x, needs_state=needs_state)
    blocks = _input_blocks(run, back)
    if run.rows is not None:  # Σ over the steps that read it, for each distinct input
        blocks = blocks.new_zeros(len(x), blocks.shape[1]).index_add_(0, run.rows, blocks)
    return Gradients(
        x=_input_gradient(run, blocks, grad_x, x, parameters) if needs_x else None,
        state=state,
        parameters=_weight_gradients(run, back, blocks, x) if needs_weights else None,
    )


def _buffers(run: Scan) -> Back:
    form, (rows, batch) = run.form, (run.schedule.rows, run.schedule.batch)
    carry = [form.scratch(name, batch, size) for name, size in form.carry_sizes]
    columns, has_inner = len(form.cell.vectors) * form.padded(form.hidden), form.cell.output
    return Back(
        gates=form.scratch("grad_gates", rows, form.gradient_columns),
        inner=form.scratch("grad_inner", rows, form.output) if has_inner else carry[0],
        vectors=carry[0].new_zeros(form.workers, columns) if columns else carry[0],
        carry=carry,
        initial=[c.new_zeros(c.shape) for c in carry] if form.options.has_reset else [],
    )


def in_gradient_order(rows: Tensor, order: Order | None, gates: int) -> Tensor:
    """Rows of the gates, in the order of the gates -> in the order of the gradients."""
    return (
        rows if order is None else order.apply(rows.view(gates, -1, *rows.shape[1:])).flatten(0, 1)
    )


def _by_gate(rows: Tensor, order: Order | None, gates: int) -> Tensor:
    """Rows of the gates, in the order of the gradients -> in the order of the gates."""
    return (
        rows if order is None else order.undo(rows.view(gates, -1, *rows.shape[1:])).flatten(0, 1)
    )


def _input_blocks(run: Scan, back: Back) -> Tensor:
    columns = len(run.form.cell.gates) * run.form.hidden
    return back.gates if back.gates.shape[1] == columns else back.gates[:, :columns]


def _hidden_blocks(run: Scan, back: Back) -> Tensor:
    return back.gates[:, -len(run.form.cell.gates) * run.form.hidden :]


def _input_room(run: Scan, x: Tensor) -> Tensor | None:
    """Memory for the gradient of x, if the loop makes it."""
    if run.rows is not None or not run.form.gives_input(x.shape[-1]):
        return None
    inputs, width = x.shape[-1], run.form.padded(x.shape[-1])
    if width == inputs and run.schedule.index is None:
        return x.new_empty(x.shape)
    return x.new_empty(run.schedule.rows, width)[:, :inputs]


def _input_gradient(
    run: Scan, blocks: Tensor, made: Tensor | None, x: Tensor, parameters: Parameters
) -> Tensor:
    """Of x; `made`: of the rows that are kept, if the loop made it."""
    form, schedule, rows = run.form, run.schedule, made
    if rows is None:
        weight = in_gradient_order(parameters.weight_ih, form.input_order, len(form.cell.gates))
        is_full = schedule.index is None and run.rows is None
        rows = form.times(blocks, weight, is_full=is_full)
    if schedule.index is None or run.rows is not None:
        return rows if rows.shape == x.shape else rows.reshape(x.shape)
    return form.spread(rows, schedule).view(x.shape)


def _weight_gradients(run: Scan, back: Back, blocks: Tensor, x: Tensor) -> Parameters:
    form, gates = run.form, len(run.form.cell.gates)
    rows = Rows(x) if run.rows is not None else Rows(as_rows(x), run.schedule.index)
    order = form.input_order
    if _shares_gradients(run):  # which are then read once, for W and for R
        sums = form.sums_of_products(blocks, [rows, _operand(run)])
        (weight, bias), (other, other_bias) = [
            (_by_gate(w, order, gates), _by_gate(b, order, gates)) for w, b in sums
        ]
        result = Parameters(weight, other, bias, other_bias)
    else:
        ((weight, bias),) = form.sums_of_products(blocks, [rows])
        result = Parameters(_by_gate(weight, order, gates), bias_ih=_by_gate(bias, order, gates))
        if form.cell.recurrent:
            weight, bias = _recurrent_gradients(run, back)
            order = form.hidden_order
            result = result._replace(
                weight_hh=_by_gate(weight, order, gates), bias_hh=_by_gate(bias, order, gates)
            )
    if form.cell.output is not None:
        ((weight, bias),) = form.sums_of_products(back.inner, [Rows(run.kept["inner"])])
        result = result._replace(weight_hr=weight, bias_hr=bias)
    if form.cell.vectors:
        total = back.vectors.sum(0).view(len(form.cell.vectors), -1)[:, : form.hidden]
        result = result._replace(vectors=tuple(total))
    return result


def _shares_gradients(run: Scan) -> bool:
    """Whether the gradients of the input's and of the recurrent products are the same numbers."""
    cell, is_summed = run.form.cell, run.rows is not None
    is_folded = len(run.form.plan.folded) == len(cell.gates)
    return cell.recurrent and is_folded and not cell.late_gates and not is_summed


def _recurrent_gradients(run: Scan, back: Back) -> tuple[Tensor, Tensor]:
    """Gradients of R and its bias, in the order of `grad_gates`."""
    form, rows = run.form, _hidden_blocks(run, back)
    late = len(form.cell.late_gates) * form.hidden
    early = rows.shape[1] - late
    ((weight, bias),) = form.sums_of_products(rows[:, :early], [_operand(run)])
    if not late:
        return weight, bias
    late_rows = Rows(run.kept["late_operand"])
    ((other, other_bias),) = form.sums_of_products(rows[:, early:], [late_rows])
    return torch.cat([weight, other]), torch.cat([bias, other_bias])


def _operand(run: Scan) -> Rows:
    """What R was multiplied by, for each row that is kept."""
    form, schedule, states = run.form, run.schedule, run.states[0]
    if form.options.has_mask or form.options.has_reset:
        return Rows(run.kept["operand"])
    if schedule.previous is not None:
        return Rows(states, schedule.previous)
    return Rows(states, first=schedule.batch if schedule.is_reverse else 0)
