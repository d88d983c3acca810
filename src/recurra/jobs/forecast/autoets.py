"""AutoETS of statsforecast as a baseline; it comes with `pip install 'recurra[baselines]'`."""

import numpy as np
from numpy.typing import NDArray

from recurra.errors import ConfigError
from recurra.tasks.forecast.baselines import History, Points

LONGEST_SEASON = 24  # of exponential smoothing, as its authors advise


def autoets_points(history: History) -> Points:
    """Forecasts of models that are chosen on the training rows of each series.

    The model of each series and its parameters are fixed at the end of training; from there it
    filters each new row, so that every origin is forecast from all rows before it.

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

    def points(origins: NDArray[np.int64]) -> NDArray[np.float64]:
        targets = series.targets.shape[1]
        found = np.full((len(origins), history.horizon, targets), np.nan)
        owner = series.owner[origins]
        for s in np.unique(owner):
            own = np.flatnonzero(owner == s)
            rows = slice(int(series.offsets[s]), int(series.offsets[s + 1]))
            train = history.is_train[rows]
            for k, kind in enumerate(history.yardstick.kinds):
                values = series.targets[rows, k]
                if kind == "yesno" or np.isnan(values).any():
                    continue
                model = AutoETS(season_length=season).fit(values[train])
                for index in own:
                    seen = values[: origins[index] - rows.start + 1]
                    found[index, :, k] = model.forward(seen, h=history.horizon)["mean"]
        return found

    return points
