"""Layers inside torch's machinery: transforms, compilation, copies, autocast, checkpointing."""

import copy
import io
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from recurra.cells import CELLS
from recurra.errors import ArgumentError, ShapeError
from recurra.kernels.cpu.host import find_host
from recurra.layers import GRU, LSTM, Recurrent, State


def _gradients(layer: Recurrent, x: torch.Tensor, **options) -> list[torch.Tensor]:
    """Outputs, last states, and the gradients of input, initial states and weights."""
    torch.manual_seed(2)  # of the masks
    sizes = layer._state_sizes[0]
    directions = layer.num_layers * layer.num_directions
    hx = [torch.randn(directions, x.shape[1], s, dtype=x.dtype, requires_grad=True) for s in sizes]
    x = x.clone().requires_grad_()
    y, states = layer(x, hx[0] if len(hx) == 1 else tuple(hx), **options)
    states = [states] if isinstance(states, torch.Tensor) else list(states)
    torch.manual_seed(3)
    loss = sum((r * torch.randn_like(r)).sum() for r in (y, *states))
    found = torch.autograd.grad(loss, [x, *hx, *layer.parameters()])
    return [y.detach(), *(s.detach() for s in states), *found]


@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from(sorted(CELLS)),
    every=st.integers(1, 7),
    lengths=st.none() | st.lists(st.integers(0, 6), min_size=3, max_size=3),
    is_double=st.booleans(),
)
def test_checkpointing_changes_no_number(name, every, lengths, is_double) -> None:
    dtype = torch.float64 if is_double else torch.float32
    torch.manual_seed(1)
    options = {"bidirectional": True, "recurrent_dropout": 0.3, "zoneout": 0.2, "dtype": dtype}
    whole = Recurrent(CELLS[name], 3, 4, **options)
    parts = Recurrent(CELLS[name], 3, 4, checkpoint_every=every, **options)
    parts.load_state_dict(whole.state_dict())
    x = torch.randn(6, 3, 3, dtype=dtype)
    lengths = None if lengths is None else torch.tensor(lengths)
    for states in ("last", "all"):
        expected = _gradients(whole, x, lengths=lengths, return_states=states)
        got = _gradients(parts, x, lengths=lengths, return_states=states)
        for a, b in zip(got, expected, strict=True):
            tolerance = 1e-12 if is_double else 2e-5  # of layer normalisation, some are over 10
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_checkpointing_keeps_less_and_differentiates_twice() -> None:
    layer = GRU(3, 4, checkpoint_every=2, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], (x,))
    reset = torch.zeros(5, 2, dtype=torch.bool)
    with pytest.raises(ArgumentError, match="checkpoint_every and reset"):
        layer(x, reset=reset)
    with pytest.raises(ArgumentError, match="checkpoint_every=-1"):
        GRU(3, 4, checkpoint_every=-1)


@pytest.mark.parametrize("name", ["lstm", "gru", "gru_reset_before", "jordan", "lstm_layer_norm"])
def test_per_sample_gradients_are_those_of_each_sample_alone(name: str) -> None:
    layer = Recurrent(CELLS[name], 3, 4)
    samples = torch.randn(5, 6, 3)

    def loss(parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        y, _ = torch.func.functional_call(layer, parameters, (x.unsqueeze(1),))
        return y.square().sum()

    parameters = {k: p.detach() for k, p in layer.named_parameters()}
    together = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, samples)
    for i, x in enumerate(samples):
        layer.zero_grad()
        layer(x.unsqueeze(1))[0].square().sum().backward()
        for key, p in layer.named_parameters():
            torch.testing.assert_close(together[key][i], p.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own use
@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])
def test_forward_derivatives_agree_with_backward_ones(name: str) -> None:
    layer = Recurrent(CELLS[name], 3, 4)
    x, direction = torch.randn(2, 5, 2, 3)
    _, forward = torch.func.jvp(lambda x: layer(x)[0], (x,), (direction,))
    weight = torch.randn_like(forward)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad((layer(x)[0] * weight).sum(), x)
    torch.testing.assert_close((forward * weight).sum(), (gradient * direction).sum())


@pytest.mark.kernels
def test_double_backward_runs_on_the_fast_path() -> None:
    layer = LSTM(3, 4)
    assert layer.explain(torch.zeros(5, 2, 3)).chosen == "cpu"
    double = LSTM(3, 4, dtype=torch.float64)
    double.load_state_dict(layer.state_dict())
    x = torch.randn(5, 2, 3)
    penalties = []
    for one, dtype in ((layer, torch.float32), (double, torch.float64)):
        steps = x.to(dtype, copy=True).requires_grad_()
        (gradient,) = torch.autograd.grad(one(steps)[0].square().sum(), steps, create_graph=True)
        gradient.square().sum().backward()
        penalties.append([steps.grad, *(p.grad for p in one.parameters())])
    for a, b in zip(*penalties, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=1e-5)


@pytest.mark.kernels
def test_bfloat16_keeps_its_state_in_float32_between_steps() -> None:
    layer = GRU(8, 16).bfloat16()
    x = torch.randn(50, 3, 8).bfloat16()
    assert layer.explain(x).chosen == "cpu"
    y, h_n = layer(x)
    assert y.dtype == h_n.dtype == torch.bfloat16
    exact = copy.deepcopy(layer).double()
    expected, _ = exact(x.double())
    # a unit in the last of bfloat16's eight bits, and nothing that adds up over 50 steps
    assert (y.double() - expected).abs().max() < 2**-7
    y.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.bfloat16 for p in layer.parameters())


