"""`recurra predict`: what a model says of each input."""

import json
from pathlib import Path
from typing import Annotated

import typer

from recurra.cli._options import AsJson, Run


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("predict")(predict)


def predict(
    run: Run,
    text: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Inputs.")] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="PATH", help="A file of inputs; stdin with -.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(metavar="N", help="lm: how many next words; default: 5.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """For a language model: the likeliest next tokens after each beginning of a line."""
    from recurra.cli._lines import read_input
    from recurra.cli._tables import output, table
    from recurra.jobs.job import find_job
    from recurra.jobs.loading import load
    from recurra.training.progress import ConsoleReporter

    inputs = read_input(text or [], file)
    with ConsoleReporter().stage(f"reading {run}"):
        model = load(run)
    given = {name: value for name, value in {"count": count}.items() if value is not None}
    answer = find_job(model.metrics["task"]).predict(model, inputs, given)
    if as_json:
        print(json.dumps(answer.records, ensure_ascii=False))
        return
    for line in answer.text:
        print(line)
    for part in answer.tables:
        output().print(table(part.columns, part.rows))
