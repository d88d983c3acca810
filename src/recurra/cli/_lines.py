"""Lines that a user passes as arguments, in a file, or on stdin."""

import sys
from collections.abc import Iterator
from pathlib import Path

from recurra.errors import DataError


def read_input(texts: list[str], file: Path | None) -> list[str]:
    """The lines to work on; "-" reads stdin.

    Raises:
        DataError: none given, or the file cannot be read.
    """
    from recurra.data.text import read_lines

    if is_stdin(texts, file):
        lines = list(stdin_lines())
    elif file is not None:
        lines = [*texts, *read_lines(file)]
    else:
        lines = texts
    if not lines:
        raise DataError("no text given; pass it as arguments, with --file PATH, or on stdin with -")
    return lines


def is_stdin(texts: list[str], file: Path | None) -> bool:
    """Whether the lines to work on come by stdin."""
    return texts == ["-"] or (not texts and file is None and not sys.stdin.isatty())


def stdin_lines() -> Iterator[str]:
    """The lines of stdin, each as soon as it comes, whatever the locale says of their encoding.

    Raises:
        DataError: a line that is not UTF-8; names it.
    """
    from recurra.data.text import decode_lines

    return decode_lines(sys.stdin.buffer, "stdin")
