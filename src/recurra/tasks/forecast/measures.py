"""All measures of a back-test: for each target, over all targets, and by step of the horizon."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra.data.forecast.series import SeriesSet
from recurra.tasks.forecast import metrics

Floats = NDArray[np.float64]
INTERVALS = (0.8, 0.95)
HIGHER_IS_BETTER = {"auc", "accuracy"}


@dataclass(frozen=True)
class Backtest:
    """Forecasts of every origin beside what happened.

    Attributes:
        origins: (origins,) flat rows.
        truth: (origins, horizon, targets), NaN where missing.
        mean: the same shape; of a yes/no target the probability.
        quantiles: (origins, horizon, targets, levels).
    """

    origins: NDArray[np.int64]
    truth: Floats
    mean: Floats
    quantiles: Floats


@dataclass(frozen=True)
class Yardstick:
    """What errors are measured against.

    Attributes:
        names, kinds: of the targets.
        levels: of the quantiles.
        season: steps.
        scale: (series, targets) `seasonal_scale` of the training rows, NaN where undefined.
        std: (targets,) deviation of the training rows.
        owner: (rows,) the series of each row.
        has_intervals: the quantiles differ; a point forecast's do not.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    levels: tuple[float, ...]
    season: int
    scale: Floats
    std: Floats
    owner: NDArray[np.int64]
    has_intervals: bool = True

    def undefined(self) -> int:
        """Series and targets for which MASE is not defined: constant in training."""
        real = [k for k, kind in enumerate(self.kinds) if kind != "yesno"]
        return int(np.isnan(self.scale[:, real]).sum())


def scales(series: SeriesSet, valid: NDArray[np.int64], season: int) -> Floats:
    """(series, targets) `seasonal_scale` of the rows before `valid`."""
    bounds = zip(series.offsets[:-1], valid, strict=True)
    return np.array(
        [
            [metrics.seasonal_scale(column, season) for column in series.targets[a:b].T]
            for a, b in bounds
        ]
    )


def truth_at(series: SeriesSet, origins: NDArray[np.int64], horizon: int) -> Floats:
    """(origins, horizon, targets) what happened after each origin."""
    rows = origins[:, None] + np.arange(1, horizon + 1)
    last = series.offsets[1:][series.owner[origins]]
    inside = rows < last[:, None]
    found = series.targets[np.minimum(rows, len(series.targets) - 1)]
    return np.where(inside[..., None], found, np.nan)


def measure(backtest: Backtest, yardstick: Yardstick) -> dict[str, Any]:
    """All measures.

    Returns:
        Means over the targets of a kind (`mae`, `mse`, `rmse`, `mase`, `smape`, `crps`, `wql`,
        `mse_scaled` and `mae_scaled` in units of the training deviation, `coverage_80` …; `brier`,
        `log_loss`, `auc`, `accuracy`), `forecasts` counted, and the same `by_target`. MASE is None
        where it is defined for no series; `mase_undefined` counts the constant ones. A target
        without forecasts is left out.
    """
    by_target = {
        name: {key: one() for key, one in _measures_of(backtest, yardstick, k).items()}
        for k, name in enumerate(yardstick.names)
        if not np.isnan(backtest.mean[..., k]).all()
    }
    result: dict[str, Any] = {}
    for name in dict.fromkeys(key for one in by_target.values() for key in one):
        values = [one[name] for one in by_target.values() if name in one]
        known = [value for value in values if value is not None]
        result[name] = float(np.mean(known)) if known else None
    if "mae" in result:
        result["mase_undefined"] = yardstick.undefined()
    result["forecasts"] = len(backtest.origins)
    return {**result, "by_target": by_target}


def by_horizon(
    backtest: Backtest, yardstick: Yardstick, names: Sequence[str]
) -> dict[str, dict[str, list[Any]]]:
    """Measures at each step of the horizon, by their name and by the target that has them."""
    found: dict[str, dict[str, list[Any]]] = {}
    for k, target in enumerate(yardstick.names):
        if np.isnan(backtest.mean[..., k]).all():
            continue
        steps = [
            _measures_of(backtest, yardstick, k, slice(h, h + 1))
            for h in range(backtest.truth.shape[1])
        ]
        for name in names:
            if name in steps[0]:
                found.setdefault(name, {})[target] = [step[name]() for step in steps]
    return found


