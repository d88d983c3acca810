"""AutoETS of statsforecast as a baseline; it comes with `pip install 'recurra[baselines]'`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra.errors import ConfigError
from recurra.tasks.forecast.baselines import History, Points, last_seen

LONGEST_SEASON = 24  # of exponential smoothing, as its authors advise
FEWEST_ROWS = 7  # that statsforecast fits a model to


def autoets_points(history: History) -> Points:
    """Forecasts of exponential smoothing, its kind chosen on the training rows of each series.

    The model of each series and its parameters are fixed at the end of training; from there it
    filters each new row, so that every origin is forecast from all rows before it. A row without a
    value takes that of a season before, since AutoETS knows no gaps. A series with fewer than
    `FEWEST_ROWS` rows of training, or constant there, is forecast by its last value, as smoothing
    would; so is an origin before which nothing has changed. A yes/no target has no forecast (NaN).

    Raises:
        ConfigError: statsforecast is not installed.
    """
    try:
        from statsforecast.models import AutoETS
    except ImportError as error:
        raise ConfigError(
            "autoets=true needs statsforecast: pip install 'recurra[baselines]', or leave it out"
        ) from error
    series, season = history.series, history.yardstick.season
    season = season if season <= LONGEST_SEASON else 1
    last, values = last_seen(history), _without_gaps(history, season)
    real = [k for k, kind in enumerate(history.yardstick.kinds) if kind != "yesno"]
    fitted: dict[tuple[int, int], Any] = {}
    for s, (first, end) in enumerate(zip(series.offsets[:-1], series.offsets[1:], strict=True)):
        for k in real:
            train = values[first:end, k][history.is_train[first:end]]
            if len(train) >= FEWEST_ROWS and _changes(train):
                with np.errstate(divide="ignore"):  # the criterion of a kind with too few rows
                    fitted[s, k] = AutoETS(season_length=season).fit(train)

    def points(origins: NDArray[np.int64]) -> NDArray[np.float64]:
        found = np.full((len(origins), history.horizon, values.shape[1]), np.nan)
        for index, origin in enumerate(origins):
            s = int(series.owner[origin])
            for k in real:
                seen = values[series.offsets[s] : origin + 1, k]
                model = fitted.get((s, k))
                if model is None or not _changes(seen):
                    found[index, :, k] = last[origin, k]
                else:
                    found[index, :, k] = model.forward(seen, h=history.horizon)["mean"]
        return found

    return points


def _without_gaps(history: History, season: int) -> NDArray[np.float64]:
    """(rows, targets) with the value of a season before where one is missing, or else the last."""
    series, values = history.series, last_seen(history)
    for row, k in np.argwhere(np.isnan(series.targets)):  # in order, so that long gaps fill up
        before = row - season
        if before >= series.offsets[series.owner[row]]:
            values[row, k] = values[before, k]
    return values


def _changes(values: NDArray[np.float64]) -> bool:
    return bool((values != values[0]).any())
