"""Options that several verbs share, declared once."""

from pathlib import Path
from typing import Annotated

import typer

Task = Annotated[
    str, typer.Argument(metavar="TASK", help="lm, tag, classify, translate or forecast.")
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")]
Data = Annotated[
    list[str] | None,
    typer.Option("--data", metavar="PATH", help="Files, folders or globs, .gz too; repeatable."),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="RUN", help="Run folder; default: runs/<new name>.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the configuration; repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="Of all random numbers.")]
