"""Resets inside a row, with and without gradients, for every cell that runs on a kernel."""

import pytest
import torch

from recurra.cells import CELLS
from recurra.layers import Recurrent


@pytest.mark.parametrize("name", sorted(CELLS))
@pytest.mark.parametrize("needs_gradient", [False, True])
def test_a_reset_brings_back_the_initial_state_of_every_state(name, needs_gradient):
    """Without gradients only two steps of the further states are kept: the initial one is lost."""
    layer = Recurrent(CELLS[name], 5, 7)
    same = Recurrent(CELLS[name], 5, 7, backend="reference")
    same.load_state_dict(layer.state_dict())
    x = torch.randn(9, 3, 5)
    start = layer.initial_state(3).map(lambda s: torch.randn_like(s) / 2)
    reset = torch.zeros(9, 3, dtype=torch.bool)
    reset[4, 0] = reset[5, 1] = reset[8, 1] = True
    lengths = torch.tensor([9, 9, 6])
    with torch.set_grad_enabled(needs_gradient):
        for given in (None, lengths):
            y, state = layer(x, start, reset=reset, lengths=given)
            expected, expected_state = same(x, start, reset=reset, lengths=given)
            torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
            for own, other in zip(state.layers[0], expected_state.layers[0], strict=True):
                torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)
