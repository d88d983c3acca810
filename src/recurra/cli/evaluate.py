"""`recurra evaluate`: the metrics of a run, on its test split or on other text."""

import json
from typing import Annotated

import typer

from recurra.cli._options import AsJson, Data, Run
from recurra.errors import ArgumentError


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("evaluate")(evaluate)


def evaluate(
    run: Run,
    data: Data = None,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="lm: go on learning from the text while measuring.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a run; without --data on the test split that it was made with."""
    from recurra.cli._tables import print_metrics
    from recurra.jobs.loading import load
    from recurra.training.progress import ConsoleReporter

    with ConsoleReporter().stage(f"measuring {run}"):
        model = load(run)
        if dynamic and model.metrics["task"] != "lm":
            raise ArgumentError(f"--dynamic is for language models; {run} is none")
        metrics = model.evaluate(data, **({"dynamic": True} if dynamic else {}))
    if as_json:
        print(json.dumps(metrics))
    else:
        print_metrics(str(run), metrics)
