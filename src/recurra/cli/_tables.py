"""Tables on stdout: figures of a run, models side by side."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from recurra.jobs.language_model import LanguageModel


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


def print_metrics(name: str, metrics: Mapping[str, float]) -> None:
    """One model's metrics, a line each."""
    rows = [(key.replace("_", " "), number(value)) for key, value in metrics.items()]
    output().print(table((name, ""), rows))


def print_training_summary(model: "LanguageModel", stream: TextIO) -> None:
    """The models side by side, a few generated lines, where the run is and what to try next."""
    console = output(stream)
    metrics = model.metrics
    console.print(models_table(metrics))
    console.print(f"\n{escape(comparison(metrics))}")
    console.print("\n[bold]It writes[/bold]")
    for sample in metrics["samples"]:
        console.print(f"  {escape(sample)}", soft_wrap=True)
    folder = model.folder
    console.print(f"\nThe run is in [bold]{folder}[/bold]; {folder}/report.html shows the curves.")
    console.print("Next:")
    for command in (
        f"recurra generate {folder} --tokens 40",
        f"recurra score {folder} --file LINES.txt",
        f"recurra evaluate {folder} --data OTHER.txt",
        "recurra compare lm",
    ):
        console.print(f"  {command}", soft_wrap=True)


def models_table(metrics: Mapping[str, Any]) -> Table:
    """The trained model above its baselines."""
    from recurra.insight.report import model_name

    models = {metrics["description"]: metrics}
    models |= {model_name(key): value for key, value in metrics["baselines"].items()}
    memory = f"{metrics['peak_memory_bytes'] / 2**20:,.0f} MiB"
    seconds = metrics["total_seconds"]
    drawn = _side_by_side(models)
    drawn.caption = f"{seconds:.0f} s in all, peak memory {memory}"
    drawn.caption_justify = "left"
    return drawn


def print_comparison(figures: Mapping[str, Any]) -> None:
    """The models of a comparison, the best on top."""
    from recurra.insight.report import model_name

    models = {
        entry.get("description", model_name(key)): entry for key, entry in figures["models"].items()
    }
    best_first = sorted(models, key=lambda name: models[name]["test"]["perplexity"])
    output().print(_side_by_side({name: models[name] for name in best_first}))


def _side_by_side(models: Mapping[str, Mapping[str, Any]]) -> Table:
    columns = ("model", "parameters", "test perplexity", "bits per byte", "tokens/s", "time")
    rows = [
        (
            name,
            f"{figures['parameters']:,}",
            f"{figures['test']['perplexity']:.2f}",
            f"{figures['test']['bits_per_byte']:.4f}",
            f"{figures['tokens_per_s']:,.0f}",
            f"{figures['seconds']:.1f} s",
        )
        for name, figures in models.items()
    ]
    return table(columns, rows)


def comparison(metrics: Mapping[str, Any]) -> str:
    """What the run shows, in a sentence."""
    from recurra.insight.report import verdict

    return verdict(metrics)


def number(value: float) -> str:
    """A figure for a table.

    Example:
        >>> number(217646), number(94.70321), number(0.001234)
        ('217,646', '94.70', '0.0012')
    """
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.2f}" if abs(value) >= 10 else f"{value:.4f}"
