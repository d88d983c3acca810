"""The loop over time in plain PyTorch, for any cell: slow, any dtype, any device, the truth.

Kernels are measured against this file and fall back to it for what only autograd can do. It is
never optimised.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from recurra.cells import Cell

Tensors = tuple[Tensor, ...]


class Parameters(NamedTuple):
    """The weights of one layer in one direction, in the order of `Cell.gates`.

    With gates·hidden rows per block: `weight_ih` (gates·hidden, input), `weight_hh`
    (gates·hidden, output) where output is the size of `states[0]`, biases (gates·hidden,),
    `weight_hr` (output, hidden) and `bias_hr` (output,) for a cell with `output`, `vectors` each
    (hidden,). None stands for absent.
    """

    weight_ih: Tensor
    weight_hh: Tensor | None = None
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None
    weight_hr: Tensor | None = None
    bias_hr: Tensor | None = None
    vectors: Tensors = ()


class Controls(NamedTuple):
    """What acts on a scan besides weights and input.

    Attributes:
        lengths: (batch,) int64 in 0..time, real steps of each row; None: all are full.
        reset: (time, batch) bool, True where a new sequence begins: the state is set back to the
            initial one before that step. A reverse scan meets the same boundary from the other
            side and is set back after that step, so sequences stay apart in both directions.
        is_reverse: run from each row's own last step to its first.
        hidden_mask: (batch, output), multiplies what R multiplies, the same at every step
            (variational dropout, Gal & Ghahramani 2016).
        zoneout: one entry for each state, None or a tensor that broadcasts to
            (time, batch, size): the share z of the old value that is kept,
            new = z·old + (1-z)·step's (Krueger et al. 2017).
        rows: (time, batch) int64: step t of row b reads x[rows[t, b]], x being (distinct, input),
            so that inputs that come again and again are multiplied by W once; None: x is
            (time, batch, input).
    """

    lengths: Tensor | None = None
    reset: Tensor | None = None
    is_reverse: bool = False
    hidden_mask: Tensor | None = None
    zoneout: tuple[Tensor | None, ...] = ()
    rows: Tensor | None = None

    def expanded(self, x: Tensor) -> tuple[Tensor, "Controls"]:
        """The same scan with an input for each step."""
        if self.rows is None:
            return x, self
        return torch.nn.functional.embedding(self.rows, x), self._replace(rows=None)


def scan(
    cell: Cell, x: Tensor, state: Tensors, parameters: Parameters, controls: Controls = Controls()
) -> tuple[Tensors, Tensors]:
    """Run a cell over a padded batch, one step after the other.

    Args:
        cell: the recurrence.
        x: (time, batch, input), float; what stands past a row's length is never used. With
            `controls.rows` (distinct, input).
        state: initial states in the order of `cell.states`, each (batch, size).
        parameters: weights; see `Parameters`.
        controls: lengths, resets, direction, masks; see `Controls`.

    Returns:
        `(sequences, last)`: for each state its values after every step, (time, batch, size),
        zero past each row's length, and its value after the row's last real step (for a reverse
        scan: after step 0), which for a row of length 0 is the initial state.

    Example:
        >>> from recurra.cells import ELMAN_CELL
        >>> p = Parameters(torch.randn(4, 3), torch.randn(4, 4))
        >>> (y,), (h_n,) = scan(ELMAN_CELL, torch.randn(5, 2, 3), (torch.zeros(2, 4),), p)
        >>> y.shape, torch.equal(y[-1], h_n)
        (torch.Size([5, 2, 4]), True)
    """
    x, controls = controls.expanded(x)
    initial, time = state, x.shape[0]
    from_input = torch.nn.functional.linear(x, parameters.weight_ih, parameters.bias_ih)
    zoneout = controls.zoneout or (None,) * len(cell.states)
    kept = [
        None if z is None else z.expand(time, *s.shape) for z, s in zip(zoneout, state, strict=True)
    ]
    steps: list[Tensors] = [()] * time
    for t in reversed(range(time)) if controls.is_reverse else range(time):
        state = _reset(state, initial, controls, t, time)
        new = one_step(cell, from_input[t], state, parameters, controls.hidden_mask)
        new = tuple(
            n if z is None else z[t] * s + (1 - z[t]) * n
            for n, s, z in zip(new, state, kept, strict=True)
        )
        if controls.lengths is not None:
            is_real = (t < controls.lengths).unsqueeze(-1)
            state = tuple(torch.where(is_real, n, s) for n, s in zip(new, state, strict=True))
            steps[t] = tuple(torch.where(is_real, n, torch.zeros_like(n)) for n in new)
        else:
            state = steps[t] = new
    if time == 0:
        return tuple(s.new_empty(0, *s.shape) for s in state), state
    return tuple(torch.stack(sequence) for sequence in zip(*steps, strict=True)), state


def _reset(state: Tensors, initial: Tensors, controls: Controls, t: int, time: int) -> Tensors:
    if controls.reset is None:
        return state
    boundary = t + 1 if controls.is_reverse else t
    if boundary == time:
        return state
    is_new = controls.reset[boundary].unsqueeze(-1)
    return tuple(torch.where(is_new, i, s) for i, s in zip(initial, state, strict=True))


def one_step(
    cell: Cell,
    from_input: Tensor,
    state: Tensors,
    parameters: Parameters,
    hidden_mask: Tensor | None = None,
) -> Tensors:
    """One step of any cell from its input product (batch, gates·hidden) to its new states."""
    linear = torch.nn.functional.linear
    gates, late = len(cell.gates), len(cell.late_gates)
    blocks = from_input.chunk(gates, dim=-1)
    from_hidden: Tensors = ()
    if cell.recurrent:
        rows = parameters.weight_hh.shape[0] * (gates - late) // gates  # type: ignore[union-attr]
        weight_early, weight_late = parameters.weight_hh[:rows], parameters.weight_hh[rows:]  # type: ignore[index]
        bias = parameters.bias_hh
        h = state[0] if hidden_mask is None else state[0] * hidden_mask
        product = linear(h, weight_early, None if bias is None else bias[:rows])
        from_hidden = product.chunk(gates - late, dim=-1)
        if cell.late_operand is not None:
            operand = cell.late_operand(blocks, from_hidden, state)
            if hidden_mask is not None:
                operand = operand * hidden_mask
            product = linear(operand, weight_late, None if bias is None else bias[rows:])
            from_hidden += product.chunk(late, dim=-1)
    new = cell.advance(blocks, from_hidden, state, parameters.vectors)
    if cell.output is None:
        return new
    return cell.output(linear(new[0], parameters.weight_hr, parameters.bias_hr)), *new[1:]  # type: ignore[arg-type]
