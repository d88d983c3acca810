"""RNN, GRU and LSTM stand in for torch.nn's: arguments, weights, shapes, answers."""

import copy
import inspect
import io

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import recurra

CASES = [
    ("RNN", {}),
    ("RNN", {"nonlinearity": "relu", "num_layers": 2}),
    ("GRU", {"bidirectional": True}),
    ("GRU", {"num_layers": 2, "batch_first": True, "bias": False}),
    ("LSTM", {"num_layers": 2, "bidirectional": True}),
    ("LSTM", {"batch_first": True}),
    ("LSTM", {"proj_size": 3, "num_layers": 2, "bidirectional": True}),
]


def _pair(name: str, options: dict, dtype: torch.dtype = torch.float64):
    torch.manual_seed(3)
    ours = getattr(recurra, name)(5, 7, **options, dtype=dtype)
    torch.manual_seed(3)
    return ours, getattr(nn, name)(5, 7, **options, dtype=dtype)


def _leaves(states) -> list[torch.Tensor]:
    return [states] if isinstance(states, torch.Tensor) else list(states)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_same_seed_same_weights_same_answer(name: str, options: dict) -> None:
    ours, theirs = _pair(name, options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key
    x = torch.randn(4, 3, 5, dtype=torch.float64)
    y, states = ours(x)
    expected, expected_states = theirs(x)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    for a, b in zip(_leaves(states), _leaves(expected_states), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    again, _ = ours(x, states)
    torch.testing.assert_close(again, theirs(x, expected_states)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_state_dicts_load_both_ways(name: str, options: dict) -> None:
    ours, theirs = _pair(name, options)
    theirs.reset_parameters()
    ours.load_state_dict(theirs.state_dict())
    theirs.reset_parameters()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(4, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_arguments_come_in_torchs_order(name: str) -> None:
    order = {
        "RNN": "num_layers nonlinearity bias batch_first dropout bidirectional",
        "GRU": "num_layers bias batch_first dropout bidirectional",
        "LSTM": "num_layers bias batch_first dropout bidirectional proj_size",
    }[name]
    signature = inspect.signature(getattr(recurra, name))
    positional = [
        p.name for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    assert positional == ["input_size", "hidden_size", *order.split()]


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_a_packed_sequence_gives_torchs_packed_sequence(name: str, enforce_sorted: bool) -> None:
    ours, theirs = _pair(name, {"num_layers": 2, "bidirectional": True})
    lengths = torch.tensor([6, 4, 4, 1] if enforce_sorted else [4, 1, 6, 4])
    x = torch.randn(6, 4, 5, dtype=torch.float64)
    packed = pack_padded_sequence(x, lengths, enforce_sorted=enforce_sorted)
    y, states = ours(packed)
    expected, expected_states = theirs(packed)
    assert torch.equal(y.batch_sizes, expected.batch_sizes)
    torch.testing.assert_close(y.data, expected.data, rtol=0, atol=1e-12)
    for a, b in zip(_leaves(states), _leaves(expected_states), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        pad_packed_sequence(y)[0], ours(x, lengths=lengths)[0], rtol=0, atol=1e-12
    )


def test_one_sequence_without_a_batch_axis() -> None:
    ours, theirs = _pair("LSTM", {"num_layers": 2})
    x = torch.randn(6, 5, dtype=torch.float64)
    y, states = ours(x)
    expected, expected_states = theirs(x)
    assert y.shape == expected.shape
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    for a, b in zip(states, expected_states, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    again, _ = ours(x, states)
    torch.testing.assert_close(again, theirs(x, expected_states)[0], rtol=0, atol=1e-12)


def test_copies_and_saved_weights_answer_the_same() -> None:
    layer = recurra.LSTM(5, 7, 2, peephole=True)
    x = torch.randn(4, 3, 5)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = recurra.LSTM(5, 7, 2, peephole=True)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(layer(x)[0], other(x)[0])
    assert torch.equal(layer(x)[0], copy.deepcopy(layer)(x)[0])


def test_a_training_step_in_autocast_stays_close_to_float32() -> None:
    layer = recurra.GRU(5, 7)
    x = torch.randn(4, 3, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = layer(x)
    y.float().sum().backward()
    torch.testing.assert_close(y.float(), layer(x)[0], rtol=0.05, atol=0.05)
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())
