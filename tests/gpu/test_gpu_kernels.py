"""Kernels on a GPU: the CPU's cases once more, and what only many programs at once can get wrong.

Skipped where there is no GPU; `tests/kernels/test_interpreted.py` interprets them there.
"""

from collections.abc import Iterator

import pytest
import torch

import recurra
from recurra.cells import CELLS, Cell
from recurra.kernels.triton import backend, form
from recurra.testing import check_cell, errors_against_float64

pytestmark = [
    pytest.mark.kernels,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
NAMES = list(CELLS)
# (time, batch, inputs, hidden): one program, several that share the units, several groups of rows.
CASES = {
    "one step": (1, 3, 5, 7),
    "one row": (65, 1, 13, 31),
    "primes": (7, 23, 11, 53),
    "shared": (13, 41, 40, 257),
    "groups": (5, 200, 3, 40),
    "shared groups": (3, 150, 3, 300),
}


@pytest.fixture(autouse=True)
def _as_exact_as_float32() -> Iterator[None]:
    cudnn = torch.backends.cudnn
    before = cudnn.rnn.fp32_precision
    cudnn.rnn.fp32_precision = "ieee"
    yield
    cudnn.rnn.fp32_precision = before


def check(name: str, controls: str, is_reverse: bool, case: str, **options: bool) -> None:
    torch.manual_seed(sum(CASES[case]))
    keys = ("time", "batch", "input_size", "hidden_size")
    with torch.device("cuda"):
        errors = errors_against_float64(
            CELLS[name],
            backend="triton",
            controls=controls,
            is_reverse=is_reverse,
            **options,
            **dict(zip(keys, CASES[case], strict=True)),
        )
    wrong = [error for error in errors if not error.is_ok]
    assert not wrong, wrong


@pytest.mark.parametrize("name", NAMES)
def test_the_contract_holds(name: str, monkeypatch) -> None:
    monkeypatch.setattr(backend, "LEAST_WEIGHTS", 0)
    check_cell(CELLS[name], device="cuda")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", NAMES)
def test_kernels_are_as_exact_as_plain_torch(name: str, case: str) -> None:
    kinds = ("plain", "lengths", "reset", "masks")
    turn = NAMES.index(name) + list(CASES).index(case)
    check(name, "plain", False, case)
    controls = kinds[1 + turn % 3] if CASES[case][0] > 1 else "reset"
    check(name, controls, turn % 2 == 1, case)


@pytest.mark.parametrize("name", NAMES)
def test_products_in_bfloat16_are_as_exact_as_those_of_plain_torch(name: str) -> None:
    check(name, "lengths", False, "shared", under_autocast=True)


@pytest.mark.parametrize("name", ["lstm", "gru_reset_before", "lstm_layer_norm"])
def test_more_groups_than_run_at_once_are_run_in_turn(name: str, monkeypatch) -> None:
    monkeypatch.setattr(form, "processors", lambda device: 20)
    form._form_for.cache_clear()
    check(name, "lengths", False, "shared groups")
    form._form_for.cache_clear()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_layer_is_torchs_own(cell: str) -> None:
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
    theirs = kind(20, 256, 2, bidirectional=True).cuda()
    ours = {"lstm": recurra.LSTM, "gru": recurra.GRU}[cell](20, 256, 2, bidirectional=True).cuda()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(30, 9, 20, device="cuda")
    assert ours.explain(x).chosen == "triton"
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], atol=2e-5, rtol=1e-4)


def test_cudnn_runs_what_it_runs_sooner() -> None:
    x = torch.randn(30, 9, 20, device="cuda")
    found = recurra.GRU(20, 64).cuda().explain(x)
    assert found.chosen == "torch"
    assert "cuDNN is faster" in found.reasons["triton"]
    lengths = torch.full((9,), 30)
    assert recurra.GRU(20, 64).cuda().explain(x, lengths=lengths).chosen == "triton"


def test_products_in_tf32_err_as_torchs_do() -> None:
    torch.backends.cudnn.rnn.fp32_precision = "tf32"
    theirs = torch.nn.LSTM(64, 256).cuda()
    ours = recurra.LSTM(64, 256, backend="triton").cuda()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(50, 16, 64, device="cuda")
    truth = theirs.double()(x.double())[0]
    error = (ours(x)[0] - truth).norm() / truth.norm()
    torch_error = (theirs.float()(x)[0] - truth).norm() / truth.norm()
    assert error < max(4 * torch_error, 1e-3)


def test_a_compiled_layer_is_one_operator() -> None:
    layer = recurra.GRU(20, 96).cuda()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True)
    for time in (7, 11):
        x = torch.randn(time, 9, 20, device="cuda", requires_grad=True)
        y = compiled(x)[0]
        (gradient,) = torch.autograd.grad(y.square().sum(), x)
        again = layer(x)[0]
        (wanted,) = torch.autograd.grad(again.square().sum(), x)
        torch.testing.assert_close(y, again, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(gradient, wanted, atol=1e-4, rtol=1e-4)


def step(
    from_input: tuple[torch.Tensor, ...],
    from_hidden: tuple[torch.Tensor, ...],
    state: tuple[torch.Tensor, ...],
) -> tuple[torch.Tensor, ...]:
    (h,) = state
    (a,) = (x + r for x, r in zip(from_input, from_hidden, strict=True))
    return (0.5 * h + 0.5 * torch.nn.functional.softplus(a).log1p() * torch.expm1(-a.square()),)


def test_a_cell_of_ones_own_runs_on_the_gpu() -> None:
    check_cell(Cell("mine", ("a",), ("h",), step), device="cuda")
