"""`recurra compare`: recurrences, the NNLM and n-grams side by side under the same budget."""

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
        str, typer.Option(metavar="A,B,…", help="Recurrences to compare.")
    ] = "rnn,irnn,gru,lstm",
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
    """Train n-grams, the NNLM and each recurrence on the same tokens; print and draw."""
    from recurra.cli._tables import output, print_comparison
    from recurra.jobs.comparison import compare_language_models
    from recurra.jobs.configurations import config_class
    from recurra.training.progress import ConsoleReporter

    config_class(task)
    found = compare_language_models(
        [cell.strip() for cell in cells.split(",") if cell.strip()],
        settings=settings or [],
        flags={"text.data": data, "max_epochs": max_epochs, "seed": seed},
        config=config,
        out=out,
        reporter=ConsoleReporter(),
    )
    if as_json:
        print(json.dumps({"run": str(found.folder), **found.figures}, ensure_ascii=False))
        return
    print_comparison(found.figures)
    output().print(f"\nDrawn in {found.folder}/report.html and {found.folder}/comparison.png")
