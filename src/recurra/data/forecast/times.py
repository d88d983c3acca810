"""Times of rows, from text, numbers or Parquet, with and without a zone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from recurra.data.forecast.tables import Table
from recurra.errors import ConfigError, DataError

if TYPE_CHECKING:
    import polars

Ints = NDArray[np.int64]

SECOND = 1_000_000  # microseconds
MINUTE, HOUR, DAY, WEEK = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND, 7 * 86_400 * SECOND
ISO = (
    r"^(\d{4}[-/]\d{1,2}[-/]\d{1,2})"
    r"(?:[T ](\d{1,2}:\d{2})(?::(\d{2}(?:\.\d+)?))?)?\s*(Z|UTC|[+-]\d{2}:?\d{2})?$"
)


@dataclass(frozen=True)
class Times:
    """A column of times.

    Attributes:
        values: (rows,) int64: microseconds since 1970, or whole numbers.
        is_number: they are whole numbers and no times.
        zone: they are UTC, of rows whose clock is of this zone; None: clock times as they stand.
    """

    values: Ints
    is_number: bool
    zone: str | None = None


def read_times(
    table: Table, name: str, zone: str | None = None, time_format: str | None = None
) -> Times:
    """The times of a table's rows.

    Without a zone, an offset from UTC turns times into UTC, and times without one are taken as they
    stand. With a zone, days and longer steps are kept as its clock times (a day may then have 23
    hours); hours and shorter ones are put on UTC, where none is missing or doubled.

    Args:
        table: the rows.
        name: the column: ISO 8601 text, whole numbers, or Parquet dates and times.
        zone: an IANA name such as "Europe/Berlin".
        time_format: strptime's, for text that is not ISO 8601.

    Raises:
        DataError: a missing or unreadable time; times with and without offset in one column.
        ConfigError: an unknown zone.
    """
    _check_zone(zone)
    table.require(name, "time")
    column = table.frame[name]
    missing = column.is_null().arg_true()
    if len(missing):
        raise DataError(f"{table.place(int(missing[0]))}: column {name!r} has no time")
    if column.dtype.is_integer():
        return Times(column.to_numpy().astype(np.int64), True, None)
    if column.dtype.is_temporal():
        return _clock(table, column, zone)
    text = column.cast(str).str.strip_chars()
    if time_format is not None:
        return _formatted(table, name, text, time_format, zone)
    if bool(text.str.contains(r"^-?\d+$").all()):
        return Times(text.cast(int).to_numpy().astype(np.int64), True, None)
    return _iso(table, name, text, zone)


def _check_zone(zone: str | None) -> None:
    try:
        ZoneInfo(zone or "UTC")
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(
            f"timezone={zone!r} is unknown; expected a name such as Europe/Berlin"
        ) from error


def _clock(table: Table, column: "polars.Series", zone: str | None) -> Times:
    """A temporal column as `read_times` says."""
    import polars as pl

    own = getattr(column.dtype, "time_zone", None)
    column = column.cast(pl.Datetime("us", own))
    if own is not None:
        local = column.dt.convert_time_zone(zone or "UTC").dt.replace_time_zone(None)
    else:
        local = column
    if zone is None or local.dt.time().n_unique() == 1:
        return Times(local.cast(int).to_numpy().astype(np.int64), False)
    if own is None:
        column = column.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
        bad = column.is_null().arg_true()
        if len(bad):
            raise DataError(
                f"{table.place(int(bad[0]))}: clock time {local[int(bad[0])]} of {zone} is doubled "
                "or left out where the clock changes; write times with their offset from UTC"
            )
    utc = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return Times(utc.cast(int).to_numpy().astype(np.int64), False, zone)


def _formatted(
    table: Table, name: str, text: "polars.Series", time_format: str, zone: str | None
) -> Times:
    import polars as pl

    try:
        parsed = text.str.to_datetime(time_format, strict=False, time_unit="us")
    except pl.exceptions.PolarsError:
        dates = text.str.to_date(time_format, strict=False)
        parsed = dates.cast(pl.Datetime("us"))
    if parsed.null_count() == len(parsed):
        parsed = text.str.to_date(time_format, strict=False).cast(pl.Datetime("us"))
    bad = parsed.is_null().arg_true()
    if len(bad):
        raise DataError(
            f"{table.place(int(bad[0]))}: column {name!r} has {text[int(bad[0])]!r}, which does "
            f"not match time_format={time_format!r}"
        )
    return _clock(table, parsed, zone)


def _iso(table: Table, name: str, text: "polars.Series", zone: str | None) -> Times:
    """Clock times of ISO text, with or without an offset from UTC."""
    import polars as pl

    parts = text.str.extract_groups(ISO).struct.unnest()
    day, clock, seconds, offset = (parts.to_series(k) for k in range(4))
    moment = (
        day.str.replace_all("/", "-")
        + " "
        + clock.fill_null("00:00")
        + ":"
        + seconds.fill_null("00")
    )
    parsed = moment.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="us")
    bad = parsed.is_null().arg_true()
    if len(bad):
        raise DataError(
            f"{table.place(int(bad[0]))}: column {name!r} has {text[int(bad[0])]!r}, expected a "
            "time in ISO 8601 (2024-05-31 13:00) or a whole number; set time_format for others"
        )
    has_offset = offset.is_not_null().to_numpy()
    if not has_offset.any():
        return _clock(table, parsed, zone)
    if not has_offset.all():
        row = int(np.flatnonzero(has_offset != has_offset[0])[0])
        raise DataError(
            f"{table.place(row)}: column {name!r} mixes times with and without an offset from UTC; "
            "give all of them one, or none"
        )
    marks = offset.replace({"Z": "+00:00", "UTC": "+00:00"}).str.replace(":", "")
    sign = np.where(marks.str.starts_with("-").to_numpy(), -1, 1)
    minutes = marks.str.slice(1, 2).cast(int) * 60 + marks.str.slice(3, 2).cast(int)
    utc = parsed.cast(int).to_numpy() - sign * minutes.to_numpy().astype(np.int64) * MINUTE
    aware = pl.Series(utc).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return _clock(table, aware, zone)
