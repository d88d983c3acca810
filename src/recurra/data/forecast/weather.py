"""Simulated daily weather, and the best forecast that anybody could make of it.

A stochastic weather generator after Richardson 1981 (Water Resources Research 17(1)): a two-state
Markov chain of dry and wet days with seasonal probabilities, gamma amounts on wet days, and the
other variables as seasonal means and deviations, which depend on dry or wet, with residuals that
follow a first-order autoregression. Nothing here was ever measured anywhere.

    P(rain on day t+1 | day t) = σ(a_w(t+1) − b·z_p(t))          w: dry or wet on day t
    x_t = m_w(t) + s_w·z_t        z_t = ρ z_{t-1} + √(1−ρ²) ε_t   for temperature, pressure, …

Differs from Richardson: the chance of rain also depends on the pressure of the day before, so that
there is something to see in more than one column; and residuals of different variables are
independent, so that the best forecast is known.
"""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars

Floats = NDArray[np.float64]
Seasons = tuple[tuple[tuple[float, float], float], tuple[tuple[float, float], float]]

FIRST_DAY, YEARS, SEED = date(1990, 1, 1), 30, 1981
CHANCE = ((-1.35, 0.45), (0.25, 0.25))  # logit of rain after a dry and a wet day: mean, amplitude
PRESSURE_EFFECT = 1.1
PERSISTENCE = {"temperature": 0.8, "pressure": 0.75, "humidity": 0.5, "wind": 0.4}
# Seasonal mean as (mean, amplitude), deviation; on dry and on wet days. Peaks on day 200.
TEMPERATURE = (((11.0, 10.5), 3.6), ((9.5, 8.0), 2.8))
PRESSURE = (((1018.0, -2.0), 6.0), ((1009.0, -2.0), 7.0))
HUMIDITY = (((66.0, -8.0), 9.0), ((84.0, -5.0), 6.0))
WIND = (((1.1, -0.15), 0.35), ((1.5, -0.15), 0.35))  # of the logarithm
GRID = np.linspace(-5.0, 5.0, 81)  # of the pressure's residual, for sums over its paths


@dataclass(frozen=True)
class BestForecast:
    """The generator's own forecast, from all that can be seen on the day of the origin.

    Attributes:
        rain: (days, horizon) probability that it rains.
        temperature: (days, horizon) expectation.
        quantiles: (days, horizon, levels) of the temperature.
    """

    rain: Floats
    temperature: Floats
    quantiles: Floats


def simulate(years: int = YEARS, seed: int = SEED) -> "polars.DataFrame":
    """Daily weather: date, temperature (°C), pressure (hPa), humidity (%), wind (m/s), rain (mm).

    Args:
        years: how many, from 1990-01-01 on.
        seed: of the random numbers; equal seeds give equal weather, whatever the years.

    Example:
        >>> simulate(1).columns
        ['date', 'temperature', 'pressure', 'humidity', 'wind', 'rain']
    """
    import polars as pl

    days = (date(FIRST_DAY.year + years, 1, 1) - FIRST_DAY).days
    dates: Any = np.datetime64(FIRST_DAY) + np.arange(days).astype("timedelta64[D]")
    sources = [np.random.default_rng(own) for own in np.random.SeedSequence(seed).spawn(3)]
    noise = sources[0].standard_normal((days, 4))
    uniform, phase = sources[1].random(days), _phase(dates)
    residuals = np.empty((days, 4))
    keep = np.array([PERSISTENCE[name] for name in PERSISTENCE])
    wet = np.zeros(days, dtype=bool)
    residuals[0] = noise[0]
    for t in range(1, days):
        residuals[t] = keep * residuals[t - 1] + np.sqrt(1 - keep**2) * noise[t]
        wet[t] = uniform[t] < _chance(wet[t - 1], residuals[t - 1, 1], phase[t])
    amounts = np.maximum(sources[2].gamma(0.75, 6.0 + 2.0 * phase), 0.01)
    columns = {
        "temperature": _observed(TEMPERATURE, wet, phase, residuals[:, 0]),
        "pressure": _observed(PRESSURE, wet, phase, residuals[:, 1]),
        "humidity": np.clip(_observed(HUMIDITY, wet, phase, residuals[:, 2]), 5.0, 100.0),
        "wind": np.exp(_observed(WIND, wet, phase, residuals[:, 3])),
        "rain": np.where(wet, amounts, 0.0),
    }
    return pl.DataFrame({"date": dates, **columns})


