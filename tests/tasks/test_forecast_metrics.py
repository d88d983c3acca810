"""Measures against values worked out by hand, and baselines against what they must say."""

import math

import numpy as np
import polars as pl
import pytest

from recurra.data.forecast.partition import split_by_time
from recurra.data.forecast.schema import choose_columns
from recurra.data.forecast.series import build_series
from recurra.data.forecast.tables import table_of
from recurra.data.forecast.windows import find_origins
from recurra.tasks.forecast import metrics
from recurra.tasks.forecast.baselines import (
    History,
    baseline_forecast,
    baseline_points,
    error_quantiles,
    is_seasonal,
    naive2,
)
from recurra.tasks.forecast.measures import (
    Backtest,
    Yardstick,
    measure,
    quantile,
    scales,
    score,
    truth_at,
)

NAN = math.nan
TRUTH = np.array([[10.0, 20.0], [NAN, 40.0]])
FORECAST = np.array([[12.0, 20.0], [7.0, 30.0]])
LEVELS = tuple(round(k / 20, 2) for k in range(1, 20))


def test_point_measures_by_hand():
    assert metrics.mae(TRUTH, FORECAST) == 4.0  # (2 + 0 + 10) / 3
    assert metrics.mse(TRUTH, FORECAST) == pytest.approx(104 / 3)
    assert metrics.rmse(TRUTH, FORECAST) == pytest.approx(math.sqrt(104 / 3))
    assert metrics.smape(TRUTH, FORECAST) == pytest.approx(200 * (2 / 22 + 0 + 10 / 70) / 3)
    assert metrics.mase(TRUTH, FORECAST, np.array([2.0, 5.0])) == pytest.approx((1 + 0 + 2) / 3)
    assert metrics.owa(10.0, 1.5, 20.0, 2.0) == pytest.approx((0.5 + 0.75) / 2)
    assert metrics.mae(np.array([NAN]), np.array([1.0])) is None


def test_mase_is_undefined_for_a_constant_series_and_not_infinite():
    assert math.isnan(metrics.seasonal_scale(np.full(20, 3.0), 7))
    assert math.isnan(metrics.seasonal_scale(np.array([1.0]), 1))
    assert metrics.seasonal_scale(np.array([1.0, 2.0, 4.0]), 7) == 1.5  # no season: by single steps
    assert metrics.mase(TRUTH, FORECAST, np.array([NAN, NAN])) is None
    assert metrics.mase(TRUTH, FORECAST, np.array([2.0, NAN])) == 0.5


def test_probability_measures_by_hand():
    truth, chance = np.array([1.0, 0.0, NAN, 1.0]), np.array([0.8, 0.4, 0.5, 0.3])
    assert metrics.brier(truth, chance) == pytest.approx((0.04 + 0.16 + 0.49) / 3)
    nats = -(math.log(0.8) + math.log(0.6) + math.log(0.3)) / 3
    assert metrics.log_loss(truth, chance) == pytest.approx(nats)
    assert metrics.accuracy(truth, chance) == pytest.approx(2 / 3)
    assert metrics.auc(truth, chance) == 0.5
    assert metrics.auc(np.array([0.0, 1.0, 1.0, 0.0]), np.full(4, 0.3)) == 0.5
    assert metrics.auc(np.ones(3), chance[:3]) is None
    rows = metrics.reliability(truth, chance, bins=2)
    assert rows[0] == {"probability": pytest.approx(0.35), "frequency": 0.5, "count": 2}
    assert rows[1] == {"probability": 0.8, "frequency": 1.0, "count": 1}


def test_quantile_measures_by_hand():
    levels = np.array([0.1, 0.5, 0.9])
    quantiles = np.array([[0.0, 2.0, 4.0]])
    loss = metrics.pinball(np.array([3.0]), quantiles, levels)
    np.testing.assert_allclose(loss, [[0.3, 0.5, 0.1]])
    by_hand = 2 * (0.3 + 0.5 + 0.1) / 3.0 / 3
    assert metrics.weighted_quantile_loss(np.array([3.0]), quantiles, levels) == pytest.approx(
        by_hand
    )
    low, high = np.array([0.0, 0.0, 0.0]), np.array([4.0, 4.0, 4.0])
    assert metrics.coverage(np.array([3.0, 5.0, NAN]), low, high) == 0.5
    rows = metrics.calibration(np.array([1.0, 3.0]), np.array([[0.0, 2.0, 4.0]] * 2), levels)
    assert [row["share"] for row in rows] == [0.0, 0.5, 1.0]


