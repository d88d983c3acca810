"""Windows and splits: what a model may see, and nothing else."""

import numpy as np
import polars as pl
import pytest
import torch

from recurra.data.forecast.partition import Partition, check_no_leakage, split_by_time
from recurra.data.forecast.schema import Schema, choose_columns
from recurra.data.forecast.series import build_series, statistics_of
from recurra.data.forecast.tables import table_of
from recurra.data.forecast.weather import best_forecast, simulate
from recurra.data.forecast.windows import encode_series, find_origins
from recurra.errors import ConfigError, DataError


def many(lengths=(30, 5, 40), **columns):
    rows = {
        "id": [str(s) for s, n in enumerate(lengths) for _ in range(n)],
        "t": [k for n in lengths for k in range(n)],
        "y": [100.0 * s + k for s, n in enumerate(lengths) for k in range(n)],
        "x": [float(k % 7) for n in lengths for k in range(n)],
    }
    return pl.DataFrame({**rows, **columns})


def laid_out(frame, target="y", **options):
    given = table_of(frame)
    columns = choose_columns(given, "t", "id", [target], **options)
    series = build_series(given, columns)
    statistics = statistics_of(series, columns, np.ones(len(series.targets), dtype=bool))
    schema = Schema(columns, series.frequency, 7, statistics)
    return series, schema


def test_gathered_windows_are_the_rows_of_their_series():
    series, schema = laid_out(many(), future=["x"])
    flat = encode_series(series, schema)
    origins = torch.tensor([9, 32, 74])  # the middle of 0, the third row of 1, the last row of 2
    windows = flat.gather(origins, 4, 2)
    assert windows.target[0, :, 0].tolist() == [6, 7, 8, 9, 10, 11]
    assert windows.target[1, :, 0].tolist() == [0, 100, 101, 102, 103, 104]
    assert windows.inside[1].tolist() == [False, True, True, True]
    assert windows.target[2, :, 0].tolist() == [236, 237, 238, 239, 0, 0]
    assert windows.observed[2, :, 0].tolist() == [1, 1, 1, 1, 0, 0]
    assert windows.past.shape == (3, 4, 0)
    assert windows.future.shape == (3, 6, 3)  # x, and sine and cosine of the season


def test_origins_leave_the_whole_horizon_inside_their_split():
    series, _ = laid_out(many())
    partition = split_by_time(series, valid_share=0.2, test_share=0.2)
    for split in ("train", "valid", "test"):
        first, last = partition.bounds(series, split)
        for origin in find_origins(series, first, last, 3):
            owner = series.owner[origin]
            assert origin + 1 >= first[owner]
            assert origin + 3 < last[owner]


def test_short_series_are_used_from_their_first_row():
    series, _ = laid_out(many())
    origins = find_origins(series, series.offsets[:-1], series.offsets[1:], 2, window=20)
    assert [int(o) for o in origins if series.owner[o] == 1] == [32]  # 5 rows: 3 known, 2 ahead
    assert min(int(o) for o in origins if series.owner[o] == 0) == 19


def test_a_horizon_that_leaves_no_forecast_is_refused():
    series, _ = laid_out(many())
    with pytest.raises(DataError, match=r"has 40 steps in its longest series, which leaves no"):
        find_origins(series, series.offsets[:-1], series.offsets[1:], 40)


def test_windows_without_a_value_to_come_are_left_out():
    frame = many(lengths=(10,)).with_columns(
        pl.when((pl.col("t") > 4) & (pl.col("t") < 8)).then(None).otherwise(pl.col("y")).alias("y")
    )
    series, _ = laid_out(frame)
    origins = find_origins(series, series.offsets[:-1], series.offsets[1:], 2)
    assert origins.tolist() == [0, 1, 2, 3, 6, 7]


def test_splits_are_by_time_for_all_series_at_once():
    series, _ = laid_out(many())
    partition = split_by_time(series, valid_share=0.25, test_share=0.25)
    assert (partition.valid - series.offsets[:-1]).tolist() == [20, 5, 20]
    assert (partition.test - series.offsets[:-1]).tolist() == [30, 5, 30]
    named = split_by_time(series, valid_from="10", test_from="25")
    assert (named.test - series.offsets[:-1]).tolist() == [25, 5, 25]
    steps = split_by_time(series, valid_steps=2, test_steps=3)
    assert (series.offsets[1:] - steps.test).tolist() == [3, 3, 3]
    assert (steps.test - steps.valid).tolist() == [2, 2, 2]