@pytest.mark.kernels
def test_autocast_rounds_the_products_operands_and_nothing_else() -> None:
    layer, x = LSTM(3, 4), torch.randn(5, 2, 3)
    expected = layer(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = layer(x)
        from_half, _ = layer(x.bfloat16())
    assert y.dtype == torch.float32
    assert from_half.dtype == torch.bfloat16
    assert torch.equal(y, expected) != find_host().multiplies_bfloat16
    for found in (y, from_half.float()):
        torch.testing.assert_close(found, expected, rtol=0, atol=0.02)
    with torch.autocast("cpu", torch.float16):
        torch.testing.assert_close(layer(x)[0], expected, rtol=0, atol=1e-6)
    y.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())


def test_a_state_of_another_dtype_is_refused_but_under_autocast() -> None:
    layer, x = LSTM(3, 4), torch.randn(5, 2, 3)
    state = tuple(torch.randn(1, 2, 4).bfloat16() for _ in range(2))
    with pytest.raises(ShapeError, match=r"state h of layer 0 is torch.bfloat16"):
        layer(x, state)
    with torch.no_grad(), pytest.raises(ShapeError, match=r"torch.float64 on cpu"):
        layer.step(x[0], layer.initial_state(2).map(lambda s: s.double()))
    expected, (h_n, _) = layer(x, tuple(s.float() for s in state))
    with torch.autocast("cpu", torch.bfloat16):
        y, last = layer(x, state)
        with torch.no_grad():
            first, _ = layer.step(x[0], State((tuple(s[0] for s in state),)))
    assert last[0].dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, rtol=0, atol=0.03)
    torch.testing.assert_close(first.float(), expected[0], rtol=0, atol=0.03)
    torch.testing.assert_close(last[0].float(), h_n, rtol=0, atol=0.03)


def test_a_copy_and_a_pickled_layer_answer_the_same() -> None:
    layer = Recurrent(CELLS["jordan"], 3, 4, 2, bidirectional=True, zoneout=0.1).eval()
    x = torch.randn(5, 2, 3)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for other in (copy.deepcopy(layer), torch.load(file, weights_only=False)):
        assert torch.equal(layer(x)[0], other(x)[0])


class _Answers(Dataset[torch.Tensor]):
    """What a layer answers to each of some sequences, computed where it is asked for."""

    def __init__(self, layer: Recurrent, sequences: list[torch.Tensor]) -> None:
        self.layer, self.sequences = layer, sequences

    def __len__(self) -> int:
        return len(self.sequences)

    @torch.no_grad()
    def __getitem__(self, k: int) -> torch.Tensor:
        return self.layer(self.sequences[k])[0]


@pytest.mark.kernels
@pytest.mark.skipif(not hasattr(os, "fork"), reason="of systems that fork")
def test_a_forked_worker_answers_as_its_parent() -> None:
    answers = _Answers(GRU(8, 40), [torch.randn(steps, 6, 8) for steps in (3, 7, 1)])
    expected = [answers[k] for k in range(3)]  # so that OpenMP's threads are there before the fork
    workers = DataLoader(answers, batch_size=None, num_workers=2, multiprocessing_context="fork")
    for found, there in zip(workers, expected, strict=True):
        torch.testing.assert_close(found, there)


@pytest.mark.kernels
def test_layers_in_several_threads_at_once_do_not_mix_their_work() -> None:
    layers = [LSTM(8, 24 + 16 * k) for k in range(4)]
    x = torch.randn(40, 6, 8)

    def gradient(layer: Recurrent) -> torch.Tensor:
        (found,) = torch.autograd.grad(layer(x)[0].sum(), layer.weight_hh_l0)
        return found

    expected = [gradient(layer) for layer in layers]
    with ThreadPoolExecutor(4) as pool:
        for found, there in zip(pool.map(gradient, layers * 10), expected * 10, strict=True):
            torch.testing.assert_close(found, there)


def test_a_parametrised_weight_is_what_runs_and_learns():
    layer, x = GRU(3, 4), torch.randn(5, 2, 3)
    doubled = copy.deepcopy(layer)
    torch.nn.utils.parametrize.register_parametrization(doubled, "weight_hh_l0", _Doubled())
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2)
    y = doubled(x)[0]
    torch.testing.assert_close(y, layer(x)[0])
    with torch.no_grad():
        torch.testing.assert_close(doubled.step(x[0])[0], y[0])
    y.sum().backward()
    layer(x)[0].sum().backward()
    gradient = doubled.parametrizations.weight_hh_l0.original.grad
    torch.testing.assert_close(gradient, 2 * layer.weight_hh_l0.grad)


class _Doubled(torch.nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


@pytest.mark.parametrize("lengths", [None, [6, 2, 0]])
@pytest.mark.parametrize("size", [5, 97])
def test_torchs_default_dtype_and_device_change_no_number(size: int, lengths) -> None:
    layer = LSTM(size, size, recurrent_dropout=0.3, zoneout=0.2)
    x, lengths = torch.randn(6, 3, size), None if lengths is None else torch.tensor(lengths)

    def numbers() -> list[torch.Tensor]:
        torch.manual_seed(1)  # of the masks
        y, (h, c) = layer.train()(x, lengths=lengths)
        gradients = torch.autograd.grad((y, h, c), layer.parameters(), (y, h, c))
        with torch.no_grad():
            return [y, h, c, *gradients, layer.eval().step(x[0])[0]]

    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):  # first, while no memory is kept yet
            got = numbers()
    finally:
        torch.set_default_dtype(torch.float32)
    for a, b in zip(got, numbers(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