def test_crps_of_a_normal_distribution_is_its_closed_form():
    """σ (z(2Φ(z) − 1) + 2φ(z) − 1/√π), Gneiting & Raftery 2007, equation 21."""
    from statistics import NormalDist

    normal, z = NormalDist(), 0.7
    levels = np.array([k / 200 for k in range(1, 200)])
    quantiles = np.array([[normal.inv_cdf(level) for level in levels]])
    exact = z * (2 * normal.cdf(z) - 1) + 2 * normal.pdf(z) - 1 / math.sqrt(math.pi)
    assert metrics.crps(np.array([z]), quantiles, levels) == pytest.approx(exact, rel=2e-3)


def test_quantiles_between_levels_are_straight():
    quantiles = np.array([0.0, 10.0, 30.0])
    assert quantile(quantiles, (0.1, 0.5, 0.9), 0.7) == pytest.approx(20.0)
    assert quantile(quantiles, (0.1, 0.5, 0.9), 0.05) == 0.0


def history(values, season=4, horizon=2, share=0.2, start=0):
    frame = pl.DataFrame({"t": range(start, start + len(values)), "y": values})
    table = table_of(frame)
    target = "y>2" if season == 2 else "y"
    series = build_series(table, choose_columns(table, "t", None, [target], past=[]))
    partition = split_by_time(series, valid_share=share, test_share=share)
    is_train = partition.is_train(series)
    origins = find_origins(series, *partition.bounds(series, "train"), horizon)
    test = find_origins(series, *partition.bounds(series, "test"), horizon)
    kinds = ("yesno",) if season == 2 else ("real",)
    yardstick = Yardstick(
        (target,), kinds, LEVELS, season, scales(series, partition.valid, season),
        np.array([np.nanstd(series.targets[is_train])]), series.owner,
    )  # fmt: skip
    return History(series, is_train, origins, horizon, yardstick), test


def test_baselines_say_what_their_names_say():
    values = [1.0, 5.0, 3.0, 9.0] * 10
    given, test = history(values)
    points = baseline_points(given)
    origin = test[:1]
    assert points["last_value"](origin)[0, :, 0].tolist() == [values[origin[0]]] * 2
    ahead = [values[origin[0] + 1], values[origin[0] + 2]]
    assert points["seasonal_naive"](origin)[0, :, 0].tolist() == ahead
    np.testing.assert_allclose(points["climatology"](origin)[0, :, 0], ahead)
    naive = points["seasonal_naive"]
    widths = error_quantiles(given, "seasonal_naive", naive)
    mean, quantiles = baseline_forecast(given, naive, widths, test)
    np.testing.assert_allclose(quantiles[0, :, 0], np.repeat(mean[0, :, 0, None], 19, axis=1))


def test_a_point_forecast_is_its_own_median_and_climatology_knows_the_median_of_its_errors():
    values = [0.0, 0.0, 0.0, 8.0] * 8 + [0.0, 0.0, 0.0, 9.0] * 2  # steps of a season of one
    given, test = history(values, season=1)
    points = baseline_points(given)
    for name, median in (("last_value", None), ("climatology", 0.0)):
        widths = error_quantiles(given, name, points[name])
        mean, quantiles = baseline_forecast(given, points[name], widths, test)
        expected = mean if median is None else np.full(mean.shape, median)
        np.testing.assert_allclose(quantile(quantiles, LEVELS, 0.5), expected)
        assert quantiles[0, 0, 0, -1] > quantiles[0, 0, 0, 0]


def test_a_missing_season_is_looked_for_further_back():
    values = [1.0, 5.0, 3.0, 9.0] * 10
    values[-4] = None
    given, test = history(values)
    found = baseline_points(given)["seasonal_naive"](test[-1:] + 2)
    assert found[0, 0, 0] == 1.0


def test_the_markov_chain_counts_what_follows_yes_and_no():
    values = [3.0, 3.0, 0.0, 0.0] * 20  # yes yes no no: half of the yeses are followed by a yes
    given, test = history(values, season=2)
    found = baseline_points(given)["markov_chain"](test)
    assert abs(found[..., 0] - 0.5)[:, 0].max() < 0.05
    assert found[:, 1].min() < 0.05  # two steps after a yes it is never yes
    assert found[:, 1].max() > 0.95


def test_naive2_is_exact_on_a_series_that_is_level_times_season():
    values = [10.0, 20.0, 30.0, 20.0] * 12
    assert is_seasonal(np.array(values), 4)
    assert not is_seasonal(np.full(40, 2.0), 4)
    given, test = history(values)
    np.testing.assert_allclose(naive2(given, test), truth_at(given.series, test, 2))


