"""What all pictures share: a caption inside; lines and bars that differ without their colour."""

from textwrap import fill
from typing import Any, NamedTuple

from recurra.insight.figures import COLORS, STYLE

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
HATCHES = ("", "///", "...", "\\\\\\", "xx", "++", "oo", "--")


class Picture(NamedTuple):
    """A drawn figure.

    Attributes:
        name: of its file, without the ending.
        figure: of matplotlib.
        caption: what to see in it, in one sentence or two.
    """

    name: str
    figure: Any
    caption: str


def canvas(
    width: float,
    height: float,
    heading: str,
    caption: str,
    *,
    rows: int = 1,
    columns: int = 1,
    **layout: Any,
) -> tuple[Any, list[Any]]:
    """A figure with a heading above, its caption below, and its axes in reading order.

    Args:
        width: inches.
        height: inches, the caption's included.
        heading: what is shown; "" where `legend_above` says it.
        caption: broken into lines of the figure's width.
        rows: of axes.
        columns: of axes.
        layout: what `Figure.subplots` takes besides.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, **layout)
        if heading:
            figure.suptitle(heading, x=0.01, ha="left", fontsize=11.5, fontweight="bold")
        text = fill(caption, int(width * 15.5))
        figure.supxlabel(text, x=0.01, ha="left", fontsize=8.5, color="#444a52")
        for one in axes.flat:
            one.grid(visible=True, lw=0.7)
            one.set_axisbelow(True)
    return figure, list(axes.flat)


def title(axes: Any, text: str) -> None:
    """A title at the left, in bold."""
    axes.set_title(text, loc="left", fontsize=10.5, fontweight="bold")


def plain_ticks(axis: Any) -> None:
    """1, 2, 5, 10 … instead of powers, on a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def legend_above(figure: Any, axes: Any, heading: str, columns: int = 3) -> None:
    """The legend of one of several axes above all of them, under the figure's heading."""
    handles, labels = axes.get_legend_handles_labels()
    legend = figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=columns,
        frameon=False,
        fontsize=8.5,
        title=heading,
        alignment="left",
        title_fontproperties={"weight": "bold", "size": 11.5},
    )
    legend.set_in_layout(True)


def line_style(index: int, points: int = 10) -> dict[str, Any]:
    """Colour, dashes and marker of the index-th line; about ten markers along `points` points.

    Example:
        >>> line_style(0)["ls"], line_style(1)["ls"]
        ('-', '--')
    """
    return {
        "color": COLORS[index % len(COLORS)],
        "ls": DASHES[index % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
        "ms": 4.5,
        "lw": 1.5,
        "markevery": (index, max(1, points // 8)) if points > 12 else 1,
    }


def bar_style(index: int) -> dict[str, Any]:
    """Colour and hatch of the index-th kind of bar."""
    return {
        "color": COLORS[index % len(COLORS)],
        "hatch": HATCHES[index % len(HATCHES)],
        "edgecolor": "white",
        "lw": 0.8,
    }
