"""Forecasting networks: what they must not see, what they must learn, what they must give back."""

import math
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from recurra.errors import ArgumentError
from recurra.models.forecast.autoregressive import AutoregressiveForecaster
from recurra.models.forecast.dense import DenseForecaster
from recurra.models.forecast.direct import DirectForecaster
from recurra.models.forecast.heads import HEADS, Heads, level_weights
from recurra.models.forecast.inputs import InputSizes
from recurra.models.forecast.scaling import SCALINGS, WindowScaling
from recurra.models.forecast.segment import SegmentForecaster

LEVELS = (0.1, 0.5, 0.9)
WINDOW, HORIZON = 12, 5
SIZES = InputSizes(("real", "real"), (1.0, 0.0), (2.0, 1.0), 3, 2, 1, (4,), (3,), (5,), True)


class Windows(NamedTuple):
    target: Tensor
    observed: Tensor
    past: Tensor
    future: Tensor
    static: Tensor
    past_codes: Tensor
    future_codes: Tensor
    static_codes: Tensor
    inside: Tensor


def windows(batch=6, targets=2, gaps=True) -> Windows:
    steps = WINDOW + HORIZON
    observed = (torch.rand(batch, steps, targets) > 0.2 * gaps).float()
    return Windows(
        torch.randn(batch, steps, targets) * observed,
        observed,
        torch.randn(batch, WINDOW, 3),
        torch.randn(batch, steps, 2),
        torch.randn(batch, 1),
        torch.randint(4, (batch, WINDOW, 1)),
        torch.randint(3, (batch, steps, 1)),
        torch.randint(5, (batch, 1)),
        torch.ones(batch, WINDOW, dtype=torch.bool),
    )


def build(name: str, sizes=SIZES, **options) -> Any:
    common = {"window": WINDOW, "horizon": HORIZON, "hidden_size": 8, "levels": LEVELS, **options}
    if name == "direct":
        return DirectForecaster(sizes, **common)
    if name == "autoregressive":
        common = {"head": "gaussian", "paths": 20, "scaling": "standard", **common}
        return AutoregressiveForecaster(sizes, **common)
    if name.startswith("segment"):
        return SegmentForecaster(sizes, segment=5, highway=name == "segment+highway", **common)
    return DenseForecaster(sizes, **common)


