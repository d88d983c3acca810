"""The page of `recurra compare all`, and what its figures say in words.

A difference between two recurrences counts if it exceeds the spread: if every seed of the one did
better than every seed of the other. With three seeds each, chance alone does that once in ten times
to two that are equal, so one such difference is a hint and the same in several tasks is a finding.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from recurra.insight.report import facts_table, figure, page, table

TASK_NAMES = {
    "lm": "language model",
    "tag": "tagging",
    "classify": "classification",
    "translate": "translation",
    "forecast": "forecasting",
}
COLUMNS = ("task, cell", "score", "units", "parameters", "kept B/step", "processor s")


def is_clear(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether all of the one lie above all of the other.

    Example:
        >>> is_clear([1.0, 1.2, 1.1], [1.3, 1.4, 1.5]), is_clear([1.0, 1.4], [1.3, 1.5])
        (True, False)
    """
    return max(a) < min(b) or max(b) < min(a)


def best_cells(entry: Mapping[str, Any]) -> list[str]:
    """The cell with the best mean, and those that cannot be told from it, the better first.

    Args:
        entry: one task of the content of `comparison.json`.
    """
    cells = entry["cells"]
    order = sorted(cells, key=lambda c: cells[c]["mean"], reverse=entry["higher_is_better"])
    best = cells[order[0]]["scores"]
    return [c for c in order if c == order[0] or not is_clear(best, cells[c]["scores"])]


def verdict(entry: Mapping[str, Any]) -> str:
    """What one task's figures say.

    Example:
        >>> cells = {"gru": [0.9, 0.91], "rnn": [0.5, 0.6], "lstm": [0.89, 0.9]}
        >>> entry = {
        ...     "metric": "accuracy",
        ...     "higher_is_better": True,
        ...     "baseline": {"name": "most frequent tag", "score": 0.55},
        ...     "cells": {c: {"scores": s, "mean": sum(s) / 2} for c, s in cells.items()},
        ... }
        >>> print(verdict(entry))  # doctest: +NORMALIZE_WHITESPACE
        GRU is best, and LSTM cannot be told from it; clearly behind: RNN. The plain baseline (most
        frequent tag) is clearly behind GRU, LSTM, and cannot be told from RNN.
    """
    cells = entry["cells"]
    equal = best_cells(entry)
    behind = [c for c in cells if c not in equal]
    text = f"{_names(equal[:1])} is best"
    if len(equal) > 1:
        text += f", and {_names(equal[1:])} cannot be told from it"
    text += f"; clearly behind: {_names(behind)}." if behind else "; none is clearly behind."
    sign = 1 if entry["higher_is_better"] else -1
    plain = sign * entry["baseline"]["score"]
    groups: dict[str, list[str]] = {"is clearly behind": [], "is clearly ahead of": []}
    unclear = []
    for cell, found in cells.items():
        scores = [sign * score for score in found["scores"]]
        if plain < min(scores):
            groups["is clearly behind"].append(cell)
        elif plain > max(scores):
            groups["is clearly ahead of"].append(cell)
        else:
            unclear.append(cell)
    groups["cannot be told from"] = unclear
    said = [f"{words} {_names(found)}" for words, found in groups.items() if found]
    return f"{text} The plain baseline ({entry['baseline']['name']}) {', and '.join(said)}."


def answer(tasks: Mapping[str, Any]) -> str:
    """Which should I use? What all tasks say together, in three sentences at most.

    Args:
        tasks: entries by the task's name.
    """
    counts: dict[str, int] = {}
    for entry in tasks.values():
        for cell in entry["cells"]:
            counts[cell] = counts.get(cell, 0) + (cell in best_cells(entry))
    most = max(counts.values())
    winners = [cell for cell, count in counts.items() if count == most]
    rest = [
        f"{_names([cell])} {count}"
        for cell, count in sorted(counts.items(), key=lambda p: -p[1])
        if cell not in winners
    ]
    text = (
        f"{_names(winners)} {'is' if len(winners) == 1 else 'are'} best, or cannot be told from "
        f"the best, in {most} of {len(tasks)} tasks"
    )
    text += f" ({', '.join(rest)})." if rest else "."
    if len(winners) > 1:
        quick = min(winners, key=lambda cell: _share(tasks, cell, "processor_seconds"))
        text += f" Of these {_names([quick])} takes the least time."
    return text


