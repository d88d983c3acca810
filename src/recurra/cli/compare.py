"""`recurra compare`: recurrences and the task's baselines side by side under the same budget."""

import json
from pathlib import Path
from typing import Annotated

import typer

from recurra.cli._options import AsJson, Data, Out, Seed, Settings, Task


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("compare")(compare)


def compare(
    task: Task,
    cells: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="Recurrences to compare; default: the task's choice."),
    ] = None,
    data: Data = None,
    out: Out = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A configuration in YAML.")
    ] = None,
    settings: Settings = None,
    max_epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Passes over the data, for every model.")
    ] = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Train each recurrence and the baselines on the same data; print and draw."""
    from recurra.cli._tables import output, table
    from recurra.jobs.comparison import compare_task
    from recurra.training.progress import ConsoleReporter

    found = compare_task(
        task,
        None if cells is None else [cell.strip() for cell in cells.split(",") if cell.strip()],
        settings=settings or [],
        flags={"data": data, "max_epochs": max_epochs, "seed": seed},
        config=config,
        out=out,
        reporter=ConsoleReporter(),
    )
    if as_json:
        print(json.dumps({"run": str(found.folder), **found.figures}, ensure_ascii=False))
        return
    output().print(table(found.table.columns, found.table.rows))
    output().print(f"\nDrawn in {found.folder}/report.html and {found.folder}/comparison.png")