def score(backtest: Backtest, yardstick: Yardstick, is_squared: bool = False) -> float:
    """One number to choose a model by; lower is better; mean over the targets.

    CRPS in units of the series' seasonal scale, the log loss of a yes/no target, or with
    `is_squared` the squared error in units of the training deviation.
    """
    values = []
    owner = yardstick.owner[backtest.origins]
    for k, kind in enumerate(yardstick.kinds):
        truth, mean = backtest.truth[..., k], backtest.mean[..., k]
        if kind == "yesno":
            values.append(metrics.log_loss(truth, mean))
        elif is_squared:
            values.append(metrics.mse(truth / yardstick.std[k], mean / yardstick.std[k]))
        else:
            levels = np.array(yardstick.levels)
            each = metrics.crps_each(truth, backtest.quantiles[..., k, :], levels)
            scale = yardstick.scale[owner, k]
            scale = np.where(np.isnan(scale), yardstick.std[k], scale)
            values.append(metrics.mae(each / scale[:, None], np.zeros_like(each)))
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("inf")


def _measures_of(
    backtest: Backtest, yardstick: Yardstick, k: int, steps: slice = slice(None)
) -> dict[str, Callable[[], float | None]]:
    """What computes each measure of target k at some steps of the horizon."""
    truth, mean = backtest.truth[:, steps, k], backtest.mean[:, steps, k]
    if yardstick.kinds[k] == "yesno":
        return {
            "brier": lambda: metrics.brier(truth, mean),
            "log_loss": lambda: metrics.log_loss(truth, mean),
            "auc": lambda: metrics.auc(truth, mean),
            "accuracy": lambda: metrics.accuracy(truth, mean),
        }
    quantiles = backtest.quantiles[:, steps, k]
    levels = np.array(yardstick.levels)
    median = quantile(quantiles, yardstick.levels, 0.5)
    std = yardstick.std[k]
    scale = yardstick.scale[yardstick.owner[backtest.origins], k]
    found: dict[str, Callable[[], float | None]] = {
        "mae": lambda: metrics.mae(truth, median),
        "mse": lambda: metrics.mse(truth, mean),
        "rmse": lambda: metrics.rmse(truth, mean),
        "mase": lambda: metrics.mase(truth, median, scale),
        "smape": lambda: metrics.smape(truth, median),
        "crps": lambda: metrics.crps(truth, quantiles, levels),
        "wql": lambda: metrics.weighted_quantile_loss(truth, quantiles, levels),
        "mse_scaled": lambda: metrics.mse(truth / std, mean / std),
        "mae_scaled": lambda: metrics.mae(truth / std, median / std),
    }
    if yardstick.has_intervals:
        for width in INTERVALS:
            ends = interval(quantiles, yardstick.levels, width)
            found[f"coverage_{round(100 * width)}"] = partial(metrics.coverage, truth, *ends)
    return found


def quantile(quantiles: Floats, levels: Sequence[float], level: float) -> Floats:
    """A quantile at any level, straight between the nearest two; the outermost beyond them."""
    upper = int(np.searchsorted(levels, level - 1e-9))
    if upper == 0 or upper == len(levels) or abs(levels[upper] - level) < 1e-9:
        return quantiles[..., min(upper, len(levels) - 1)]
    low, high = levels[upper - 1], levels[upper]
    share = (level - low) / (high - low)
    return (1 - share) * quantiles[..., upper - 1] + share * quantiles[..., upper]


def interval(quantiles: Floats, levels: Sequence[float], width: float) -> tuple[Floats, Floats]:
    """Ends of the central interval that holds `width` of the probability."""
    return (
        quantile(quantiles, levels, (1 - width) / 2),
        quantile(quantiles, levels, (1 + width) / 2),
    )
