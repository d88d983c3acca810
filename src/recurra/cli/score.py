"""`recurra score`: how likely a model finds each line, best first."""

import json
from pathlib import Path
from typing import Annotated

import typer

from recurra.cli._options import AsJson, Run
from recurra.cli._runs import load_to


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("score")(score)


def score(
    run: Run,
    text: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Lines.")] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="PATH", help="A file of lines; stdin without it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rank lines by their log-probability: n-best rescoring."""
    from recurra.cli._lines import read_input
    from recurra.cli._tables import output, table

    lines = read_input(text or [], file)
    scores = load_to("score", run).score(lines)
    if as_json:
        print(json.dumps([one.as_dict() for one in scores], ensure_ascii=False))
        return
    rows = [(one.line, f"{one.log_probability:.3f}", f"{one.perplexity:.2f}") for one in scores]
    output().print(table(("line, best first", "log-probability (nats)", "perplexity"), rows))
