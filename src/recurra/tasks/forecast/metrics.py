"""How good forecasts are, each measure as its source defines it; missing values never count.

Arrays are float64; truth is NaN where nothing was observed. Every measure is the mean over all
observed values unless it says otherwise, and None where there is none to measure.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def mae(truth: Floats, forecast: Floats) -> float | None:
    """Mean absolute error, in the target's unit.

    Example:
        >>> mae(np.array([1.0, 2.0, np.nan]), np.array([2.0, 2.0, 9.0]))
        0.5
    """
    return _mean(np.abs(truth - forecast))


def mse(truth: Floats, forecast: Floats) -> float | None:
    """Mean squared error, in the target's unit squared."""
    return _mean((truth - forecast) ** 2)


def rmse(truth: Floats, forecast: Floats) -> float | None:
    """Root of the mean squared error, in the target's unit."""
    found = mse(truth, forecast)
    return None if found is None else float(np.sqrt(found))


def smape(truth: Floats, forecast: Floats) -> float | None:
    """Symmetric mean absolute percentage error, 0 to 200 (Makridakis et al. 2020); 0/0 counts 0.

    Example:
        >>> smape(np.array([100.0, 0.0]), np.array([60.0, 0.0]))
        25.0
    """
    size = np.abs(truth) + np.abs(forecast)
    error = np.abs(truth - forecast)
    return _mean(
        200 * np.divide(error, size, out=np.where(np.isnan(size), np.nan, 0.0), where=size > 0)
    )


def seasonal_scale(values: Floats, season: int) -> float:
    """Mean |y_t − y_{t−season}| of a series: what MASE divides by (Hyndman & Koehler 2006).

    NaN where it is not defined: a constant series, or one no longer than a season. There, a season
    of 1 is tried before giving up.

    Example:
        >>> seasonal_scale(np.array([1.0, 3.0, 2.0, 5.0]), 2)
        1.5
        >>> seasonal_scale(np.ones(9), 1)
        nan
    """
    for lag in dict.fromkeys((season, 1)):
        steps = np.abs(values[lag:] - values[:-lag]) if len(values) > lag else values[:0]
        steps = steps[~np.isnan(steps)]
        if len(steps) and steps.mean() > 0:
            return float(steps.mean())
    return float("nan")


def mase(truth: Floats, forecast: Floats, scale: Floats) -> float | None:
    """Mean absolute scaled error.

    Args:
        truth, forecast: (origins, horizon).
        scale: (origins,) `seasonal_scale` of each origin's series; NaN leaves its series out, so
            that a constant one makes no infinity.
    """
    return _mean(np.abs(truth - forecast) / scale[:, None])


def owa(smape_: float, mase_: float, naive_smape: float, naive_mase: float) -> float | None:
    """Overall weighted average of the M4 competition: sMAPE and MASE over those of Naive2.

    Example:
        >>> owa(9.0, 1.0, 18.0, 2.0)
        0.5
    """
    if not naive_smape or not naive_mase:
        return None
    return (smape_ / naive_smape + mase_ / naive_mase) / 2


def pinball(truth: Floats, quantiles: Floats, levels: Floats) -> Floats:
    """Loss of each quantile: τ(y − q) above it and (1 − τ)(q − y) below it; (…, levels)."""
    error = truth[..., None] - quantiles
    return np.maximum(levels * error, (levels - 1) * error)


def crps(truth: Floats, quantiles: Floats, levels: Floats) -> float | None:
    """Continuous ranked probability score, in the target's unit.

    Twice the integral of the pinball loss over the levels (Gneiting & Raftery 2007), by the
    trapezoidal rule, with the first and the last loss going to 0 at levels 0 and 1.
    """
    found: float | None = _mean(crps_each(truth, quantiles, levels))
    return found


def crps_each(truth: Floats, quantiles: Floats, levels: Floats) -> Floats:
    """`crps` of each value, the shape of `truth`."""
    knots = np.concatenate([[0.0], levels, [1.0]])
    weights = (knots[2:] - knots[:-2]) / 2
    found: Floats = 2 * (pinball(truth, quantiles, levels) * weights).sum(axis=-1)
    return found


def weighted_quantile_loss(truth: Floats, quantiles: Floats, levels: Floats) -> float | None:
    """2 Σ pinball / Σ |y|, mean over the levels (Salinas et al. 2020's ρ-risk, averaged)."""
    seen = ~np.isnan(truth)
    size = np.abs(truth[seen]).sum()
    if not size:
        return None
    return float(2 * pinball(truth[seen], quantiles[seen], levels).sum() / size / len(levels))


def coverage(truth: Floats, low: Floats, high: Floats) -> float | None:
    """Share of the values that lie in their intervals, ends included."""
    inside = ((truth >= low) & (truth <= high)).astype(np.float64)
    return _mean(np.where(np.isnan(truth), np.nan, inside))


def brier(truth: Floats, probability: Floats) -> float | None:
    """Mean squared error of a probability of yes (Brier 1950); truth is 1 or 0."""
    return mse(truth, probability)


def log_loss(truth: Floats, probability: Floats) -> float | None:
    """Mean −log p of what happened, in nats; probabilities are kept 1e-6 from 0 and 1."""
    safe = np.clip(probability, 1e-6, 1 - 1e-6)
    return _mean(-(truth * np.log(safe) + (1 - truth) * np.log1p(-safe)))


def accuracy(truth: Floats, probability: Floats) -> float | None:
    """Share of right answers when yes is said from one half on."""
    right = ((probability >= 0.5) == (truth > 0.5)).astype(np.float64)
    return _mean(np.where(np.isnan(truth), np.nan, right))


def auc(truth: Floats, probability: Floats) -> float | None:
    """Probability that a yes has a higher forecast than a no, ties half; None without both.

    Example:
        >>> auc(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.4, 0.35, 0.8]))
        0.75
    """
    seen = ~np.isnan(truth)
    yes = truth[seen] > 0.5
    positives, negatives = int(yes.sum()), int((~yes).sum())
    if not positives or not negatives:
        return None
    _, inverse, counts = np.unique(probability[seen], return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # mean rank of ties, from 1
    rank_sum = ranks[yes].sum() - positives * (positives + 1) / 2
    return float(rank_sum / positives / negatives)


def reliability(truth: Floats, probability: Floats, bins: int = 10) -> list[dict[str, float]]:
    """How often it was yes, by the probability that was given: rows for a reliability plot.

    Returns:
        One row for each bin with forecasts: `probability` (mean), `frequency`, `count`.
    """
    seen = ~np.isnan(truth)
    y, p = truth[seen], probability[seen]
    index = np.minimum((p * bins).astype(int), bins - 1)
    rows = []
    for k in range(bins):
        own = index == k
        if own.any():
            row = {"probability": float(p[own].mean()), "frequency": float(y[own].mean())}
            rows.append({**row, "count": int(own.sum())})
    return rows


def calibration(
    truth: Floats, quantiles: Floats, levels: Sequence[float]
) -> list[dict[str, float]]:
    """Share of the values below each quantile, which should be its level: rows for a plot."""
    seen = ~np.isnan(truth)
    below = truth[seen][:, None] <= quantiles[seen]
    return [
        {"level": float(level), "share": float(below[:, k].mean())}
        for k, level in enumerate(levels)
    ]


def _mean(values: Floats) -> float | None:
    seen = values[~np.isnan(values)]
    return float(seen.mean()) if len(seen) else None
