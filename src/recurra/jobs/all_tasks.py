"""`recurra compare all`: which recurrence should I use? Every task, equal parameters and training.

Each network of a task has as many parameters as the one that the recipe `configs/TASK_all.yaml`
describes, as nearly as a whole number of units allows, and reads the same data equally often. Every
seed runs through all tasks before the next one begins, and a run that is finished is kept, so that
a comparison that was stopped goes on where it was.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from torch import nn

from recurra.cells import find_cell
from recurra.errors import ArgumentError, RunFolderError
from recurra.insight.all_tasks_figures import scores_by_cell
from recurra.insight.all_tasks_report import answer, comparison_report, listed, verdict
from recurra.insight.structure import structure
from recurra.jobs import run_folder
from recurra.jobs.comparison import write_comparison
from recurra.jobs.configurations import resolve
from recurra.jobs.job import TASKS, Comparison, Contest, Table, find_job
from recurra.jobs.machine import origin
from recurra.layers import Recurrent
from recurra.training.files import write_json
from recurra.training.interruption import Interrupted
from recurra.training.progress import Reporter

CELLS = ("rnn", "irnn", "gru", "lstm", "mingru")
SEEDS = 3
PLAN = "plan.json"


class Run(NamedTuple):
    """One network to train."""

    seed: int
    task: str
    cell: str

    def path(self, folder: Path) -> Path:
        """Where its figures are kept."""
        return folder / self.task / f"{self.cell}-{self.seed}.json"


def compare_all(
    cells: Sequence[str] | None = None,
    *,
    tasks: Sequence[str] = TASKS,
    seed: int | None = None,
    out: Path | None = None,
    resume: Path | None = None,
    reporter: Reporter | None = None,
) -> Comparison:
    """Train every cell on every task's embedded data, with three seeds; measure and draw.

    Args:
        cells: names of recurrences; None takes `CELLS`.
        tasks: names of tasks.
        seed: the first of the three; None takes 1.
        out: folder; None makes a new one under `runs/`.
        resume: the folder of a comparison that was stopped.
        reporter: shows the progress and the time left.

    Raises:
        ArgumentError: fewer than two cells, an unknown one, or one named twice.
        RunFolderError: `resume` is no comparison of all tasks.
    """
    reporter = reporter or Reporter()
    folder, plan = _planned(cells, tasks, seed, out, resume)
    runs = [
        Run(number, task, cell)
        for number in plan["seeds"]
        for task in plan["tasks"]
        for cell in plan["cells"]
    ]
    entrants: dict[str, Entrants] = {}
    for run, left in _with_time_left(runs, folder):
        if run.task not in entrants:
            with reporter.stage(f"{run.task}: reading its data, measuring the plain baseline"):
                entrants[run.task] = Entrants(run.task, folder)
        with reporter.stage(f"{left}: {run.task}, {run.cell}, seed {run.seed}"):
            try:
                found = entrants[run.task].run(run.cell, run.seed)
            except Interrupted as stop:
                command = f"recurra compare all --resume {folder}"
                raise Interrupted(stop.signal_number, command) from None
            _write(run.path(folder), found)
    figures = _figures(folder, plan)
    drawn = scores_by_cell(figures["tasks"])
    write_comparison(folder, figures, comparison_report(figures, drawn), drawn)
    return Comparison(folder, figures, Table(*listed(figures["tasks"])))


class Entrants:
    """The networks of one task, equal in parameters.

    Args:
        task: its name.
        folder: of the comparison; the baseline's figures are kept there.
    """

    def __init__(self, task: str, folder: Path) -> None:
        base = resolve(task, recipe="all")
        training = base.training.model_copy(update={"patience": 0, "max_minutes": None})
        self.base = base.model_copy(update={"training": training})
        self.contest: Contest = find_job(task).contest(base, Reporter())
        self.parameters = count(self.contest.build(self.base))
        contest = self.contest
        test = contest.baseline_figures["test"]
        kept = {k: contest.baseline_figures[k] for k in ("parameters", "seconds")}
        baseline = {"name": contest.baseline, "score": contest.score(test), **kept}
        facts = {"metric": contest.metric, "higher_is_better": contest.higher_is_better}
        _write(folder / task / "baseline.json", {**facts, "baseline": baseline})

    def member(self, cell: str, hidden_size: int, seed: int) -> Any:
        """The configuration of one network."""
        changes = {"cell": cell, "hidden_size": hidden_size}
        network = self.base.network.model_copy(update=changes)
        return self.base.model_copy(update={"network": network, "seed": seed})

    def run(self, cell: str, seed: int) -> dict[str, Any]:
        """Train and measure one network."""
        hidden_size = equal_size(
            lambda size: count(self.contest.build(self.member(cell, size, seed))), self.parameters
        )
        config = self.member(cell, hidden_size, seed)
        started_s, started_processor_s = time.monotonic(), time.process_time()
        with TemporaryDirectory() as folder:
            model = self.contest.train(config, Path(folder), Reporter())
        network = self.contest.build(config)
        return {
            "score": self.contest.score(model.metrics["test"]),
            "test": model.metrics["test"],
            "hidden_size": hidden_size,
            "parameters": model.metrics["parameters"],
            "seconds": round(time.monotonic() - started_s, 3),
            "processor_seconds": round(time.process_time() - started_processor_s, 3),
            "kept_bytes_per_step": kept_bytes(network),
        }


def equal_size(parameters: Callable[[int], int], wanted: int) -> int:
    """The hidden size with the number of parameters nearest to the wanted one; at least 1.

    Args:
        parameters: of a hidden size; it grows with it.
        wanted: parameters.

    Example:
        >>> equal_size(lambda size: size * size, 1000), equal_size(lambda size: size * size, 960)
        (32, 31)
    """
    high = 1
    while parameters(high) < wanted:
        high *= 2
    low = max(1, high // 2)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if parameters(middle) < wanted else (low, middle)
    return min((low, high), key=lambda size: abs(parameters(size) - wanted))


def count(network: nn.Module) -> int:
    """Parameters of a network; a tied one counts once."""
    return sum(parameter.numel() for parameter in network.parameters())


def kept_bytes(network: nn.Module) -> int | None:
    """What training keeps of one step of one row in a network's recurrent layers, in bytes.

    See `Structure.saved_bytes_per_step`; None if a cell has no kernels.
    """
    total = 0
    for layer in network.modules():
        if not isinstance(layer, Recurrent):
            continue
        for size, inputs in zip(layer.hidden_sizes, layer.input_sizes, strict=True):
            found = structure(layer.cell, inputs, size, bidirectional=layer.bidirectional)
            if found.saved_bytes_per_step is None:
                return None
            total += found.saved_bytes_per_step
    return total


def _planned(
    cells: Sequence[str] | None,
    tasks: Sequence[str],
    seed: int | None,
    out: Path | None,
    resume: Path | None,
) -> tuple[Path, dict[str, Any]]:
    """The folder, and what is to be compared: as asked, or as it was when it began."""
    if resume is not None:
        if any(given is not None for given in (cells, seed, out)):
            raise ArgumentError(
                "--resume takes folder, cells and seeds of the comparison: leave out --out, "
                "--cells and --seed"
            )
        if not (resume / PLAN).exists():
            raise RunFolderError(f"{resume} is no comparison of all tasks: it has no {PLAN}")
        return resume, run_folder.read_json(resume / PLAN)
    cells = CELLS if cells is None else cells
    if len(cells) < 2 or len(set(cells)) < len(cells):
        raise ArgumentError(f"--cells {','.join(cells)}: name two cells or more, each once")
    for cell in cells:
        find_cell(cell)
    folder = run_folder.new_folder(out, "compare-all")
    first = 1 if seed is None else seed
    plan = {
        "cells": list(cells),
        "tasks": list(tasks),
        "seeds": [first + k for k in range(SEEDS)],
    }
    write_json(folder / PLAN, plan)
    return folder, plan


def _with_time_left(runs: Sequence[Run], folder: Path) -> Iterator[tuple[Run, str]]:
    """Runs that are not done, each with its number and how long all that remain should take."""
    seconds: dict[str, list[float]] = {}
    for number, run in enumerate(runs, 1):
        if not run.path(folder).exists():
            known = {task: fmean(found) for task, found in seconds.items()}
            words = ""
            if known:
                each = fmean(known.values())
                left_s = sum(known.get(later.task, each) for later in runs[number - 1 :])
                words = f", {left_s / 60:.0f} min left"
            yield run, f"{number} of {len(runs)}{words}"
        done = run_folder.read_json(run.path(folder))
        seconds.setdefault(run.task, []).append(done["seconds"])


def _write(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    write_json(path, value)


def _figures(folder: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """The content of `comparison.json`, from the figures of all runs."""
    tasks: dict[str, Any] = {}
    for task in plan["tasks"]:
        entry = run_folder.read_json(folder / task / "baseline.json")
        entry["cells"] = {
            cell: _summary(
                [run_folder.read_json(Run(s, task, cell).path(folder)) for s in plan["seeds"]]
            )
            for cell in plan["cells"]
        }
        tasks[task] = {**entry, "verdict": verdict(entry)}
    return {
        "task": "all",
        "seeds": plan["seeds"],
        "tasks": tasks,
        "answer": answer(tasks),
        **origin(plan["seeds"][0]),
    }


def _summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One cell's runs of a task: its score by seed, and what it costs."""
    scores = [run["score"] for run in runs]
    same = {k: runs[0][k] for k in ("hidden_size", "parameters", "kept_bytes_per_step")}
    return {
        "scores": scores,
        "mean": fmean(scores),
        "deviation": stdev(scores),
        **same,
        "seconds": fmean(run["seconds"] for run in runs),
        "processor_seconds": fmean(run["processor_seconds"] for run in runs),
    }
