"""Figures of classifiers: learning, confusion, reliability, models side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from recurra.insight.figures import BLUE, COLORS, GREY, ORANGE, Rows, series, stack, title

SHOWN_CLASSES = 40


def learning(rows: Rows, baselines: Mapping[str, float]) -> Any:
    """Accuracy on valid, and log loss on train and valid, over the epochs.

    Args:
        rows: of `log.csv`.
        baselines: valid accuracy of the other models by name, drawn as lines.
    """
    figure, (top, below) = stack(2, 7.2, 5.2, sharex=True)
    epochs, valid = series(rows, "epoch", "valid_accuracy")
    percent = [100 * value for value in valid]
    top.plot(epochs, percent, "o-", color=BLUE, ms=3.5, label="the network on valid")
    for (name, value), dashes in zip(baselines.items(), ("--", ":", "-."), strict=False):
        label = f"{name} on valid: {100 * value:.1f} %"
        top.axhline(100 * value, color=ORANGE, lw=1.2, ls=dashes, label=label)
    top.set(ylabel="accuracy, %")
    title(top, "Learning: share of the valid examples that are right")
    top.legend(frameon=False, loc="lower right")
    epochs, train = series(rows, "epoch", "train_nats_per_example")
    below.plot(epochs, train, color=GREY, lw=1, label="train, while learning (with dropout)")
    below.plot(*series(rows, "epoch", "valid_log_loss"), "o-", color=BLUE, ms=3.5, label="valid")
    below.set(xlabel="epochs", ylabel="log loss, nats", ylim=(0, None))
    below.legend(frameon=False, loc="upper right")
    return figure


def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Any:
    """What was taken for what, in shares of each true class; at most the 40 largest classes.

    Args:
        counts: class i (row) taken for class j (column).
        classes: their names.
    """
    totals = [sum(row) for row in counts]
    largest = sorted(range(len(classes)), key=lambda k: -totals[k])[:SHOWN_CLASSES]
    shown = sorted(largest)
    shares = [[100 * counts[i][j] / max(totals[i], 1) for j in shown] for i in shown]
    names = [classes[k] for k in shown]
    size = 2.2 + 0.28 * len(shown)
    figure, (axes,) = stack(1, size + 0.8, size)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(
        range(len(names)), [f"{n} ({totals[k]})" for n, k in zip(names, shown, strict=True)]
    )
    axes.set(xlabel="taken for", ylabel="true class (examples)")
    for i, row in enumerate(shares):
        for j, share in enumerate(row):
            if share >= 5:
                color = "white" if share > 55 else "black"
                axes.text(j, i, f"{share:.0f}", ha="center", va="center", color=color, fontsize=7)
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, shrink=0.7, label="% of the true class")
    title(axes, "Confusion on test, in % of each row")
    return figure


def reliability(bins: Sequence[Mapping[str, float]], error: float) -> Any:
    """Accuracy by confidence, with how many predictions there are of each confidence.

    Args:
        bins: the fields of `ReliabilityBin`.
        error: the expected calibration error.
    """
    figure, (top, below) = stack(2, 5.2, 5.0, sharex=True, height_ratios=[3, 1])
    full = [b for b in bins if b["count"]]
    width = bins[0]["high"] - bins[0]["low"]
    middles = [b["low"] + width / 2 for b in full]
    top.bar(middles, [b["accuracy"] for b in full], width * 0.92, color=BLUE, label="accuracy")
    top.plot(
        [b["confidence"] for b in full], [b["accuracy"] for b in full], "o", color=ORANGE, ms=4
    )
    top.plot([0, 1], [0, 1], color=GREY, ls="--", lw=1.2, label="as sure as right")
    top.set(ylabel="share that is right", ylim=(0, 1.02), xlim=(0, 1))
    title(top, f"Reliability on test: expected calibration error {100 * error:.1f} %")
    top.legend(frameon=False, loc="upper left")
    below.bar(middles, [b["count"] for b in full], width * 0.92, color=GREY)
    below.set(xlabel="probability of the answer", ylabel="examples")
    return figure


def accuracy_by_model(accuracies: Mapping[str, float], highlight: str) -> Any:
    """Bars of the models' test accuracy, the best on top.

    Args:
        accuracies: by the model's name.
        highlight: the model that the report is of.
    """
    figure, (axes,) = stack(1, 7.2, 0.8 + 0.42 * len(accuracies))
    colors = {name: BLUE if name == highlight else GREY for name in accuracies}
    _bars(axes, accuracies, colors)
    title(axes, "Accuracy: longer is better")
    return figure


def comparison(
    accuracies: Mapping[str, float], logs: Mapping[str, Rows], flat: Mapping[str, float]
) -> Any:
    """Models trained on the same examples: test accuracy, and valid accuracy along the way.

    Args:
        accuracies: on test, by the model's name.
        logs: rows of `log.csv`, of the models that learn step by step.
        flat: valid accuracy of the models that do not, drawn as lines.
    """
    figure, (bars, curves) = stack(2, 7.2, 6.8, height_ratios=[1, 1.2])
    colors = dict(zip(logs, COLORS, strict=False))
    _bars(bars, accuracies, {name: colors.get(name, GREY) for name in accuracies})
    title(bars, "Test accuracy: longer is better")
    for name, rows in logs.items():
        epochs, values = series(rows, "epoch", "valid_accuracy")
        percent = [100 * value for value in values]
        curves.plot(epochs, percent, "o-", ms=3, color=colors[name])
    at_right = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right"}
    for name, value in flat.items():
        curves.axhline(100 * value, color=GREY, lw=1.2, ls="--")
        curves.annotate(name, (1, 100 * value), (-4, 3), fontsize=9, color=GREY, **at_right)
    curves.set(xlabel="epochs", ylabel="valid accuracy, %")
    curves.margins(y=0.1)
    curves.xaxis.get_major_locator().set_params(integer=True)
    title(curves, "Learning, in the colours of the bars")
    return figure


def _bars(axes: Any, accuracies: Mapping[str, float], colors: Mapping[str, str]) -> None:
    names = sorted(accuracies, key=accuracies.__getitem__)
    values = [100 * accuracies[name] for name in names]
    drawn = axes.barh(names, values, color=[colors[name] for name in names], height=0.62)
    axes.bar_label(drawn, fmt="%.1f", padding=4)
    axes.set(xlabel="test accuracy, %", xlim=(0, max(1.0, *values) * 1.14))
    axes.grid(visible=False)
