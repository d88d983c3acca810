"""LSTM and GRU with layer normalisation inside the recurrence.

    LN(a; γ, β) = γ ∘ (a - mean(a)) / sqrt(var(a) + 1e-5) + β       over one row's `hidden` units

LSTM (`lstm_layer_norm`)::

    i = σ(LN(W_i x + b_ii; γ_xi) + LN(R_i h + b_hi; γ_hi) + β_i)    f, g, o alike
    c' = f ∘ c + i ∘ g        h' = o ∘ tanh(LN(c'; γ_c, β_c))

GRU (`gru_layer_norm`), reset after the product::

    r = σ(LN(W_r x; γ_xr) + LN(R_r h; γ_hr) + β_r)          z alike
    n = tanh(LN(W_n x; γ_xn) + β_n + r ∘ LN(R_n h; γ_hn))   h' = (1 - z) ∘ n + z ∘ h

Source: Ba, Kiros & Hinton 2016, "Layer normalization", equations 20 to 22 (LSTM). Differs: each
gate is normalised on its own, as in TensorFlow's LayerNormBasicLSTMCell, where the paper takes the
four gates' rows together; and the two shifts of a gate, which are summed, are one β.
"""

import torch
from torch import Tensor

from recurra.cells._cell import Cell, Tensors


def normalise(a: Tensor) -> Tensor:
    """Zero mean and unit variance over the last axis."""
    centred = a - a.mean(-1, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(-1, keepdim=True) + 1e-5)


def step_lstm(
    from_input: Tensors, from_hidden: Tensors, state: Tensors, vectors: Tensors
) -> Tensors:
    _, c = state
    gain_input, gain_hidden, shift, (gain_c, shift_c) = (
        vectors[0:4],
        vectors[4:8],
        vectors[8:12],
        vectors[12:],
    )
    i, f, g, o = (
        gain_input[k] * normalise(from_input[k])
        + gain_hidden[k] * normalise(from_hidden[k])
        + shift[k]
        for k in range(4)
    )
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    c = f * c + i * g
    return o * torch.tanh(gain_c * normalise(c) + shift_c), c


def step_gru(
    from_input: Tensors, from_hidden: Tensors, state: Tensors, vectors: Tensors
) -> Tensors:
    (h,) = state
    gain_input, gain_hidden, shift = vectors[0:3], vectors[3:6], vectors[6:9]
    x = [gain_input[k] * normalise(from_input[k]) + shift[k] for k in range(3)]
    a = [gain_hidden[k] * normalise(from_hidden[k]) for k in range(3)]
    r, z = torch.sigmoid(x[0] + a[0]), torch.sigmoid(x[1] + a[1])
    n = torch.tanh(x[2] + r * a[2])
    return ((1 - z) * n + z * h,)


def _vectors(gates: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(
        f"{kind}_{gate}" for kind in ("gain_input", "gain_hidden", "shift") for gate in gates
    )


LSTM_LAYER_NORM_CELL = Cell(
    name="lstm_layer_norm",
    gates=("i", "f", "g", "o"),
    states=("h", "c"),
    step=step_lstm,
    vectors=(*_vectors(("i", "f", "g", "o")), "gain_c", "shift_c"),
)
GRU_LAYER_NORM_CELL = Cell(
    name="gru_layer_norm",
    gates=("r", "z", "n"),
    states=("h",),
    step=step_gru,
    vectors=_vectors(("r", "z", "n")),
)
