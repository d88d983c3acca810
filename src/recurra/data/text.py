"""Text files as lines: files, folders, globs, gzip; every error names its file and line."""

import glob
import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from recurra.errors import DataError


def expand_paths(paths: Sequence[str | Path]) -> list[Path]:
    """The files behind paths, each a file, a folder (all files below it) or a glob.

    A folder's and a glob's files come in the order of their names; hidden files are left out.

    Raises:
        DataError: a path that is not there, or a folder or glob without a file.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.txt").write_text("a")
        >>> [path.name for path in expand_paths([folder])]
        ['a.txt']
    """
    found: list[Path] = []
    for given in paths:
        path = Path(given).expanduser()
        if path.is_file():
            found.append(path)
            continue
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and not _is_hidden(p, path))
        else:
            inside = sorted(Path(p) for p in glob.glob(str(path), recursive=True))
            inside = [p for p in inside if p.is_file()]
        if not inside:
            what = "has no file in it" if path.is_dir() else "does not exist and matches no file"
            raise DataError(f"{path}: {what}; expected a text file, a folder or a glob")
        found += inside
    return found


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def iterate_lines(path: Path) -> Iterator[str]:
    """Lines of one UTF-8 text file, plain or `.gz`; see `decode_lines`.

    Raises:
        DataError: unreadable, empty, not UTF-8, or binary; names file, line and byte.
    """
    is_empty = True
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for line in decode_lines(file, str(path)):
                is_empty = False
                yield line
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if is_empty:
        raise DataError(f"{path}: the file is empty; expected text")


def decode_lines(lines: Iterable[bytes], name: str) -> Iterator[str]:
    """UTF-8 text, line by line as it comes, without line feeds.

    Lines end at "\\n" alone (and a "\\r" before it is dropped): Python's `splitlines` would also
    break at U+0085 and others, which corpora contain inside sentences.

    Raises:
        DataError: not UTF-8, or binary; gives the name, the line and the byte.

    Example:
        >>> list(decode_lines([b"ein Satz\\n", b"zwei\\r\\n"], "stdin"))
        ['ein Satz', 'zwei']
    """
    for number, line in enumerate(lines, start=1):
        if b"\0" in line:
            raise DataError(
                f"{name}, line {number}: a NUL byte; this is a binary file, expected text"
            )
        try:
            text = line.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            byte = line[error.start]
            raise DataError(
                f"{name}, line {number}: byte 0x{byte:02x} at column {error.start + 1} is not "
                "UTF-8; convert it, for example with iconv -f LATIN1 -t UTF-8"
            ) from error
        yield text.removeprefix("\ufeff") if number == 1 else text


def read_lines(path: Path) -> list[str]:
    """All lines of one file; see `iterate_lines`.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.txt"
        >>> _ = path.write_bytes("ein Satz\\nzwei\\n".encode())
        >>> read_lines(path)
        ['ein Satz', 'zwei']
    """
    return list(iterate_lines(path))
