"""Theory against measurement: bounds hold, and where there is a closed form it is met."""

import pytest
import torch
from torch import nn

from recurra.cells import CELLS, Cell, find_cell
from recurra.errors import ArgumentError, ShapeError
from recurra.insight import gradient_flow, weight_bound
from recurra.insight.stack import Stack
from recurra.layers import LSTM, RNN, Recurrent

LINEAR_CELL = Cell(
    name="linear",
    gates=("a",),
    states=("h",),
    step=lambda from_input, from_hidden, state: (from_input[0] + from_hidden[0],),
)
ROUNDING = 1 + 1e-9


def shaken(layer: Recurrent, scale: float) -> Recurrent:
    """The layer with weights of another size."""
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn_like(p) * scale)
    return layer


@pytest.mark.parametrize("scale", [0.2, 0.8])
@pytest.mark.parametrize("name", CELLS)
def test_the_measured_gradient_never_exceeds_the_bounds(name, scale):
    layer = shaken(Recurrent(find_cell(name), 3, 7), scale)
    flow = gradient_flow(layer, torch.randn(25, 5, 3))
    assert bool((flow.norms <= flow.path_bounds * ROUNDING).all())
    assert torch.equal(flow.norms[:, 0], torch.ones(5, dtype=torch.float64))
    if flow.weight_bounds is not None:
        assert bool((flow.norms <= flow.weight_bounds * ROUNDING).all())
    assert (flow.weight_bounds is not None) == (weight_bound(layer) is not None)


def test_a_linear_cell_has_the_gradient_of_its_matrix_powers():
    layer = shaken(Recurrent(LINEAR_CELL, 3, 6), 0.4)
    upstream = torch.randn(4, 6, dtype=torch.float64)
    flow = gradient_flow(layer, torch.randn(30, 4, 3), loss=lambda h: (h * upstream).sum(1))
    r = layer.weight_hh_l0.detach().double()
    for lag in range(31):
        expected = (upstream @ torch.linalg.matrix_power(r, lag)).norm(dim=1) / upstream.norm(dim=1)
        torch.testing.assert_close(flow.norms[:, lag], expected, rtol=1e-9, atol=1e-30)
    eigenvalues = torch.linalg.eigvals(r).abs().sort().values
    torch.testing.assert_close(flow.eigenvalues[0].abs().sort().values, eigenvalues)
    sigma = torch.linalg.svdvals(r)[0]
    powers = sigma ** torch.arange(31)
    torch.testing.assert_close(flow.path_bounds[0], powers, rtol=1e-9, atol=0.0)


def test_the_bound_of_an_orthogonal_linear_cell_is_reached():
    layer = Recurrent(LINEAR_CELL, 3, 6, init="orthogonal")
    flow = gradient_flow(layer, torch.randn(40, 2, 3))
    torch.testing.assert_close(flow.norms, torch.ones_like(flow.norms), rtol=1e-5, atol=0)
    assert flow.factor_per_step == pytest.approx(1, abs=1e-6)


def test_gradients_of_each_state_are_autograds_own():
    """∂L/∂h and ∂L/∂c at a middle step, against torch.nn run from that step on."""
    layer, peer = LSTM(3, 5), nn.LSTM(3, 5).double()
    peer.load_state_dict(layer.state_dict())
    peer.double()
    x, lag = torch.randn(12, 2, 3), 7
    flow = gradient_flow(layer, x, loss=lambda h: h.square().sum(1))
    _, (h, c) = peer(x[:-lag].double())
    h, c = h.detach().requires_grad_(), c.detach().requires_grad_()
    y, _ = peer(x[-lag:].double(), (h, c))
    dh, dc = torch.autograd.grad(y[-1].square().sum(), (h, c))
    at_end = (2 * y[-1]).norm(dim=1)
    torch.testing.assert_close(flow.by_state["h"][:, lag], dh[0].norm(dim=1) / at_end)
    torch.testing.assert_close(flow.by_state["c"][:, lag], dc[0].norm(dim=1) / at_end)


def test_sigmoid_vanishes_and_a_forget_bias_helps():
    torch.manual_seed(0)
    x = torch.randn(30, 8, 4)
    elman = gradient_flow(RNN(4, 16, nonlinearity="sigmoid"), x)
    none, one = (gradient_flow(LSTM(4, 16, forget_bias=b), x) for b in (0.0, 1.0))
    assert elman.steepest_factor is not None
    assert elman.factor_per_step < elman.steepest_factor < 1
    assert none.factor_per_step < one.factor_per_step < 1


@pytest.mark.parametrize("name", ["gru", "lstm", "jordan", "mingru"])
def test_a_stack_steps_as_its_layers_do(name):
    torch.manual_seed(1)
    layers = [
        Recurrent(find_cell(name), 3, 5, 2, residual=True, zoneout=0.2),
        Recurrent(find_cell(name), 5, 4),
    ]
    stack, x = Stack([layer.eval() for layer in layers]), torch.randn(6, 2, 3)
    state = stack.initial(2)
    for x_t in x:
        state = stack.advance(x_t, state)
    y, first = layers[0](x, layers[0].initial_state(2))
    _, second = layers[1](y, layers[1].initial_state(2))
    expected = [s for own in (*first.layers, *second.layers) for s in own]
    assert len(stack.names) == len(expected)
    for a, b in zip(state, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_what_cannot_be_followed_is_refused():
    with pytest.raises(ArgumentError, match="bidirectional"):
        gradient_flow(LSTM(3, 4, bidirectional=True), torch.randn(5, 2, 3))
    with pytest.raises(ShapeError, match="6 steps or more"):
        gradient_flow(LSTM(3, 4), torch.randn(5, 2, 3), lags=6)
    with pytest.raises(ArgumentError, match="does not depend"):
        gradient_flow(LSTM(3, 4), torch.randn(5, 2, 3), loss=lambda h: 0 * h.sum(1))


def test_the_command_compares_six_networks(inspect):
    options = ("--steps", 2, "--hidden-size", 6, "--lags", 8)
    folder, figures = inspect("gradients", *options)
    assert len(figures["networks"]) == 6
    for entry in figures["networks"].values():
        for stage in ("at initialisation", "after training"):
            found = entry[stage]
            assert len(found["norms"]) == len(found["path_bounds"]) == 9
            pairs = zip(found["norms"], found["path_bounds"], strict=True)
            assert all(norm <= bound * ROUNDING for norm, bound in pairs)
    assert (folder / "gradient-flow.png").exists()


def test_the_command_follows_a_run_on_its_own_text(inspect, lstm_run):
    _, figures = inspect("gradients", lstm_run, "--lags", 6, "--rows", 2)
    (entry,) = figures["networks"].values()
    assert entry["after training"]["norms_by_state"].keys() == {"h", "c"}
    assert entry["after training"]["norms"][0] == 1
    assert entry["after training"]["norms"] != entry["at initialisation"]["norms"]


def test_bad_requests_are_refused(refused, ngram_run, tmp_path):
    assert "lags 2 or more" in refused("gradients", "--lags", 1)
    assert "has no recurrence" in refused("gradients", ngram_run)
    assert "not a folder" in refused("gradients", tmp_path / "none")
