"""All tasks compared: equal parameters, runs that are kept, words that say what the figures say."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import recurra, refused

from recurra.errors import ArgumentError
from recurra.insight.all_tasks_report import answer, best_cells, verdict
from recurra.jobs import all_tasks
from recurra.jobs.configurations import resolve
from recurra.jobs.job import TASKS

SMALL = ["max_epochs=1", "hidden_size=6", "window=14", "stride=8"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of a few units that look at the weather once."""

    def resolved(task: str, *, recipe: str) -> Any:
        return resolve(task, recipe=recipe, settings=SMALL)

    monkeypatch.setattr(all_tasks, "resolve", resolved)


def _compared(folder: Path, **options: Any) -> dict[str, Any]:
    cells = None if "resume" in options else ["rnn", "gru"]
    out = None if "resume" in options else folder
    found = all_tasks.compare_all(cells, tasks=["forecast"], out=out, **options)
    return found.figures["tasks"]["forecast"]


def test_runs_are_kept_and_a_comparison_goes_on_where_it_was(small: None, tmp_path: Path) -> None:
    folder = tmp_path / "all"
    whole = _compared(folder)
    one, other = folder / "forecast" / "gru-2.json", folder / "forecast" / "rnn-1.json"
    kept, lost = other.read_text(), json.loads(one.read_text())
    other.write_text(kept.replace('"score": ', '"score": 1'))  # read again, it would be noticed
    one.unlink()
    again = _compared(folder, resume=folder)
    assert json.loads(one.read_text())["score"] == lost["score"]
    assert again["cells"]["gru"]["scores"] == whole["cells"]["gru"]["scores"]
    assert again["cells"]["rnn"]["scores"][0] != whole["cells"]["rnn"]["scores"][0]
    page = (folder / "report.html").read_text()
    assert "Which recurrence" in page
    assert again["verdict"][:20] in page
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_seeds_differ_and_parameters_do_not(small: None, tmp_path: Path) -> None:
    found = _compared(tmp_path / "all", seed=5)
    rnn, gru = found["cells"]["rnn"], found["cells"]["gru"]
    assert len(set(rnn["scores"])) == 3
    assert rnn["hidden_size"] > gru["hidden_size"] >= 6
    assert abs(rnn["parameters"] / gru["parameters"] - 1) < 0.05
    plan = json.loads((tmp_path / "all" / "plan.json").read_text())
    assert plan["seeds"] == [5, 6, 7]


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_networks_of_equal_parameters(task: str, tmp_path: Path) -> None:
    entrants = all_tasks.Entrants(task, tmp_path)
    for cell in all_tasks.CELLS:

        def parameters(size: int, cell: str = cell) -> int:
            return all_tasks.count(entrants.contest.build(entrants.member(cell, size, 1)))

        size = all_tasks.equal_size(parameters, entrants.parameters)
        assert abs(parameters(size) / entrants.parameters - 1) < 0.02
        assert (
            all_tasks.kept_bytes(entrants.contest.build(entrants.member(cell, size, 1))) or 0
        ) > 0
    baseline = json.loads((tmp_path / task / "baseline.json").read_text())["baseline"]
    assert baseline["name"]
    assert baseline["score"] >= 0


def _entry(higher_is_better: bool, plain: float, **scores: list[float]) -> dict[str, Any]:
    cells = {
        cell: {"scores": values, "mean": sum(values) / len(values), "processor_seconds": cost}
        for cost, (cell, values) in enumerate(scores.items(), 1)
    }
    return {
        "metric": "score",
        "higher_is_better": higher_is_better,
        "baseline": {"name": "plain", "score": plain},
        "cells": cells,
    }


def test_only_differences_beyond_the_spread_are_called_differences() -> None:
    entry = _entry(True, 0.4, rnn=[0.3, 0.5], gru=[0.80, 0.90], lstm=[0.85, 0.95])
    assert best_cells(entry) == ["lstm", "gru"]
    words = verdict(entry)
    assert words.startswith("LSTM is best, and GRU cannot be told from it; clearly behind: RNN.")
    assert "is clearly behind GRU, LSTM, and cannot be told from RNN" in words


def test_where_less_is_better_the_order_turns() -> None:
    entry = _entry(False, 70.0, rnn=[90.0, 95.0], gru=[60.0, 61.0], lstm=[50.0, 51.0])
    assert best_cells(entry) == ["lstm"]
    words = verdict(entry)
    assert words.startswith("LSTM is best; clearly behind: RNN, GRU.")
    assert "is clearly behind GRU, LSTM, and is clearly ahead of RNN" in words


def test_the_answer_counts_tasks_and_breaks_a_tie_by_time() -> None:
    one = _entry(True, 0.0, gru=[0.8, 0.9], lstm=[0.85, 0.95], rnn=[0.1, 0.2])
    other = _entry(False, 9.0, gru=[5.0, 6.0], lstm=[5.5, 6.5], rnn=[5.9, 8.0])
    words = answer({"tag": one, "lm": other})
    assert words == (
        "GRU, LSTM are best, or cannot be told from the best, in 2 of 2 tasks (RNN 1). "
        "Of these GRU takes the least time."
    )


def test_what_says_nothing_there_is_refused(tmp_path: Path) -> None:
    assert "--data is not for `recurra compare all`" in refused("compare", "all", "--data", "x")
    assert "--resume is not for `recurra compare lm`" in refused(
        "compare", "lm", "--resume", tmp_path
    )
    assert "two cells or more" in refused("compare", "all", "--cells", "gru")
    assert "no comparison of all tasks" in refused("compare", "all", "--resume", tmp_path)
    with pytest.raises(ArgumentError, match="leave out"):
        all_tasks.compare_all(["gru", "rnn"], resume=tmp_path)
    assert recurra("compare", "--help").exit_code == 0
