"""Figures of forecasting runs: forecasts with intervals, error by horizon, calibration."""

from collections.abc import Mapping, Sequence
from typing import Any

from recurra.insight.figures import (
    BLUE,
    COLORS,
    GREY,
    ORANGE,
    RED,
    Rows,
    series,
    stack,
    title,
)


def forecasts(examples: Sequence[Mapping[str, Any]], target: str, has_intervals: bool) -> Any:
    """Forecasts of one target with their intervals, what came before and what came.

    Args:
        examples: of `metrics.json`.
        target: its name.
        has_intervals: draw them.
    """
    figure, rows = stack(len(examples), 7.2, 2.1 * len(examples) + 0.4)
    for axes, example in zip(rows, examples, strict=True):
        _one_forecast(axes, example["targets"][target], has_intervals)
        name = f"{example['series']}, " if example["series"] else ""
        axes.set_title(f"{name}from {example['origin']}", loc="left", fontsize=9)
    rows[-1].set_xlabel("steps from the origin")
    kind = examples[0]["targets"][target]["kind"]
    what = f"probability of {target}" if kind == "yesno" else target
    figure.suptitle(
        f"Forecasts of {what}: the dots are what came", x=0.01, ha="left", weight="bold"
    )
    rows[0].legend(loc="upper left", frameon=False, fontsize=8)
    return figure


def errors_by_horizon(models: Mapping[str, Sequence[float]], own: str, measure: str) -> Any:
    """One error at each step of the horizon, for every model.

    Args:
        models: values by the model's name, one a step.
        own: the model that the report is of.
        measure: its name, with the unit.
    """
    figure, (axes,) = stack(1, 7.2, 3.2)
    styles = {"best possible (known)": (RED, "--")}
    others = iter((GREY, ORANGE, "#3b8f5a", "#7a5ca8", "#a0692f"))
    for name, values in models.items():
        color, dashes = styles.get(name) or ((BLUE, "-") if name == own else (next(others), ":"))
        steps = range(1, len(values) + 1)
        width = 2.0 if name == own else 1.3
        axes.plot(steps, values, color=color, ls=dashes, lw=width, label=name)
    axes.set(xlabel="steps ahead", ylabel=measure, ylim=(0, None))
    title(axes, "Error by horizon: lower is better")
    axes.legend(frameon=False, fontsize=8)
    return figure


def calibration_plot(rows: Sequence[Mapping[str, float]], target: str, is_yesno: bool) -> Any:
    """What was promised against what happened; the diagonal is an honest forecast.

    Args:
        rows: of `reliability` or `calibration`.
        target: its name.
        is_yesno: the rows are of probabilities, not of quantiles.
    """
    figure, (axes,) = stack(1, 4.6, 4.2)
    x, y = ("probability", "frequency") if is_yesno else ("level", "share")
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--", label="honest")
    axes.plot(*series(rows, x, y), "o-", color=BLUE, ms=4, label="this model")
    if is_yesno:
        most = max(row["count"] for row in rows)
        for row in rows:
            share = 0.12 * row["count"] / most
            axes.bar(row["probability"], share, width=0.05, color=ORANGE, alpha=0.4)
        axes.set(xlabel="forecast probability", ylabel="how often it was yes")
    else:
        axes.set(xlabel="level of the quantile", ylabel="share of values below it")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    title(axes, f"Calibration of {target}")
    axes.legend(frameon=False, loc="upper left")
    return figure


def score_curve(rows: Rows) -> Any:
    """Training loss and the valid score over the epochs."""
    figure, (axes,) = stack(1, 7.2, 2.8)
    axes.plot(*series(rows, "epoch", "train_loss"), color=GREY, lw=1, label="loss on train")
    epochs, score = series(rows, "epoch", "valid_score")
    axes.plot(epochs, score, "o-", color=BLUE, ms=3.5, label="score on valid")
    if score:
        best = min(range(len(score)), key=score.__getitem__)
        axes.plot(epochs[best], score[best], "o", ms=9, mfc="none", mec=BLUE, label="kept weights")
    axes.set(xlabel="epochs", ylabel="loss, score")
    title(axes, "Learning: lower is better, and the circle is the model that was kept")
    axes.legend(frameon=False)
    return figure


def window_comparison(figures: Mapping[str, Any]) -> Any:
    """Parameters, error and time of each network as the window grows.

    Args:
        figures: the content of `comparison.json`.
    """
    figure, rows = stack(3, 7.2, 7.2, sharex=True)
    names = list(dict.fromkeys(entry["name"] for entry in figures["models"].values()))
    parts = (
        (
            "parameters",
            "parameters",
            "The dense network grows with its window, a recurrent does not",
        ),
        ("score", "error on test", "Error: lower is better"),
        ("seconds", "seconds of training", "Time: as many windows for each"),
    )
    for axes, (key, label, heading) in zip(rows, parts, strict=True):
        for name, color in zip(names, COLORS, strict=False):
            own = [entry for entry in figures["models"].values() if entry["name"] == name]
            windows = [entry["window"] for entry in own]
            axes.plot(windows, [entry[key] for entry in own], "o-", ms=4, color=color, label=name)
        axes.set(ylabel=label)
        axes.grid(visible=True, axis="y", lw=0.8)
        title(axes, heading)
    for name, value in figures["baselines"].items():
        if name == "climatology":
            rows[1].axhline(value, color=GREY, lw=1.1, ls="--", label=name)
    rows[1].legend(frameon=False, fontsize=8, ncols=3)
    rows[-1].set_xlabel("window, steps")
    return figure


def _one_forecast(axes: Any, example: Mapping[str, Any], has_intervals: bool) -> None:
    before, truth = example["before"], example["truth"]
    past = range(1 - len(before), 1)
    ahead = range(1, len(truth) + 1)

    def points(values: Sequence[float | None]) -> list[float]:
        return [float("nan") if value is None else value for value in values]

    axes.plot(past, points(before), color=GREY, lw=1.1)
    axes.axvline(0.5, color="#d5d9df", lw=1)
    if example["kind"] == "yesno":
        axes.bar(ahead, points(example["mean"]), color=BLUE, alpha=0.6, label="probability")
        axes.set_ylim(-0.08, 1.08)
    else:
        if has_intervals:
            for low, high, alpha in (("q0.025", "q0.975", 0.15), ("q0.1", "q0.9", 0.25)):
                width = 95 if low == "q0.025" else 80
                ends = points(example[low]), points(example[high])
                axes.fill_between(ahead, *ends, color=BLUE, alpha=alpha, lw=0, label=f"{width} %")
        axes.plot(ahead, points(example["q0.5"]), color=BLUE, lw=1.6, label="median")
    axes.plot(ahead, points(truth), "o", color=ORANGE, ms=3.5, label="what came")
