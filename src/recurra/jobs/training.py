"""Training any task: its configuration and its run folder, made or gone on with."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from recurra.errors import ConfigError, DataError
from recurra.jobs import run_folder
from recurra.jobs.configurations import from_run, resolve, to_yaml
from recurra.jobs.job import find_job
from recurra.jobs.run_config import RunConfig
from recurra.tasks.task import Task
from recurra.training.configuration import build, flatten, read_settings
from recurra.training.files import remove_leftovers, write_json, write_text
from recurra.training.progress import Reporter
from recurra.training.ranks import is_main_process

if TYPE_CHECKING:
    from recurra.training.trainer import Outcome  # Lightning takes seconds to import

RESUMABLE = (
    *("training.max_epochs", "training.max_minutes", "training.patience"),
    *("hardware.devices", "hardware.num_nodes"),
)
Paths = str | Path | Sequence[str | Path]
Data = TypeVar("Data")


def train_task(
    task: str,
    *,
    config: Path | None = None,
    settings: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    out: Path | None = None,
    resume: Path | None = None,
    reporter: Reporter | None = None,
) -> Any:
    """Train a task into a run folder; what `recurra train` does.

    Args:
        task: its name.
        config: a YAML file.
        settings: `KEY=VALUE`.
        flags: values by key, `None` for not given.
        out: the run folder; `None` makes a new one under `runs/`.
        resume: the folder of a run to go on with; only limits may then be changed.
        reporter: shows the progress.

    Returns:
        The trained model; `None` on all processes but the first.

    Raises:
        RecurraError: see design section 8.
        Interrupted: Ctrl-C or SIGTERM; a checkpoint was written.
    """
    reporter = reporter if reporter and is_main_process() else Reporter()
    job = find_job(task)
    if resume is not None:
        resolved = _resumed(task, resume, config, settings, flags or {}, out)
        remove_leftovers(resume)
        return job.train(resolved, resume, reporter)
    resolved = resolve(task, config, settings, flags)
    if not is_main_process():  # the run folder is the first process's
        with tempfile.TemporaryDirectory() as folder:
            return job.train(resolved, Path(folder), reporter)
    own = run_folder.new_folder(out, task)
    with run_folder.removed_on_failure(own):
        write_text(own / run_folder.CONFIG, to_yaml(resolved))
        return job.train(resolved, own, reporter)


def train_in_python(
    task: str,
    options: Mapping[str, Any],
    *,
    data: Paths | None = None,
    valid: Paths | None = None,
    test: Paths | None = None,
    at_hand: Any = None,
    out: str | Path | None = None,
    reporter: Reporter | None = None,
) -> Any:
    """Train a task from Python; what `LanguageModel.train` and its likes do.

    Args:
        task: its name.
        options: values by flat or full key.
        data, valid, test: files, folders or globs.
        at_hand: data in memory, in the place of files; the recipe for the embedded data does then
            not apply.
        out: the run folder; `None` writes nothing.
        reporter: shows the progress.

    Returns:
        The trained model.
    """
    job, reporter = find_job(task), reporter or Reporter()
    paths = {"data": data, "valid": valid, "test": test}
    flags = {**options, **{k: as_list(v) for k, v in paths.items() if v is not None}}
    if at_hand is not None:
        config = build(job.Config, flatten(job.Config, flags, "option"))
    else:
        config = resolve(task, flags=flags)
    if out is not None:
        folder = run_folder.new_folder(out, task)
        with run_folder.removed_on_failure(folder):
            write_text(folder / run_folder.CONFIG, to_yaml(config))
            trained = job.train(config, folder, reporter, at_hand=at_hand)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            trained = job.train(config, Path(temporary), reporter, at_hand=at_hand, keep=False)
    if trained is None:
        raise SystemExit(0)  # a further process of a distributed run: its work is done
    return trained


def fit_network(
    task: Task, config: RunConfig, folder: Path, reporter: Reporter, title: str
) -> "Outcome | None":
    """Train the network of a task in a run folder.

    Returns:
        How it went; `None` on all processes but the first.

    Raises:
        Interrupted: by a signal; the folder's checkpoint goes on from there.
    """
    from recurra.training.interruption import Interrupted
    from recurra.training.trainer import fit

    outcome = fit(
        task,
        config.training,
        config.hardware,
        folder,
        seed=config.seed,
        reporter=reporter,
        title=title,
    )
    if outcome.reason == "interrupted":
        raise Interrupted(outcome.stop_signal, f"recurra train {config.task} --resume {folder}")
    return outcome if outcome.is_main_process else None


def check_same_data(folder: Path, fingerprint: str) -> None:
    """A run that goes on must find the data it began with.

    Raises:
        ConfigError: it is other data.
    """
    path = folder / "checkpoints" / "data.json"
    if not path.exists():
        if is_main_process():
            path.parent.mkdir(exist_ok=True)
            write_json(path, {"fingerprint": fingerprint})
        return
    expected = run_folder.read_json(path)["fingerprint"]
    if expected != fingerprint:
        raise ConfigError(
            f"{folder}: the data is not what the run began with (fingerprint {fingerprint}, "
            f"expected {expected}), so it cannot go on; restore the data or train anew"
        )


def data_of_run(
    metrics: Mapping[str, Any],
    read: Callable[[], Data],
    fingerprint: Callable[[Data], str],
    source: str,
) -> Data:
    """The data that a finished run was made with, read once more.

    Args:
        metrics: of the run.
        read: reads the data.
        fingerprint: of data.
        source: what was read, for the error.

    Raises:
        DataError: it was in memory only, or is not what it was.
    """
    if metrics["data"].get("in_memory"):
        raise DataError("the model was trained on data in memory; pass the data to measure on")
    data = read()
    if fingerprint(data) != metrics["data"]["fingerprint"]:
        raise DataError(
            f"the data of the run has changed: {source} is not what the model was trained and "
            "tested on, so its splits cannot be found again; pass --data with what to measure on"
        )
    return data


def as_list(paths: Paths) -> list[str]:
    """One path or several, as strings."""
    return [str(paths)] if isinstance(paths, str | Path) else [str(path) for path in paths]


def _resumed(
    task: str,
    folder: Path,
    config: Path | None,
    settings: Sequence[str],
    flags: Mapping[str, Any],
    out: Path | None,
) -> Any:
    """The configuration of a run that goes on, with new limits if there are any."""
    if config is not None or out is not None:
        raise ConfigError("--resume takes folder and configuration of the run: leave out --config")
    values = run_folder.read_config(folder)
    if values["task"] != task:
        raise ConfigError(f"--resume: {folder} is a run of {values['task']}, not of {task}")
    kind = find_job(task).Config
    given = {name: value for name, value in flags.items() if value is not None}
    changes = {**read_settings(kind, settings), **flatten(kind, given, "option")}
    refused = sorted(changes.keys() - set(RESUMABLE))
    if refused:
        raise ConfigError(
            f"--resume: {', '.join(refused)} cannot change in the middle of a run; these can: "
            f"{', '.join(RESUMABLE)}"
        )
    where = str(folder / run_folder.CONFIG)
    resolved = build(kind, flatten(kind, values, where), changes)
    if changes:
        write_text(folder / run_folder.CONFIG, to_yaml(resolved))
    return from_run(resolved.model_dump(mode="json"), where)
