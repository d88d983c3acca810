"""Pictures of gradients on their way back through time."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from recurra.insight.canvas import Picture, canvas, legend_above, line_style, title
from recurra.insight.figures import BLUE, GREY, ORANGE
from recurra.insight.gradient_flow import GradientFlow

Flows = Mapping[str, Mapping[str, GradientFlow]]
FLOOR, ROOF = 1e-12, 1e3
WIDTH = 9.2


def overview(flows: Flows) -> Picture:
    """Measured norms of all networks, one panel for each stage (initialisation, trained).

    Args:
        flows: by network, then by stage.
    """
    stages = list(next(iter(flows.values())))
    caption = (
        "Each line: the norm of the gradient of the last step's loss with respect to the state "
        "(h, or h and c) k steps before it, relative to lag 0; median over sequences. A line that "
        "falls straight has vanished exponentially: what stood k steps back teaches nothing. Below "
        f"{FLOOR:.0e} nothing is drawn."
    )
    figure, axes = canvas(WIDTH, 4.7, "", caption, columns=len(stages), sharey=True)
    for axis, stage in zip(axes, stages, strict=True):
        for k, (name, by_stage) in enumerate(flows.items()):
            lags, values = _line(_median(by_stage[stage].norms))
            axis.plot(lags, values, label=name, **line_style(k, len(lags)))
        _log_axes(axis)
        title(axis, stage)
    axes[0].set(ylabel="gradient norm, relative (log scale)")
    legend_above(figure, axes[0], "How much of the gradient is left k steps back?")
    return Picture("gradient-flow", figure, caption)


def bounds(flows: Flows) -> Picture:
    """Measured norms beside the bounds, one panel for each network."""
    caption = (
        "Measured norms (markers) never lie above the bounds. Dashed: the product of the step "
        "Jacobians' largest singular values along the same path. Dotted: from the weights alone, "
        "(largest singular value of R × steepest slope)^k for Elman networks; for gated cells it "
        "only grows, so that it forbids nothing. Both leave the axes where they exceed them."
    )
    columns = min(3, len(flows))
    rows = -(-len(flows) // columns)
    width = WIDTH if columns == 3 else 7.2
    figure, axes = canvas(
        width,
        2.3 + 2.4 * rows,
        "",
        caption,
        rows=rows,
        columns=columns,
        sharex=True,
        sharey=True,
    )
    for axis, (name, by_stage) in zip(axes, flows.items(), strict=False):
        for (stage, flow), color, marker in zip(
            by_stage.items(), (GREY, BLUE), ("o", "s"), strict=False
        ):
            _with_bounds(axis, stage, flow, color, marker)
        _log_axes(axis)
        title(axis, name)
    for axis in axes[len(flows) :]:
        axis.set_visible(False)
    for axis in axes[::columns]:
        axis.set(ylabel="relative norm (log)")
    for axis in axes:
        axis.label_outer()
    legend_above(figure, axes[0], "Measured gradients and what theory allows", 2)
    return Picture("gradient-bounds", figure, caption)


def _with_bounds(axis: Any, stage: str, flow: GradientFlow, color: str, marker: str) -> None:
    points = {"marker": marker, "ms": 4, "markevery": max(1, flow.lags // 8)}
    axis.plot(
        *_line(_median(flow.norms)), color=color, lw=1.6, label=f"{stage}: measured", **points
    )
    path = _line(_median(flow.path_bounds))
    axis.plot(*path, color=color, lw=1.2, ls="--", label=f"{stage}: bound along the path")
    if flow.weight_bounds is not None:
        weights = _line(flow.weight_bounds)
        axis.plot(*weights, color=color, lw=1.4, ls=":", label=f"{stage}: bound from weights")


def by_state(name: str, flow: GradientFlow) -> Picture:
    """One network's gradient with respect to each of its states; the band is 10 to 90 %."""
    caption = (
        "Median over windows of the text of ‖∂L/∂(state k steps back)‖, over the whole state's "
        "norm at lag 0; the band is the middle 80 % of windows. L is the last token's loss alone."
    )
    figure, (axis,) = canvas(7.2, 3.9, f"{name}: the gradient, state by state", caption)
    for k, (state, norms) in enumerate(flow.by_state.items()):
        first = int((_median(norms) > 0).nonzero()[0])  # c has none at lag 0: the loss sees h
        lags, values = _line(_median(norms)[first:])
        style = line_style(k, len(lags))
        axis.plot([first + lag for lag in lags], values, label=state, **style)
        low, high = (norms[:, first:].quantile(q, 0).clamp(min=FLOOR) for q in (0.1, 0.9))
        places = range(first, first + len(low))
        axis.fill_between(
            places, low.tolist(), high.tolist(), color=style["color"], alpha=0.15, lw=0
        )
    _log_axes(axis)
    axis.set(ylabel="gradient norm, relative (log scale)")
    axis.legend(frameon=False, fontsize=8.5)
    return Picture("gradient-by-state", figure, caption)


