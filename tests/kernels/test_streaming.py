"""Single steps of a stream: the numbers of the reference, at every size, with any memory layout."""

import pytest
import torch

from recurra.cells import CELLS
from recurra.kernels.cpu.streaming import MOST_ROWS
from recurra.layers import LSTM, Recurrent
from recurra.testing import check_cell

pytestmark = pytest.mark.kernels


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize(("batch", "inputs", "hidden"), [(1, 5, 8), (2, 33, 70), (3, 130, 128)])
@torch.no_grad()
def test_a_step_is_the_references(name, batch, inputs, hidden):
    torch.manual_seed(batch)
    ours = Recurrent(CELLS[name], inputs, hidden, num_layers=2)
    for parameter in ours.parameters():
        parameter.normal_(std=0.1)
    exact = Recurrent(CELLS[name], inputs, hidden, num_layers=2, backend="reference").double()
    exact.load_state_dict(ours.state_dict())
    state = ours.initial_state(batch).map(torch.randn_like)
    exact_state = state.map(torch.Tensor.double)
    for x in torch.randn(4, batch, inputs):
        y, state = ours.step(x, state)
        expected, exact_state = exact.step(x.double(), exact_state)
        torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=2e-6)
    for own, others in zip(state.layers, exact_state.layers, strict=True):
        for s, e in zip(own, others, strict=True):
            torch.testing.assert_close(s.double(), e, rtol=1e-5, atol=2e-6)


@torch.no_grad()
def test_weights_that_change_are_read_anew():
    layer = LSTM(6, 16)
    x = torch.randn(1, 6)
    before, _ = layer.step(x)
    layer.weight_hh_l0.data.mul_(0.5)
    layer.weight_ih_l0.data.mul_(2.0)
    after, _ = layer.step(x)
    expected, _ = layer(x.unsqueeze(0).expand(1, MOST_ROWS + 1, 6).contiguous())
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after[0], expected[0, 0])


@torch.no_grad()
def test_inputs_and_states_may_lie_anywhere():
    layer = LSTM(6, 16, bias=False, proj_size=5)
    x, state = torch.randn(2, 12)[:, ::2], layer.initial_state(2).map(torch.randn_like)
    turned = state.map(lambda s: s.t().contiguous().t())
    torch.testing.assert_close(layer.step(x, turned)[0], layer.step(x.contiguous(), state)[0])


@torch.no_grad()
def test_a_step_in_evaluation_mode_knows_zoneout():
    layer = LSTM(6, 16, zoneout=0.3).eval()
    x = torch.randn(5, 1, 6)
    whole, _ = layer(x)
    state, outputs = layer.initial_state(1), []
    for x_t in x:
        y, state = layer.step(x_t, state)
        outputs.append(y)
    torch.testing.assert_close(torch.stack(outputs), whole)


@pytest.mark.parametrize("level", ["avx2", "basic"])
@pytest.mark.parametrize("name", ["lstm", "gru_reset_before"])
def test_a_lesser_processor_gives_the_same(name, level, at_level):
    at_level(level)
    check_cell(CELLS[name])
