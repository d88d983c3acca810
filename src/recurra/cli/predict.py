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
    count: Annotated[int, typer.Option(metavar="N", help="How many next words.")] = 5,
    as_json: AsJson = False,
) -> None:
    """For a language model: the likeliest next tokens after each beginning of a line."""
    from recurra.cli._lines import read_input
    from recurra.cli._tables import output, table
    from recurra.jobs.language_model import load

    prompts = read_input(text or [], file)
    answers = load(run).predict(prompts, count)
    if as_json:
        found = [
            {"input": prompt, "next": [{"token": t, "probability": p} for t, p in answer]}
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        print(json.dumps(found, ensure_ascii=False))
        return
    for prompt, answer in zip(prompts, answers, strict=True):
        rows = [(token, f"{probability:.4f}") for token, probability in answer]
        output().print(table((prompt, "probability"), rows))