def spectra(flows: Flows) -> Picture:
    """Eigenvalues of the step Jacobian in the complex plane, with the unit circle."""
    caption = (
        "Each point is an eigenvalue of J = ∂(state) / ∂(state before) at a sequence's last step. "
        "Inside the unit circle a direction of the state shrinks with every step, on it it is "
        "kept, outside it grows. Memory over many steps needs eigenvalues near the circle."
    )
    columns = min(3, len(flows))
    rows = -(-len(flows) // columns)
    figure, axes = canvas(
        WIDTH if columns == 3 else 5.0,
        1.9 + 2.8 * rows,
        "",
        caption,
        rows=rows,
        columns=columns,
        sharex=True,
        sharey=True,
    )
    reach = 1.15
    for axis, (name, by_stage) in zip(axes, flows.items(), strict=False):
        angles = [2 * math.pi * k / 200 for k in range(201)]
        circle = [math.cos(a) for a in angles], [math.sin(a) for a in angles]
        axis.plot(*circle, color=GREY, lw=1, ls="--", label="unit circle")
        for (stage, flow), color, marker in zip(
            by_stage.items(), (ORANGE, BLUE), ("o", "x"), strict=False
        ):
            points = flow.eigenvalues[:4].flatten()
            face = {"facecolors": "none", "edgecolors": color} if marker == "o" else {"c": color}
            axis.scatter(
                points.real.tolist(),
                points.imag.tolist(),
                s=14,
                marker=marker,
                lw=0.9,
                label=stage,
                zorder=3,
                **face,
            )
            reach = max(reach, 1.05 * float(points.abs().max()))
        axis.set(aspect="equal", xlabel="real part")
        title(axis, name)
    for axis in axes:
        axis.set(xlim=(-min(reach, 2.5), min(reach, 2.5)), ylim=(-min(reach, 2.5), min(reach, 2.5)))
    for axis in axes[len(flows) :]:
        axis.set_visible(False)
    for axis in axes[::columns]:
        axis.set(ylabel="imaginary part")
    for axis in axes:
        axis.label_outer()
    legend_above(figure, axes[0], "Eigenvalues of the step Jacobian", 3)
    return Picture("spectrum", figure, caption)


def _median(values: Tensor) -> Tensor:
    return values.median(0).values


def _line(values: Tensor) -> tuple[list[int], list[float]]:
    """Lags and values from lag 0 to the first that leaves the axes, itself included."""
    lags, shown = [], []
    for lag, value in enumerate(values.tolist()):
        lags.append(lag)
        shown.append(max(value, FLOOR / 100))
        if not FLOOR <= value <= ROOF:
            break
    return lags, shown


def _log_axes(axis: Any) -> None:
    axis.set(yscale="log", ylim=(FLOOR, ROOF), xlabel="lag k (steps back)")
