"""The backward pass of a scan: the loop run back, then the weights' gradients as large products."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from recurra.kernels.cpu.code import backward_code
from recurra.kernels.cpu.products import linear, pack_turned, sum_of_products
from recurra.kernels.cpu.scan import Scan, call, gather_batch, gather_rows, place
from recurra.kernels.cpu.scratch import scratch
from recurra.reference import Parameters


@dataclass
class Gradients:
    """What a backward pass gives: for x, the initial states, and the weights."""

    x: Tensor | None
    state: list[Tensor]
    parameters: Parameters


@dataclass
class _Back:
    """Buffers of a backward pass."""

    grad_gates: Tensor
    grad_inner: Tensor
    grad_vectors: Tensor
    carry: list[Tensor]
    initial: list[Tensor] = field(default_factory=list)


def scan_backward(
    run: Scan,
    x: Tensor,
    parameters: Parameters,
    sequences: Sequence[Tensor | None],
    last: Sequence[Tensor | None],
    *,
    needs_x: bool,
    needs_weights: bool,
) -> Gradients:
    """Gradients from those of the results; None stands for zeros.

    Args:
        run, x, parameters: of the forward pass.
        sequences: gradient of each sequence of states, (time, batch, size).
        last: gradient of each last state, (batch, size).
        needs_x, needs_weights: leave the others' products out.
    """
    plan, schedule = run.plan, run.schedule
    widths = [run.padded(run.state_size(k)) for k in range(len(run.cell.states))]
    back = _Back(
        grad_gates=scratch("grad_gates", schedule.rows, plan.gradient_blocks * run.hidden),
        grad_inner=scratch("grad_inner", schedule.rows, run.output if run.cell.output else 0),
        grad_vectors=x.new_zeros(run.threads, len(run.cell.vectors) * run.padded(run.hidden)),
        carry=[x.new_zeros(schedule.batch, width) for width in widths],
    )
    for k, gradient in enumerate(last):
        if gradient is not None:
            back.carry[k][:, : run.state_size(k)] = gather_batch(gradient, schedule)
    if run.options.has_reset:
        back.initial = [torch.zeros_like(c) for c in back.carry]
    _run_back(run, back, parameters, sequences)
    return Gradients(
        x=_input_gradient(run, back, x, parameters) if needs_x else None,
        state=[_initial_gradient(run, back, k) for k in range(len(back.carry))],
        parameters=_weight_gradients(run, back, x, parameters)
        if needs_weights
        else Parameters(x.new_empty(0)),
    )


def _run_back(
    run: Scan, back: _Back, parameters: Parameters, sequences: Sequence[Tensor | None]
) -> None:
    more = place("grad_gates", back.grad_gates, run.hidden)
    more |= place("grad_inner", back.grad_inner, run.output)
    more |= place("grad_vectors", back.grad_vectors, run.padded(run.hidden))
    zeros = torch.zeros(1, max(run.hidden, run.output))
    alive = [zeros]
    for k in range(len(run.cell.states)):
        gradient = sequences[k] if k < len(sequences) else None
        if gradient is None:
            rows = zeros.expand(run.schedule.rows, -1)
        else:
            rows = gather_rows(gradient, run.schedule)
            rows = rows if rows.stride(-1) == 1 else rows.contiguous()
        alive.append(rows)
        more |= place(f"sequence{k}", rows) | place(f"carry{k}", back.carry[k])
    for k, initial in enumerate(back.initial):
        more[f"initial{k}"] = initial.data_ptr()
    code = backward_code(run.cell, run.options, run.host)
    weights = _backward_weights(run, parameters)
    call(run, code, weights, more)


def _backward_weights(run: Scan, parameters: Parameters) -> dict[str, Tensor]:
    plan, cell = run.plan, run.cell
    gates, early = len(cell.gates), len(cell.gates) - len(cell.late_gates)
    weights = {}
    if parameters.weight_hh is not None:
        blocks = parameters.weight_hh.view(gates, run.hidden, run.output)
        ordered = _ordered(blocks, plan.hidden_order)
        first, others = (part.reshape(-1, run.output) for part in ordered.tensor_split([early]))
        weights["early_back"] = pack_turned(first, run.host, "early")
        if cell.late_gates:
            weights["late_back"] = pack_turned(others, run.host, "late")
    if parameters.weight_hr is not None:
        weights["output_back"] = pack_turned(parameters.weight_hr, run.host, "output")
    return weights


def _ordered(blocks: Tensor, order: Sequence[int]) -> Tensor:
    """Blocks in the order of `grad_gates`."""
    return blocks if list(order) == sorted(order) else blocks[list(order)]


def _restored(blocks: Tensor, order: Sequence[int]) -> Tensor:
    """Blocks from the order of `grad_gates` back to that of the gates."""
    if list(order) == sorted(order):
        return blocks
    return blocks[[list(order).index(k) for k in range(len(order))]]


def _input_blocks(run: Scan, back: _Back) -> Tensor:
    return back.grad_gates[:, : len(run.cell.gates) * run.hidden]


def _hidden_blocks(run: Scan, back: _Back) -> Tensor:
    return back.grad_gates[:, -len(run.cell.gates) * run.hidden :]


def _input_gradient(run: Scan, back: _Back, x: Tensor, parameters: Parameters) -> Tensor:
    plan, schedule = run.plan, run.schedule
    blocks = parameters.weight_ih.view(len(run.cell.gates), run.hidden, -1)
    weight = _ordered(blocks, plan.input_order).reshape(-1, x.shape[-1])
    rows = linear(_input_blocks(run, back), weight.t())
    if schedule.index is None:
        return rows.view(x.shape)
    result = rows.new_zeros(schedule.time * schedule.batch, x.shape[-1])
    return result.index_copy_(0, schedule.index, rows).view(x.shape)


def _initial_gradient(run: Scan, back: _Back, k: int) -> Tensor:
    total = back.carry[k] + back.initial[k] if back.initial else back.carry[k]
    total = total[:, : run.state_size(k)]
    if run.schedule.order is None:
        return total.contiguous()
    result = torch.empty_like(total)
    result[run.schedule.order] = total
    return result


def _weight_gradients(run: Scan, back: _Back, x: Tensor, parameters: Parameters) -> Parameters:
    plan, gates, hidden = run.plan, len(run.cell.gates), run.hidden
    grad_input = _input_blocks(run, back)

    def by_gate(rows: Tensor, order: Sequence[int]) -> Tensor:
        blocks = rows.view(gates, hidden, *rows.shape[1:])
        return _restored(blocks, order).reshape(rows.shape)

    weight_ih, bias_ih = sum_of_products(grad_input, gather_rows(x, run.schedule), run.host)
    result = Parameters(
        by_gate(weight_ih, plan.input_order), bias_ih=by_gate(bias_ih, plan.input_order)
    )
    if run.cell.recurrent:
        weight_hh, bias_hh = _recurrent_gradients(run, back)
        result = result._replace(
            weight_hh=by_gate(weight_hh, plan.hidden_order),
            bias_hh=by_gate(bias_hh, plan.hidden_order),
        )
    if run.cell.output is not None:
        inner = run.buffers["inner"].rows
        weight_hr, bias_hr = sum_of_products(back.grad_inner, inner, run.host)
        result = result._replace(weight_hr=weight_hr, bias_hr=bias_hr)
    if run.cell.vectors:
        total = back.grad_vectors.sum(0).view(len(run.cell.vectors), -1)[:, :hidden]
        result = result._replace(vectors=tuple(total))
    return result


def _recurrent_gradients(run: Scan, back: _Back) -> tuple[Tensor, Tensor]:
    """Gradients of R and its bias, in the order of `grad_gates`."""
    rows = _hidden_blocks(run, back)
    early = (len(run.cell.gates) - len(run.cell.late_gates)) * run.hidden
    weight, bias = sum_of_products(rows[:, :early], _operand(run), run.host)
    if not run.cell.late_gates:
        return weight, bias
    late = sum_of_products(rows[:, early:], run.buffers["late_operand"].rows, run.host)
    return torch.cat([weight, late[0]]), torch.cat([bias, late[1]])


def _operand(run: Scan) -> Tensor:
    """What R was multiplied by, for each row that is kept."""
    schedule = run.schedule
    if run.options.has_mask or run.options.has_reset:
        return run.buffers["operand"].rows
    states = run.states(0)
    if schedule.previous is not None:
        return states.index_select(0, schedule.previous)
    first = schedule.batch if schedule.is_reverse else 0
    return states[first : first + schedule.rows]
