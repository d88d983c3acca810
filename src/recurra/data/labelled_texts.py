"""Texts with labels from a user's files: columns of tables, or one file for each class."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recurra.data.examples import Examples, Labels, concatenate
from recurra.data.tables import check_column, read_table, row_line, table_suffix
from recurra.data.text import expand_paths, read_lines
from recurra.errors import DataError

if TYPE_CHECKING:
    import polars


def read_labelled_texts(
    paths: Sequence[str | Path],
    *,
    text: str = "text",
    label: str = "label",
    label_separator: str | None = None,
) -> Examples:
    """Labelled texts from tables (CSV, TSV, Parquet, JSON lines), or from one file for each class.

    Files that are no tables are classes: the name of the file without its ending is the label, each
    line that is not blank a text. Of a folder that has `.txt` files only those are read.

    Args:
        paths: files, folders or globs, all of the one or the other kind.
        text: the column of texts. An empty field is an empty text.
        label: the column of labels.
        label_separator: what stands between the labels of one example; its label may then be empty.
            A column of lists (Parquet, JSON lines) needs none. `None`: a field is one label.

    Raises:
        DataError: a missing column, a row without label, ragged rows, other encodings than UTF-8,
            tables beside class files; names file and line.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "cat.txt").write_text("meow\\npurr\\n")
        >>> _ = (folder / "dog.txt").write_text("woof\\n")
        >>> read_labelled_texts([folder]).labels
        [('cat',), ('cat',), ('dog',)]
    """
    files = text_files(paths)
    tables = [path for path in files if table_suffix(path)]
    if tables and len(tables) < len(files):
        other = next(path for path in files if not table_suffix(path))
        raise DataError(
            f"{tables[0]} is a table and {other} is not: pass tables alone, or one file for each "
            "class alone"
        )
    if tables:
        parts = [_from_table(path, text, label, label_separator) for path in tables]
    else:
        parts = [_from_class_file(path) for path in files]
    return concatenate(parts)


def text_files(paths: Sequence[str | Path]) -> list[Path]:
    """The files behind paths; of a folder with `.txt` files only those."""
    found: list[Path] = []
    for given in paths:
        inside = expand_paths([given])
        if Path(given).is_dir():
            plain = [path for path in inside if path.name.endswith((".txt", ".txt.gz"))]
            inside = plain or inside
        found += inside
    return found


def _from_class_file(path: Path) -> Examples:
    texts = [line for line in read_lines(path) if line.strip()]
    if not texts:
        raise DataError(f"{path}: only blank lines; expected one text of this class a line")
    name = path.name.removesuffix(".gz")
    return Examples(texts, [(Path(name).stem,)] * len(texts))


def _from_table(path: Path, text: str, label: str, separator: str | None) -> Examples:
    table = read_table(path)
    check_column(table.columns, text, "text", path)
    check_column(table.columns, label, "label", path)
    texts = [_as_text(value, path, row) for row, value in enumerate(table[text].to_list())]
    return Examples(texts, read_labels(table, label, separator, path))


def _as_text(value: Any, path: Path, row: int) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    raise DataError(
        f"{row_line(path, row)}: the text is a {type(value).__name__}, expected a string; choose "
        "another column with --set text=NAME, or for series --set id=NAME"
    )


def read_labels(
    table: "polars.DataFrame", label: str, separator: str | None, path: Path
) -> list[Labels]:
    """The labels of each row of a table; see `read_labelled_texts`."""
    labels = [_as_labels(value, separator) for value in table[label].to_list()]
    for row, found in enumerate(labels):
        if found is None:
            raise DataError(
                f"{row_line(path, row)}: no label in column {label!r}; label the row or take it out"
            )
    return labels  # type: ignore[return-value]


def _as_labels(value: Any, separator: str | None) -> Labels | None:
    if isinstance(value, list):
        return tuple(dict.fromkeys(str(part) for part in value))
    if separator is not None:
        pieces = (piece.strip() for piece in str("" if value is None else value).split(separator))
        return tuple(dict.fromkeys(piece for piece in pieces if piece))
    if value is None or str(value) == "":
        return None
    return (str(value),)
