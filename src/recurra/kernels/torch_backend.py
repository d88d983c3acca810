"""torch.nn's own functions (oneDNN, ATen, cuDNN) for the cells that they have, padded and plain."""

import torch
from torch import Tensor

from recurra.cells import ELMAN_CELL, ELMAN_RELU_CELL, GRU_CELL, LSTM_CELL, Cell
from recurra.kernels.problem import Problem, Support
from recurra.reference import Controls, Parameters, Tensors

_FUNCTIONS = {
    ELMAN_CELL.step: torch.rnn_tanh,
    ELMAN_RELU_CELL.step: torch.rnn_relu,
    GRU_CELL.step: torch.gru,
    LSTM_CELL.step: torch.lstm,
}


def supports(problem: Problem) -> Support:
    cell = problem.cell
    if cell.step not in _FUNCTIONS or cell.output is not None or cell.vectors:
        return Support(False, f"torch.nn has no cell {cell.name!r}")
    for name in ("has_lengths", "has_reset", "has_hidden_mask", "has_zoneout", "is_transformed"):
        if getattr(problem, name):
            return Support(False, f"torch.nn's functions do not take {name.split('_', 1)[1]}")
    if problem.all_states and len(cell.states) > 1:
        return Support(False, "torch.nn's functions return the sequence of h only")
    if problem.time == 0 or problem.batch == 0:
        return Support(False, "torch.nn's functions refuse an empty batch")
    return Support(True, "torch.nn has this cell")


def run(
    cell: Cell,
    x: Tensor,
    state: Tensors,
    parameters: Parameters,
    controls: Controls,
    all_states: bool,
) -> tuple[Tensors, Tensors]:
    if controls.is_reverse:
        x = x.flip(0)
    weights = [p for p in parameters[:4] if p is not None]
    hidden = tuple(s.unsqueeze(0) for s in state)
    y, *last = _FUNCTIONS[cell.step](  # type: ignore[operator]
        x,
        hidden if len(hidden) > 1 else hidden[0],
        weights,
        parameters.bias_ih is not None,
        1,
        0.0,
        torch.is_grad_enabled(),
        False,
        False,
    )
    if controls.is_reverse:
        y = y.flip(0)
    return (y,), tuple(s.squeeze(0) for s in last)
