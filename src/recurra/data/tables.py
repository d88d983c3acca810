"""Tables of a user: CSV, TSV, Parquet and JSON lines, read by polars; errors name file and line."""

import csv
import json
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recurra.data.text import iterate_lines
from recurra.errors import DataError

if TYPE_CHECKING:
    import polars

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
_SEPARATORS = {".csv": ",", ".tsv": "\t"}


def table_suffix(path: Path) -> str | None:
    """The kind of table by the name of the file, `.gz` left aside; `None`: no table.

    Example:
        >>> table_suffix(Path("a.csv.gz")), table_suffix(Path("a.txt"))
        ('.csv', None)
    """
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    return suffix.lower() if suffix.lower() in SUFFIXES else None


def read_table(path: Path) -> "polars.DataFrame":
    """A table with its header; all columns of CSV and TSV are text, empty fields null.

    Rows that are wholly empty are left out.

    Raises:
        DataError: unreadable, not UTF-8, ragged, without rows, or of no known kind; names the
            first line that is wrong.
    """
    import polars
    from polars.exceptions import PolarsError

    suffix = table_suffix(path)
    if suffix is None:
        raise DataError(f"{path}: is no table; expected one of {', '.join(SUFFIXES)}")
    try:
        if suffix in _SEPARATORS:
            table = polars.read_csv(path, separator=_SEPARATORS[suffix], infer_schema=False)
        elif suffix == ".parquet":
            table = polars.read_parquet(path)
        else:
            table = polars.read_ndjson(path, infer_schema_length=None)
    except (PolarsError, OSError) as error:
        _find_what_is_wrong(path, suffix)
        reason = str(error).split("\n")[0]
        raise DataError(f"{path}: cannot be read as {suffix[1:]}: {reason}") from error
    if suffix in _SEPARATORS:
        _check_header(path, table.columns)
        if table.height and table[:, -1].null_count():
            _find_what_is_wrong(path, suffix)  # a short row looks like one with empty fields
        table = table.filter(~polars.all_horizontal(polars.all().is_null()))
    if not table.height:
        raise DataError(f"{path}: the table has no row; expected a header and rows of data")
    return table


def check_column(columns: Iterable[str], name: str, option: str, where: object) -> None:
    """Refuse the name of a column that is not there.

    Args:
        columns: the names there are.
        name: the one asked for.
        option: the key by which it is chosen.
        where: the file.

    Raises:
        DataError: names the nearest column and all that there are.

    Example:
        >>> check_column(["body", "class"], "klass", "label", "a.csv")
        Traceback (most recent call last):
        ...
        recurra.errors.DataError: a.csv: no column 'klass'; did you mean 'class'? There are: body, \
class. Choose one with --set label=NAME
    """
    there = list(columns)
    if name in there:
        return
    near = get_close_matches(name, there, n=1) or [c for c in there if c.lower() == name.lower()]
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise DataError(
        f"{where}: no column {name!r}; {hint}There are: {', '.join(there)}. Choose one with "
        f"--set {option}=NAME"
    )


def row_line(path: Path, row: int) -> str:
    """Where row `row` (from 0, empty rows left aside) of a table stands, for an error.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = path.write_text('text,label\\n"two\\nlines",x\\ny,z\\n')
        >>> row_line(path, 1).rsplit("/")[-1]
        'a.csv, line 4'
    """
    suffix = table_suffix(path)
    if suffix in _SEPARATORS:
        rows = [line for line, fields in _rows(path, suffix) if any(fields)][1:]
        return f"{path}, line {rows[row]}"
    return f"{path}, row {row + 1}" if suffix == ".parquet" else f"{path}, line {row + 1}"


def _check_header(path: Path, columns: list[str]) -> None:
    repeated = [c for c in columns if "_duplicated_" in c and c.split("_duplicated_")[0] in columns]
    if repeated:
        name = repeated[0].split("_duplicated_")[0]
        raise DataError(f"{path}, line 1: two columns are called {name!r}; rename one of them")


def _rows(path: Path, suffix: str) -> Iterator[tuple[int, list[str]]]:
    """(number of its last line, fields) of every row, by Python's own reader."""
    lines = (line + "\n" for line in iterate_lines(path))
    reader = csv.reader(lines, delimiter=_SEPARATORS[suffix], strict=True)
    yield from ((reader.line_num, fields) for fields in reader)


def _find_what_is_wrong(path: Path, suffix: str) -> None:
    """Raise an error that names the first wrong line; polars does not know it."""
    if suffix == ".parquet":
        return
    if suffix not in _SEPARATORS:
        _find_bad_json(path)
        return
    rows = _rows(path, suffix)
    number = 0
    try:
        number, header = next(rows)
        for number, fields in rows:
            if fields and len(fields) != len(header):
                raise DataError(
                    f"{path}, line {number}: the number of fields is {len(fields)}, the header has "
                    f"{len(header)} ({', '.join(header)}); quote fields that hold the separator"
                )
    except csv.Error as error:
        raise DataError(f"{path}, after line {number}: {error}; a quote that does not end?") from (
            error
        )


def _find_bad_json(path: Path) -> None:
    for number, line in enumerate(iterate_lines(path), start=1):
        try:
            found: Any = json.loads(line) if line.strip() else {}
        except ValueError as error:
            raise DataError(f"{path}, line {number}: no JSON: {error}") from error
        if not isinstance(found, dict):
            raise DataError(
                f"{path}, line {number}: a {type(found).__name__}, expected an object such as "
                '{"text": "…", "label": "…"}'
            )
