"""Many time series in flat arrays: one row a time step, series one after the other, no gaps left.

Steps that a table leaves out become rows in which everything is missing; nothing is filled in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra.data.forecast.frequency import Frequency, check_order, infer_frequency
from recurra.data.forecast.schema import Columns, Statistics
from recurra.data.forecast.tables import Floats, Table
from recurra.data.forecast.times import Ints, Times, read_times
from recurra.errors import DataError

MOST_ROWS_A_STEP = 50  # a table that is emptier than this has a wrong frequency


@dataclass(frozen=True)
class SeriesSet:
    """Series on one grid.

    Attributes:
        ids: names; "" for a single series without one.
        offsets: (series + 1,) int64: rows of series s are offsets[s]..offsets[s + 1].
        start: (series,) int64: position of each series' first row on the grid.
        frequency: the grid.
        targets: (rows, targets) float64, NaN where missing.
        numbers: (rows,) float64 by column, NaN where missing; static columns are repeated.
        categories: (rows,) text by column, None where missing.
        where: names the source in an error.
    """

    ids: tuple[str, ...]
    offsets: Ints
    start: Ints
    frequency: Frequency
    targets: Floats
    numbers: Mapping[str, Floats]
    categories: Mapping[str, NDArray[np.object_]]
    where: str

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> Ints:
        """(series,) rows of each."""
        return np.diff(self.offsets)

    @property
    def owner(self) -> Ints:
        """(rows,) the series of each row."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def positions(self) -> Ints:
        """(rows,) the place of each row on the grid."""
        within = np.arange(self.offsets[-1]) - np.repeat(self.offsets[:-1], self.lengths)
        return within + np.repeat(self.start, self.lengths)

    def slice(self, first: Ints, last: Ints) -> "SeriesSet":
        """Rows first[s]..last[s] of each series s, counted in the flat arrays."""
        lengths = last - first
        rows = np.repeat(first - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        return replace(
            self,
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            start=self.start + (first - self.offsets[:-1]),
            targets=self.targets[rows],
            numbers={name: column[rows] for name, column in self.numbers.items()},
            categories={name: column[rows] for name, column in self.categories.items()},
        )


def build_series(
    table: Table,
    columns: Columns,
    *,
    frequency: str | Frequency | None = None,
    zone: str | None = None,
    time_format: str | None = None,
    needs_targets: bool = True,
) -> SeriesSet:
    """Lay a table out as series.

    Args:
        table: the rows, sorted by time within each series; series may be interleaved.
        columns: their roles.
        frequency: the grid, or as text; None infers it.
        zone, time_format: see `read_times`.
        needs_targets: refuse a target without a single value.

    Raises:
        DataError: unsorted or duplicate times, mixed frequencies, a missing id, a column that is
            not there or has nothing in it, text for a number; names the row.
    """
    for name in columns.covariates():
        table.require(name, "covariate")
    ids, table, breaks = _group(table, columns.id)
    times = read_times(table, columns.time, zone, time_format)
    check_order(times, breaks, ids, table)
    if isinstance(frequency, Frequency):
        grid = frequency
        _check_grid(grid, times, table)
    else:
        grid = infer_frequency(times, breaks, table, frequency)
    targets = np.stack([target.values(table) for target in columns.targets], axis=1)
    if needs_targets:
        _check_not_empty(targets, columns, table)
    numbers = {
        name: table.numbers(name) for name in (*columns.past, *columns.future, *columns.static)
    }
    texts = (*columns.past_categories, *columns.future_categories, *columns.static_categories)
    categories = {name: table.categories(name) for name in texts}
    series = _on_grid(ids, breaks, times, grid, targets, numbers, categories, table)
    series = _with_constant_columns(series, columns)
    return _melt(series, columns) if columns.is_wide else series


def _group(table: Table, id_column: str | None) -> tuple[list[str], Table, Ints]:
    """Series in the order of their first row; rows keep theirs within each."""
    rows = len(table.frame)
    if id_column is None:
        return [""], table, np.array([0, rows])
    table.require(id_column, "id")
    names = table.categories(id_column)
    missing = np.flatnonzero(names == None)  # noqa: E711 (elementwise)
    if len(missing):
        raise DataError(f"{table.place(int(missing[0]))}: column {id_column!r} has no id")
    unique, first, inverse = np.unique(names.astype(str), return_index=True, return_inverse=True)
    rank = np.empty(len(unique), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(unique))
    owner = rank[inverse]
    order = np.argsort(owner, kind="stable")
    breaks = np.concatenate([[0], np.cumsum(np.bincount(owner))])
    is_sorted = bool(np.all(np.diff(owner) >= 0))
    return unique[np.argsort(first)].tolist(), table if is_sorted else table.take(order), breaks


def _check_grid(grid: Frequency, times: Times, table: Table) -> None:
    """New rows stand on the grid that the model was trained on."""
    if (grid.kind == "step") != times.is_number:
        raise DataError(
            f"{table.where}: its times are not of the kind that the model was made with"
        )
    off = np.flatnonzero(grid.times(grid.positions(times.values)) != times.values)
    if len(off):
        raise DataError(
            f"{table.place(int(off[0]))}: time {grid.text(int(times.values[off[0]]))} is not on "
            f"the grid of the model, which has a row every {grid}"
        )


def _check_not_empty(targets: Floats, columns: Columns, table: Table) -> None:
    empty = np.flatnonzero(np.isnan(targets).all(axis=0))
    if len(empty):
        name = columns.targets[int(empty[0])].column
        raise DataError(f"{table.where}: column {name!r} (target) has no value in any row")


def _on_grid(
    ids: list[str],
    breaks: Ints,
    times: Times,
    grid: Frequency,
    targets: Floats,
    numbers: Mapping[str, Floats],
    categories: Mapping[str, NDArray[np.object_]],
    table: Table,
) -> SeriesSet:
    """Rows moved to their places; places without a row are missing in everything."""
    positions = grid.positions(times.values)
    clash = np.flatnonzero(
        (np.diff(positions) == 0) & ~np.isin(np.arange(1, len(positions)), breaks)
    )
    if len(clash):
        raise DataError(
            f"{table.place(int(clash[0]) + 1)}: two rows in one step of {grid}; set a finer "
            "frequency, or keep one row a step"
        )
    start = positions[breaks[:-1]]
    lengths = positions[breaks[1:] - 1] - start + 1
    if lengths.sum() > MOST_ROWS_A_STEP * len(positions) + 10_000:
        raise DataError(
            f"{table.where}: {len(positions):,} rows on {lengths.sum():,} steps of {grid}; the "
            "frequency is too fine for these times: set frequency"
        )
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    place = positions + np.repeat(offsets[:-1] - start, np.diff(breaks))
    rows = int(offsets[-1])

    def spread(values: NDArray, empty: object) -> NDArray:  # type: ignore[type-arg]
        out = np.full((rows, *values.shape[1:]), empty, dtype=values.dtype)
        out[place] = values
        return out

    return SeriesSet(
        tuple(ids),
        offsets,
        start,
        grid,
        spread(targets, np.nan),
        {name: spread(column, np.nan) for name, column in numbers.items()},
        {name: spread(column, None) for name, column in categories.items()},
        table.where,
    )


def _with_constant_columns(series: SeriesSet, columns: Columns) -> SeriesSet:
    """Static columns repeat their one value over all rows of a series.

    Raises:
        DataError: a static column with two values in one series.
    """
    numbers: dict[str, Any] = dict(series.numbers)
    categories: dict[str, Any] = dict(series.categories)
    for group, names in ((numbers, columns.static), (categories, columns.static_categories)):
        for name in names:
            column = group[name].copy()
            for s, (a, b) in enumerate(zip(series.offsets[:-1], series.offsets[1:], strict=True)):
                own = column[a:b]
                seen = np.array([v is not None and v == v for v in own], dtype=bool)
                values = set(own[seen].tolist())
                if len(values) > 1:
                    raise DataError(
                        f"{series.where}: static column {name!r} has several values in series "
                        f"{series.ids[s]!r}: {', '.join(map(str, sorted(values)[:3]))}; name it "
                        "as past or future covariate"
                    )
                if values:
                    column[a:b] = values.pop()
            group[name] = column
    return replace(series, numbers=numbers, categories=categories)


def _melt(series: SeriesSet, columns: Columns) -> SeriesSet:
    """Each target column as a series of its own, over the same covariates."""
    count = len(columns.targets)
    rows = int(series.offsets[-1])
    names = [target.name for target in columns.targets]
    prefixes = [f"{owner}/" if owner else "" for owner in series.ids]
    return SeriesSet(
        tuple(f"{prefix}{name}" for name in names for prefix in prefixes),
        np.concatenate([series.offsets[:-1] + k * rows for k in range(count)] + [[count * rows]]),
        np.tile(series.start, count),
        series.frequency,
        series.targets.T.reshape(-1, 1),
        {name: np.tile(column, count) for name, column in series.numbers.items()},
        {name: np.tile(column, count) for name, column in series.categories.items()},
        series.where,
    )


def statistics_of(series: SeriesSet, columns: Columns, is_train: NDArray[np.bool_]) -> Statistics:
    """Means, deviations and vocabularies of the training rows alone.

    Args:
        series: all rows.
        columns: their roles.
        is_train: (rows,).

    Raises:
        DataError: a covariate with no value in the training rows.
    """
    values = {name: column[is_train] for name, column in series.numbers.items()}
    for k in range(series.targets.shape[1]):
        values[target_key(k)] = series.targets[is_train, k]
    mean, std, gappy = {}, {}, []
    for name, column in values.items():
        seen = column[~np.isnan(column)]
        if not len(seen):
            raise DataError(
                f"{series.where}: column {name!r} has no value in the rows to train on; leave it "
                "out, or move the splits"
            )
        deviation = float(seen.std())
        mean[name] = float(seen.mean())
        std[name] = deviation if deviation > 1e-9 * max(1.0, abs(mean[name])) else 1.0
        if len(seen) < len(column):
            gappy.append(name)
    vocabularies = {
        name: sorted({str(word) for word in column[is_train] if word is not None})
        for name, column in series.categories.items()
    }
    for name, words in vocabularies.items():
        if not words:
            raise DataError(f"{series.where}: column {name!r} has no value in the rows to train on")
    return Statistics(mean, std, tuple(gappy), vocabularies)


def target_key(index: int) -> str:
    """The name of a target in `Statistics`, which no column can have."""
    return f"\ttarget {index}"