def _share(tasks: Mapping[str, Any], cell: str, key: str) -> float:
    """A cell's cost over the mean of all cells', summed over the tasks."""
    total = 0.0
    for entry in tasks.values():
        values = [found[key] for found in entry["cells"].values()]
        total += entry["cells"][cell][key] / (sum(values) / len(values))
    return total


def listed(tasks: Mapping[str, Any]) -> tuple[Sequence[str], list[list[str]]]:
    """Heads and rows of the table: each task's cells, the best first, then its baseline."""
    rows = []
    for task, entry in tasks.items():
        cells, equal = entry["cells"], best_cells(entry)
        order = sorted(cells, key=lambda c: cells[c]["mean"], reverse=entry["higher_is_better"])
        for cell in order:
            one = cells[cell]
            kept = one["kept_bytes_per_step"]
            rows.append(
                [
                    f"{TASK_NAMES[task]}, {cell}{' *' if cell in equal else ''}",
                    score_text(entry, one["mean"], one["deviation"]),
                    str(one["hidden_size"]),
                    f"{one['parameters']:,}",
                    "–" if kept is None else f"{kept:,}",
                    f"{one['processor_seconds']:.1f}",
                ]
            )
        plain = entry["baseline"]
        rows.append(
            [
                f"{TASK_NAMES[task]}, {plain['name']}",
                score_text(entry, plain["score"]),
                "",
                f"{plain['parameters']:,}",
                "",
                f"{plain['seconds']:.1f}",
            ]
        )
    return COLUMNS, rows


def score_text(entry: Mapping[str, Any], mean: float, deviation: float | None = None) -> str:
    """A score with its deviation: shares in per cent, others in four figures.

    Example:
        >>> score_text({"higher_is_better": True}, 0.91234, 0.01)
        '91.2 ± 1.0 %'
        >>> score_text({"higher_is_better": False}, 70.123)
        '70.12'
    """
    if entry["higher_is_better"]:
        spread = "" if deviation is None else f" ± {100 * deviation:.1f}"
        return f"{100 * mean:.1f}{spread} %"
    digits = 2 if abs(mean) >= 10 else 4
    spread = "" if deviation is None else f" ± {deviation:.{digits}f}"
    return f"{mean:.{digits}f}{spread}"


def comparison_report(figures: Mapping[str, Any], drawn: Any) -> str:
    """The page.

    Args:
        figures: the content of `comparison.json`.
        drawn: the figure of `all_tasks_figures`.
    """
    tasks = figures["tasks"]
    verdicts = "".join(
        f"<h3>{TASK_NAMES[task].capitalize()}: {escape(entry['metric'])}</h3>"
        f"<p>{escape(entry['verdict'])}</p>"
        for task, entry in tasks.items()
    )
    note = (
        f"Mean ± standard deviation over {len(figures['seeds'])} seeds, on test; * best, or not to "
        "be told from it. A difference is clear if every seed of the one is better than every seed "
        "of the other. In each task all networks have about equally many parameters and read the "
        "same data equally often. Kept B/step: memory that training keeps in the recurrent layers "
        "for one step of one row. Time: of training and measuring one network."
    )
    caption = "Each mark is one seed; where two rows' marks do not overlap, the difference counts."
    return page(
        "recurra: which recurrence?",
        [
            "<h1>Which recurrence should I use?</h1>",
            f'<p class="lead">{escape(figures["answer"])}</p>',
            figure(drawn, caption),
            verdicts,
            "<h2>Figures</h2>",
            table(*listed(tasks)),
            f'<p class="note">{escape(note)}</p>',
            "<h2>How this was made</h2>",
            facts_table({"command": figures["command"], "first seed": figures["seed"]}),
            facts_table({"versions": figures["versions"], "machine": figures["machine"]}),
        ],
    )


def _names(cells: Sequence[str]) -> str:
    """Cells as people write them.

    Example:
        >>> _names(["gru", "mingru", "irnn"])
        'GRU, minGRU, IRNN'
    """
    return ", ".join({"mingru": "minGRU", "minlstm": "minLSTM"}.get(c, c.upper()) for c in cells)
