"""`recurra train`: from files, or none, to a trained, measured and saved model."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from recurra.cli._options import AsJson, Data, Out, Seed, Settings, Task


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("train")(train)


def train(
    task: Task,
    data: Data = None,
    valid: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="To choose the model by; default: a part of the data."),
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="To report on; default: a part of the data."),
    ] = None,
    out: Out = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A configuration in YAML.")
    ] = None,
    settings: Settings = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="lm: recurrent (default), ngram or nnlm.")
    ] = None,
    cell: Annotated[
        str | None, typer.Option(metavar="NAME", help="lstm, gru, rnn, irnn, …: see doctor.")
    ] = None,
    hidden_size: Annotated[int | None, typer.Option(metavar="N", help="Units of a layer.")] = None,
    num_layers: Annotated[int | None, typer.Option(metavar="N", help="Stacked layers.")] = None,
    bidirectional: Annotated[
        bool | None, typer.Option(help="Read in both directions; not for lm.")
    ] = None,
    max_epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Most passes over the data.")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option(metavar="M", help="Most minutes of training.")
    ] = None,
    seed: Seed = None,
    devices: Annotated[
        int | None, typer.Option(metavar="N", help="Processes or GPUs of this machine.")
    ] = None,
    num_nodes: Annotated[int | None, typer.Option(metavar="N", help="Machines.")] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="P", help="32-true, bf16-mixed, 16-mixed or 64-true.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with a run that was stopped.")
    ] = None,
    memory: Annotated[
        int | None, typer.Option(metavar="MIB", help="Most memory of n-gram counting; then disk.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a model on your files, or on embedded data if none are named.

    Baselines are trained first and measured on the same text. The run folder holds the model, its
    configuration, figures, log and report.
    """
    from recurra.cli._tables import print_summary
    from recurra.jobs.job import find_job
    from recurra.jobs.training import train_task
    from recurra.training.progress import ConsoleReporter

    flags = {
        **{"data": data, "valid": valid, "test": test, "model": model},
        **{"cell": cell, "hidden_size": hidden_size, "num_layers": num_layers, "seed": seed},
        **{"max_epochs": max_epochs, "max_minutes": max_minutes, "precision": precision},
        **{
            "bidirectional": bidirectional,
            "devices": devices,
            "num_nodes": num_nodes,
            "memory_mib": memory,
        },
    }
    trained = train_task(
        task,
        config=config,
        settings=settings or [],
        flags=flags,
        out=out,
        resume=resume,
        reporter=ConsoleReporter(),
    )
    if trained is None:  # not the first of several processes
        return
    if as_json:
        print(json.dumps({"run": str(trained.folder), **trained.metrics}, ensure_ascii=False))
    else:
        print_summary(trained, find_job(task).summary(trained), sys.stdout)