def test_measures_of_a_backtest_leave_constant_series_out_of_mase_and_say_so():
    rows = {"id": ["a"] * 20 + ["b"] * 20, "t": [*range(20)] * 2}
    frame = pl.DataFrame({**rows, "y": [float(k % 3) for k in range(20)] + [4.0] * 20})
    table = table_of(frame)
    series = build_series(table, choose_columns(table, "t", "id", ["y"]))
    partition = split_by_time(series, valid_share=0.2, test_share=0.2)
    origins = find_origins(series, *partition.bounds(series, "test"), 2)
    truth = truth_at(series, origins, 2)
    scale = scales(series, partition.valid, 1)
    yardstick = Yardstick(("y",), ("real",), LEVELS, 1, scale, np.ones(1), series.owner)
    quantiles = np.repeat(truth[..., None], len(LEVELS), axis=-1)
    found = measure(Backtest(origins, truth, truth, quantiles), yardstick)
    assert found["mase"] == 0.0
    assert found["mase_undefined"] == 1
    assert found["coverage_80"] == 1.0
    assert score(Backtest(origins, truth, truth, quantiles), yardstick) == 0.0
    constant = origins[series.owner[origins] == 1]
    own = Backtest(
        constant, *(part[series.owner[origins] == 1] for part in (truth, truth, quantiles))
    )
    assert measure(own, yardstick)["mase"] is None


def test_autoets_without_its_library_says_what_to_install(monkeypatch):
    import sys

    from recurra.errors import ConfigError
    from recurra.jobs.forecast.autoets import autoets_points

    monkeypatch.setitem(sys.modules, "statsforecast", None)
    monkeypatch.setitem(sys.modules, "statsforecast.models", None)
    given, _ = history([1.0, 5.0, 3.0, 9.0] * 10)
    with pytest.raises(ConfigError, match=r"pip install 'recurra\[baselines\]'"):
        autoets_points(given)


def test_autoets_fits_training_rows_once_and_forecasts_from_what_an_origin_has_seen(monkeypatch):
    import sys
    from types import SimpleNamespace

    from recurra.jobs.forecast.autoets import autoets_points

    fitted = []

    class Sums:
        """Instead of a model: the last row of training, and the sum of what it is shown."""

        def __init__(self, season_length):
            self.season = season_length

        def fit(self, values):
            fitted.append((self.season, len(values)))
            self.last = values[-1]
            return self

        def forward(self, values, h):
            return {"mean": np.full(h, 100 * self.last + values.sum())}

    monkeypatch.setitem(sys.modules, "statsforecast", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "statsforecast.models", SimpleNamespace(AutoETS=Sums))
    values = [1.0, 5.0, 3.0, 9.0] * 10
    values[3] = values[6] = values[10] = None  # 3 of the step before, then of the season before
    given, test = history(values)
    points = autoets_points(given)
    seen = float(sum(value or 3.0 for value in values[: test[0] + 1]))
    assert points(test[:1])[0, :, 0].tolist() == [900 + seen] * 2
    assert points(np.array([0, 1]))[:, 0, 0].tolist() == [
        1.0,
        906.0,
    ]  # at row 0 nothing has changed
    assert fitted == [(4, 24)]
    flat, test = history([2.0] * 30 + [3.0] * 10)
    assert autoets_points(flat)(test)[:, 0, 0].tolist() == [3.0] * len(test)
    short, test = history([1.0, 5.0, 3.0, 9.0, 4.0, 8.0, 7.0, 6.0, 2.0, 4.0], season=1)
    assert autoets_points(short)(test)[0, 0, 0] == short.series.targets[test[0], 0]
    yesno, test = history([1.0, 5.0] * 20, season=2)
    assert np.isnan(autoets_points(yesno)(test)).all()
    assert len(fitted) == 1


def test_autoets_of_statsforecast_learns_a_season_and_looks_at_nothing_after_an_origin():
    from recurra.jobs.forecast.autoets import autoets_points

    random = np.random.default_rng(0)
    values = np.tile([10.0, 50.0, 30.0, 90.0], 15) + random.normal(size=60)
    given, test = history(values.tolist())
    found = autoets_points(given)(test)
    assert np.abs(found - truth_at(given.series, test, 2)).max() < 6
    values[test[0] + 1 :] = 0.0
    changed, _ = history(values.tolist())
    np.testing.assert_array_equal(autoets_points(changed)(test[:1]), found[:1])
