"""Jordan network: the network's output, not its hidden layer, is fed back.

    s = tanh(W x + b_ih + R y + b_hh)        hidden layer
    y' = tanh(V s + b_hr)                    output, and the only state

V is `weight_hr` (output, hidden), so the output may have another size than the hidden layer, and R
is (hidden, output). Gate order: a. Source: Jordan 1986, "Serial order: a parallel distributed
processing approach". Differs: Jordan's state units also decay by a constant, y' + μ·(old state),
which is μ = 0 here; his output is logistic, ours tanh, which is centred at zero (for another one:
`dataclasses.replace(JORDAN_CELL, output=torch.sigmoid)`).
"""

import torch

from recurra.cells._cell import Cell, Tensors


def step(from_input: Tensors, from_hidden: Tensors, state: Tensors) -> Tensors:
    return (torch.tanh(from_input[0] + from_hidden[0]),)


JORDAN_CELL = Cell(
    name="jordan", gates=("a",), states=("y",), step=step, output=torch.tanh, output_bias=True
)
