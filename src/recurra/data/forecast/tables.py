"""Tables from CSV, TSV or Parquet files; every error names file, row and column."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recurra.data.text import expand_paths
from recurra.errors import DataError

if TYPE_CHECKING:
    import polars

Floats = NDArray[np.float64]

MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "NAN", "null", "NULL", "None", "none", "-", "?")
NUMBER_SHARE = 0.9  # of a column's cells that make it a column of numbers with a few bad ones
TRUE, FALSE = ("true", "True", "TRUE", "yes", "Yes", "YES"), ("false", "False", "no", "No", "NO")


@dataclass(frozen=True)
class Table:
    """Rows of one or several files, one below the other.

    Attributes:
        frame: polars DataFrame; CSV cells are text (missing ones null), Parquet's keep their type.
        where: names the files in an error.
        first_row: the number of the first data row in its file, as an editor counts lines.
        rows: for each row where it was before rows were sorted; None: they were not.
    """

    frame: "polars.DataFrame"
    where: str
    first_row: int = 2
    rows: NDArray[np.int64] | None = None

    def place(self, index: int) -> str:
        """Where a row is, for an error."""
        index = index if self.rows is None else int(self.rows[index])
        return f"{self.where}, row {index + self.first_row}"

    def take(self, order: NDArray[np.int64]) -> "Table":
        """The rows in another order, which still know where they were."""
        rows = order if self.rows is None else self.rows[order]
        return Table(self.frame[order], self.where, self.first_row, rows)

    def require(self, name: str, role: str) -> None:
        """Check that a column is there.

        Raises:
            DataError: it is not; names the columns that are.
        """
        if name not in self.frame.columns:
            has = ", ".join(self.frame.columns)
            raise DataError(f"{self.where}: there is no column {name!r} ({role}); it has {has}")

    def is_numeric(self, name: str) -> bool:
        """Whether a column holds numbers (or nothing), a few bad cells aside."""
        column = self.frame[name]
        if column.dtype.is_numeric():
            return True
        if column.dtype.is_temporal() or _is_bool(column):
            return False
        text = _text(column).drop_nulls()
        if not len(text):
            return True
        good = len(text) - int(text.cast(_float(), strict=False).null_count())
        return good >= NUMBER_SHARE * len(text)

    def is_bool(self, name: str) -> bool:
        """Whether a column is of true and false, or yes and no."""
        return _is_bool(self.frame[name])

    def numbers(self, name: str) -> Floats:
        """A column as float64, NaN where the cell is empty or says so ("NA", "null", …).

        Raises:
            DataError: a cell that is no number, or infinite; names its row.
        """
        column = self.frame[name]
        if _is_bool(column):
            words = _text(column).str.to_lowercase()
            is_yes = words.is_in(["true", "yes"]).to_numpy().astype(np.float64)
            return np.where(words.is_null().to_numpy(), np.nan, is_yes)
        if column.dtype.is_numeric():
            cast = column.cast(_float())
        else:
            text = _text(column)
            cast = text.cast(_float(), strict=False)
            bad = (cast.is_null() & text.is_not_null()).arg_true()
            if len(bad):
                cell = text[int(bad[0])]
                raise DataError(
                    f"{self.place(int(bad[0]))}: column {name!r} has {cell!r}, expected a number "
                    "or an empty cell"
                )
        values = cast.to_numpy().astype(np.float64)
        infinite = np.flatnonzero(np.isinf(values))
        if len(infinite):
            raise DataError(f"{self.place(int(infinite[0]))}: column {name!r} is infinite")
        return values

    def categories(self, name: str) -> NDArray[np.object_]:
        """A column as text, None where the cell is empty."""
        return np.array(_text(self.frame[name].cast(str)).to_list(), dtype=object)


def read_tables(paths: Sequence[str | Path]) -> Table:
    """The rows of files, folders and globs, one file below the other.

    Raises:
        DataError: unreadable, empty, ragged, not UTF-8, or files whose columns differ.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.csv"
        >>> _ = path.write_text("day,rain\\n2024-01-01,0.2\\n2024-01-02,NA\\n")
        >>> read_tables([path]).numbers("rain")
        array([0.2, nan])
    """
    import polars as pl

    files = expand_paths(list(paths))
    tables = [_read_file(path) for path in files]
    columns = tables[0].frame.columns
    for table in tables[1:]:
        if table.frame.columns != columns:
            raise DataError(
                f"{table.where}: columns {', '.join(table.frame.columns)} differ from those of "
                f"{tables[0].where}: {', '.join(columns)}"
            )
    if len(tables) == 1:
        return tables[0]
    frames = [table.frame.cast(pl.String) for table in tables]
    return Table(pl.concat(frames), f"{files[0].parent} ({len(files)} files)")


def parse_csv(content: bytes, where: str) -> Table:
    """A table from the content of a CSV file; `,`, `;` or tab between cells, a header on top.

    Raises:
        DataError: empty, ragged, not UTF-8, or with a column named twice.
    """
    import polars as pl

    if not content.strip():
        raise DataError(f"{where}: the file is empty; expected a header and rows")
    _check_cells(content, where)
    try:
        frame = pl.read_csv(BytesIO(content), infer_schema=False, separator=_separator(content))
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        reason = str(error).split("\n")[0]
        raise DataError(f"{where}: cannot be read as CSV: {reason}") from error
    if not len(frame):
        raise DataError(f"{where}: a header and no rows")
    frame = frame.rename({name: name.strip().removeprefix("\ufeff") for name in frame.columns})
    return Table(frame, where)


def table_of(frame: "polars.DataFrame", where: str = "the table") -> Table:
    """A table that is in memory."""
    if not len(frame):
        raise DataError(f"{where}: it has no rows")
    return Table(frame, where, first_row=1)


def _read_file(path: Path) -> Table:
    import polars as pl

    if path.suffix == ".parquet":
        try:
            return table_of(pl.read_parquet(path), str(path))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"{path}: cannot be read as Parquet: {error}") from error
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            import gzip

            content = gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    return parse_csv(content, str(path))


def _separator(content: bytes) -> str:
    header = content.split(b"\n", 1)[0]
    return max((",", ";", "\t"), key=lambda mark: header.count(mark.encode()))


def _check_cells(content: bytes, where: str) -> None:
    """Every row has as many cells as the header, and every byte is UTF-8."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{where}, row {row}: byte 0x{content[error.start]:02x} is not UTF-8; convert the "
            "file, for example with iconv -f LATIN1 -t UTF-8"
        ) from error
    mark = _separator(content)
    lines = text.rstrip("\n").split("\n")
    if '"' in text:  # quoted cells may hold separators; polars checks those
        header = []
    else:
        header = lines[0].rstrip("\r").split(mark)
        cells = len(header) - 1
        for row, line in enumerate(lines, start=1):
            if line.count(mark) != cells and line.strip():
                raise DataError(
                    f"{where}, row {row}: {line.count(mark) + 1} cells, the header has {cells + 1}"
                )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{where}: the header names {twice[0]!r} more than once")


def _text(column: "polars.Series") -> "polars.Series":
    """Stripped text, null where the cell stands for a missing value."""
    text = column.cast(str).str.strip_chars()
    return text.set(text.is_in(list(MISSING)), None)


def _is_bool(column: "polars.Series") -> bool:
    import polars as pl

    if column.dtype == pl.Boolean:
        return True
    if column.dtype != pl.String:
        return False
    text = _text(column).drop_nulls()
    return len(text) > 0 and bool(text.is_in([*TRUE, *FALSE]).all())


def _float() -> "polars.DataType":
    import polars as pl

    return pl.Float64()
