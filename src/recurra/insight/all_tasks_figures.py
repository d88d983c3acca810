"""The figure of `recurra compare all`: every seed of every cell, task by task."""

from collections.abc import Mapping
from typing import Any

from recurra.insight.canvas import MARKERS, canvas, title
from recurra.insight.figures import BLUE, GREY, RED

TITLES = {
    "lm": "Language model",
    "tag": "Tagging",
    "classify": "Classification",
    "translate": "Translation",
    "forecast": "Forecasting",
}


def scores_by_cell(tasks: Mapping[str, Any]) -> Any:
    """A panel for each task: its score on the axis, a row for each cell, a mark for each seed.

    Args:
        tasks: the entries of `comparison.json`.
    """
    rows = (len(tasks) + 1) // 2
    height = 0.9 + rows * (1.2 + 0.24 * max(len(e["cells"]) for e in tasks.values()))
    caption = (
        "Each mark is one seed, each bar their mean; the dashed line is the task's plain baseline. "
        "Networks of one task have about equally many parameters and read the same data equally "
        "often. Rows whose marks do not overlap differ by more than the spread of the seeds."
    )
    drawn, axes = canvas(
        9.2, height, "Every recurrence on every task", caption, rows=rows, columns=2
    )
    for one, (task, entry) in zip(axes, tasks.items(), strict=False):
        _panel(one, TITLES[task], entry)
    for empty in axes[len(tasks) :]:
        empty.axis("off")
    return drawn


def _panel(axes: Any, name: str, entry: Mapping[str, Any]) -> None:
    cells = entry["cells"]
    is_share, better = entry["higher_is_better"], entry["higher_is_better"]
    scale = 100 if is_share else 1
    order = sorted(cells, key=lambda cell: cells[cell]["mean"], reverse=not better)
    for place, cell in enumerate(order):
        scores = [scale * score for score in cells[cell]["scores"]]
        mean = scale * cells[cell]["mean"]
        axes.plot([mean, mean], [place - 0.3, place + 0.3], color=BLUE, lw=2.2)
        axes.plot(scores, [place] * len(scores), MARKERS[0], color=BLUE, mfc="white", ms=5)
    plain = scale * entry["baseline"]["score"]
    every = [scale * score for found in cells.values() for score in found["scores"]]
    low, high = min(every), max(every)
    room = 0.08 * (high - low) or 1.0
    label = f"{entry['baseline']['name']}: {plain:.3g}"
    if low - 3 * (high - low) < plain < high + 3 * (high - low):
        axes.axvline(plain, color=RED, ls="--", lw=1.3, label=label)
        axes.legend(frameon=False, fontsize=8, loc="best")
    else:  # so far off that the cells would be one point
        axes.text(0.98, 0.03, label, transform=axes.transAxes, ha="right", fontsize=8, color=GREY)
        axes.set_xlim(low - room, high + room)
    axes.set_yticks(range(len(order)), order)
    axes.set_ylim(-0.7, len(order) - 0.3)
    direction = "more is better" if better else "less is better"
    axes.set_xlabel(f"{entry['metric']}{', %' if is_share else ''} ({direction})", fontsize=8.5)
    axes.grid(visible=False, axis="y")
    title(axes, name)
