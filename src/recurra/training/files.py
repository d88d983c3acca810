"""Files that are whole or not there: written beside, flushed to the disk, then renamed."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recurra.errors import RunFolderError

ABOUT = "recurra"


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Call `write` with a name beside `path`, then rename it to `path`.

    Whatever happens, `path` holds the old content or the new one, never a part.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written; the old file is kept.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(beside)
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except (
        OSError,
        RuntimeError,
        SafetensorError,
    ) as error:  # torch and safetensors have their own
        raise _unwritable(path, error) from error
    finally:
        beside.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed process had begun to write below a folder."""
    for beside in folder.rglob(".*.part"):
        beside.unlink(missing_ok=True)


def append_text(path: Path, text: str) -> None:
    """Text at the end of a file, flushed to the operating system at once.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written.
    """
    try:
        with open(path, "a", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        raise _unwritable(path, error) from error


def write_text(path: Path, text: str) -> None:
    """A UTF-8 text file, atomically."""
    write_atomically(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """A JSON file, indented, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """A safetensors file, atomically, with facts that JSON can hold.

    The facts are one entry of the file's metadata, since safetensors writes several in no certain
    order: equal content is then equal bytes.
    """
    plain = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    metadata = {ABOUT: json.dumps(about)}
    write_atomically(path, lambda beside: save_file(plain, beside, metadata))


def read_about(path: Path) -> dict[str, Any]:
    """The facts in a safetensors file of ours.

    Raises:
        RunFolderError: missing, damaged or foreign.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})[ABOUT])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise RunFolderError(f"{path} is missing, damaged or not ours: {error}") from error
    if not isinstance(about, dict):
        raise RunFolderError(f"{path} is not ours: its metadata is no object")
    return about


def _unwritable(path: Path, error: Exception) -> RunFolderError:
    reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
    return RunFolderError(
        f"cannot write {path}: {reason}; what was there before is kept. Free some space, or choose "
        "another folder with --out"
    )