NAMES = ("direct", "autoregressive", "segment", "segment+highway", "dense")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scaling", SCALINGS)
def test_every_network_forecasts_on_every_scale(name, scaling):
    model = build(name, scaling=scaling)
    given = windows()
    loss = model.loss(given)
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    with torch.no_grad():
        mean, quantiles = model.eval().forecast(given, torch.tensor(LEVELS))
    assert mean.shape == (6, HORIZON, 2)
    assert quantiles.shape == (6, HORIZON, 2, 3)
    assert quantiles.isfinite().all()
    assert (quantiles.diff(dim=-1) >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_options_make_the_same_network_again(name):
    import json

    model = build(name).eval()
    options = json.loads(json.dumps(model.options()))
    again = type(model)(**options).eval()
    again.load_state_dict(model.state_dict())
    given, levels = windows(), torch.tensor(LEVELS)
    with torch.no_grad():
        assert torch.equal(model.forecast(given, levels).mean, again.forecast(given, levels).mean)


@pytest.mark.parametrize("name", NAMES)
def test_forecasts_do_not_read_what_is_missing_or_comes_later(name):
    model = build(name).eval()
    given = windows()
    noise = torch.randn_like(given.target) * 100
    noise[:, :WINDOW] *= 1 - given.observed[:, :WINDOW]
    other = given._replace(target=given.target + noise)
    levels = torch.tensor(LEVELS)
    with torch.no_grad():
        one, two = (model.forecast(w, levels) for w in (given, other))
    assert torch.equal(one.quantiles, two.quantiles)
    ahead = given._replace(target=given.target.clone())
    ahead.target[:, WINDOW:] = 1e4
    with torch.no_grad():
        assert torch.equal(one.quantiles, model.forecast(ahead, levels).quantiles)


@pytest.mark.parametrize("name", ["direct", "autoregressive"])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm", "lstm_peephole"])
def test_the_memory_split_anywhere_is_that_of_the_whole(name, cell):
    model = build(name, cell=cell, num_layers=2).eval()
    given = windows()
    first = given._replace(past=given.past[:, :5], past_codes=given.past_codes[:, :5])
    second = given._replace(
        **{
            key: getattr(given, key)[:, 5:]
            for key in ("target", "observed", "past", "future", "past_codes", "future_codes")
        }
    )
    levels = torch.tensor(LEVELS)
    with torch.no_grad():
        whole = model.memories(given)
        start = model.memories(first)[:, -1]
        rest = model.memories(second, start)
        torch.testing.assert_close(rest, whole[:, 5:])
        found = model.forecast_from(whole[:, -1], given, levels)
        torch.testing.assert_close(found.mean, model.forecast(given, levels).mean)


@pytest.mark.parametrize("name", ["direct", "autoregressive"])
def test_steps_before_a_series_begins_change_nothing(name):
    model = build(name).eval()
    given = windows()
    inside = given.inside.clone()
    inside[:, :4] = False
    given = given._replace(inside=inside)
    other = given._replace(past=given.past.clone(), target=given.target.clone())
    other.past[:, :4], other.target[:, :4] = 1e3, 1e3
    levels = torch.tensor(LEVELS)
    with torch.no_grad():
        torch.testing.assert_close(model.loss(given), model.loss(other))
        one, two = (model.forecast(w, levels).mean for w in (given, other))
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_nothing_that_is_learned_moves_the_scale_of_the_loss(scaling):
    model = build("segment", scaling=scaling)
    assert not list(model.scaling.parameters())


def test_a_highway_is_a_linear_map_from_the_window_of_each_target():
    model = build("segment+highway", head="mae", scaling="none", levels=(0.5,)).eval()
    given, levels = windows(gaps=False), torch.tensor([0.5])
    plain = build("segment", head="mae", scaling="none", levels=(0.5,)).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        without = plain.forecast(given, levels).mean
        assert torch.equal(model.forecast(given, levels).mean, without)  # it begins as zero
        model.highway.weight[2, 3] = 0.5  # step 3 of the horizon reads step 4 of the window
        expected = without.clone()
        expected[:, 2] += 0.5 * given.target[:, 3]
        torch.testing.assert_close(model.forecast(given, levels).mean, expected)


def test_a_network_that_draws_needs_a_distribution():
    with pytest.raises(ArgumentError, match="an autoregressive network draws paths"):
        build("autoregressive", head="quantiles")
    with pytest.raises(ArgumentError, match="must all be of one kind"):
        build("segment", InputSizes(("real", "yesno"), (0.0, 0.0), (1.0, 1.0)))
    with pytest.raises(ArgumentError, match="head='normal' is unknown"):
        build("dense", head="normal")
    with pytest.raises(ArgumentError, match="scaling='max' is unknown"):
        build("dense", scaling="max")
    with pytest.raises(ArgumentError, match="they must rise"):
        build("dense", levels=(0.5, 0.1))
    with pytest.raises(ArgumentError, match="window=0 must be at least 1"):
        DenseForecaster(SIZES, window=0, horizon=2)


# Heads.


def test_losses_are_the_formulas():
    loc, scale = torch.tensor([[2.0]]), torch.tensor([[4.0]])
    value, seen = torch.tensor([[6.0]]), torch.ones(1, 1)
    raw = torch.tensor([[0.5, math.log(math.expm1(2.0 - 1e-4))]])  # mean .5, deviation 2, scaled
    gaussian = Heads(["real"], "gaussian", LEVELS)
    expected = 0.5 * (0.5 / 2) ** 2 + math.log(2) + 0.5 * math.log(2 * math.pi)
    assert gaussian.loss(raw, value, seen, loc, scale).item() == pytest.approx(expected, rel=1e-5)
    quantiles = gaussian.forecast(raw, torch.tensor([0.5, 0.97724987]), loc, scale)[1]
    torch.testing.assert_close(quantiles[0, 0], torch.tensor([4.0, 20.0]), rtol=1e-4, atol=1e-3)

    pinball = Heads(["real"], "quantiles", (0.1, 0.5))
    out = torch.tensor([[0.0, 2.0]])  # the scaled value is 1: errors 1 and −1
    assert pinball.loss(out, value, seen, loc, scale).item() == pytest.approx(0.1 + 0.5)
    points = [Heads(["real"], kind, LEVELS) for kind in ("mse", "mae")]
    losses = [p.loss(torch.tensor([[3.0]]), value, seen, loc, scale).item() for p in points]
    assert losses == [4.0, 2.0]
    bernoulli = Heads(["yesno"], "quantiles", LEVELS)
    yes = bernoulli.loss(torch.zeros(1, 1), torch.ones(1, 1), seen, loc, scale)
    assert yes.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    "head", [head for head in HEADS if head not in ("quantiles", "mse", "mae")]
)
def test_samples_have_the_mean_and_quantiles_that_are_said(head):
    kind = "count" if head == "negative_binomial" else "real"
    heads = Heads([kind], head, LEVELS)
    raw = torch.tensor([1.0, 0.5, 2.0])[: heads.size].expand(40_000, -1)
    loc = torch.full((40_000, 1), 0.0 if kind == "count" else 3.0)
    scale = torch.full((40_000, 1), 2.0)
    drawn, mean = heads.sample(raw, loc, scale)
    torch.testing.assert_close(drawn.mean(), mean[0, 0], rtol=0.05, atol=0.05)
    said = heads.forecast(raw[:1], torch.tensor(LEVELS), loc[:1], scale[:1])[1][0, 0]
    torch.testing.assert_close(drawn[:, 0].quantile(torch.tensor(LEVELS)), said, rtol=0.2, atol=0.6)


