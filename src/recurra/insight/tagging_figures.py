"""Figures of taggers: learning, confusion, models side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from recurra.insight.figures import BLUE, COLORS, GREY, ORANGE, Rows, series, stack, title


def tagging_curves(rows: Rows, metric: str, baselines: Mapping[str, float]) -> Any:
    """Loss on train and the metric on valid, over the epochs.

    Args:
        rows: of `log.csv`.
        metric: its name, in 0..1.
        baselines: the metric of other models on valid by name, drawn as lines.
    """
    figure, (losses, values) = stack(2, 7.2, 4.6, sharex=True)
    losses.plot(*series(rows, "epoch", "train_nats_per_token"), color=GREY, lw=1)
    losses.set(yscale="log", ylabel="nats per word")
    title(losses, "Learning: the loss on train (with dropout), lower is better")
    epochs, valid = series(rows, "epoch", f"valid_{metric}")
    percent = [100 * value for value in valid]
    values.plot(epochs, percent, color=BLUE, marker="o", ms=3.5, label="valid")
    if percent:
        best = max(range(len(percent)), key=percent.__getitem__)
        values.plot(epochs[best], percent[best], "o", ms=9, mfc="none", mec=BLUE, label="kept")
    for name, value in baselines.items():
        label = f"{name}: {100 * value:.1f}"
        values.axhline(100 * value, color=ORANGE, lw=1.2, ls="--", label=label)
    values.set(xlabel="epochs", ylabel=f"valid {metric.replace('_', ' ')}, %")
    title(values, "The circle is the model that was kept: higher is better")
    values.legend(loc="lower right", frameon=False)
    return figure


def confusion(tags: Sequence[str], counts: Sequence[Sequence[int]]) -> Any:
    """Which tag was taken for which: shares of each gold tag's words.

    Args:
        tags: names.
        counts: by gold and by predicted tag.
    """
    size = 2.2 + 0.34 * len(tags)
    figure, (axes,) = stack(1, size + 0.8, size)
    shares = [[100 * n / max(sum(row), 1) for n in row] for row in counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    places = range(len(tags))
    axes.set_xticks(places, tags, rotation=90)
    axes.set_yticks(places, tags)
    axes.set(xlabel="predicted", ylabel="gold")
    axes.grid(visible=False)
    for i, row in enumerate(shares):
        for j, share in enumerate(row):
            if share >= 0.5:
                color = "white" if share > 60 else "#22262b"
                axes.text(j, i, f"{share:.0f}", ha="center", va="center", color=color, fontsize=7)
    title(axes, "Confusion: % of each gold tag's words")
    return figure


def taggers(models: Mapping[str, Mapping[str, Any]], logs: Mapping[str, Rows], metric: str) -> Any:
    """Taggers trained on the same words: the metric on test, and on valid along the way.

    Args:
        models: with `description` and `test`, by key.
        logs: rows of `log.csv`, by the same keys, of those that learn step by step.
        metric: its name, in 0..1.
    """
    figure, (bars, curves) = stack(2, 7.2, 3.6 + 0.36 * len(models))
    keys = sorted(models, key=lambda key: models[key]["test"][metric])
    colors = {key: COLORS[i % len(COLORS)] for i, key in enumerate(logs)}
    values = [100 * models[key]["test"][metric] for key in keys]
    names = [models[key]["description"] for key in keys]
    drawn = bars.barh(names, values, color=[colors.get(key, GREY) for key in keys], height=0.65)
    bars.bar_label(drawn, fmt="%.2f", padding=4)
    label = metric.replace("_", " ")
    bars.set(xlabel=f"test {label}, %", xlim=(0, max(1.12 * max(values), 1.0)))
    title(bars, f"Test {label} after the same words of training: longer is better")
    for key, rows in logs.items():
        epochs, valid = series(rows, "epoch", f"valid_{metric}")
        points = [100 * value for value in valid]
        curves.plot(epochs, points, "o-", ms=3, color=colors[key], label=models[key]["description"])
    curves.set(xlabel="epochs", ylabel=f"valid {label}, %")
    curves.locator_params(axis="x", integer=True)
    title(curves, "Learning: the same text, in the same order")
    curves.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure
