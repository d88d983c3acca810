"""The parts that every `report.html` is made of: one page that needs nothing beside it."""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from recurra.insight.figures import svg

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #22262b; max-width: 54rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.lead { font-size: 1.05rem; color: #3d434b; } figure { margin: 1rem 0; }
figcaption, .note { color: #5a616b; font-size: .9rem; } img { max-width: 100%; }
table { border-collapse: collapse; margin: .6rem 0; } td, th { padding: .25rem .8rem .25rem 0;
       text-align: left; border-bottom: 1px solid #e4e6ea; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.own td { font-weight: 600; color: #2f6db5; }
pre { background: #f5f6f8; padding: .7rem 1rem; overflow-x: auto; font-size: .85rem; }
blockquote { margin: .4rem 0; padding-left: .8rem; border-left: 3px solid #d5d9df; }
"""


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], own: str = "") -> str:
    """A table: the first column to the left, the others, numbers, to the right.

    Args:
        heads: names of the columns.
        rows: cells.
        own: the row that begins with this is marked: the model that the page is of.

    Example:
        >>> table(["cell", "weights"], [["gru", "1,024"]]).count("class=number")
        2
    """

    def line(cells: Sequence[str], tag: str, mark: str = "") -> str:
        first, *others = (escape(cell) for cell in cells)
        numbers = "".join(f"<{tag} class=number>{other}</{tag}>" for other in others)
        return f"<tr{mark}><{tag}>{first}</{tag}>{numbers}</tr>"

    lines = (line(row, "td", " class=own" if own and row[0] == own else "") for row in rows)
    return f"<table>{line(heads, 'th')}{''.join(lines)}</table>"


def facts_table(facts: Mapping[str, Any]) -> str:
    """Names and values; numbers with separators."""
    rows = "".join(
        f"<tr><td>{escape(str(name).replace('_', ' '))}</td><td>{escape(_shown(value))}</td></tr>"
        for name, value in facts.items()
        if value is not None
    )
    return f"<table>{rows}</table>"


def comparison_facts(figures: Mapping[str, Any], what: str) -> list[str]:
    """The end of a comparison's page: its data, and how it was made.

    Args:
        figures: the content of `comparison.json`.
        what: the data in a word: "text".
    """
    return [
        f"<h2>The {what}</h2>",
        facts_table(figures["data"]),
        "<h2>How this was made</h2>",
        facts_table({"command": figures["command"], "seed": figures["seed"]}),
        facts_table({"versions": figures["versions"], "machine": figures["machine"]}),
    ]


def figure(drawn: Any, caption: str) -> str:
    """A figure inside the page, with what to see in it."""
    data = b64encode(svg(drawn).encode()).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def page(title: str, parts: Sequence[str]) -> str:
    """A whole page."""
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        f"</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def making_table(metrics: Mapping[str, Any], unit: str) -> str:
    """How a run was made: command, seed, training, machine.

    Args:
        metrics: the content of `metrics.json`.
        unit: what its `<unit>_per_s` counts, in the plural.
    """
    versions = ", ".join(f"{name} {number}" for name, number in metrics["versions"].items())
    machine = ", ".join(f"{name}: {value}" for name, value in metrics["machine"].items())
    return facts_table(
        {
            "command": metrics["command"],
            "seed": metrics["seed"],
            **metrics.get("training", {}),
            f"{unit} a second": metrics.get(f"{unit}_per_s"),
            "peak memory": f"{metrics['peak_memory_bytes'] / 2**20:,.0f} MiB",
            "versions": versions,
            "machine": machine,
        }
    )


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) > 9999 else str(value)
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    return str(value)
