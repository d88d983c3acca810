"""The regular grid that rows stand on: inferred, checked, and read as clock and calendar."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from recurra.data.forecast.tables import Table
from recurra.data.forecast.times import DAY, HOUR, MINUTE, SECOND, WEEK, Ints, Times
from recurra.errors import ConfigError, DataError

UNITS = {"us": 1, "ms": 1000, "s": SECOND, "min": MINUTE, "h": HOUR, "d": DAY, "w": WEEK}
MONTHS = {"mo": 1, "q": 3, "y": 12}
RUN = 8  # equal wider steps in a row that are a second frequency and no chance


@dataclass(frozen=True)
class Frequency:
    """The regular grid on which rows stand.

    Attributes:
        kind: "time" (microseconds), "month" (months, for months, quarters and years) or "step"
            (times are whole numbers).
        count: width of a step, in those.
        origin: time of position 0, in those.
        after: of "month": microseconds from the start of a month to its row; -1: its last day.
        zone: times are UTC, and people want to read them in this zone; None: times are clock times
            as they stand.
    """

    kind: str
    count: int
    origin: int = 0
    after: int = 0
    zone: str | None = None

    def __str__(self) -> str:
        if self.kind == "step":
            return f"{self.count} steps" if self.count > 1 else "1 step"
        units = MONTHS if self.kind == "month" else UNITS
        name = max((n for n in units if self.count % units[n] == 0), key=units.__getitem__)
        return f"{self.count // units[name]}{name}"

    def positions(self, times: Ints) -> Ints:
        """Places on the grid; a time between two places gets the one before.

        Example:
            >>> Frequency("time", HOUR).positions(np.array([0, HOUR, 3 * HOUR]))
            array([0, 1, 3])
        """
        if self.kind == "month":
            times = times.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
        return np.floor_divide(times - self.origin, self.count)

    def times(self, positions: Ints) -> Ints:
        """Times of places on the grid, as `positions` takes them.

        Example:
            >>> ends = Frequency("month", 1, after=-1)
            >>> [ends.text(t) for t in ends.times(np.array([0, 1]))]
            ['1970-01-31', '1970-02-28']
        """
        numbers = positions * self.count + self.origin
        if self.kind != "month":
            return numbers
        months = (numbers + (self.after < 0)).astype("datetime64[M]")
        start = months.astype("datetime64[us]").astype(np.int64)
        return start + (self.after if self.after >= 0 else -DAY)

    def season(self) -> int:
        """Steps of the usual season: a day of hours, a week of days, a year of months; else 1."""
        if self.kind == "month":
            return max(1, 12 // self.count)
        if self.kind == "step":
            return 1
        for bound, period in ((HOUR, DAY), (DAY, WEEK), (WEEK, 52 * WEEK)):
            if self.count <= bound:
                return max(1, period // self.count)
        return 1

    def text(self, time: int) -> str:
        """A time for people: ISO 8601, with its offset where a zone is known; or the number."""
        if self.kind == "step":
            return str(time)
        moment = datetime.fromtimestamp(int(time) // SECOND, UTC)
        if self.zone is not None:
            return moment.astimezone(ZoneInfo(self.zone)).isoformat(" ")
        is_date = self.kind == "month" or self.count % DAY == 0
        moment = moment.replace(tzinfo=None)
        return moment.date().isoformat() if is_date and time % DAY == 0 else moment.isoformat(" ")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def infer_frequency(times: Times, breaks: Ints, table: Table, given: str | None) -> Frequency:
    """The grid of the rows: their most frequent step, of which all others are multiples.

    Args:
        times: sorted within each series.
        breaks: (series + 1,) int64, where each series begins; the last is the number of rows.
        table: for errors.
        given: "1h", "15min", "1d", "1mo", "5" …, instead of inferring it.

    Raises:
        DataError: steps that are no multiples of the most frequent one, or that change for good.
        ConfigError: an unreadable `given`.
    """
    if given is not None:
        return _given(given, times)
    steps = np.diff(times.values)
    inner = np.ones(len(steps), dtype=bool)
    inner[breaks[1:-1] - 1] = False
    if not inner.any():
        raise DataError(
            f"{table.where}: no series has two rows, so the frequency cannot be seen; "
            "set frequency, such as 1h or 1d"
        )
    values, counts = np.unique(steps[inner], return_counts=True)
    count = int(values[np.argmax(counts)])
    if not times.is_number and count >= 28 * DAY and np.any(values % count):
        return _monthly(times, inner, table)
    kind = "step" if times.is_number else "time"
    frequency = Frequency(kind, count, int(times.values[0] % count), zone=times.zone)
    _check_steps(frequency, times, steps, inner, breaks, table)
    return frequency


def check_order(times: Times, breaks: Ints, ids: list[str], table: Table) -> None:
    """Every series' times rise, from row to row.

    Raises:
        DataError: unsorted or duplicate times; names series, row and time.
    """
    steps = np.diff(times.values)
    steps[breaks[1:-1] - 1] = 1
    bad = np.flatnonzero(steps <= 0)
    if not len(bad):
        return
    index = int(bad[0])
    owner = ids[int(np.searchsorted(breaks, index, side="right")) - 1]
    of = f" of series {owner!r}" if owner else ""
    step = DAY if not np.any(times.values % DAY) else 1
    own = Frequency("step" if times.is_number else "time", step)
    time = own.text(int(times.values[index + 1]))
    if steps[index] == 0:
        hint = (
            "keep one row a time; several series in one table need id=COLUMN, and clock times of "
            "the hour that is put back need an offset from UTC"
        )
        raise DataError(f"{table.place(index + 1)}: time {time}{of} is a duplicate; {hint}")
    raise DataError(
        f"{table.place(index + 1)}: time {time}{of} is before the row above it; sort "
        "the rows by time"
    )


def calendar(
    frequency: Frequency, positions: Ints, season: int
) -> Mapping[str, NDArray[np.float32]]:
    """Sine and cosine of the clock and the calendar, as far as the frequency can tell them apart.

    Hour of the day below a day, day of the week up to a day, day of the year up to a quarter; the
    place in the season where times are whole numbers.

    Example:
        >>> sorted(calendar(Frequency("time", DAY), np.arange(3), 7))
        ['week_cos', 'week_sin', 'year_cos', 'year_sin']
    """
    turns: dict[str, NDArray[np.float64]] = {}
    times = local_clock(frequency, frequency.times(positions))
    if frequency.kind == "step":
        if season > 1:
            turns["season"] = positions % season / season
    else:
        moment = times.astype("datetime64[us]")
        year = moment.astype("datetime64[Y]").astype("datetime64[us]")
        if frequency.kind == "time" and frequency.count < DAY:
            turns["day"] = times % DAY / DAY
        if frequency.kind == "time" and frequency.count <= DAY:
            turns["week"] = (times + 3 * DAY) % WEEK // DAY / 7  # 1970 began on a Thursday
        if frequency.kind == "time" or frequency.count < 12:
            turns["year"] = (moment - year).astype(np.int64) / (365.2425 * DAY)
    columns = {}
    for name, turn in turns.items():
        columns[f"{name}_sin"] = np.sin(2 * np.pi * turn).astype(np.float32)
        columns[f"{name}_cos"] = np.cos(2 * np.pi * turn).astype(np.float32)
    return columns


def local_clock(frequency: Frequency, times: Ints) -> Ints:
    """Times as the clocks of the frequency's zone show them."""
    if frequency.zone is None or not len(times):
        return times
    import polars as pl

    moments = pl.Series(times).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    local = moments.dt.convert_time_zone(frequency.zone).dt.replace_time_zone(None)
    return local.cast(int).to_numpy().astype(np.int64)


