"""Pretrained word vectors from a local text file: GloVe, word2vec and fastText formats."""

from collections.abc import Collection
from itertools import chain
from pathlib import Path

import numpy as np

from recurra.data.text import iterate_lines
from recurra.errors import DataError


def read_vectors(
    path: str | Path, wanted: Collection[str] | None = None, most: int = 0
) -> tuple[list[str], np.ndarray]:
    """Words and their vectors, of those that are wanted.

    A line is a word and its numbers, between blanks (GloVe). If the first line is two whole
    numbers, these are the number of words and the vectors' size (word2vec's text format and
    fastText's `.vec`). A word may hold blanks: the numbers are counted from the line's end. The
    file may be gzipped. Binary files are refused.

    Args:
        path: the file.
        wanted: keep these words; `None`: all.
        most: keep the first so many words besides: files are ordered by frequency.

    Returns:
        Words in the file's order, each once, and (words, size), float32.

    Raises:
        DataError: unreadable, not of these formats, vectors of unequal size, or no wanted word.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "vectors.txt"
        >>> _ = path.write_text("the 0.1 0.2\\ncat 0.3 0.4\\n")
        >>> words, vectors = read_vectors(path, {"cat"})
        >>> words, vectors.shape
        (['cat'], (1, 2))
    """
    lines = enumerate(iterate_lines(Path(path)), start=1)
    number, first = next(lines)
    size, has_header = _size(first)
    if size < 1:
        raise DataError(
            f"{path}, line {number}: expected a word and its numbers, or the number of words and "
            f"their size (got {first[:60]!r})"
        )
    found: dict[str, np.ndarray] = {}
    rows = lines if has_header else chain([(number, first)], lines)
    for position, (at, line) in enumerate(rows):
        word, *numbers = line.rstrip().rsplit(" ", size)
        if wanted is not None and position >= most and word not in wanted:
            continue
        found.setdefault(word, _vector(numbers, size, path, at))
    if not found:
        raise DataError(f"{path}: has a vector for none of the text's words; is it the language's?")
    return list(found), np.stack(list(found.values()))


def _size(first: str) -> tuple[int, bool]:
    """Size of the vectors, and whether the first line only says so."""
    parts = first.split()
    if len(parts) == 2 and all(part.isdigit() for part in parts):
        return int(parts[1]), True
    return len(parts) - 1, False


def _vector(numbers: list[str], size: int, path: str | Path, number: int) -> np.ndarray:
    try:
        vector = np.array(numbers, np.float32)
    except ValueError as error:
        raise DataError(f"{path}, line {number}: {error}; expected {size} numbers") from error
    if len(vector) != size or not np.isfinite(vector).all():
        raise DataError(
            f"{path}, line {number}: {len(vector)} numbers after the word, expected {size} finite "
            "ones as in the first line"
        )
    return vector
