"""Rows by purpose, split by time alone: what is measured lies after what was learned from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recurra.data.forecast.frequency import parse_time
from recurra.data.forecast.series import SeriesSet
from recurra.data.forecast.times import Ints
from recurra.errors import ConfigError, DataError


@dataclass(frozen=True)
class Partition:
    """Where valid and test begin in each series, and where it ends, in flat rows.

    Attributes:
        valid, test, end: (series,) int64; train is what lies before `valid`.
    """

    valid: Ints
    test: Ints
    end: Ints

    def bounds(self, series: SeriesSet, split: str) -> tuple[Ints, Ints]:
        """First row, and the row after the last, of "train", "valid" or "test" in each series."""
        edges = (series.offsets[:-1], self.valid, self.test, self.end)
        k = ("train", "valid", "test").index(split)
        return edges[k], edges[k + 1]

    def is_train(self, series: SeriesSet) -> NDArray[np.bool_]:
        """(rows,) whether a row may be learned from."""
        return np.arange(series.offsets[-1]) < np.repeat(self.valid, series.lengths)


def split_by_time(
    series: SeriesSet,
    *,
    valid_share: float = 0.1,
    test_share: float = 0.1,
    valid_from: str | None = None,
    test_from: str | None = None,
    valid_steps: int | None = None,
    test_steps: int | None = None,
) -> Partition:
    """Split all series at two moments of time, or each at steps from its own end.

    Args:
        series: all rows.
        valid_share, test_share: of the time from the first row to the last of all series; the
            default.
        valid_from, test_from: moments, instead of shares.
        valid_steps, test_steps: rows at the end of each series, instead of moments: for series that
            do not share a calendar.

    Raises:
        ConfigError: moments in the wrong order, or steps and moments together.
        DataError: a split without rows.

    Example: for one series of 10 rows from position 0, shares of .2 give train 0..5, valid 6..7,
        test 8..9.
    """
    ends = series.offsets[1:].copy()
    if valid_steps is not None or test_steps is not None:
        if valid_from is not None or test_from is not None:
            raise ConfigError("valid_steps and test_steps exclude valid_from and test_from")
        test = np.maximum(ends - (test_steps or 0), series.offsets[:-1])
        valid = np.maximum(test - (valid_steps or 0), series.offsets[:-1])
        return _checked(series, Partition(valid, test, ends))
    first, last = int(series.start.min()), int((series.start + series.lengths).max())
    test_at = _moment(series, test_from, last - round(test_share * (last - first)))
    if valid_from is None and test_from is not None:
        valid_at = test_at - round(valid_share * (test_at - first))
    else:
        default = last - round((valid_share + test_share) * (last - first))
        valid_at = _moment(series, valid_from, default)
    if valid_at > test_at:
        raise ConfigError(
            f"valid begins at {_text(series, valid_at)}, after test at {_text(series, test_at)}; "
            "valid_from must come before test_from"
        )
    starts = series.offsets[:-1]
    valid, test = (
        np.clip(starts + moment - series.start, starts, ends) for moment in (valid_at, test_at)
    )
    return _checked(series, Partition(valid, test, ends))


def check_no_leakage(train: SeriesSet, later: SeriesSet, name: str) -> None:
    """Rows of a file to measure on come after all rows of the same series that were trained on.

    Raises:
        DataError: they overlap; names series and time.
    """
    ends = dict(zip(train.ids, train.start + train.lengths, strict=True))
    for owner, start in zip(later.ids, later.start, strict=True):
        if start < ends.get(owner, start):
            frequency = later.frequency
            time = frequency.text(int(frequency.times(np.array([start]))[0]))
            last = frequency.text(int(frequency.times(np.array([ends[owner] - 1]))[0]))
            raise DataError(
                f"{later.where}: series {owner!r} of {name} begins at {time}, and training goes "
                f"to {last}; a model may not be measured on times that it was trained on"
            )


def _moment(series: SeriesSet, text: str | None, default: int) -> int:
    if text is None:
        return default
    frequency = series.frequency
    time = parse_time(text, frequency)
    position = int(frequency.positions(np.array([time]))[0])
    return position + (int(frequency.times(np.array([position]))[0]) < time)


def _text(series: SeriesSet, position: int) -> str:
    frequency = series.frequency
    return frequency.text(int(frequency.times(np.array([position]))[0]))


def _checked(series: SeriesSet, partition: Partition) -> Partition:
    for name in ("train", "valid", "test"):
        first, last = partition.bounds(series, name)
        if (last - first).max() < 1:
            raise DataError(
                f"{series.where}: no row is left for {name} ({int(series.lengths.max())} rows in "
                "the longest series); change valid_share and test_share, or valid_from and "
                "test_from"
            )
    return partition
