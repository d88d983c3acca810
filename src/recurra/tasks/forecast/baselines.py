"""Forecasts that a model has to beat: last value, seasonal naive, climatology, Markov chain.

Each gives the mean and quantiles of every origin, in the targets' units. Quantiles are the mean
plus the quantiles of the same baseline's errors in training, at each step of the horizon, in units
of each series' seasonal scale; nothing is learned from valid or test.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recurra.data.forecast.frequency import local_clock
from recurra.data.forecast.series import SeriesSet
from recurra.data.forecast.times import DAY
from recurra.tasks.forecast.measures import Yardstick, truth_at

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Points = Callable[[Ints], Floats]

MOST_ORIGINS = 4000  # of the training rows that errors are taken from
NEAR_DAYS = 10  # of a day of the year, in its climatology
POINT_FORECASTS = {"last_value", "seasonal_naive", "autoets"}
SEASONS_BACK = 4  # that a seasonal naive forecast looks for a value


@dataclass(frozen=True)
class History:
    """What baselines know.

    Attributes:
        series: all rows; what lies after an origin is not looked at.
        is_train: (rows,) what averages may be taken from.
        train_origins: flat rows whose whole horizon is in training.
        horizon: steps.
        yardstick: kinds, levels, scales.
    """

    series: SeriesSet
    is_train: NDArray[np.bool_]
    train_origins: Ints
    horizon: int
    yardstick: Yardstick


def baseline_points(history: History) -> dict[str, Points]:
    """By name, what gives (origins, horizon, targets) means; NaN where a baseline has no say."""
    found: dict[str, Points] = {
        "last_value": lambda origins: _last_value(history, origins),
        "seasonal_naive": lambda origins: _seasonal_naive(history, origins),
        "climatology": _climatology(history),
    }
    if history.yardstick.season <= 1:
        del found["seasonal_naive"]
    if "yesno" in history.yardstick.kinds:
        found["markov_chain"] = _markov_chain(history)
    return found


def error_quantiles(history: History, name: str, points: Points) -> Floats:
    """Quantiles of a baseline's errors in training, (horizon, targets, levels), in units of scale.

    Those of a point forecast lie around it, so that its MAE and MASE are its own, as they are
    published; a mean's may lie anywhere, so that climatology knows its median.
    """
    yardstick, series, some = history.yardstick, history.series, history.train_origins
    within = some - series.offsets[:-1][series.owner[some]]
    has_season = within + 1 >= yardstick.season
    some = some[has_season] if has_season.any() else some
    some = some[:: -(-len(some) // MOST_ORIGINS)]
    errors = truth_at(series, some, history.horizon) - points(some)
    errors = errors / _scale(history)[series.owner[some]][:, None]
    levels = np.array(yardstick.levels)
    widths = np.zeros((*errors.shape[1:], len(levels)))
    for h, k in np.ndindex(errors.shape[1:]):
        seen = errors[:, h, k][~np.isnan(errors[:, h, k])]
        if len(seen):
            middle = np.median(seen) if name in POINT_FORECASTS else 0.0
            widths[h, k] = np.quantile(seen, levels) - middle
    return widths


def baseline_forecast(
    history: History, points: Points, widths: Floats, origins: Ints
) -> tuple[Floats, Floats]:
    """Means and quantiles (origins, horizon, targets, levels) of a baseline."""
    yardstick = history.yardstick
    mean, levels = points(origins), np.array(yardstick.levels)
    here = _scale(history)[history.series.owner[origins]][:, None, :, None]
    quantiles = mean[..., None] + here * widths
    for k, kind in enumerate(yardstick.kinds):
        if kind == "yesno":
            quantiles[:, :, k] = levels > 1 - mean[:, :, k, None]
    return mean, quantiles


def _scale(history: History) -> Floats:
    """(series, targets) the seasonal scale, or the deviation where that is not defined."""
    yardstick = history.yardstick
    return np.where(np.isnan(yardstick.scale), yardstick.std, yardstick.scale)


def last_seen(history: History) -> Floats:
    """(rows, targets) the last value up to each row; the training mean before the first."""
    series = history.series
    rows = np.arange(len(series.targets))
    first = series.offsets[:-1][series.owner]
    filled = np.empty_like(series.targets)
    for k in range(series.targets.shape[1]):
        column = series.targets[:, k]
        last = np.maximum.accumulate(np.where(np.isnan(column), -1, rows))
        overall = np.nanmean(np.where(history.is_train, column, np.nan))
        filled[:, k] = np.where(last >= first, column[last], overall)
    return filled


def _last_value(history: History, origins: Ints) -> Floats:
    """The last value seen, for all steps: persistence."""
    return np.repeat(last_seen(history)[origins][:, None], history.horizon, axis=1)


def _seasonal_naive(history: History, origins: Ints) -> Floats:
    """The value a season before, or more seasons where that is missing; else the last value."""
    series, season = history.series, history.yardstick.season
    found = _last_value(history, origins)
    missing = np.ones(found.shape, dtype=bool)
    first = series.offsets[:-1][series.owner[origins]][:, None]
    ahead = np.arange(1, history.horizon + 1)
    for back in range(SEASONS_BACK):
        rows = origins[:, None] + ahead - season * (-(-ahead // season) + back)
        values = series.targets[np.maximum(rows, 0)]
        is_new = missing & (rows >= first)[..., None] & ~np.isnan(values)
        found = np.where(is_new, values, found)
        missing &= ~is_new
    return found


def _bins(series: SeriesSet, positions: Ints, season: int) -> tuple[Ints, int, int]:
    """The place in the year (or season) of positions, how many there are, and how far to look."""
    frequency = series.frequency
    if frequency.kind == "step":
        return positions % season, season, 0
    if frequency.kind == "month":
        count = max(1, 12 // frequency.count)
        return positions % count, count, 0
    times = local_clock(frequency, frequency.times(positions.ravel())).reshape(positions.shape)
    moment = times.astype("datetime64[us]")
    if frequency.count >= DAY:
        year = moment.astype("datetime64[Y]").astype("datetime64[D]")
        return (moment.astype("datetime64[D]") - year).astype(np.int64), 366, NEAR_DAYS
    month = moment.astype("datetime64[M]").astype(np.int64) % 12
    a_day = max(1, DAY // frequency.count)
    return month * a_day + times % DAY // frequency.count, 12 * a_day, 0


def _climatology(history: History) -> Points:
    """Training mean of the same time of the year (and of the day), or of the season."""
    series, season = history.series, history.yardstick.season
    bins, count, near = _bins(series, series.positions, max(season, 1))
    targets = series.targets.shape[1]
    sums, counts = np.zeros((2, len(series), count, targets))
    train = history.is_train
    for k in range(targets):
        seen = train & ~np.isnan(series.targets[:, k])
        np.add.at(sums[..., k], (series.owner[seen], bins[seen]), series.targets[seen, k])
        np.add.at(counts[..., k], (series.owner[seen], bins[seen]), 1.0)
    if near:
        shifts = range(-near, near + 1)
        sums, counts = (
            np.sum([np.roll(part, shift, axis=1) for shift in shifts], axis=0)
            for part in (sums, counts)
        )
    total, number = sums.sum(axis=1, keepdims=True), counts.sum(axis=1, keepdims=True)
    overall = total.sum(axis=0) / np.maximum(number.sum(axis=0), 1)
    own = np.where(number > 0, total / np.maximum(number, 1), overall)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), own)

    def points(origins: Ints) -> Floats:
        ahead = series.positions[origins][:, None] + np.arange(1, history.horizon + 1)
        places, _, _ = _bins(series, ahead, max(season, 1))
        found: Floats = means[series.owner[origins][:, None], places]
        return found

    return points


def _markov_chain(history: History) -> Points:
    """How often it was yes k steps after a yes and after a no, in training; yes/no targets only."""
    series, kinds = history.series, history.yardstick.kinds
    truth = truth_at(series, history.train_origins, history.horizon)
    last = last_seen(history)
    chances = np.full((2, history.horizon, len(kinds)), np.nan)
    for k, kind in enumerate(kinds):
        if kind != "yesno":
            continue
        for value in (0, 1):
            own = truth[last[history.train_origins, k].round() == value, :, k]
            known = np.maximum((~np.isnan(own)).sum(axis=0), 1)
            chances[value, :, k] = (np.nansum(own, axis=0) + 0.5) / (known + 1)

    def points(origins: Ints) -> Floats:
        today = last[origins].round().clip(0, 1).astype(int)
        return np.stack([chances[today[:, k], :, k] for k in range(len(kinds))], axis=-1)

    return points


def naive2(history: History, origins: Ints) -> Floats:
    """The last value after a seasonal adjustment, (origins, horizon, targets): M4's benchmark.

    Series whose autocorrelation at the season is significant at 90 % are divided by classical
    multiplicative seasonal indices of their training rows (Makridakis et al. 2020); others, and
    those with values that are not positive, are forecast by their last value.
    """
    series, season = history.series, history.yardstick.season
    filled = last_seen(history)
    indices = np.ones((len(series), season, series.targets.shape[1]))
    if season > 1:
        for s, (a, b) in enumerate(zip(series.offsets[:-1], series.offsets[1:], strict=True)):
            for k in range(series.targets.shape[1]):
                own = filled[a:b, k][history.is_train[a:b]]
                if len(own) >= 3 * season and own.min() > 0 and is_seasonal(own, season):
                    indices[s, :, k] = seasonal_indices(own, season)
    owner = series.owner[origins]
    within = origins - series.offsets[:-1][owner]
    ahead = within[:, None] + np.arange(1, history.horizon + 1)
    level = filled[origins] / indices[owner, within % season]
    found: Floats = level[:, None] * indices[owner[:, None], ahead % season]
    return found


def is_seasonal(values: Floats, season: int) -> bool:
    """M4's test: |r_season| > 1.645 √((1 + 2 Σ_{i<season} r_i²) / n)."""
    centred = values - values.mean()
    variance = float((centred**2).sum())
    if variance == 0:
        return False
    r = np.array(
        [(centred[lag:] * centred[:-lag]).sum() / variance for lag in range(1, season + 1)]
    )
    limit = 1.645 * np.sqrt((1 + 2 * (r[:-1] ** 2).sum()) / len(values))
    return bool(abs(r[-1]) > limit)


def seasonal_indices(values: Floats, season: int) -> Floats:
    """Classical multiplicative indices, of mean 1: ratios to a centred moving average.

    Example:
        >>> seasonal_indices(np.tile([1.0, 3.0], 6), 2).tolist()
        [0.5, 1.5]
    """
    kernel = np.ones(season) / season
    if season % 2 == 0:
        kernel = np.convolve(kernel, [0.5, 0.5])
    half = len(kernel) // 2
    trend = np.convolve(values, kernel, "valid")
    ratios = values[half : half + len(trend)] / trend
    places = np.arange(half, half + len(trend)) % season
    means = np.array([ratios[places == place].mean() for place in range(season)])
    found: Floats = means * season / means.sum()
    return found
