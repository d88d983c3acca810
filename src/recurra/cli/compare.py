"""`recurra compare`: recurrences and the task's baselines side by side under the same budget."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from recurra.cli._options import AsJson, Data, Out, Seed, Settings
from recurra.errors import ArgumentError


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("compare")(compare)


def compare(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK", help="lm, tag, classify, translate, forecast; or all, on embedded data."
        ),
    ],
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
    resume: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="all: go on where it was stopped.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train each recurrence and the baselines on the same data; print and draw.

    "all" asks which to use: five recurrences of equal parameters, three seeds, on all five tasks.
    """
    from recurra.cli._tables import output, table
    from recurra.jobs.all_tasks import compare_all
    from recurra.jobs.comparison import compare_task
    from recurra.training.progress import ConsoleReporter

    names = None if cells is None else [cell.strip() for cell in cells.split(",") if cell.strip()]
    flags = {"data": data, "max_epochs": max_epochs, "seed": seed}
    reporter = ConsoleReporter()
    if task == "all":
        _refuse({"--data": data, "--set": settings, "--config": config, "--max-epochs": max_epochs})
        found = compare_all(names, seed=seed, out=out, resume=resume, reporter=reporter)
    else:
        _refuse({"--resume": resume}, f"compare {task}")
        found = compare_task(
            task,
            names,
            settings=settings or [],
            flags=flags,
            config=config,
            out=out,
            reporter=reporter,
        )
    if as_json:
        print(json.dumps({"run": str(found.folder), **found.figures}, ensure_ascii=False))
        return
    output().print(table(found.table.columns, found.table.rows))
    if task == "all":
        output().print(f"\n{found.figures['answer']}")
    output().print(f"\nDrawn in {found.folder}/report.html and {found.folder}/comparison.png")


def _refuse(options: Mapping[str, object], where: str = "compare all") -> None:
    """Options that say nothing there."""
    for name, value in options.items():
        if value:
            raise ArgumentError(f"{name} is not for `recurra {where}`; leave it out")
