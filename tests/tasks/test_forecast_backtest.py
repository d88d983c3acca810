"""One pass over each series gives the forecasts that one window after the other would give."""

import numpy as np
import polars as pl
import pytest
import torch

from recurra.data.forecast.schema import Schema, choose_columns
from recurra.data.forecast.series import build_series, statistics_of
from recurra.data.forecast.tables import table_of
from recurra.data.forecast.windows import encode_series, find_origins
from recurra.models.forecast.autoregressive import AutoregressiveForecaster
from recurra.models.forecast.direct import DirectForecaster
from recurra.models.forecast.inputs import InputSizes
from recurra.tasks.forecast.backtest import forecast_at
from recurra.tasks.forecast.measures import Yardstick, scales, truth_at
from recurra.tasks.forecast.task import LEAST_BATCHES, ForecastTask

LEVELS = (0.1, 0.5, 0.9)


@pytest.fixture(scope="module")
def given():
    """Three series of 40, 7 and 25 rows, on a wave, with a covariate."""
    lengths = (40, 7, 25)
    steps = np.concatenate([np.arange(n) for n in lengths])
    names = np.repeat(["a", "b", "c"], lengths)
    frame = pl.DataFrame({"id": names, "t": steps, "y": np.sin(steps), "x": np.cos(steps * 0.7)})
    table = table_of(frame)
    columns = choose_columns(table, "t", "id", ["y"])
    series = build_series(table, columns)
    statistics = statistics_of(series, columns, np.ones(len(steps), dtype=bool))
    return series, encode_series(series, Schema(columns, series.frequency, 6, statistics))


def network(kind, layout):
    sizes = InputSizes(("real",), (0.0,), (0.7,), layout.past, layout.future)
    common = {"window": 10, "horizon": 3, "hidden_size": 6, "levels": LEVELS}
    if kind == "direct":
        return DirectForecaster(sizes, **common)
    return AutoregressiveForecaster(
        sizes, head="gaussian", scaling="standard", paths=2000, **common
    )


@pytest.mark.parametrize("kind", ["direct", "autoregressive"])
def test_every_origin_in_one_pass_equals_reading_up_to_each(kind, given):
    series, flat = given
    model = network(kind, flat.layout)
    origins = find_origins(series, series.offsets[:-1], series.offsets[1:], 3)
    one_pass = forecast_at(model, flat, origins, LEVELS)
    for index in (0, 5, len(origins) // 2, len(origins) - 1):
        origin = int(origins[index])
        start = int(series.offsets[series.owner[origin]])
        windows = flat.gather(torch.tensor([origin]), origin - start + 1, 3)
        with torch.no_grad():
            memory = model.eval().memories(windows)[:, -1]
            found = model.forecast_from(memory, windows, torch.tensor(LEVELS))
        tolerance = 1e-5 if kind == "direct" else 0.15  # paths are drawn: 2,000 each
        torch.testing.assert_close(
            one_pass.mean[index], found.mean[0], rtol=tolerance, atol=tolerance
        )


def test_the_order_of_origins_does_not_matter(given):
    series, flat = given
    model = network("direct", flat.layout)
    origins = find_origins(series, series.offsets[:-1], series.offsets[1:], 3)
    order = np.random.default_rng(0).permutation(len(origins))
    sorted_, mixed = (forecast_at(model, flat, o, LEVELS).mean for o in (origins, origins[order]))
    assert torch.equal(sorted_[order], mixed)


def task_on_all(given, **options):
    """A task that learns from every origin and is measured at every one."""
    series, flat = given
    origins = find_origins(series, series.offsets[:-1], series.offsets[1:], 3)
    truth = {name: truth_at(series, origins, 3) for name in ("valid", "test")}
    split = {name: origins for name in ("train", "valid", "test")}
    scale = scales(series, series.offsets[1:], 6)
    yardstick = Yardstick(("y",), ("real",), LEVELS, 6, scale, np.ones(1), series.owner)
    model = network("direct", flat.layout)
    return ForecastTask(model, flat, split, truth, yardstick, **options), origins


def rows_of(task, epoch):
    return torch.cat([task.batch(epoch, k) for k in range(task.batches_per_epoch())])


def test_epochs_read_every_window_once_at_stride_one_and_other_phases_else(given):
    task, origins = task_on_all(given, batch_size=2, seed=3)
    assert task.batches_per_epoch() > LEAST_BATCHES
    seen = rows_of(task, 0)
    assert sorted(seen.tolist()) == origins.tolist()
    assert torch.equal(seen, rows_of(task, 0))
    assert not torch.equal(task.batch(1, 0), task.batch(0, 0))
    wide, _ = task_on_all(given, batch_size=1, stride=2)
    epochs = [set(rows_of(wide, epoch).tolist()) for epoch in range(12)]
    assert all(len(epoch) == len(origins) // 2 for epoch in epochs)
    assert len(set.union(*epochs)) > 0.8 * len(origins)


def test_an_epoch_of_few_windows_draws_them_again(given):
    task, origins = task_on_all(given, batch_size=64)
    assert len(origins) < 19 * 64
    batches = [task.batch(0, k) for k in range(task.batches_per_epoch())]
    assert [len(batch) for batch in batches] == [64] * LEAST_BATCHES
    counts = torch.cat(batches).bincount()[torch.from_numpy(origins)]
    assert counts.max() - counts.min() <= 1


def test_a_wave_is_learned_to_its_noise(given):
    task, _ = task_on_all(given, batch_size=16)
    before = task.evaluate("valid")["score"]
    optimizer = torch.optim.Adam(task.model.parameters(), lr=0.02)
    for step in range(150):
        batch = task.batch(*divmod(step, task.batches_per_epoch()))
        loss = task.training_step(batch, None).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert task.evaluate("valid")["score"] < 0.35 * before
