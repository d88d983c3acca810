"""Run folders: found or refused, made without overwriting, read without running anything."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from recurra.errors import RunFolderError
from recurra.training.files import write_atomically, write_json, write_text
from recurra.training.log import read_log

CONFIG, METRICS, WEIGHTS = "config.yaml", "metrics.json", "model.safetensors"
TOKENIZER, LOG, REPORT = "tokenizer.json", "log.csv", "report.html"
ARPA, LEXICON = "model.arpa.gz", "vocabulary.json"


def new_folder(out: Path | str | None, name: str) -> Path:
    """Make a folder for a new run.

    Args:
        out: where; `None` makes `runs/NAME-<date>-<time>` in the working folder.
        name: of the default.

    Raises:
        RunFolderError: it exists and is not empty, or cannot be made.
    """
    folder = Path(out) if out is not None else _unused(Path("runs"), name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunFolderError(
            f"{folder} exists and is not empty; choose another --out, or go on with it by "
            f"--resume {folder}"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"cannot make the run folder {folder}: {error.strerror}") from error
    return folder


@contextmanager
def removed_on_failure(folder: Path) -> Iterator[None]:
    """Leave no new folder behind by an error, so that the mended command can be given again.

    What can be used or gone on with, a finished run or a checkpoint, is kept. So is the folder of
    what was stopped by a signal.
    """
    try:
        yield
    except Exception:
        if not any(any(folder.rglob(name)) for name in (METRICS, "*.ckpt")):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def write_run(
    folder: Path, config: str, metrics: dict[str, Any], page: str, former: Path | None
) -> None:
    """Write what every run has beside its weights; `metrics.json`, which ends a run, comes last.

    Args:
        folder: of the run.
        config: the content of `config.yaml`.
        metrics: the content of `metrics.json`.
        page: the content of `report.html`.
        former: a folder that the model was written to before, whose log is copied.
    """
    write_text(folder / CONFIG, config)
    source = None if former is None else former / LOG
    if source is not None and source.exists() and former != folder:
        write_atomically(folder / LOG, lambda beside: shutil.copyfile(source, beside))
    write_text(folder / REPORT, page)
    write_json(folder / METRICS, metrics)


def read_rows(folder: Path) -> list[dict[str, float]]:
    """The rows of a run's log; none for a model without steps."""
    return read_log(folder / LOG) if (folder / LOG).exists() else []


def read_config(folder: Path) -> dict[str, Any]:
    """The resolved configuration of a run, finished or not.

    Raises:
        RunFolderError: not a run folder, or damaged.
    """
    if not folder.is_dir():
        raise RunFolderError(f"{folder} is not a folder; expected the folder of a run")
    path = folder / CONFIG
    if not path.exists():
        raise RunFolderError(f"{folder} is not a run of recurra: it has no {CONFIG}")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RunFolderError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict) or "task" not in config:
        raise RunFolderError(f"{path} is not the configuration of a run: it names no task")
    return config


def read_metrics(folder: Path) -> dict[str, Any]:
    """The figures of a finished run; they are written last.

    Raises:
        RunFolderError: the run is not finished, or the file is damaged.
    """
    path = folder / METRICS
    if not path.exists():
        raise RunFolderError(
            f"the run {folder} is not finished: it has no {METRICS}; go on with it by "
            f"`recurra train {read_config(folder)['task']} --resume {folder}`"
        )
    return read_json(path)


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file.

    Raises:
        RunFolderError: it is damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise RunFolderError(f"{path} is damaged: expected an object")
    return value


def _unused(parent: Path, name: str) -> Path:
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    folder, number = parent / stem, 2
    while folder.exists():
        folder, number = parent / f"{stem}-{number}", number + 1
    return folder
