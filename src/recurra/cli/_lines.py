"""Lines that a user passes as arguments, in a file, or on stdin."""

import sys
from pathlib import Path

from recurra.errors import DataError


def read_input(texts: list[str], file: Path | None) -> list[str]:
    """The lines to work on; "-" reads stdin.

    Raises:
        DataError: none given, or the file cannot be read.
    """
    from recurra.data.text import read_lines

    if texts == ["-"] or (not texts and file is None and not sys.stdin.isatty()):
        lines = sys.stdin.read().split("\n")
        lines = lines[:-1] if lines[-1] == "" else lines
    elif file is not None:
        lines = [*texts, *read_lines(file)]
    else:
        lines = texts
    if not lines:
        raise DataError("no text given; pass it as arguments, with --file PATH, or on stdin with -")
    return lines
