"""Runs that a verb works on."""

from pathlib import Path
from typing import Any

from recurra.errors import ArgumentError


def load_to(verb: str, run: Path) -> Any:
    """The model of a run, which must be able to do what the verb asks.

    Raises:
        ArgumentError: its task has no such thing.
        RunFolderError: see `recurra.load`.
    """
    from recurra.jobs.loading import load

    model = load(run)
    if not hasattr(model, verb):
        task = model.metrics["task"]
        raise ArgumentError(f"{run} is a run of {task}, and `recurra {verb}` is not for it")
    return model