def test_missing_values_do_not_count():
    heads = Heads(["real", "yesno"], "mse", LEVELS)
    out = torch.zeros(2, 2, requires_grad=True)
    value, seen = torch.tensor([[1.0, 1.0], [9.0, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    one = torch.ones(2, 2)
    heads.loss(out, value, seen, torch.zeros(2, 2), one).backward()
    assert out.grad[1].tolist() == [0.0, 0.0]
    nothing = heads.loss(out, value, torch.zeros(2, 2), torch.zeros(2, 2), one)
    assert nothing.item() == 0.0


def test_the_weights_of_levels_sum_to_one():
    assert sum(level_weights((0.025, 0.1, 0.5, 0.9, 0.975))) == pytest.approx(1.0)


# Scales.


def test_scales_by_hand():
    target = torch.tensor([[[2.0], [0.0], [-6.0], [4.0]]])
    seen = torch.tensor([[[1.0], [0.0], [1.0], [1.0]]])
    expected = {
        "standard": (5.0, 3.0),
        "none": (0.0, 1.0),
        "mean": (0.0, 4.0),
        "last": (4.0, 3.0),
        "reversible": (0.0, math.sqrt(56 / 3)),
        "robust": (2.0, 5.0 / 1.349),
    }
    for kind, (loc, scale) in expected.items():
        found = WindowScaling(kind, ["real"], [5.0], [3.0])(target, seen)
        assert found[0].item() == pytest.approx(loc, abs=1e-4), kind
        assert found[1].item() == pytest.approx(scale, rel=2e-3), kind


@pytest.mark.parametrize("kind", SCALINGS)
def test_an_empty_window_takes_the_training_rows_scale_and_a_constant_one_is_finite(kind):
    scaling = WindowScaling(kind, ["real", "yesno"], [5.0, 0.0], [3.0, 1.0])
    loc, scale = scaling(torch.zeros(2, 4, 2), torch.zeros(2, 4, 2))
    if kind != "none":
        assert loc[0, 0].tolist() == [5.0, 0.0]
        assert scale[0, 0].tolist() == [3.0, 1.0]
    loc, scale = scaling(torch.full((2, 4, 2), 7.0), torch.ones(2, 4, 2))
    assert (scale > 0).all()
    assert (((7.0 - loc) / scale)[..., 0].abs() < 1e4).all()


@pytest.mark.parametrize("name", NAMES)
def test_ten_windows_are_learned_by_heart(name):
    model = build(name, InputSizes(("real",), (0.0,), (1.0,)), head="gaussian", hidden_size=32,
                  scaling="standard")  # fmt: skip
    given = windows(10, 1, gaps=False)
    given = given._replace(
        **{k: getattr(given, k)[..., :0] for k in
           ("past", "future", "static", "past_codes", "future_codes", "static_codes")}
    )  # fmt: skip
    if name == "autoregressive":  # it learns every step, of which the first are a surprise
        given = given._replace(observed=given.observed.clone())
        given.observed[:, 1:WINDOW] = 0
        given = given._replace(observed=given.observed)
    if name == "direct":
        model.carries = False
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    first = model.loss(given).item()
    for _ in range(250):
        optimizer.zero_grad()
        loss = model.loss(given)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    assert loss.item() < first - 1.5, (first, loss.item())
