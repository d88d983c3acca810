"""Pictures of memory: right answers against the distance to what was asked."""

from collections.abc import Mapping, Sequence

from recurra.insight.canvas import Picture, canvas, legend_above, line_style, title
from recurra.insight.figures import GREY
from recurra.insight.memory_probe import RecallCurve
from recurra.insight.probes import Probe


def recall_curves(
    found: Mapping[str, Sequence[RecallCurve]],
    probes: Mapping[str, Probe],
    trained: Mapping[str, int],
) -> Picture:
    """One panel for each probe, one line for each cell.

    Args:
        found: by probe.
        probes: by the same names.
        trained: the longest distance in training, by the same names.
    """
    first = next(iter(found.values()))
    seeds = len(first[0].scores)
    sizes = ", ".join(f"{one.cell} {one.hidden_size}" for one in first)
    caption = (
        f"Mean over {seeds} seed(s), bars from the worst to the best seed. All recurrent layers "
        f"have about the same number of weights (hidden sizes of the first panel: {sizes}), read "
        "the same sequences equally often, and are asked about the same ones. Right of the dotted "
        "line are distances that training never had."
    )
    width = max(3.3 * len(found) + 0.6, 5.6)
    figure, axes = canvas(width, 4.7, "", caption, columns=len(found), sharey=True)
    for axis, (name, recalls) in zip(axes, found.items(), strict=True):
        for k, one in enumerate(recalls):
            columns = list(zip(*one.scores, strict=True))
            low = [m - min(c) for m, c in zip(one.means, columns, strict=True)]
            high = [max(c) - m for m, c in zip(one.means, columns, strict=True)]
            style = {**line_style(k), "markevery": 1}
            errors = [[100 * v for v in low], [100 * v for v in high]]
            means = [100 * m for m in one.means]
            axis.errorbar(one.distances, means, errors, capsize=3, label=one.cell, **style)
        chance = [100 * probes[name].chance(d) for d in recalls[0].distances]
        axis.plot(recalls[0].distances, chance, color=GREY, lw=1, label="chance")
        axis.axvline(trained[name], color=GREY, ls=":", lw=1.5, label="longest in training")
        axis.set(xlabel=f"distance ({probes[name].unit})", ylim=(-2, 104))
        title(axis, probes[name].name)
    axes[0].set(ylabel="right answers, %")
    legend_above(figure, axes[0], "Who remembers, and for how long?", int(width / 1.6))
    return Picture("memory", figure, caption)
