"""Labelled numeric series of unequal length: sktime's `.ts` files and long tables."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recurra.data.examples import Examples, Labels, concatenate
from recurra.data.tables import check_column, read_table
from recurra.data.text import expand_paths, iterate_lines
from recurra.errors import DataError

if TYPE_CHECKING:
    import polars


def read_ts(path: str | Path) -> Examples:
    """Series with class labels from a file in sktime's `.ts` format.

    One example a line: channels separated by colons, the values of a channel by commas, the label
    last. Lengths may differ between examples, not between the channels of one.

    Raises:
        DataError: no class label, time stamps, missing values, channels of unequal length or
            number, an undeclared label, no number; names file and line.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.ts"
        >>> _ = path.write_text("@classLabel true a b\\n@data\\n1,2,3:4,5,6:a\\n7:8:b\\n")
        >>> found = read_ts(path)
        >>> found.inputs[0].tolist(), found.labels[1]
        ([[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]], ('b',))
    """
    path = Path(path)
    lines = ((n, line.strip()) for n, line in enumerate(iterate_lines(path), start=1))
    header = _read_header(path, lines)
    classes = _declared_classes(path, header)
    series: list[np.ndarray] = []
    labels: list[Labels] = []
    for number, line in lines:
        if not line or line.startswith("#"):
            continue
        values, label = _read_series(line, f"{path}, line {number}")
        if label not in classes:
            raise DataError(
                f"{path}, line {number}: label {label!r} is not among those that @classLabel "
                f"declares: {', '.join(classes)}"
            )
        if series and values.shape[1] != series[0].shape[1]:
            raise DataError(
                f"{path}, line {number}: {values.shape[1]} channels, the first example has "
                f"{series[0].shape[1]}"
            )
        series.append(values)
        labels.append((label,))
    if not series:
        raise DataError(f"{path}: no example after @data")
    channels = tuple(f"channel {k + 1}" for k in range(series[0].shape[1]))
    return Examples(series, labels, channels)


def _read_header(path: Path, lines: Iterator[tuple[int, str]]) -> dict[str, str]:
    header: dict[str, str] = {}
    for number, line in lines:
        if not line or line.startswith("#"):
            continue
        if not line.startswith("@"):
            raise DataError(
                f"{path}, line {number}: expected a line of the header (@classLabel true …) or "
                f"@data, got {line[:40]!r}"
            )
        key, _, value = line[1:].partition(" ")
        if key.lower() == "data":
            return header
        header[key.lower()] = value.strip()
    raise DataError(f"{path}: no @data line; expected a file in sktime's .ts format")


def _declared_classes(path: Path, header: dict[str, str]) -> list[str]:
    if header.get("timestamps", "false").lower() == "true":
        raise DataError(
            f"{path}: has time stamps, which are not read from .ts files; write a long table with "
            "columns for id, time, channels and label instead"
        )
    words = header.get("classlabel", "false").split()
    if not words or words[0].lower() != "true":
        raise DataError(f"{path}: no '@classLabel true …' in the header: nothing to classify")
    return words[1:]


def _read_series(line: str, where: str) -> tuple[np.ndarray, str]:
    *channels, label = line.split(":")
    if not channels:
        raise DataError(f"{where}: no colon; expected values, a colon, and the label")
    rows = [channel.split(",") if channel.strip() else [] for channel in channels]
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1:
        raise DataError(f"{where}: the channels of one example have {lengths} values; make equal")
    try:
        values = np.array([[float(value) for value in row] for row in rows], np.float32)
    except ValueError as error:
        raise DataError(
            f"{where}: {error}; expected numbers (fill missing values, ?, first)"
        ) from error
    if not np.isfinite(values).all():
        raise DataError(f"{where}: a value is NaN or infinite; fill or take it out first")
    return np.ascontiguousarray(values.T), label.strip()


def read_long_table(
    path: str | Path,
    *,
    id: str,
    time: str | None = None,
    label: str = "label",
    channels: Sequence[str] = (),
) -> Examples:
    """Series from a long table: one row for each step of each series.

    Args:
        path: CSV, TSV, Parquet or JSON lines.
        id: the column that says which series a row belongs to; series come in the order in which
            they first occur.
        time: the column by which the rows of a series are ordered (numbers, or text that sorts as
            time does, such as ISO 8601); `None`: the order of the file.
        label: the column of labels, the same in all rows of a series.
        channels: the columns of values; none: all others.

    Raises:
        DataError: a missing column; a value that is no finite number; two labels, or the same time
            twice, in one series; names file and row.
    """
    import polars

    path = Path(path)
    table = read_table(path).with_row_index("__row__")
    names = [name for name in table.columns if name not in (id, time, label, "__row__")]
    names = list(channels) or names
    options = {"id": [id], "label": [label], "time": [time] if time else [], "channels": names}
    for option, columns in options.items():
        for column in columns:
            check_column(table.columns[1:], column, option, path)
    if not names:
        raise DataError(f"{path}: no column of values beside {id!r} and {label!r}")
    values = [_as_numbers(table, name, path) for name in names]
    if time is not None:
        as_number = table[time].cast(polars.Float64, strict=False)
        order = table[time] if as_number.null_count() else as_number
        values.append(order.alias("__time__"))
    own = polars.DataFrame(
        [table["__row__"], table[id].alias("__id__"), table[label].alias("__label__"), *values]
    )
    series, labels = [], []
    for (key,), part in own.group_by("__id__", maintain_order=True):
        where = f"{path}, {id} {key}"
        if time is not None:
            part = part.sort("__time__")
            _check_times(part, where)
        found = part["__label__"].unique().to_list()
        if len(found) > 1 or found[0] in (None, ""):
            raise DataError(
                f"{where}: expected one label in all its rows, got {sorted(map(str, found))}"
            )
        series.append(np.ascontiguousarray(part.select(names).to_numpy().astype(np.float32)))
        labels.append((str(found[0]),))
    return Examples(series, labels, tuple(names))


def _as_numbers(table: "polars.DataFrame", name: str, path: Path) -> "polars.Series":
    import polars

    values = table[name].cast(polars.Float64, strict=False)
    bad = [row for row, value in enumerate(values) if value is None or not math.isfinite(value)]
    if bad:
        raise DataError(
            f"{path}, row {bad[0] + 1} of the data: {table[name][bad[0]]!r} in column {name!r} is "
            "no finite number; fill it, or choose columns with --set channels=[…]"
        )
    return values.alias(name)


def _check_times(part: "polars.DataFrame", where: str) -> None:
    times = part["__time__"]
    if times.null_count():
        raise DataError(f"{where}: a row has no time")
    if times.n_unique() < part.height:
        twice = times.filter(times.is_duplicated())[0]
        raise DataError(f"{where}: time {twice} occurs twice; one row a step is expected")


def read_series(
    paths: Sequence[str | Path],
    *,
    id: str | None = None,
    time: str | None = None,
    label: str = "label",
    channels: Sequence[str] = (),
) -> Examples:
    """Labelled series from `.ts` files, or from long tables if `id` names their column.

    Raises:
        DataError: see `read_ts` and `read_long_table`; or a table without `id`.
    """
    parts = []
    for path in expand_paths(paths):
        if path.suffix == ".ts" or path.name.endswith(".ts.gz"):
            parts.append(read_ts(path))
        elif id is not None:
            parts.append(read_long_table(path, id=id, time=time, label=label, channels=channels))
        else:
            raise DataError(
                f"{path}: a table of series needs the column that tells them apart: --set id=NAME"
            )
    return concatenate(parts)
