"""Windows of series, gathered from flat tensors by index arithmetic: no Python for each window."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recurra.data.forecast.frequency import calendar
from recurra.data.forecast.schema import Schema
from recurra.data.forecast.series import SeriesSet, target_key
from recurra.data.forecast.times import Ints
from recurra.errors import DataError


class Layout(NamedTuple):
    """How many columns of each kind a model reads.

    Attributes:
        targets: what is forecast.
        past: features known up to the present, indicators of missing values included.
        future: features known ahead, clock and calendar included.
        static: features of a series.
        past_codes, future_codes, static_codes: sizes of the vocabularies, the unknown included.
        has_gaps: whether targets are missing anywhere.
    """

    targets: int
    past: int
    future: int
    static: int
    past_codes: tuple[int, ...]
    future_codes: tuple[int, ...]
    static_codes: tuple[int, ...]
    has_gaps: bool


class Windows(NamedTuple):
    """Windows side by side, in the order of `Layout`; steps are window, then horizon.

    Attributes:
        target: (batch, window + horizon, targets) float32, 0 where missing.
        observed: the same shape, 1.0 where there is a value and 0.0 elsewhere.
        past: (batch, window, past) float32, and `past_codes` int64: never beyond the present.
        future: (batch, window + horizon, future) float32, and `future_codes` int64.
        static: (batch, static) float32, and `static_codes` int64.
        inside: (batch, window) bool: False for steps before the series' first row.
    """

    target: Tensor
    observed: Tensor
    past: Tensor
    future: Tensor
    static: Tensor
    past_codes: Tensor
    future_codes: Tensor
    static_codes: Tensor
    inside: Tensor


@dataclass(frozen=True)
class FlatSeries:
    """All rows of all series as the tensors that windows are gathered from.

    Attributes:
        layout: of the columns.
        values: (rows, 2·targets + past + future) float32: targets, observed, past, future.
        codes: (rows, past_codes + future_codes) int64.
        static, static_codes: (series, …).
        owner: (rows,) int64, the series of each row.
        offsets: (series + 1,) int64.
    """

    layout: Layout
    values: Tensor
    codes: Tensor
    static: Tensor
    static_codes: Tensor
    owner: Tensor
    offsets: Tensor

    def to(self, device: torch.device) -> "FlatSeries":
        """On a device; itself if it is there."""
        if self.values.device == device:
            return self
        names = ("values", "codes", "static", "static_codes", "owner", "offsets")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def gather(
        self, origins: Tensor, window: int, horizon: int, owner: Tensor | None = None
    ) -> Windows:
        """The windows that end at rows `origins`, and the `horizon` steps after them.

        Args:
            origins: (batch,) int64: flat rows of the last known steps.
            window: steps up to and with the origin; those before a series' first row are zeros,
                and `inside` is False there.
            horizon: steps after it; those after the last row are zeros and not observed.
            owner: (batch,) the series of each window, needed where an origin lies past its end.
        """
        owner = self.owner[origins] if owner is None else owner
        steps = torch.arange(1 - window, horizon + 1, device=origins.device)
        rows = origins.unsqueeze(1) + steps
        is_after = rows >= self.offsets[owner + 1].unsqueeze(1)
        is_real = (rows >= self.offsets[owner].unsqueeze(1)) & ~is_after
        rows = rows.clamp(0, len(self.values) - 1)
        values, codes = self.values[rows], self.codes[rows]
        if not bool(is_real.all()):
            values = values * is_real.unsqueeze(-1)
            codes = codes * is_real.unsqueeze(-1)
        targets, past, future = self.layout.targets, self.layout.past, self.layout.future
        target, observed, known, ahead = torch.split(values, [targets, targets, past, future], -1)
        sizes = [len(self.layout.past_codes), len(self.layout.future_codes)]
        own, ahead_codes = torch.split(codes, sizes, -1)
        return Windows(
            target,
            observed,
            known[:, :window],
            ahead,
            self.static[owner],
            own[:, :window],
            ahead_codes,
            self.static_codes[owner],
            is_real[:, :window],
        )


def encode_series(series: SeriesSet, schema: Schema) -> FlatSeries:
    """Series as flat tensors, covariates standardised by the training rows."""
    columns, statistics = schema.columns, schema.statistics
    observed = ~np.isnan(series.targets)
    past = _features(series, schema, columns.past)
    future = _features(series, schema, columns.future)
    if schema.uses_calendar:
        turns = calendar(series.frequency, series.positions, schema.season)
        future += list(turns.values())
    first = series.offsets[:-1]
    static = [column[first] for column in _features(series, schema, columns.static)]

    def codes(names: tuple[str, ...]) -> list[Ints]:
        return [statistics.codes(name, series.categories[name]) for name in names]

    past_codes, future_codes, static_codes = (
        tuple(len(statistics.vocabularies[name]) + 1 for name in names)
        for names in (columns.past_categories, columns.future_categories, columns.static_categories)
    )
    targets = series.targets.shape[1]
    has_gaps = any(target_key(k) in statistics.gappy for k in range(targets))
    layout = Layout(
        targets,
        len(past),
        len(future),
        len(static),
        past_codes,
        future_codes,
        static_codes,
        has_gaps,
    )
    rows = int(series.offsets[-1])
    values = np.column_stack([np.where(observed, series.targets, 0.0), observed, *past, *future])
    names = (*columns.past_categories, *columns.future_categories)
    return FlatSeries(
        layout,
        torch.from_numpy(values.astype(np.float32)),
        _stacked(codes(names), rows),
        torch.from_numpy(np.column_stack(static).astype(np.float32))
        if static
        else torch.zeros(len(series), 0),
        _stacked([code[first] for code in codes(columns.static_categories)], len(series)),
        torch.from_numpy(series.owner),
        torch.from_numpy(series.offsets),
    )


def find_origins(
    series: SeriesSet,
    first: Ints,
    last: Ints,
    horizon: int,
    *,
    window: int = 1,
    what: str = "the data",
) -> Ints:
    """Rows from which all of the next `horizon` rows lie in first[s]..last[s] of their series.

    Args:
        series: all rows.
        first, last: (series,) int64: bounds of the rows to forecast.
        horizon: steps to forecast.
        window: rows that must stand up to and with the origin, where the series has enough; a
            series that is shorter is used from its first row on.
        what: names the rows in an error.

    Raises:
        DataError: there is none.
    """
    begin = series.offsets[:-1]
    room = np.maximum(last - begin - horizon, 1)
    lowest = np.maximum(first - 1, begin + np.minimum(window, room) - 1)
    highest = last - horizon - 1
    rows = np.arange(series.offsets[-1])
    owner = series.owner
    is_origin = (rows >= lowest[owner]) & (rows <= highest[owner])
    seen = ~np.isnan(series.targets).all(axis=1)
    counts = np.concatenate([[0], np.cumsum(seen)])
    is_origin[is_origin] = counts[rows[is_origin] + horizon + 1] > counts[rows[is_origin] + 1]
    origins = np.flatnonzero(is_origin)
    if not len(origins):
        most = int((last - first).max())
        raise DataError(
            f"{series.where}: {what} has {most} steps in its longest series, which leaves no "
            f"forecast of {horizon} steps to learn from or to measure; choose a shorter horizon, "
            "or give it more rows"
        )
    return origins


def _features(series: SeriesSet, schema: Schema, names: tuple[str, ...]) -> list[NDArray]:  # type: ignore[type-arg]
    """Standardised columns; one that had gaps in training is followed by its indicator."""
    features = []
    for name in names:
        scaled, seen = schema.statistics.standardised(name, series.numbers[name])
        features.append(scaled)
        if name in schema.statistics.gappy:
            features.append(seen)
    return features


def _stacked(codes: list[Ints], rows: int) -> Tensor:
    if not codes:
        return torch.zeros(rows, 0, dtype=torch.int64)
    return torch.from_numpy(np.column_stack(codes))
