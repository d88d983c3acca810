"""The forecasting job: table, baselines, network, figures, run folder."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.data.forecast import weather
from recurra.jobs import run_folder
from recurra.jobs.forecast.autoets import autoets_points
from recurra.jobs.forecast.config import ForecastConfig
from recurra.jobs.forecast.continuation import continuation_of
from recurra.jobs.forecast.dataset import Dataset, fingerprint, read_dataset
from recurra.jobs.forecast.forecaster import Forecaster
from recurra.jobs.forecast.network import build_network
from recurra.jobs.machine import provenance
from recurra.jobs.training import check_same_data, fit_network
from recurra.tasks.forecast import metrics
from recurra.tasks.forecast.baselines import (
    History,
    baseline_forecast,
    baseline_points,
    error_quantiles,
    naive2,
)
from recurra.tasks.forecast.measures import Backtest, by_horizon, measure, quantile
from recurra.tasks.forecast.task import ForecastTask
from recurra.training.progress import Reporter
from recurra.training.ranks import is_main_process

if TYPE_CHECKING:
    import polars

EXAMPLES = 3  # forecasts drawn in the report
CONTEXT = 3  # horizons of history drawn before each


def train(
    config: ForecastConfig,
    folder: Path,
    reporter: Reporter,
    *,
    table: "polars.DataFrame | None" = None,
    data: Dataset | None = None,
    keep: bool = True,
) -> Forecaster | None:
    """Train, measure and describe a forecaster in its folder.

    Args:
        config: resolved.
        folder: for the log and the checkpoints, and the rest if `keep`.
        reporter: shows the progress.
        table: the data, if it is in memory only.
        data: the data, if it was prepared already.
        keep: write the model and its figures.

    Returns:
        The model; `None` on all processes but the first.
    """
    started_s = time.monotonic()
    if data is None:
        with reporter.stage("reading the table"):
            data = read_dataset(config, table)
    check_same_data(folder, fingerprint(data.series))
    baselines: dict[str, Any] = {}
    if is_main_process():
        with reporter.stage("measuring baselines"):
            baselines = measure_baselines(config, data)
    task = build_task(config, data)
    outcome = fit_network(task, config, folder, reporter, config.description())
    if outcome is None:
        return None
    with reporter.stage("back-testing on valid and test"):
        found = {split: task.backtest(split) for split in ("valid", "test")}
        figures = _metrics(config, data, task, found, baselines)
    figures |= {
        "seconds": round(outcome.seconds, 3),
        "windows_per_s": round(outcome.units_per_s, 1),
        **provenance(config.seed),
        "training": outcome.facts(),
        "data": {**data.facts(), "in_memory": table is not None},
    }
    with reporter.stage("reading all rows, to go on from"):
        state = continuation_of(task.model, data.series, task.flat)
    figures["total_seconds"] = round(time.monotonic() - started_s, 3)
    rows = run_folder.read_rows(folder)
    model = Forecaster(task.model, data.schema, state, config, figures, rows, table=table)
    if keep:
        with reporter.stage("writing the run folder and its report"):
            model.write(folder)
    return model


def build_task(config: ForecastConfig, data: Dataset) -> ForecastTask:
    """The untrained network with its windows."""
    model = build_network(config, data)
    windows = config.windows
    learns_everywhere = config.model == "direct" and model.is_streaming
    stride = windows.stride or (max(1, windows.window // 4) if learns_everywhere else 1)
    return ForecastTask(
        model,
        data.flat,
        data.origins,
        data.truth,
        data.yardstick,
        batch_size=windows.batch_size,
        stride=stride,
        seed=config.seed,
        is_squared=config.head() == "mse",
    )


def history_of(config: ForecastConfig, data: Dataset) -> History:
    """What baselines know of the data."""
    return History(
        data.series,
        data.partition.is_train(data.series),
        data.origins["train"],
        config.windows.horizon,
        data.yardstick,
    )


def measure_baselines(config: ForecastConfig, data: Dataset) -> dict[str, Any]:
    """Metrics of every baseline on valid and test; `best_possible` where it is known."""
    history = history_of(config, data)
    points = baseline_points(history)
    if config.autoets:
        points["autoets"] = autoets_points(history)
    figures: dict[str, Any] = {}
    for name, point in points.items():
        widths = error_quantiles(history, name, point)
        found = {}
        for split in ("valid", "test"):
            origins = data.origins[split]
            own = baseline_forecast(history, point, widths, origins)
            found[split] = Backtest(origins, data.truth[split], *own)
        figures[name] = _figures(data, found)
    if data.simulated is not None:
        best = {split: best_backtest(config, data, split) for split in ("valid", "test")}
        if best["test"] is not None:
            figures["best_possible"] = _figures(data, best)
    return figures


def best_backtest(config: ForecastConfig, data: Dataset, split: str) -> Backtest | None:
    """The generator's own forecast of the embedded weather; None for other targets than its two."""
    assert data.simulated is not None
    yardstick, origins = data.yardstick, data.origins[split]
    if any(name not in ("rain>0", "temperature") for name in yardstick.names):
        return None
    levels = np.array(yardstick.levels)
    best = weather.best_forecast(data.simulated, origins, config.windows.horizon, levels)
    columns = {
        "rain>0": (best.rain, (levels > 1 - best.rain[..., None]).astype(np.float64)),
        "temperature": (best.temperature, best.quantiles),
    }
    chosen = [columns[name] for name in yardstick.names]
    mean = np.stack([mean for mean, _ in chosen], axis=2)
    return Backtest(origins, data.truth[split], mean, np.stack([q for _, q in chosen], axis=2))


