"""The cells against torch.nn, against equations written out by hand, and by gradcheck."""

import dataclasses

import pytest
import torch
from torch import nn

from recurra.cells import CELLS, GRU_CELL, Cell, find_cell
from recurra.errors import ArgumentError, CellError
from recurra.reference import Controls, Parameters, scan
from recurra.testing import random_problem

TORCH = {
    "rnn": lambda i, h: nn.RNN(i, h),
    "rnn_relu": lambda i, h: nn.RNN(i, h, nonlinearity="relu"),
    "gru": lambda i, h: nn.GRU(i, h),
    "lstm": lambda i, h: nn.LSTM(i, h),
}


@pytest.mark.parametrize("name", TORCH)
def test_reference_equals_torch_in_two_consecutive_calls(name: str) -> None:
    layer = TORCH[name](5, 7).double()
    parameters = Parameters(*(p.detach().clone().requires_grad_() for p in layer.parameters()))
    cell, x = CELLS[name], torch.randn(9, 3, 5, dtype=torch.float64)
    state = tuple(torch.randn(3, 7, dtype=torch.float64) for _ in cell.states)
    hx = tuple(s.unsqueeze(0) for s in state) if len(state) > 1 else state[0].unsqueeze(0)
    for part in (x[:4], x[4:]):
        y, hx = layer(part, hx)
        (sequence, *_), state = scan(cell, part, state, parameters)
        torch.testing.assert_close(sequence, y, rtol=0, atol=1e-12)
    upstream = torch.randn_like(y)
    theirs = torch.autograd.grad((y * upstream).sum(), list(layer.parameters()))
    ours = torch.autograd.grad((sequence * upstream).sum(), parameters[:4])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_projection_equals_torch() -> None:
    layer = nn.LSTM(5, 7, proj_size=3).double()
    w_ih, w_hh, b_ih, b_hh, w_hr = layer.parameters()
    cell = dataclasses.replace(CELLS["lstm"], output=lambda y: y)
    x = torch.randn(6, 2, 5, dtype=torch.float64)
    h, c = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 7, dtype=torch.float64)
    y, (h_n, c_n) = layer(x, (h[None], c[None]))
    (sequence, _), last = scan(cell, x, (h, c), Parameters(w_ih, w_hh, b_ih, b_hh, w_hr))
    torch.testing.assert_close(sequence, y, rtol=0, atol=1e-12)
    torch.testing.assert_close(last[0], h_n[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(last[1], c_n[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("is_reverse", [False, True])
def test_gradients_and_their_gradients(name: str, is_reverse: bool) -> None:
    cell = CELLS[name]
    x, state, parameters = random_problem(
        cell, time=3, batch=2, input_size=2, hidden_size=3, dtype=torch.float64
    )
    weights = [p for p in parameters[:6] if p is not None]
    lengths = torch.tensor([3, 1])

    def run(x, *rest):
        parts = iter(rest)
        states = tuple(next(parts) for _ in state)
        p = [None if w is None else next(parts) for w in parameters[:6]]
        controls = Controls(lengths, is_reverse=is_reverse)
        sequences, last = scan(cell, x, states, Parameters(*p, tuple(parts)), controls)
        return *sequences, *last

    inputs = (x, *state, *weights, *parameters.vectors)
    assert torch.autograd.gradcheck(run, inputs)
    if name in ("gru", "lstm", "rnn", "jordan", "gru_reset_before"):
        assert torch.autograd.gradgradcheck(run, inputs)


def _one_step(name: str):
    cell = CELLS[name]
    x, state, p = random_problem(
        cell, time=1, batch=2, input_size=3, hidden_size=4, dtype=torch.float64
    )
    (y, *_), last = scan(cell, x, state, p)
    return x[0], state, p, y[0], last


def test_gru_that_resets_before_the_product_as_its_equations() -> None:
    x, (h,), p, y, _ = _one_step("gru_reset_before")
    (w_r, w_z, w_n), (r_r, r_z, r_n) = p.weight_ih.chunk(3), p.weight_hh.chunk(3)
    (b_r, b_z, b_n), (c_r, c_z, c_n) = p.bias_ih.chunk(3), p.bias_hh.chunk(3)
    r = torch.sigmoid(x @ w_r.T + b_r + h @ r_r.T + c_r)
    z = torch.sigmoid(x @ w_z.T + b_z + h @ r_z.T + c_z)
    n = torch.tanh(x @ w_n.T + b_n + (r * h) @ r_n.T + c_n)
    torch.testing.assert_close(y, (1 - z) * n + z * h, rtol=0, atol=1e-12)


def test_jordan_feeds_back_its_output() -> None:
    x, (y_prev,), p, y, _ = _one_step("jordan")
    s = torch.tanh(x @ p.weight_ih.T + p.bias_ih + y_prev @ p.weight_hh.T + p.bias_hh)
    expected = torch.tanh(s @ p.weight_hr.T + p.bias_hr)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)


def test_peepholes_see_the_old_memory_and_the_output_gate_the_new() -> None:
    x, (h, c), p, y, (_, c_n) = _one_step("lstm_peephole")
    a = (x @ p.weight_ih.T + p.bias_ih + h @ p.weight_hh.T + p.bias_hh).chunk(4, -1)
    p_i, p_f, p_o = p.vectors
    i, f = torch.sigmoid(a[0] + p_i * c), torch.sigmoid(a[1] + p_f * c)
    memory = f * c + i * torch.tanh(a[2])
    o = torch.sigmoid(a[3] + p_o * memory)
    torch.testing.assert_close(c_n, memory, rtol=0, atol=1e-12)
    torch.testing.assert_close(y, o * torch.tanh(memory), rtol=0, atol=1e-12)


def test_coupled_gates_add_to_one() -> None:
    x, (h, c), p, _, (_, c_n) = _one_step("lstm_coupled")
    f, g, _ = (x @ p.weight_ih.T + p.bias_ih + h @ p.weight_hh.T + p.bias_hh).chunk(3, -1)
    f = torch.sigmoid(f)
    torch.testing.assert_close(c_n, f * c + (1 - f) * torch.tanh(g), rtol=0, atol=1e-12)


def test_layer_norm_lstm_normalises_each_gate_as_torch_does() -> None:
    x, (h, c), p, y, (_, c_n) = _one_step("lstm_layer_norm")
    v = p.vectors
    norm = torch.nn.functional.layer_norm
    inputs = (x @ p.weight_ih.T + p.bias_ih).chunk(4, -1)
    hidden = (h @ p.weight_hh.T + p.bias_hh).chunk(4, -1)
    i, f, g, o = (
        norm(inputs[k], (4,), v[k]) + norm(hidden[k], (4,), v[4 + k]) + v[8 + k] for k in range(4)
    )
    memory = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    expected = torch.sigmoid(o) * torch.tanh(norm(memory, (4,), v[12], v[13]))
    torch.testing.assert_close(c_n, memory, rtol=0, atol=1e-12)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)


def test_layer_norm_gru_normalises_each_gate_as_torch_does() -> None:
    x, (h,), p, y, _ = _one_step("gru_layer_norm")
    v, norm = p.vectors, torch.nn.functional.layer_norm
    inputs = [
        norm(a, (4,), v[k], v[6 + k])
        for k, a in enumerate((x @ p.weight_ih.T + p.bias_ih).chunk(3, -1))
    ]
    hidden = [
        norm(a, (4,), v[3 + k]) for k, a in enumerate((h @ p.weight_hh.T + p.bias_hh).chunk(3, -1))
    ]
    r, z = torch.sigmoid(inputs[0] + hidden[0]), torch.sigmoid(inputs[1] + hidden[1])
    n = torch.tanh(inputs[2] + r * hidden[2])
    torch.testing.assert_close(y, (1 - z) * n + z * h, rtol=0, atol=1e-12)


def test_minimal_cells_as_their_equations() -> None:
    x, (h,), p, y, _ = _one_step("mingru")
    z, n = (x @ p.weight_ih.T + p.bias_ih).chunk(2, -1)
    z = torch.sigmoid(z)
    torch.testing.assert_close(y, (1 - z) * h + z * n, rtol=0, atol=1e-12)
    x, (h,), p, y, _ = _one_step("minlstm")
    i, f, n = (x @ p.weight_ih.T + p.bias_ih).chunk(3, -1)
    i, f = torch.sigmoid(i), torch.sigmoid(f)
    torch.testing.assert_close(y, (f * h + i * n) / (f + i), rtol=0, atol=1e-12)


def test_fields_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(CellError, match="repeat a name"):
        Cell("twice", ("a", "a"), ("h",), GRU_CELL.step)
    with pytest.raises(CellError, match="at least one gate"):
        Cell("empty", (), ("h",), GRU_CELL.step)
    with pytest.raises(CellError, match="go together"):
        Cell("late", ("r", "z", "n"), ("h",), GRU_CELL.step, late_gates=("n",))
    with pytest.raises(CellError, match="must be the last"):
        dataclasses.replace(CELLS["gru_reset_before"], late_gates=("r",))


def test_an_unknown_cell_names_the_nearest() -> None:
    with pytest.raises(ArgumentError, match="no cell named 'ltsm'; did you mean 'lstm'"):
        find_cell("ltsm")
