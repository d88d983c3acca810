"""Texts larger than memory: tokenised once to a file that is mapped, not read.

A shard is two files: `<name>.tokens`, the ids as little-endian int32, and `<name>.json`, a small
index that says how many there are. `<name>` is made of what the tokens depend on (the text files'
paths, sizes and times of change, and the tokenizer), so a shard is never overwritten and never out
of date. Both are written beside and renamed, the index last: where it stands, the shard is whole.
"""

import json
import os
from collections.abc import Sequence
from hashlib import sha256
from itertools import chain
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

import numpy as np
import torch
from torch import Tensor

from recurra.data.text import iterate_lines
from recurra.data.tokenizer import Tokenizer
from recurra.errors import DataError

_FORMAT = "recurra-tokens-1"
_ID = np.dtype("<i4")


def tokenise_once(files: Sequence[Path], tokenizer: Tokenizer, folder: Path) -> Tensor:
    """The tokens of text files, mapped from a shard in `folder`, which is written if not there yet.

    Args:
        files: text files, as `expand_paths` gives them, read in this order.
        tokenizer: gives the ids; `<eos>` ends each line.
        folder: where shards are kept; made if not there. Takes four bytes a token.

    Returns:
        (tokens,) int32, backed by the file: pages come and go as they are used. Changing it
        changes no file.

    Raises:
        DataError: a text that cannot be read, a folder that cannot be written (a full disk; nothing
            half-written stays), a shard that is damaged.

    Cost: memory for 10,000 lines at a time.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.txt").write_text("a b\\na\\n")
        >>> tokenizer = Tokenizer.train(["a b"])
        >>> tokenise_once([folder / "a.txt"], tokenizer, folder / "shards").tolist()
        [2, 3, 1, 2, 1]
    """
    name = _name(files, tokenizer)
    if not (folder / f"{name}.json").is_file():
        try:
            _write(files, tokenizer, folder, name)
        except OSError as error:
            raise DataError(
                f"{folder}: the tokens cannot be written: {error}; free space there, or choose "
                "another folder"
            ) from error
    return _map(folder, name)


def _name(files: Sequence[Path], tokenizer: Tokenizer) -> str:
    """Sixteen hexadecimal digits that stand for everything the tokens depend on."""
    digest = sha256(tokenizer.to_json().encode())
    for path in files:
        try:
            facts = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error}") from error
        digest.update(f"\0{path.absolute()}\0{facts.st_size}\0{facts.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def _write(files: Sequence[Path], tokenizer: Tokenizer, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = chain.from_iterable(iterate_lines(path) for path in files)
    count = 0
    with _Beside(folder / f"{name}.tokens") as file:
        for ids in tokenizer.encode_batches(lines):
            file.write(ids.astype(_ID).tobytes())
            count += len(ids)
    with _Beside(folder / f"{name}.json") as file:
        index = {"format": _FORMAT, "tokens": count, "files": [str(path) for path in files]}
        file.write(json.dumps(index).encode())


class _Beside:
    """A file that takes its name only when it is complete; a failure leaves nothing behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> IO[bytes]:
        self.file = NamedTemporaryFile(dir=self.path.parent, suffix=".part", delete=False)
        return self.file

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.file.flush()
                os.fsync(self.file.fileno())
                os.replace(self.file.name, self.path)
        finally:
            self.file.close()
            Path(self.file.name).unlink(missing_ok=True)


def _map(folder: Path, name: str) -> Tensor:
    path, index = folder / f"{name}.tokens", folder / f"{name}.json"
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        count = content["tokens"] if content["format"] == _FORMAT else None
        found = path.stat().st_size
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{index}: damaged ({error}); delete it to tokenise anew") from error
    if not isinstance(count, int) or found != count * _ID.itemsize:
        raise DataError(
            f"{path}: damaged: {found} bytes, but {index.name} says {count} tokens of "
            f"{_ID.itemsize}; delete both to tokenise anew"
        )
    # "c", copy on write: torch warns of tensors over memory that must not be written
    return torch.from_numpy(np.memmap(path, dtype=_ID, mode="c", shape=(count,)))
