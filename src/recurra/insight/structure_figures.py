"""Pictures of structure: the weights of cells to scale, and what they cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from recurra.insight.canvas import HATCHES, Picture, bar_style, canvas, title
from recurra.insight.figures import COLORS
from recurra.insight.structure import Structure, Times


def weights_to_scale(found: Sequence[Structure]) -> Picture:
    """W_ih and W_hh of the first layer of each cell, one block of rows for each gate."""
    caption = (
        "Every cell multiplies its input by W_ih and its last output by W_hh, with one block of "
        f"{found[0].hidden_size} rows for each gate (named at the left). Plain blocks open and "
        "shut (σ), hatched ones carry values. All are drawn to one scale."
    )
    most = max(sum(_rows(s)) for s in found)
    figure, axes = canvas(
        max(2.5 * len(found), 6.0),
        min(2.2 + 0.06 * most, 6.5),
        "Weights of one layer, to scale",
        caption,
        columns=len(found),
        sharey=True,
    )
    for axis, one in zip(axes, found, strict=True):
        _blocks(axis, one, most)
        title(axis, one.cell)
    axes[0].set(ylabel="rows (units of the gates)")
    return Picture("weights", figure, caption)


def _rows(one: Structure) -> list[int]:
    return [one.hidden_size] * len(one.gates)


def _blocks(axis: Any, one: Structure, most: int) -> None:
    from matplotlib.patches import Rectangle

    columns = [("W_ih", one.weights["weight_ih_l0"])]
    if "weight_hh_l0" in one.weights:
        columns.append(("W_hh", one.weights["weight_hh_l0"]))
    gap, left = 0.25 * one.hidden_size, 0.0
    for color, (name, shape) in zip(COLORS, columns, strict=False):
        for k, gate in enumerate(one.gates):
            axis.add_patch(
                Rectangle(
                    (left, k * one.hidden_size),
                    shape[1],
                    one.hidden_size,
                    facecolor=color,
                    edgecolor="white",
                    alpha=0.75,
                    hatch="" if gate.kind == "gate" else HATCHES[1],
                )
            )
        label = f"{name}\n{shape[0]}×{shape[1]}"
        axis.text(left + shape[1] / 2, -0.02 * most, label, ha="center", va="bottom")
        left += shape[1] + gap
    for k, gate in enumerate(one.gates):
        axis.text(-0.3 * gap, (k + 0.5) * one.hidden_size, gate.name, ha="right", va="center")
    axis.set(
        xlim=(-gap, one.input_size + one.hidden_size + 2 * gap),
        ylim=(most, -0.2 * most),
        xticks=[],
        xlabel="columns",
    )
    axis.set_yticks([k * one.hidden_size for k in range(most // one.hidden_size + 1)])
    axis.grid(visible=False)


def costs(found: Sequence[Structure], times: Mapping[str, Times]) -> Picture:
    """Parameters, saved memory and time of each cell."""
    shape = next(iter(times.values())).shape
    caption = (
        f"Input {found[0].input_size}, hidden {found[0].hidden_size}, {found[0].num_layers} "
        f"layer(s), {found[0].directions} direction(s), float32. Times are medians on this machine "
        f"with one thread, for a batch of {shape[1]} rows of {shape[0]} steps; memory is what "
        "training keeps for the backward pass."
    )
    figure, axes = canvas(9, 3.9, "What the cells cost", caption, columns=3)
    names = [one.cell for one in found]
    parts = [("W_ih", "weight_ih"), ("W_hh", "weight_hh"), ("biases, vectors", "")]
    _stacked(axes[0], names, parts, found)
    kernels = [one.saved_bytes_per_step or 0 for one in found]
    autograd = [one.autograd_bytes_per_step for one in found]
    _paired(axes[1], names, {"recurra's kernels": kernels, "autograd, plain loop": autograd})
    axes[1].set(ylabel="bytes a step and row")
    title(axes[1], "Memory kept for training")
    _paired(
        axes[2],
        names,
        {
            "forward": [times[n].forward_ms for n in names],
            "training step": [times[n].training_ms for n in names],
        },
    )
    axes[2].set(ylabel="milliseconds a batch")
    title(axes[2], "Time")
    return Picture("costs", figure, caption)


def _stacked(
    axis: Any, names: list[str], parts: Sequence[tuple[str, str]], found: Sequence[Structure]
) -> None:
    base = [0] * len(names)
    counted = list(base)
    for k, (label, prefix) in enumerate(parts):
        sizes = [
            sum(_numel(s) for name, s in one.weights.items() if prefix and name.startswith(prefix))
            if prefix
            else one.parameters - counted[i]
            for i, one in enumerate(found)
        ]
        axis.bar(names, sizes, bottom=counted, label=label, **bar_style(k))
        counted = [c + s for c, s in zip(counted, sizes, strict=True)]
    for i, total in enumerate(counted):
        axis.text(i, total, f"{total:,}", ha="center", va="bottom", fontsize=8.5)
    axis.set(ylabel="parameters", ylim=(0, max(counted) * 1.32))
    axis.grid(visible=False, axis="x")
    axis.legend(frameon=False, ncols=3, fontsize=8, loc="upper left", columnspacing=0.8)
    axis.tick_params(axis="x", rotation=20 if len(names) > 4 else 0)
    title(axis, "Parameters")


def _paired(axis: Any, names: list[str], kinds: Mapping[str, Sequence[float]]) -> None:
    width = 0.8 / len(kinds)
    for k, (label, values) in enumerate(kinds.items()):
        places = [i + (k - (len(kinds) - 1) / 2) * width for i in range(len(names))]
        axis.bar(places, values, width, label=label, **bar_style(k))
    axis.set_xticks(range(len(names)), names)
    axis.set_ylim(0, max(max(v) for v in kinds.values()) * 1.32)
    axis.grid(visible=False, axis="x")
    axis.legend(frameon=False, fontsize=8, loc="upper left")
    axis.tick_params(axis="x", rotation=20 if len(names) > 4 else 0)


def _numel(shape: Sequence[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product
