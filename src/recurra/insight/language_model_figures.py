"""Figures of language models: learning, models side by side, n-grams that were never seen."""

from collections.abc import Mapping
from itertools import cycle
from typing import Any

from recurra.insight.figures import BLUE, COLORS, GREY, ORANGE, Rows, series, stack, title


def learning_curves(rows: Rows, baselines: Mapping[str, float]) -> Any:
    """Perplexity over the epochs, on train (running, with dropout) and on valid.

    Args:
        rows: of `log.csv`.
        baselines: valid or test perplexity of the other models by name, drawn as lines.
    """
    figure, (axes,) = stack(1, 7.2, 3.4)
    epochs, nats = series(rows, "epoch", "train_nats_per_token")
    values = [2.718281828 ** min(n, 20) for n in nats]
    axes.plot(epochs, values, color=GREY, lw=1, label="train, while learning (with dropout)")
    epochs, valid = series(rows, "epoch", "valid_perplexity")
    axes.plot(epochs, valid, color=BLUE, marker="o", ms=3.5, label="valid")
    if valid:
        best = min(range(len(valid)), key=valid.__getitem__)
        axes.plot(epochs[best], valid[best], "o", ms=9, mfc="none", mec=BLUE, label="kept weights")
    for (name, value), dashes in zip(baselines.items(), ("--", ":", "-.", "-"), strict=False):
        axes.axhline(value, color=ORANGE, lw=1.2, ls=dashes, label=f"{name} on valid: {value:.1f}")
    axes.set(yscale="log", xlabel="epochs", ylabel="perplexity (log scale)")
    title(axes, "Learning: lower is better, and the circle is the model that was kept")
    _plain_ticks(axes)
    axes.legend(loc="upper right", frameon=False)
    return figure


def perplexity_by_model(perplexities: Mapping[str, float], highlight: str) -> Any:
    """Bars of the models' test perplexity, the best on top.

    Args:
        perplexities: by the model's name.
        highlight: the model that the report is of.
    """
    names = sorted(perplexities, key=perplexities.__getitem__, reverse=True)
    figure, (axes,) = stack(1, 7.2, 0.8 + 0.42 * len(names))
    values = [perplexities[name] for name in names]
    colors = [BLUE if name == highlight else GREY for name in names]
    bars = axes.barh(names, values, color=colors, height=0.62)
    axes.bar_label(bars, fmt="%.1f", padding=4)
    axes.set(xlabel="test perplexity per word", xlim=(0, max(values) * 1.12))
    title(axes, "Perplexity by model, on the same tokens: shorter is better")
    axes.grid(visible=False)
    return figure


def comparison(
    perplexities: Mapping[str, float], logs: Mapping[str, Rows], flat: Mapping[str, float]
) -> Any:
    """Models trained on the same tokens: test perplexity, and valid perplexity along the way.

    Args:
        perplexities: on test, by the model's name.
        logs: rows of `log.csv`, of the models that learn step by step.
        flat: valid perplexity of the models that do not, drawn as lines.
    """
    figure, (bars, curves) = stack(2, 7.2, 6.4, height_ratios=[1, 1.3])
    names = sorted(perplexities, key=perplexities.__getitem__, reverse=True)
    colors = dict(zip(logs, COLORS, strict=False))
    values = [perplexities[name] for name in names]
    drawn = bars.barh(names, values, color=[colors.get(name, GREY) for name in names], height=0.65)
    bars.bar_label(drawn, fmt="%.1f", padding=4)
    bars.set(xlabel="test perplexity per word", xlim=(0, max(values) * 1.18))
    title(bars, "After the same training tokens: shorter is better")
    for (name, rows), marker in zip(logs.items(), cycle("osD^vP")):
        points = series(rows, "epoch", "valid_perplexity")
        curves.plot(*points, marker=marker, ms=4, color=colors[name], label=name)
    for (name, value), dashes in zip(flat.items(), cycle(("--", ":", "-."))):
        curves.axhline(value, color=GREY, lw=1.2, ls=dashes, label=name)
    curves.set(yscale="log", xlabel="epochs", ylabel="valid perplexity (log scale)")
    title(curves, "Learning: the same text, in the same order")
    _plain_ticks(curves)
    curves.legend(loc="best", frameon=False)
    return figure


def seen_and_unseen(unseen: Mapping[int, float]) -> Any:
    """How many n-grams of the test text never occur in the training text, by order.

    Args:
        unseen: share in [0, 1] by the n-gram's order.
    """
    figure, (axes,) = stack(1, 7.2, 2.8)
    orders = [str(order) for order in unseen]
    bars = axes.bar(orders, [100 * share for share in unseen.values()], color=ORANGE, width=0.55)
    axes.bar_label(bars, fmt="%.0f %%", padding=2)
    axes.set(xlabel="words in a row (n)", ylabel="never seen in training, %", ylim=(0, 110))
    title(axes, "Why n-grams run out: test n-grams that the training text does not have")
    return figure


def _plain_ticks(axes: Any) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
