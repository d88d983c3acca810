"""Pictures of gates, time scales, and units that follow a property of the text."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from recurra.insight.canvas import Picture, canvas, line_style, plain_ticks, title
from recurra.insight.figures import BLUE, GREY
from recurra.insight.gates import Finding, GateRecord

MOST_STEPS, MOST_UNITS = 60, 32


def heat_maps(record: GateRecord, tokens: Sequence[str], order: Tensor) -> Picture:
    """Gates, memory and update of one row of text, units by tokens.

    Args:
        record: of the text, batch 1.
        tokens: their labels.
        order: units from the shortest time scale to the longest.
    """
    count, memory = min(len(tokens), MOST_STEPS), record.memory
    shown = _spread(order, MOST_UNITS)
    panels: list[tuple[str, Tensor, bool]] = [
        (f"gate {name}" if _is_share(values) else f"candidate {name}", values, _is_share(values))
        for name, values in record.gates.items()
    ]
    panels += [(f"state {memory}", record.states[memory], False)]
    panels += [(f"update of {memory}", record.updates[memory], False)]
    caption = (
        f"{len(shown)} of {len(order)} units, the shortest time scale at the top. Gates: white is "
        "shut (0), black is open (1). Candidates, state and update: mid grey is 0, black positive, "
        "white negative, each to its own largest value (at the right). ⏎ ends a line."
    )
    height = 1.5 + 1.15 * len(panels)
    width = min(12.0, 4.0 + 0.14 * count)
    heading = "What the gates do, step by step"
    figure, axes = canvas(width, height, heading, caption, rows=len(panels), sharex=True)
    for axis, (name, values, is_share) in zip(axes, panels, strict=True):
        data = values[:count, 0][:, shown].t().numpy()
        top = 1.0 if is_share else max(float(abs(data).max()), 1e-9)
        drawn = axis.imshow(
            data, aspect="auto", cmap="Greys", vmin=0 if is_share else -top, vmax=top,
            interpolation="nearest",
        )  # fmt: skip
        figure.colorbar(drawn, ax=axis, pad=0.01)
        axis.set(yticks=[], ylabel=f"{len(shown)} units")
        axis.grid(visible=False)
        title(axis, name)
    _token_axis(axes[-1], tokens[:count])
    return Picture("gates", figure, caption)


def _is_share(values: Tensor) -> bool:
    return float(values.min()) >= 0 and float(values.max()) <= 1


def _spread(order: Tensor, most: int) -> Tensor:
    """At most so many of them, evenly along their order."""
    if len(order) <= most:
        return order
    return order[torch.linspace(0, len(order) - 1, most).round().long()]


def _token_axis(axis: Any, tokens: Sequence[str]) -> None:
    labels = [_label(token) for token in tokens]
    is_long = any(len(label) > 1 for label in labels)
    axis.set_xticks(range(len(labels)), labels, rotation=90 if is_long else 0, fontsize=7.5)


def _label(token: str) -> str:
    """What can be drawn of a token; `$` would begin a formula."""
    shown = token.replace("<eos>", "⏎").replace("$", r"\$")
    return "␣" if shown == " " else shown


def time_scales(found: Mapping[str, Tensor]) -> Picture:
    """Time scales of all units, sorted, one line for each state that keeps anything."""
    caption = (
        "A value in a unit falls to 1/e in τ = -1 / log(mean share kept a step) steps: the share "
        "is the forget gate of an LSTM's c, the update gate of a GRU's h. What must last is "
        "carried by the units at the right; those at the left forget at once."
    )
    figure, (axis,) = canvas(7.2, 3.9, "How long each unit remembers", caption)
    for k, (name, values) in enumerate(found.items()):
        kept = values[values > 0].clamp(max=1e4).sort().values
        if not len(kept):
            continue
        ranks = [(j + 0.5) / len(values) * 100 for j in range(len(kept))]
        axis.plot(ranks, kept.tolist(), label=f"state {name}", **line_style(k, len(kept)))
        median = float(kept.median())
        axis.axhline(median, color=GREY, lw=1, ls=":", label=f"median of {name}: {median:.1f}")
    axis.set(yscale="log", xlabel="units, % (sorted)", ylabel="time scale τ, steps (log)")
    plain_ticks(axis.yaxis)
    axis.legend(frameon=False, fontsize=8.5)
    return Picture("time-scales", figure, caption)


def following_units(
    findings: Sequence[Finding],
    states: Mapping[str, Tensor],
    properties: Mapping[str, Tensor],
    tokens: Sequence[str],
    most: int = 4,
) -> Picture:
    """The surest findings, each on a piece of the held-out half of the text."""
    shown = list(findings[:most])
    caption = (
        "Lines: the unit's value after each step. Hatched: where the property holds (of a number, "
        "bars of its height). The unit was chosen on the first half of the steps as the best of "
        "all; r is Pearson's correlation there, and on the second half, of which a piece is drawn."
    )
    heading = "Units that follow something a reader would recognise"
    figure, axes = canvas(11, 1.4 + 1.75 * len(shown), heading, caption, rows=len(shown))
    for axis, finding in zip(axes, shown, strict=True):
        values = states[finding.state][:, finding.unit]
        start = _telling(properties[finding.property])
        span = slice(start, start + MOST_STEPS)
        marks = properties[finding.property][span].numpy()
        strip = axis.twinx()
        strip.bar(
            range(len(marks)), marks, width=1.0, facecolor="none", edgecolor="#9aa0a8",
            hatch="////", lw=0,
        )  # fmt: skip
        low = min(0.0, float(marks.min()))
        strip.set(yticks=[], ylim=(low, max(float(marks.max()), low + 1e-9)))
        axis.plot(
            range(len(marks)), values[span].numpy(), color=BLUE, marker="o", ms=3, lw=1.3, zorder=3
        )
        axis.set_zorder(strip.get_zorder() + 1)
        axis.patch.set_visible(False)
        axis.set(ylabel=f"{finding.state}[{finding.unit}]", xlim=(-0.5, len(marks) - 0.5))
        axis.grid(visible=False)
        _token_axis(axis, tokens[span])
        r = f"r = {finding.chosen_r:+.2f}, held out {finding.held_out_r:+.2f}"
        title(axis, f"{finding.property}: unit {finding.unit} of {finding.state} ({r})")
    return Picture("units", figure, caption)


def _telling(marks: Tensor) -> int:
    """Where in the second half the property changes most within one piece."""
    half = len(marks) // 2
    last = max(half, len(marks) - MOST_STEPS)
    changes = (marks[1:] != marks[:-1]).float()
    if float(marks.max()) > 1:  # a count: any piece tells
        return half
    spans = range(half, last + 1, 7)
    return max(spans, key=lambda start: float(changes[start : start + MOST_STEPS].sum()))