def parse_time(text: str, frequency: Frequency) -> int:
    """A time that a user wrote in a configuration.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        if frequency.kind == "step":
            return int(text)
        moment = datetime.fromisoformat(str(text))
        return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * SECOND)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no time; expected ISO 8601, such as 2024-05-31") from error


def _given(text: str, times: Times) -> Frequency:
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit, number = text[len(digits) :], digits or "1"
    known = ["", *UNITS, *MONTHS]
    if (
        not number.isdigit()
        or int(number) < 1
        or unit not in known
        or times.is_number != (not unit)
    ):
        raise ConfigError(
            f"frequency={text!r} does not fit; expected a whole number for numbered steps, and for "
            f"times a number and one of {', '.join(known[1:])}, such as 15min"
        )
    if unit in MONTHS:
        return _anchored(times, int(number) * MONTHS[unit])
    count = int(number) * UNITS.get(unit, 1)
    kind = "step" if not unit else "time"
    return Frequency(kind, count, int(times.values[0] % count), zone=times.zone)


def _monthly(times: Times, inner: NDArray[np.bool_], table: Table) -> Frequency:
    months = times.values.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
    steps = np.diff(months)[inner]
    values, counts = np.unique(steps, return_counts=True)
    count = int(values[np.argmax(counts)])
    if count < 1 or np.any(values % count):
        index = int(np.flatnonzero(inner & (np.diff(months) % max(count, 1) != 0))[0])
        raise DataError(
            f"{table.place(index + 1)}: mixed frequencies: {np.diff(months)[index]} months after "
            f"the row above, most rows are {count} months apart; set frequency, or mend the times"
        )
    return _anchored(times, count)


def _anchored(times: Times, count: int) -> Frequency:
    """Months on the first, the last or another day, as the first row has it."""
    first = times.values[0].astype("datetime64[us]")
    month = first.astype("datetime64[M]")
    phase = int(month.astype(np.int64) % count)
    last = (month + 1).astype("datetime64[us]") - np.timedelta64(1, "D")
    after = int((first - month.astype("datetime64[us]")).astype(np.int64))
    is_last = first == last and after > 27 * DAY
    return Frequency("month", count, phase, -1 if is_last else after, times.zone)


def _check_steps(
    frequency: Frequency,
    times: Times,
    steps: Ints,
    inner: NDArray[np.bool_],
    breaks: Ints,
    table: Table,
) -> None:
    """All steps are multiples of the frequency, and no second one takes over."""
    gaps = np.where(inner, steps // frequency.count, 1)
    phases = (times.values - frequency.origin) % frequency.count
    odd = np.flatnonzero(phases)
    if len(odd):
        raise _mixed(table, int(odd[0]), "stands between two steps of", frequency)
    wide = gaps > 1
    same = wide[1:] & (gaps[1:] == gaps[:-1])
    run = np.convolve(same, np.ones(RUN, dtype=int), "valid") if len(same) >= RUN else same[:0]
    found = np.flatnonzero(run == RUN)
    if len(found):
        raise _mixed(
            table,
            int(found[0]) + 1,
            f"and those after it are {gaps[found[0] + 1]} times",
            frequency,
        )
    for start, end in pairwise(breaks.tolist()):
        own = gaps[start : end - 1]
        if 2 <= len(own) < RUN and np.all(own == own[0]) and own[0] > 1:
            raise _mixed(table, int(start) + 1, f"and those after it are {own[0]} times", frequency)


def _mixed(table: Table, index: int, what: str, frequency: Frequency) -> DataError:
    return DataError(
        f"{table.place(index)}: mixed frequencies: this row {what} {frequency}, the most frequent "
        "step; bring all series to one frequency, or set it (frequency=1h)"
    )
