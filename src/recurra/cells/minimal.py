"""minGRU and minLSTM: gates that see the input only, so there is no recurrent product.

minGRU (`mingru`)::                          minLSTM (`minlstm`)::

    z = σ(W_z x + b_z)                           i = σ(W_i x + b_i)   f = σ(W_f x + b_f)
    n = W_n x + b_n                              n = W_n x + b_n
    h' = (1 - z) ∘ h + z ∘ n                     h' = (f ∘ h + i ∘ n) / (f + i)

Gate order: z n, and i f n. Here z lets the *new* value in, as the paper writes it. Source: Feng et
al. 2024, "Were RNNs all we needed?", sections 3.1 and 3.2. Differs: the state is not kept positive
and nothing is computed in log space; that belongs to the paper's parallel form, and keeping it out
makes the cell's answer the same however a sequence is split.
"""

import torch

from recurra.cells._cell import Cell, Tensors


def step_gru(from_input: Tensors, from_hidden: Tensors, state: Tensors) -> Tensors:
    (h,) = state
    z, n = torch.sigmoid(from_input[0]), from_input[1]
    return ((1 - z) * h + z * n,)


def step_lstm(from_input: Tensors, from_hidden: Tensors, state: Tensors) -> Tensors:
    (h,) = state
    i, f, n = torch.sigmoid(from_input[0]), torch.sigmoid(from_input[1]), from_input[2]
    return ((f * h + i * n) / (f + i),)


MIN_GRU_CELL = Cell(name="mingru", gates=("z", "n"), states=("h",), step=step_gru, recurrent=False)
MIN_LSTM_CELL = Cell(
    name="minlstm", gates=("i", "f", "n"), states=("h",), step=step_lstm, recurrent=False
)