def test_splits_that_leave_nothing_are_refused():
    series, _ = laid_out(many())
    with pytest.raises(ConfigError, match="valid begins at 30, after test at 20"):
        split_by_time(series, valid_from="30", test_from="20")
    with pytest.raises(DataError, match="no row is left for train"):
        split_by_time(series, valid_from="0", test_from="20")
    with pytest.raises(ConfigError, match="'soon' is no time"):
        split_by_time(series, test_from="soon")
    with pytest.raises(ConfigError, match="exclude"):
        split_by_time(series, test_steps=3, test_from="20")


def test_overlapping_files_are_leakage():
    series, _ = laid_out(many())
    with pytest.raises(DataError, match=r"series '0' of test begins at 0, and training goes to 29"):
        check_no_leakage(series, series, "test")


def test_what_lies_after_training_changes_nothing_that_is_learned_from():
    frame = many(lengths=(50,), word=["a"] * 40 + ["b"] * 10)
    changed = frame.with_columns(
        pl.when(pl.col("t") >= 40).then(1e6).otherwise(pl.col(name)).alias(name)
        for name in ("y", "x")
    )
    batches = []
    for given in (frame, changed):
        table = table_of(given)
        columns = choose_columns(table, "t", "id", ["y"])
        series = build_series(table, columns)
        partition = Partition(*(np.array([k]) for k in (40, 45, 50)))
        statistics = statistics_of(series, columns, partition.is_train(series))
        flat = encode_series(series, Schema(columns, series.frequency, 7, statistics))
        origins = find_origins(series, *partition.bounds(series, "train"), 3, window=4)
        batches.append(flat.gather(torch.from_numpy(origins), 4, 3))
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one, other)


def test_simulated_weather_is_the_same_again_and_longer_runs_begin_alike():
    two, three = simulate(2, seed=3), simulate(3, seed=3)
    assert three.head(len(two)).equals(two)
    assert not simulate(2, seed=4).equals(two)


def test_the_best_forecast_is_calibrated_and_exact_one_day_ahead():
    weather = simulate(30)
    origins = np.arange(100, len(weather) - 7)
    best = best_forecast(weather, origins, 7, np.array([0.1, 0.5, 0.9]))
    rain = weather["rain"].to_numpy() > 0
    temperature = weather["temperature"].to_numpy()
    for h in range(7):
        happened = rain[origins + h + 1]
        assert abs(best.rain[:, h].mean() - happened.mean()) < 0.02
        came = temperature[origins + h + 1]
        assert abs((came - best.temperature[:, h]).mean()) < 0.15
        share = (came[:, None] < best.quantiles[:, h]).mean(axis=0)
        np.testing.assert_allclose(share, [0.1, 0.5, 0.9], atol=0.02)
    sure = best.rain[:, 0] > 0.8
    assert abs(rain[origins[sure] + 1].mean() - best.rain[sure, 0].mean()) < 0.03


def test_the_chance_of_rain_two_days_ahead_is_the_sum_over_paths():
    """Against 200,000 drawn paths from one day."""
    from recurra.data.forecast import weather as generator

    weather = simulate(2)
    origin = np.array([180])
    exact = best_forecast(weather, origin, 3, np.array([0.5])).rain[0]
    dates = weather["date"].to_numpy().astype("datetime64[D]")
    phase = generator._phase(dates[181:184])
    wet0 = np.bool_(weather["rain"][180] > 0)
    mean, deviation = generator._moments(
        generator.PRESSURE, wet0, generator._phase(dates[180:181])[0]
    )
    random = np.random.default_rng(0)
    z = np.full(200_000, (weather["pressure"][180] - mean) / deviation)
    wet = np.full(200_000, wet0)
    keep = generator.PERSISTENCE["pressure"]
    for h in range(3):
        wet = random.random(len(z)) < generator._chance(wet, z, phase[h])
        z = keep * z + np.sqrt(1 - keep**2) * random.standard_normal(len(z))
        assert abs(wet.mean() - exact[h]) < 0.005