def overall_weighted_average(
    config: ForecastConfig, data: Dataset, figures: Mapping[str, Any], split: str
) -> float | None:
    """OWA against Naive2; None where a target is not positive or MASE is undefined."""
    if any(kind == "yesno" for kind in data.yardstick.kinds) or figures.get("mase") is None:
        return None
    if np.nanmin(data.series.targets) <= 0:
        return None
    origins, truth = data.origins[split], data.truth[split]
    mean = naive2(history_of(config, data), origins)
    quantiles = np.repeat(mean[..., None], len(data.yardstick.levels), axis=-1)
    naive = measure(Backtest(origins, truth, mean, quantiles), data.yardstick)
    return metrics.owa(figures["smape"], figures["mase"], naive["smape"], naive["mase"])


def _figures(data: Dataset, found: Mapping[str, Any]) -> dict[str, Any]:
    test = found["test"]
    return {
        **{split: measure(backtest, data.yardstick) for split, backtest in found.items()},
        "by_horizon": by_horizon(test, data.yardstick, ("mae", "crps", "brier")),
    }


def _metrics(
    config: ForecastConfig,
    data: Dataset,
    task: ForecastTask,
    found: Mapping[str, Backtest],
    baselines: Mapping[str, Any],
) -> dict[str, Any]:
    own = _figures(data, found)
    network: Any = task.model
    average = overall_weighted_average(config, data, own["test"], "test")
    if average is not None:
        own["test"]["owa"] = average
    baselines = dict(baselines)
    best = baselines.pop("best_possible", None)
    return {
        "task": "forecast",
        "model": config.model,
        "description": config.description(),
        "horizon": config.windows.horizon,
        "window": config.windows.window,
        "scaling": network.scaling.kind,
        **own,
        "baselines": baselines,
        **({"best_possible": best} if best is not None else {}),
        "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
        "calibration": _calibration(found["test"], data),
        "examples": _examples(config, found["test"], data),
    }


def _calibration(backtest: Backtest, data: Dataset) -> dict[str, Any]:
    """Rows for the calibration plot of each target."""
    levels = data.yardstick.levels
    rows: dict[str, Any] = {}
    for k, (name, kind) in enumerate(zip(data.yardstick.names, data.yardstick.kinds, strict=True)):
        truth = backtest.truth[..., k]
        if kind == "yesno":
            rows[name] = {"reliability": metrics.reliability(truth[:, 0], backtest.mean[:, 0, k])}
        elif data.yardstick.has_intervals:
            quantiles = backtest.quantiles[..., k, :]
            rows[name] = {"quantiles": metrics.calibration(truth, quantiles, levels)}
    return rows


def _examples(config: ForecastConfig, backtest: Backtest, data: Dataset) -> list[dict[str, Any]]:
    """A few forecasts of test, evenly spread, with what was before and what came."""
    horizon, levels = config.windows.horizon, data.yardstick.levels
    series, frequency = data.series, data.schema.frequency
    picked = np.linspace(0, len(backtest.origins) - 1, EXAMPLES + 2)[1:-1].round().astype(int)
    examples = []
    for index in np.unique(picked):
        origin = int(backtest.origins[index])
        owner = int(series.owner[origin])
        first = max(int(series.offsets[owner]), origin + 1 - CONTEXT * max(horizon, 8))
        place = int(series.positions[origin])
        targets = {}
        for k, name in enumerate(data.yardstick.names):
            quantiles = backtest.quantiles[index, :, k]
            targets[name] = {
                "kind": data.yardstick.kinds[k],
                "before": _plain(series.targets[first : origin + 1, k]),
                "truth": _plain(backtest.truth[index, :, k]),
                "mean": _plain(backtest.mean[index, :, k]),
                **{
                    f"q{level:g}": _plain(quantile(quantiles, levels, level))
                    for level in (0.025, 0.1, 0.5, 0.9, 0.975)
                },
            }
        time_text = frequency.text(int(frequency.times(np.array([place]))[0]))
        examples.append({"series": series.ids[owner], "origin": time_text, "targets": targets})
    return examples


def _plain(values: Any) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 6) for value in values]