def best_forecast(
    weather: "polars.DataFrame", origins: NDArray[np.int64], horizon: int, levels: Floats
) -> BestForecast:
    """What the generator itself would forecast: no model's expected score can be better.

    Exact: tomorrow's chance of rain is the generator's own; further ahead the chain is followed
    over all paths of the pressure's residual (on a grid, to about 1e-6). The temperature is a
    mixture of two normal distributions, one for dry and one for wet; it does not depend on how the
    rain came.

    Args:
        weather: what `simulate` gave.
        origins: (days,) rows from which to forecast.
        horizon: days ahead.
        levels: of the quantiles.

    Source: Richardson 1981; the forward algorithm of hidden Markov models for the sums.
    """
    dates = weather["date"].to_numpy().astype("datetime64[D]")
    phase = _phase(dates[origins][:, None] + np.arange(1, horizon + 1))
    wet = (weather["rain"].to_numpy() > 0)[origins]
    today = _phase(dates[origins])

    def residual(name: str, seasons: Seasons) -> Floats:
        means, deviations = _moments(seasons, wet, today)
        found: Floats = (weather[name].to_numpy()[origins] - means) / deviations
        return found

    rain = _rain_ahead(wet, residual("pressure", PRESSURE), phase)
    keep = PERSISTENCE["temperature"] ** np.arange(1, horizon + 1)
    start = residual("temperature", TEMPERATURE)[:, None] * keep
    parts = [_moments(TEMPERATURE, np.full(phase.shape, w), phase) for w in (False, True)]
    means = [m + s * start for m, s in parts]
    deviations = [s * np.sqrt(1 - keep**2) for _, s in parts]
    expected = (1 - rain) * means[0] + rain * means[1]
    return BestForecast(rain, expected, _mixture_quantiles(rain, means, deviations, levels))


def _rain_ahead(wet: NDArray[np.bool_], pressure: Floats, phase: Floats) -> Floats:
    """(days, horizon) probability of rain, summed over all paths of rain and pressure."""
    days, horizon = phase.shape
    keep = PERSISTENCE["pressure"]
    move = _normal_weights(GRID[:, None] * keep, np.sqrt(1 - keep**2))
    rain = np.empty((days, horizon))
    rain[:, 0] = _chance(wet, pressure, phase[:, 0])
    reached = _normal_weights(pressure[:, None] * keep, np.sqrt(1 - keep**2))
    dry_part = (1 - rain[:, :1]) * reached
    wet_part = rain[:, :1] * reached
    for h in range(1, horizon):
        season = phase[:, h : h + 1]
        from_dry, from_wet = (_chance(np.bool_(w), GRID, season) for w in (False, True))
        turned = dry_part * from_dry + wet_part * from_wet
        rest = dry_part + wet_part - turned
        rain[:, h] = turned.sum(axis=1)
        dry_part, wet_part = rest @ move, turned @ move
    return rain


def _chance(wet: NDArray[np.bool_] | np.bool_, pressure: Floats, phase: Floats) -> Floats:
    """Probability of rain on a day, from the day before's rain and pressure residual."""
    (dry_mean, dry_swing), (wet_mean, wet_swing) = CHANCE
    logit = np.where(wet, wet_mean - wet_swing * phase, dry_mean - dry_swing * phase)
    chance: Floats = 1 / (1 + np.exp(PRESSURE_EFFECT * pressure - logit))
    return chance


def _phase(dates: Any) -> Floats:
    """1 in the middle of summer (day 200), −1 half a year later."""
    day = (dates - dates.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.float64)
    phase: Floats = np.cos(2 * np.pi * (day - 200) / 365.25)
    return phase


def _moments(seasons: Seasons, wet: NDArray[np.bool_], phase: Floats) -> tuple[Floats, Floats]:
    ((dry_mean, dry_swing), dry_std), ((wet_mean, wet_swing), wet_std) = seasons
    mean = np.where(wet, wet_mean + wet_swing * phase, dry_mean + dry_swing * phase)
    return mean, np.where(wet, wet_std, dry_std)


def _observed(
    seasons: Seasons,
    wet: NDArray[np.bool_],
    phase: Floats,
    residual: Floats,
) -> Floats:
    mean, deviation = _moments(seasons, wet, phase)
    return mean + deviation * residual


def _normal_weights(mean: Floats, deviation: float) -> Floats:
    """(…, grid) weights of a normal distribution on the grid, summing to 1."""
    weights = np.exp(-0.5 * ((GRID - mean) / deviation) ** 2)
    found: Floats = weights / weights.sum(axis=-1, keepdims=True)
    return found


def _mixture_quantiles(
    rain: Floats, means: list[Floats], deviations: list[Floats], levels: Floats
) -> Floats:
    """Quantiles of mixtures of two normal distributions, by bisection."""
    from torch import erf, from_numpy

    low = np.minimum(means[0], means[1])[..., None] - 40.0 + np.zeros_like(levels)
    high = low + 80.0 + np.abs(means[0] - means[1])[..., None]
    for _ in range(50):
        middle = (low + high) / 2
        below = np.zeros_like(middle)
        for share, mean, deviation in zip((1 - rain, rain), means, deviations, strict=True):
            z = (middle - mean[..., None]) / (deviation[..., None] * np.sqrt(2))
            below += share[..., None] * (1 + erf(from_numpy(z)).numpy()) / 2
        low, high = np.where(below < levels, middle, low), np.where(below < levels, high, middle)
    return (low + high) / 2
