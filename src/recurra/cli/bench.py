"""`recurra bench`: speed on this machine, side by side with torch.nn."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from recurra.cli._options import AsJson

WHAT = ("layers", "step", "ngram")


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("bench")(bench)


def bench(
    what: Annotated[str, typer.Argument(metavar="layers|step|ngram", help="What to measure.")],
    cells: Annotated[str, typer.Option(metavar="A,B,…", help="Recurrences.")] = "rnn,gru,lstm",
    seconds: Annotated[float, typer.Option(metavar="S", help="For each line.")] = 1.5,
    as_json: AsJson = False,
) -> None:
    """Measure layers (a training step), a streaming step, or n-gram training and scoring."""
    from recurra.cells import find_cell
    from recurra.errors import ArgumentError
    from recurra.jobs.speed import time_layers, time_ngrams, time_steps
    from recurra.training.progress import ConsoleReporter

    if what not in WHAT:
        raise ArgumentError(f"bench {what!r}: expected one of {', '.join(WHAT)}")
    rows: list[dict[str, Any]]
    names = [find_cell(name.strip()).name for name in cells.split(",")]
    with ConsoleReporter().stage(f"measuring {what}"):
        if what == "ngram":
            rows = time_ngrams()
        else:
            timings = time_layers(names, seconds=seconds) if what == "layers" else None
            timings = timings or time_steps(names, seconds=seconds)
            rows = [{**asdict(timing), "ratio": timing.ratio} for timing in timings]
    if as_json:
        print(json.dumps({"what": what, "rows": rows}))
    else:
        _print(rows)


def _print(rows: list[dict[str, Any]]) -> None:
    from recurra.cli._tables import number, output, table

    columns = [name.replace("_", " ") for name in rows[0]]
    cells = [
        [number(v) if isinstance(v, int | float) else _shown(v) for v in row.values()]
        for row in rows
    ]
    output().print(table(columns, cells))


def _shown(value: Any) -> str:
    return " × ".join(map(str, value)) if isinstance(value, tuple) else str(value)
