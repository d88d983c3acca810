"""Memory that is lent: never to two at a time, again when it is free, and not without bound."""

import gc

import pytest
import torch

from recurra.kernels.cpu import scratch
from recurra.kernels.cpu.scratch import LEAST_LENT, lent


@pytest.fixture(autouse=True)
def _nothing_lent_before(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    monkeypatch.setattr(scratch, "_returned", {})
    monkeypatch.setattr(scratch, "_use", {"now": 0, "most": 0})


def test_memory_is_lent_again_when_no_tensor_uses_it():
    first = lent(4, LEAST_LENT)
    address, view = first.data_ptr(), first[1:]
    del first
    other = lent(4, LEAST_LENT)
    assert other.data_ptr() != address, "a view still uses it"
    view.fill_(1.0)
    del view
    assert lent(3, LEAST_LENT).data_ptr() == address


def test_two_in_use_share_no_memory():
    tensors = [lent(2, LEAST_LENT).fill_(k) for k in range(3)]
    assert [t.unique().tolist() for t in tensors] == [[0.0], [1.0], [2.0]]


def test_no_more_is_kept_than_was_in_use_at_one_time():
    for size in (4, 9, 20, 45, 100):  # none fits the next, so each is taken anew
        lent(size, LEAST_LENT // 4)
        kept = sum(numbers.numel() for numbers in scratch._returned.values())
        assert kept == size * (LEAST_LENT // 4)


def test_memory_much_larger_than_asked_for_is_left():
    large = lent(8, LEAST_LENT)
    address = large.data_ptr()
    del large
    assert lent(2, LEAST_LENT).data_ptr() != address


def test_an_autograd_graph_keeps_its_memory_until_it_is_gone():
    weight, x = torch.ones((), requires_grad=True), lent(2, LEAST_LENT).fill_(2.0)
    y = (weight * x).mean()
    del x
    lent(2, LEAST_LENT).fill_(9.0)
    y.backward()
    assert weight.grad == 2.0
