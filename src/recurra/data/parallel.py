"""Sentences and their translations: two line-parallel files, TSV or JSON lines; in three parts."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from recurra.data.splits import split_lines
from recurra.data.tables import table_suffix
from recurra.data.text import expand_paths, iterate_lines, read_lines
from recurra.errors import DataError

TABLES = (".tsv", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class ParallelText:
    """Lines and their translations; a line may be empty.

    Attributes:
        source, target: equally many lines.
        where: names the text in errors.

    Raises:
        DataError: unequal numbers of lines.

    Example:
        >>> text = ParallelText(["ein Hund", ""], ["a dog", ""])
        >>> len(text), text.pairs()[0]
        (2, ('ein Hund', 'a dog'))
    """

    source: list[str]
    target: list[str]
    where: str = "the text"

    def __post_init__(self) -> None:
        if len(self.source) != len(self.target):
            raise DataError(
                f"{self.where}: {len(self.source)} source lines and {len(self.target)} target "
                "lines; expected one translation for each line"
            )

    def __len__(self) -> int:
        return len(self.source)

    def pairs(self) -> list[tuple[str, str]]:
        """(line, translation)."""
        return list(zip(self.source, self.target, strict=True))

    def fingerprint(self) -> str:
        """Equal for equal texts."""
        digest = sha256()
        for source, target in self.pairs():
            digest.update(f"{source}\0{target}\1".encode())
        return digest.hexdigest()[:12]


@dataclass(frozen=True)
class ParallelSplits:
    """Parallel text to train on, to choose by, to report on; `notes` are for the report."""

    train: ParallelText
    valid: ParallelText
    test: ParallelText
    notes: dict[str, int | float | str] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Equal for equal texts in equal parts."""
        return " ".join(part.fingerprint() for part in (self.train, self.valid, self.test))


def read_parallel(
    paths: Sequence[str | Path], *, source: str = "source", target: str = "target"
) -> ParallelText:
    """Parallel text from two files, the source first, or from tables.

    A `.tsv` file has two columns or, if its first line holds the names `source` and `target`, any
    number; quotes mean nothing in it. A `.jsonl` file has an object a line. All may be `.gz`.

    Args:
        paths: two text files whose lines belong together; or tables, folders and globs of them.
        source: the column or key of the sentences, and
        target: of their translations.

    Raises:
        DataError: different numbers of lines (says both), not two files, a row without one of the
            two; names file and line.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.tsv"
        >>> _ = path.write_text("ein Hund\\ta dog\\n\\t\\n")
        >>> read_parallel([path]).pairs()
        [('ein Hund', 'a dog'), ('', '')]
    """
    files = expand_paths(paths)
    where = ", ".join(str(path) for path in paths)
    if all(table_suffix(path) in TABLES for path in files):
        rows = [row for path in files for row in _read_table(path, source, target)]
        if not rows:
            raise DataError(f"{where}: a header and no row; expected pairs of sentences")
        return ParallelText([s for s, _ in rows], [t for _, t in rows], where)
    if len(files) != 2:
        raise DataError(
            f"{where}: {len(files)} text file{'s' * (len(files) != 1)}; expected two, the source "
            "and its translation (--data SOURCE --data TARGET), or .tsv or .jsonl files"
        )
    lines, translations = read_lines(files[0]), read_lines(files[1])
    if len(lines) != len(translations):
        raise DataError(
            f"{files[0]} has {len(lines)} lines and {files[1]} has {len(translations)}; expected "
            "one translation for each line (an empty line for none)"
        )
    return ParallelText(lines, translations, where)


def split_parallel(
    text: ParallelText, *, valid: bool = True, test: bool = True
) -> tuple[ParallelText, ParallelText, ParallelText]:
    """Hold out the end: the last twentieth to choose by, the one before to report on.

    Returns:
        `(train, valid, test)`. What is not held out is empty.

    Raises:
        DataError: too few lines.
    """
    sources, targets = (
        split_lines(lines, valid=valid, test=test, where=text.where)
        for lines in (text.source, text.target)
    )
    return (
        ParallelText(sources.train, targets.train, f"{text.where} (train)"),
        ParallelText(sources.valid, targets.valid, f"{text.where} (valid)"),
        ParallelText(sources.test, targets.test, f"{text.where} (test)"),
    )


def _read_table(path: Path, source: str, target: str) -> Iterator[tuple[str, str]]:
    if table_suffix(path) == ".tsv":
        yield from _read_tsv(path, source, target)
        return
    for number, line in enumerate(iterate_lines(path), start=1):
        if line.strip():
            yield _from_json(line, f"{path}, line {number}", source, target)


def _read_tsv(path: Path, source: str, target: str) -> Iterator[tuple[str, str]]:
    columns, width = (0, 1), 2
    for number, line in enumerate(iterate_lines(path), start=1):
        fields = line.split("\t")
        if number == 1:
            if source in fields and target in fields:
                columns, width = (fields.index(source), fields.index(target)), len(fields)
                continue
            if len(fields) > 2:
                raise DataError(
                    f"{path}, line 1: {len(fields)} columns and none is called {source!r} and "
                    f"{target!r}; expected two columns, or a header with these names (others by "
                    "--set source=NAME --set target=NAME)"
                )
        if len(fields) != width:
            raise DataError(
                f"{path}, line {number}: {len(fields)} columns, expected {width}; one tab stands "
                "between a sentence and its translation"
            )
        yield fields[columns[0]], fields[columns[1]]


def _from_json(line: str, where: str, source: str, target: str) -> tuple[str, str]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: no JSON ({error}); expected an object a line") from error
    found = tuple(row.get(name) if isinstance(row, dict) else None for name in (source, target))
    for name, value in zip((source, target), found, strict=True):
        if not isinstance(value, str):
            raise DataError(
                f"{where}: expected a text at {name!r}, got {json.dumps(value)[:40]}; choose other "
                "keys with --set source=NAME --set target=NAME"
            )
    return found  # type: ignore[return-value]
