"""Figures of translators: learning, attention, the ablation."""

from collections.abc import Mapping, Sequence
from typing import Any

from recurra.insight.canvas import canvas, line_style, title
from recurra.insight.figures import BLUE, GREY, ORANGE, Rows, series


def translation_curves(rows: Rows, metric: str) -> Any:
    """Loss on train, and the metric on valid, over the epochs.

    Args:
        rows: of `log.csv`.
        metric: what the model was chosen by.
    """
    caption = (
        "Grey: the loss in training, with dropout and given the right previous words. Blue: valid, "
        "translated greedily. The circle is the model that was kept."
    )
    figure, (losses, values) = canvas(7.2, 5.0, "", caption, rows=2, sharex=True)
    losses.plot(*series(rows, "epoch", "train_nats_per_token"), color=GREY, lw=1)
    epochs, valid = series(rows, "epoch", "valid_nats_per_token")
    losses.plot(epochs, valid, color=BLUE, marker="o", ms=3.5)
    losses.set(yscale="log", ylabel="nats per token")
    title(losses, "Learning: the loss, lower is better")
    is_loss = metric == "nats_per_token"
    shown = "bleu" if is_loss else metric
    epochs, found = series(rows, "epoch", f"valid_{shown}")
    values.plot(epochs, found, color=BLUE, marker="o", ms=3.5)
    _, judged = series(rows, "epoch", f"valid_{metric}")
    if judged:
        sign = -1 if is_loss else 1
        best = max(range(len(judged)), key=lambda k: sign * judged[k])
        values.plot(epochs[best], found[best], "o", ms=9, mfc="none", mec=BLUE)
    values.set(xlabel="epochs", ylabel=f"valid {shown.replace('_', ' ')}")
    title(values, f"{shown.replace('_', ' ')}: higher is better")
    return figure


LOOKED = (
    "Each row is a token of the translation, the first on top; the darker a place of the source, "
    "the more was read there. What the encoder wrote at a place knows its surroundings too, so a "
    "row may look beside its word."
)
UPRIGHT = 2  # characters of the longest token that is not turned on its side


def attention_map(found: Mapping[str, Any]) -> Any:
    """Where each token of a translation looked.

    Args:
        found: `source` and `target` tokens and `weights`, (target, source).
    """
    source, target = list(found["source"]), list(found["target"])
    width, height = 2.0 + 0.21 * len(source), 1.9 + 0.21 * len(target)
    figure, (axes,) = canvas(max(width, 4.0), height, "Where the decoder looked", LOOKED)
    axes.imshow(found["weights"], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(source)), [_visible(t) for t in source])
    for label in axes.get_xticklabels():
        label.set_rotation(90 if len(label.get_text()) > UPRIGHT else 0)
    axes.set_yticks(range(len(target)), [_visible(t) for t in target])
    axes.set(xlabel="source", ylabel="translation")
    axes.tick_params(length=0, labelsize=8)
    axes.grid(visible=False)
    return figure


def ablation(models: Mapping[str, Mapping[str, Any]], logs: Mapping[str, Rows]) -> Any:
    """What each addition to the plain model does: BLEU on test, and on valid along the way.

    Args:
        models: with `added` and `test`, by name; the plain one first.
        logs: rows of `log.csv`, by name.
    """
    caption = (
        "Each model is the plain one with one thing added; the last has all. Same pairs, same "
        "order, same number of epochs, same search."
    )
    heading = "What each extension adds on the same budget"
    figure, (bars, curves) = canvas(
        7.6, 4.4 + 0.34 * len(models), heading, caption, rows=2, height_ratios=[1, 1.1]
    )
    names = list(models)[::-1]
    plain = models[names[-1]]["test"]["bleu"]
    values = [models[name]["test"]["bleu"] for name in names]
    colors = [BLUE if value >= plain else ORANGE for value in values]
    colors[-1] = GREY
    drawn = bars.barh([models[name]["added"] for name in names], values, color=colors, height=0.65)
    bars.bar_label(drawn, fmt="%.1f", padding=4, fontsize=8)
    bars.axvline(plain, color=GREY, lw=1, ls="--")
    bars.set(xlabel="test BLEU", xlim=(0, max([*values, 1.0]) * 1.12))
    bars.tick_params(axis="y", labelsize=8)
    title(bars, "Test BLEU: longer is better; the dashed line is the plain model")
    ends = []
    for index, (name, rows) in enumerate(logs.items()):
        epochs, found = series(rows, "epoch", "valid_bleu")
        style = line_style(index, len(epochs))
        curves.plot(epochs, found, **style)
        ends.append((found[-1], epochs[-1], models[name]["added"], style["color"]))
    ends.sort()
    lowest, highest = curves.get_ylim()
    heights = spread([value for value, *_ in ends], 0.055 * (highest - lowest), highest)
    for (_, epoch, added, color), y in zip(ends, heights, strict=True):
        curves.text(epoch * 1.02, y, added, color=color, fontsize=8, va="center")
    last = ends[0][1]
    curves.set_xticks([tick for tick in curves.get_xticks() if 0 <= tick <= last])
    curves.set(xlabel="epochs", ylabel="valid BLEU (greedy)", xlim=(None, last * 1.42))
    title(curves, "Learning: names stand in the order in which the lines end")
    return figure


def spread(values: Sequence[float], gap: float, highest: float) -> list[float]:
    """Heights for labels of rising values: near them, `gap` apart, none above `highest`.

    Example:
        >>> spread([1.0, 1.5, 9.0], 2.0, 9.0), spread([8.0, 9.0], 2.0, 9.0)
        ([1.0, 3.0, 9.0], [7.0, 9.0])
    """
    found: list[float] = []
    for value in values:
        found.append(max(value, found[-1] + gap) if found else value)
    ceilings = [highest - gap * k for k in range(len(found))][::-1]
    return [min(pair) for pair in zip(found, ceilings, strict=True)]


def _visible(token: str) -> str:
    """A token for an axis: a blank can be seen, and `$` means nothing to matplotlib."""
    return token.replace(" ", "␣").replace("Ġ", "·").replace("$", r"\$")
