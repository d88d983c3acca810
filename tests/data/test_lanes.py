"""Lanes: each token predicted once, in order; windows depend on nothing but their index."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recurra.data import Lanes
from recurra.errors import ArgumentError, DataError

SIZES = {
    "length": st.integers(2, 300),
    "batch_size": st.integers(1, 9),
    "bptt_steps": st.integers(1, 40),
    "epoch": st.integers(0, 5),
    "jitter": st.booleans(),
}


def _epoch(lanes: Lanes, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    windows = [lanes.window(epoch, index) for index in range(len(lanes))]
    return torch.cat([w[0] for w in windows]), torch.cat([w[1] for w in windows])


@given(**SIZES)
def test_an_epoch_predicts_each_token_once_and_in_order(
    length: int, batch_size: int, bptt_steps: int, epoch: int, jitter: bool
) -> None:
    if length <= batch_size:
        return
    tokens = torch.arange(length, dtype=torch.int32)
    lanes = Lanes(tokens, batch_size, bptt_steps, seed=3, jitter=jitter)
    inputs, targets = _epoch(lanes, epoch)
    steps = (length - 1) // batch_size
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(inputs.t().flatten(), torch.arange(steps * batch_size))
    assert torch.equal(targets, inputs + 1)


@given(**SIZES)
def test_windows_are_full_and_never_empty(
    length: int, batch_size: int, bptt_steps: int, epoch: int, jitter: bool
) -> None:
    if length <= batch_size:
        return
    lanes = Lanes(torch.arange(length), batch_size, bptt_steps, jitter=jitter)
    lengths = [len(lanes.window(epoch, index)[0]) for index in range(len(lanes))]
    assert min(lengths) >= 1
    assert max(lengths) <= bptt_steps + 2 * (bptt_steps // 4)
    if not jitter:
        assert set(lengths[:-1]) <= {bptt_steps}


@given(st.integers(0, 99), st.integers(0, 9), st.data())
def test_a_window_is_a_pure_function_of_seed_epoch_and_index(
    seed: int, epoch: int, data: st.DataObject
) -> None:
    tokens = torch.arange(500)
    first = Lanes(tokens, 3, 16, seed=seed, jitter=True)
    index = data.draw(st.integers(0, len(first) - 1))
    expected = first.window(epoch, index)
    resumed = Lanes(tokens, 3, 16, seed=seed, jitter=True)
    _ = resumed.window(epoch + 1, 0)
    for got, wanted in zip(resumed.window(epoch, index), expected, strict=True):
        assert torch.equal(got, wanted)


def test_jitter_moves_the_bounds_anew_in_each_epoch_and_with_the_seed() -> None:
    tokens = torch.arange(2000)

    def bounds(seed: int, epoch: int) -> list[int]:
        lanes = Lanes(tokens, 2, 20, seed=seed, jitter=True)
        return [int(lanes.window(epoch, index)[0][0, 0]) for index in range(len(lanes))]

    assert bounds(0, 0) != bounds(0, 1)
    assert bounds(0, 0) != bounds(1, 0)
    assert bounds(0, 0) == bounds(0, 0)


def test_a_text_shorter_than_the_lanes_says_what_to_do() -> None:
    with pytest.raises(DataError, match=r"20 tokens, too few for 20 lanes; .* batch_size of 19 or"):
        Lanes(torch.arange(20), 20, 35)
    assert Lanes(torch.arange(20), 19, 35).steps == 1


@pytest.mark.parametrize("length", [0, 1])
def test_a_text_with_nothing_to_predict_is_refused(length: int) -> None:
    with pytest.raises(DataError, match="too few to predict one from another"):
        Lanes(torch.arange(length), 1, 1)


def test_sizes_and_indices_out_of_range_are_refused() -> None:
    with pytest.raises(ArgumentError, match="batch_size=0"):
        Lanes(torch.arange(9), 0, 3)
    with pytest.raises(ArgumentError, match="bptt_steps=0"):
        Lanes(torch.arange(9), 1, 0)
    with pytest.raises(ArgumentError, match="one-dimensional integers"):
        Lanes(torch.rand(9), 1, 3)
    with pytest.raises(ArgumentError, match="one-dimensional integers"):
        Lanes(torch.zeros(3, 3, dtype=torch.int64), 1, 3)
    with pytest.raises(ArgumentError, match="window 3 of 3 does not exist"):
        Lanes(torch.arange(9), 1, 3).window(0, 3)
