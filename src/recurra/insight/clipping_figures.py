"""Pictures of error surfaces, paths over them, and the gradient norms of a run."""

from collections.abc import Sequence
from typing import Any

import torch

from recurra.insight.canvas import Picture, canvas, title
from recurra.insight.error_surface import Descent, NormStatistics, OneUnit
from recurra.insight.figures import BLUE, GREY, ORANGE, RED

SPAN_W, SPAN_B = (3.0, 6.6), (-3.4, -0.4)
POINTS = 181


def surface(unit: OneUnit, free: Descent, clipped: Descent, threshold: float) -> Picture:
    """The error over w and b with both paths, and the error along them."""
    caption = (
        f"h ← w·σ(h) + b, {unit.steps} times from {unit.start:g}; the error is (σ(h) - "
        f"{unit.target:g})². Darker is lower. Along the cliff two settings that hardly differ end "
        f"far apart, so one gradient there (norm {float(free.norms.max()):.1f}) throws the free "
        f"path across the map. Clipped to {threshold:g} no step is long: that path crosses the "
        "edge at times (the spikes) and comes back."
    )
    figure, axes = canvas(
        9.4,
        4.7,
        "The cliff in the error of a one-unit recurrence, and descent with and without clipping",
        caption,
        columns=2,
        width_ratios=[1.35, 1],
    )
    _map(figure, axes[0], unit, free, clipped)
    steps = range(len(free.errors))
    style: dict[str, Any] = {"ms": 4, "markevery": 10, "lw": 1.3}
    axes[1].plot(steps, free.errors.tolist(), color=RED, marker="X", ls="--", label="free", **style)
    axes[1].plot(steps, clipped.errors.tolist(), color=BLUE, marker="o", label="clipped", **style)
    axes[1].set(xlabel="steps of descent", ylabel="error (squared)", ylim=(0, None))
    axes[1].legend(frameon=False)
    title(axes[1], "Error along the paths")
    return Picture("cliff", figure, caption)


def _map(figure: Any, axis: Any, unit: OneUnit, free: Descent, clipped: Descent) -> None:
    w = torch.linspace(*SPAN_W, POINTS, dtype=torch.float64)
    b = torch.linspace(*SPAN_B, POINTS, dtype=torch.float64)
    error = unit.error(w.unsqueeze(0), b.unsqueeze(1))
    filled = axis.contourf(
        w.numpy(), b.numpy(), error.numpy(), levels=24, cmap="Greys_r", alpha=0.9
    )
    figure.colorbar(filled, ax=axis, label="error (squared)", shrink=0.9)
    for path, color, marker, dashes, name in (
        (free, RED, "X", "--", "free"),
        (clipped, BLUE, "o", "-", "clipped"),
    ):
        x, y = path.points.numpy().T
        # a light line below keeps the path apart from any shade of the map
        axis.plot(x, y, color="white", lw=3.2)
        axis.plot(x, y, color=color, ls=dashes, marker=marker, ms=3, lw=1.3, label=name)
    start = free.points[0].tolist()
    axis.plot(*start, "*", ms=13, mfc="white", mec="black", label="start", ls="")
    axis.set(xlabel="w (recurrent weight)", ylabel="b (bias)", xlim=SPAN_W, ylim=SPAN_B)
    axis.grid(visible=False)
    axis.legend(fontsize=8.5, loc="upper right")
    title(axis, "Error surface")


def cliff_face(unit: OneUnit, bias: float) -> Picture:
    """A cut through the surface at one bias: error and gradient norm against w."""
    w = torch.linspace(*SPAN_W, 1201, dtype=torch.float64)
    b = torch.full_like(w, bias)
    error, gradient = unit.error(w, b), torch.stack(unit.gradient(w, b)).norm(dim=0)
    caption = (
        f"A cut through the surface at b = {bias:g}. The error falls and rises gently, but for one "
        f"step in w; there the gradient is {float(gradient.max() / gradient.median()):.0f} times "
        "the median of the cut."
    )
    figure, axes = canvas(
        7.2, 4.4, "Across the cliff", caption, rows=2, sharex=True, height_ratios=[1, 1]
    )
    axes[0].plot(w.numpy(), error.numpy(), color=BLUE)
    axes[0].set(ylabel="error (squared)")
    axes[1].plot(w.numpy(), gradient.numpy(), color=RED, ls="--")
    axes[1].set(ylabel="norm of gradient (log)", xlabel="w (recurrent weight)", yscale="log")
    return Picture("cliff-cut", figure, caption)


def norms(values: Sequence[float], steps: Sequence[float], found: NormStatistics) -> Picture:
    """The distribution of a run's gradient norms, and their course, with both thresholds."""
    caption = (
        f"{found.count} rows of log.csv, each the mean norm before clipping over the steps since "
        f"the row before: single steps spread wider. The run clipped {found.clipped_share:.0%} of "
        "its steps. Suggested: the 95th percentile of the later half."
    )
    figure, axes = canvas(
        9.0, 4.2, "Gradient norms of the run", caption, columns=2, width_ratios=[1, 1.3]
    )
    top = 1.08 * max(*values, found.threshold, found.suggested)
    axes[0].hist(values, bins=24, range=(0, top), color=GREY, edgecolor="black", lw=0.6)
    axes[0].set(xlabel="gradient norm", ylabel="rows of the log", xlim=(0, top))
    axes[0].yaxis.get_major_locator().set_params(integer=True)
    title(axes[0], "Distribution")
    axes[1].plot(steps, values, color=GREY, lw=1.1, label="norm before clipping")
    axes[1].set(xlabel="training steps", ylabel="gradient norm", ylim=(0, top))
    title(axes[1], "Course")
    for axis, line in ((axes[0], axes[0].axvline), (axes[1], axes[1].axhline)):
        if found.threshold:
            line(
                found.threshold, color=RED, ls="--", lw=1.4, label=f"threshold {found.threshold:g}"
            )
        line(found.suggested, color=ORANGE, ls=":", lw=2, label=f"suggested {found.suggested:g}")
        axis.legend(frameon=False, fontsize=8.5)
    return Picture("gradient-norms", figure, caption)
