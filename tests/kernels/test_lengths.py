"""Ragged batches that no loop has met: each row's outputs, states and gradients are its own."""

import pytest
import torch

from recurra.layers import GRU, LSTM, RNN, Recurrent

pytestmark = pytest.mark.kernels

# (time, batch, inputs, hidden). In the first two the loop takes the inputs from where they lie, in
# the third it gives their gradients only, in the last two threads may share units, or have units
# for matrices.
SIZES = [(11, 21, 32, 48), (6, 18, 5, 16), (7, 19, 16, 49), (5, 17, 24, 640), (9, 41, 112, 96)]


def _run(layer: Recurrent, x, start, lengths, upstream):
    """All results, and all gradients of their products with `upstream`, by name."""
    x = x.clone().requires_grad_()
    states = [s.clone().requires_grad_() for s in start]
    given = states[0] if len(states) == 1 else tuple(states)
    y, last = layer(x, given, lengths=lengths)
    results = [y, *((last,) if isinstance(last, torch.Tensor) else last)]
    total = sum((r * u).sum() for r, u in zip(results, upstream, strict=True))
    wanted = {"x": x, **{f"start{k}": s for k, s in enumerate(states)}}
    wanted |= dict(layer.named_parameters())
    found = torch.autograd.grad(total, list(wanted.values()))
    named = {f"result{k}": r.detach() for k, r in enumerate(results)}
    return named | dict(zip(wanted, found, strict=True))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("kind", [RNN, GRU, LSTM])
def test_a_row_past_its_length_is_zero_and_moves_nothing(kind, sizes) -> None:
    time, batch, inputs, hidden = sizes
    is_batch_first = batch % 2 == 0
    layer = kind(inputs, hidden, bidirectional=True, batch_first=is_batch_first)
    exact = kind(
        *(inputs, hidden), bidirectional=True, batch_first=is_batch_first,
        backend="reference", dtype=torch.float64,
    )  # fmt: skip
    exact.load_state_dict(layer.state_dict())
    shape = (batch, time) if is_batch_first else (time, batch)
    x, count = torch.randn(*shape, inputs), len(layer.cell.states)
    start = [torch.randn(2, batch, hidden) for _ in range(count)]
    upstream = [torch.randn(*shape, 2 * hidden), *(torch.randn(2, batch, hidden) for _ in start)]
    for draw in range(3):
        lengths = torch.randint(0, time + 1, (batch,))
        lengths[draw] = time * (draw < 2)  # the last time, perhaps no row is full
        found = _run(layer, x, start, lengths, upstream)
        doubles = [[t.double() for t in given] for given in (start, upstream)]
        expected = _run(exact, x.double(), doubles[0], lengths, doubles[1])
        is_past = torch.arange(time).unsqueeze(1) >= lengths
        is_past = is_past.t() if is_batch_first else is_past
        assert not found["result0"][is_past].any()
        assert not found["x"][is_past].any()
        for name, value in expected.items():
            error = (found[name] - value).abs().max()
            assert error <= 3e-5 * max(1, value.abs().max()), (name, draw, error)


def test_every_state_of_every_step_is_spread() -> None:
    layer = LSTM(16, 32)
    exact = LSTM(16, 32, backend="reference", dtype=torch.float64)
    exact.load_state_dict(layer.state_dict())
    x, lengths = torch.randn(8, 20, 16), torch.randint(0, 9, (20,))
    for needs_gradient in (True, False):
        with torch.set_grad_enabled(needs_gradient):
            _, states = layer(x, lengths=lengths, return_states="all")
            _, expected = exact(x.double(), lengths=lengths, return_states="all")
        for own, other in zip(states, expected, strict=True):
            torch.testing.assert_close(own.double(), other, rtol=1e-5, atol=1e-5)


def test_a_sum_of_the_outputs_has_the_same_gradient() -> None:
    """Its gradient is one number, expanded: no columns lie side by side."""
    layer, lengths = GRU(16, 32), torch.randint(0, 9, (20,))
    x = torch.randn(8, 20, 16, requires_grad=True)
    y, _ = layer(x, lengths=lengths)
    (by_sum,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    (by_ones,) = torch.autograd.grad(y, x, torch.ones_like(y))
    torch.testing.assert_close(by_sum, by_ones, rtol=0, atol=0)


def test_a_full_batch_after_a_ragged_one_is_full() -> None:
    """Both use one frame of arguments."""
    layer, x = RNN(8, 32), torch.randn(6, 20, 8)
    expected, _ = layer(x)
    layer(x, lengths=torch.randint(0, 7, (20,)))
    again, _ = layer(x)
    ragged, _ = layer(x, lengths=torch.full((20,), 6))
    torch.testing.assert_close(again, expected, rtol=0, atol=0)
    torch.testing.assert_close(ragged, expected, rtol=1e-5, atol=1e-6)
