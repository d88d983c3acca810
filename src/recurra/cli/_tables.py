"""Tables on stdout: figures of a run, models side by side."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from recurra.jobs.job import Model, Summary


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> Table:
    """A plain table: the first column to the left, numbers to the right."""
    drawn = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        drawn.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        drawn.add_row(*row)
    return drawn


def output(stream: TextIO | None = None) -> Console:
    """A console on stdout, wide enough for a table where there is no terminal."""
    console = Console(file=stream, highlight=False)
    return console if console.is_terminal else Console(file=stream, highlight=False, width=120)


def print_metrics(name: str, metrics: Mapping[str, Any]) -> None:
    """One model's metrics and counts, a line each; all else is for `--json` and the report."""
    rows = [(words, number(value)) for words, value in _figures(metrics)]
    output().print(table((name, ""), rows))


def _figures(metrics: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
    for key, entry in metrics.items():
        words = key.replace("_", " ")
        entries = entry if isinstance(entry, dict) else {"": entry}
        for name, value in entries.items():
            if isinstance(value, int | float):
                yield f"{words} {name}".rstrip(), value


def print_summary(model: "Model", summary: "Summary", stream: TextIO) -> None:
    """The models side by side, a few answers, where the run is and what to try next."""
    console = output(stream)
    drawn = table(summary.table.columns, summary.table.rows)
    memory = f"{model.metrics['peak_memory_bytes'] / 2**20:,.0f} MiB"
    drawn.caption = f"{model.metrics['total_seconds']:.0f} s in all, peak memory {memory}"
    drawn.caption_justify = "left"
    console.print(drawn)
    console.print(f"\n{escape(summary.verdict)}")
    if summary.samples:
        console.print(f"\n[bold]{escape(summary.samples_title)}[/bold]")
    for sample in summary.samples:
        console.print(f"  {escape(sample)}", soft_wrap=True)
    folder = model.folder
    console.print(f"\nThe run is in [bold]{folder}[/bold]; {folder}/report.html shows the curves.")
    console.print("Next:")
    for command in summary.next_commands:
        console.print(f"  {command}", soft_wrap=True)


def number(value: float) -> str:
    """A figure for a table.

    Example:
        >>> number(217646), number(94.70321), number(0.001234)
        ('217,646', '94.70', '0.0012')
    """
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.2f}" if abs(value) >= 10 else f"{value:.4f}"
