"""Dropout: shares, scale, gradients, and one generator for all."""

import pytest
import torch

from recurra.layers.dropout import bernoulli, dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.73])
def test_the_share_dropped_is_p_and_the_mean_stays(p):
    torch.manual_seed(3)
    y = dropout(torch.ones(400, 1001), p)
    share = (y == 0).double().mean()
    spread = (p * (1 - p) / y.numel()) ** 0.5
    assert abs(share - p) < 5 * spread + 2**-17
    torch.testing.assert_close(y.max(), torch.tensor(1 / (1 - p)), rtol=2e-4, atol=0)
    torch.testing.assert_close(y.mean(), torch.tensor(1.0), rtol=5e-3, atol=0)


@pytest.mark.parametrize("p", [0.0, 0.2, 1.0])
def test_ones_come_with_probability_p(p):
    torch.manual_seed(3)
    ones = bernoulli(torch.empty(500, 999), p)
    assert set(ones.unique().tolist()) <= {0.0, 1.0}
    assert abs(ones.double().mean() - p) < 5 * (p * (1 - p) / ones.numel()) ** 0.5 + 2**-17


def test_neighbours_are_dropped_independently():
    torch.manual_seed(3)
    dropped = (dropout(torch.ones(400_000), 0.3) == 0).double()
    for lag in (1, 2, 3, 4, 8):
        together = (dropped[lag:] * dropped[:-lag]).mean()
        assert abs(together - 0.09) < 5 * (0.09 / 400_000) ** 0.5


def test_the_gradient_passes_where_the_value_does():
    x = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    y = dropout(x, 0.4)
    y.sum().backward()
    torch.testing.assert_close(x.grad * x, y)


def test_equal_seeds_drop_the_same():
    x = torch.randn(33)
    torch.manual_seed(5)
    first = dropout(x, 0.5)
    assert not torch.equal(first, dropout(x, 0.5))
    torch.manual_seed(5)
    assert torch.equal(first, dropout(x, 0.5))


def test_the_ends_of_the_range():
    x = torch.randn(9)
    assert torch.equal(dropout(x, 0.0), x)
    assert not dropout(x, 1.0).any()
    assert dropout(torch.empty(0, 3), 0.5).shape == (0, 3)
