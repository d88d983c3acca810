"""Arguments that a thread keeps from call to call: right after all that may change in between."""

import pytest
import torch

from recurra.kernels.cpu import scratch
from recurra.kernels.cpu.passes import MOST_FRAMES
from recurra.layers import GRU, LSTM, RNN, Recurrent

pytestmark = pytest.mark.kernels


def _gradients(layer: Recurrent, x: torch.Tensor, lengths: torch.Tensor | None = None):
    y, h_n = layer(x, lengths=lengths)
    last = h_n if isinstance(h_n, torch.Tensor) else sum(h_n)
    loss = (y * torch.linspace(-1, 1, y.shape[-1])).sum() + last.square().sum()
    return [y.detach(), *torch.autograd.grad(loss, list(layer.parameters()))]


def _assert_equal(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("layer_type", [RNN, GRU, LSTM])
def test_scratch_that_moves_takes_nothing_with_it(layer_type):
    small, large = layer_type(8, 24), layer_type(8, 200)
    x = torch.randn(9, 5, 8)
    expected = {layer: _gradients(layer, x) for layer in (small, large)}
    scratch._own.named.clear()
    scratch._own.frames.clear()
    _gradients(small, x)
    frames = list(scratch._own.frames.values())
    for layer in (large, small, large):  # the large one makes the small one's scratch move
        _assert_equal(_gradients(layer, x), expected[layer])
    assert not any(frame in scratch._own.frames.values() for frame in frames)


def test_a_frame_follows_schedules_biases_and_gradients_that_come_and_go():
    layer, without = LSTM(8, 24), LSTM(8, 24, bias=False)
    with torch.no_grad():
        for name, p in without.named_parameters():
            p.copy_(getattr(layer, name))
    x, lengths = torch.randn(9, 5, 8), torch.tensor([9, 2, 0, 7, 7])
    calls = [(layer, None), (layer, lengths), (without, None), (without, lengths.flip(0))]
    expected = []
    for one, n in calls:
        scratch._own.frames.clear()
        expected.append(_gradients(one, x, n))
    for k in (0, 1, 2, 3, 1, 0, 3, 2, 0):
        _assert_equal(_gradients(calls[k][0], x, calls[k][1]), expected[k])
    # a gradient of the output only, of the last state only, and of both
    y, (h_n, c_n) = layer(x)
    parts = [y.sum(), h_n.sum(), c_n.sum()]
    alone = [torch.autograd.grad(p, layer.weight_hh_l0, retain_graph=True)[0] for p in parts]
    (total,) = torch.autograd.grad(sum(parts), layer.weight_hh_l0)
    torch.testing.assert_close(sum(alone), total, rtol=1e-5, atol=1e-4)


def test_batches_of_many_sizes_do_not_add_up():
    layer = RNN(8, 24)
    for batch in range(1, MOST_FRAMES + 10):
        with torch.no_grad():
            layer(torch.randn(2, batch, 8))
        assert 0 < len(scratch._own.frames) <= MOST_FRAMES


@pytest.mark.parametrize("layer", [GRU(8, 40), RNN(16, 600)], ids=["groups", "a shared matrix"])
def test_the_way_back_with_fewer_threads_gives_the_same(layer):
    threads, x = torch.get_num_threads(), torch.randn(7, 6, layer.input_size)
    try:
        torch.set_num_threads(2)
        expected = _gradients(layer, x)
        y, h_n = layer(x)
        loss = (y * torch.linspace(-1, 1, y.shape[-1])).sum() + h_n.square().sum()
        torch.set_num_threads(1)
        found = torch.autograd.grad(loss, list(layer.parameters()))
        for a, b in zip(found, expected[1:], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)
        torch.set_num_threads(2)  # the frame is as it was
        _assert_equal(_gradients(layer, x), expected)
    finally:
        torch.set_num_threads(threads)
