"""Gated recurrent unit, in its two conventions.

Reset after the product (`gru`: torch.nn, cuDNN, ONNX `linear_before_reset=1`)::

    r = σ(W_r x + b_ir + R_r h + b_hr)
    z = σ(W_z x + b_iz + R_z h + b_hz)
    n = tanh(W_n x + b_in + r ∘ (R_n h + b_hn))
    h' = (1 - z) ∘ n + z ∘ h

Reset before the product (`gru_reset_before`: the original)::

    n = tanh(W_n x + b_in + R_n (r ∘ h) + b_hn)         r, z, h' as above

Symbols: r reset, z update, n candidate, σ logistic. Gate order: r z n. **z keeps the old state**,
as in Cho et al. 2014 (equation 7) and torch; Chung et al. 2014 and several tutorials write
h' = (1 - z) ∘ h + z ∘ n, which is the same cell with the sign of z's weights turned.
Source: Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder", equations 5
to 8. Differs: two biases per gate, as in torch.
"""

import torch
from torch import Tensor

from recurra.cells._cell import Cell, Tensors


def step(from_input: Tensors, from_hidden: Tensors, state: Tensors) -> Tensors:
    (h,) = state
    r = torch.sigmoid(from_input[0] + from_hidden[0])
    z = torch.sigmoid(from_input[1] + from_hidden[1])
    n = torch.tanh(from_input[2] + r * from_hidden[2])
    return ((1 - z) * n + z * h,)


def reset_hidden(from_input: Tensors, from_hidden: Tensors, state: Tensors) -> Tensor:
    r = torch.sigmoid(from_input[0] + from_hidden[0])
    return r * state[0]


def step_reset_before(from_input: Tensors, from_hidden: Tensors, state: Tensors) -> Tensors:
    (h,) = state
    z = torch.sigmoid(from_input[1] + from_hidden[1])
    n = torch.tanh(from_input[2] + from_hidden[2])
    return ((1 - z) * n + z * h,)


GRU_CELL = Cell(name="gru", gates=("r", "z", "n"), states=("h",), step=step)
GRU_RESET_BEFORE_CELL = Cell(
    name="gru_reset_before",
    gates=("r", "z", "n"),
    states=("h",),
    step=step_reset_before,
    late_gates=("n",),
    late_operand=reset_hidden,
)
