"""Lines that a user passes as arguments, in a file, or on stdin."""

import io
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
        lines = sys.stdin.read().split("\n")
        lines = lines[:-1] if lines[-1] == "" else lines
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
    """The lines of stdin, each as soon as it comes; they end at line feeds alone.

    Raises:
        DataError: a line that is not UTF-8; names it.
    """
    stream = sys.stdin
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(newline="\n")
    number = 0
    try:
        for line in stream:
            number += 1
            yield line.removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise DataError(
            f"stdin, after line {number}: not UTF-8 ({error.reason}); convert it first, for "
            "example with iconv -f LATIN1 -t UTF-8"
        ) from error
