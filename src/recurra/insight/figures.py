"""What the figures of all tasks share: style, axes in rows, titles, gradients, files."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, float]]

BLUE, ORANGE, GREY, RED = "#2f6db5", "#d9822b", "#8a8f98", "#b5382f"
COLORS = (BLUE, ORANGE, "#3b8f5a", RED, "#7a5ca8", "#4aa3a2", "#a0692f", "#c25b9b")
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9.5,
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "axes.edgecolor": "#6b7078",
    "grid.color": "#e4e6ea",
}


def series(rows: Rows, x: str, y: str) -> tuple[list[float], list[float]]:
    """The points of two columns, rows that lack either left out.

    Example:
        >>> series([{"step": 1, "loss": 2.0}, {"step": 2}], "step", "loss")
        ([1], [2.0])
    """
    points = [(row[x], row[y]) for row in rows if x in row and y in row]
    return [p[0] for p in points], [p[1] for p in points]


def stack(rows: int, width: float, height: float, **options: Any) -> tuple[Any, list[Any]]:
    """A figure with axes below one another.

    Args:
        rows: of axes.
        width: inches.
        height: inches.
        options: what `Figure.subplots` takes besides.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = list(figure.subplots(rows, 1, squeeze=False, **options)[:, 0])
        for one in axes:
            one.grid(visible=True, axis="y", lw=0.8)
            one.set_axisbelow(True)
    return figure, axes


def title(axes: Any, text: str) -> None:
    """A title at the left, in bold."""
    axes.set_title(text, loc="left", fontsize=11, fontweight="bold")


def gradients(rows: Rows, limit: float) -> Any:
    """Gradient norms with the share of clipped steps, and the learning rate below."""
    figure, (norms, rates) = stack(2, 7.2, 4.2, sharex=True, height_ratios=[2, 1])
    epochs, values = series(rows, "epoch", "gradient_norm")
    norms.plot(epochs, values, color=BLUE, lw=1.2, label="norm before clipping (mean)")
    if limit:
        norms.axhline(limit, color=RED, lw=1, ls="--", label=f"clipped above {limit:g}")
    norms.set(ylabel="gradient norm", ylim=(0, None))
    title(norms, "Gradients: their global norm, and how often clipping shortened them")
    shares = norms.twinx()
    epochs, clipped = series(rows, "epoch", "clipped_share")
    percent = [100 * share for share in clipped]
    shares.fill_between(epochs, percent, color=ORANGE, alpha=0.18, lw=0, label="steps clipped")
    shares.set(ylabel="steps clipped, %", ylim=(0, 105))
    handles = [*norms.get_legend_handles_labels()[0], *shares.get_legend_handles_labels()[0]]
    norms.legend(handles, [str(handle.get_label()) for handle in handles], frameon=False)
    rates.plot(*series(rows, "epoch", "learning_rate"), color=GREY)
    rates.set(xlabel="epochs", ylabel="learning rate", ylim=(0, None))
    return figure


def svg(figure: Any) -> str:
    """A figure as SVG text."""
    from matplotlib import rc_context

    text = io.StringIO()
    with rc_context(STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def png(figure: Any) -> bytes:
    """A figure as a PNG file's content."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=144)
    return data.getvalue()
