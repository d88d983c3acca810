"""`recurra bench`: speed on this machine, side by side with torch.nn."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from recurra.cli._options import AsJson

WHAT = ("layers", "step", "ngram")


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("bench")(bench)


def bench(
    what: Annotated[str, typer.Argument(metavar="layers|step|ngram", help="What to measure.")],
    cells: Annotated[
        str, typer.Option(metavar="A,B,…", help="Cells that doctor lists; all for every one.")
    ] = "rnn,gru,lstm",
    seconds: Annotated[float, typer.Option(metavar="S", help="For each line.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Measure layers, a stream of batch 1, or n-gram training and scoring.

    A ratio is how many times as fast ours is as the peer beside it; the last column is what a large
    product reaches on this machine.
    """
    from recurra.errors import ArgumentError
    from recurra.jobs.speed import time_layers, time_ngrams, time_steps
    from recurra.training.progress import ConsoleReporter

    if what not in WHAT:
        raise ArgumentError(f"bench {what!r}: expected one of {', '.join(WHAT)}")
    names = _names(cells, is_stream=what == "step")
    with ConsoleReporter().stage(f"measuring {what}"):
        if what == "ngram":
            rows: Sequence[Mapping[str, Any]] = time_ngrams()
        elif what == "step":
            rows = time_steps(names, seconds=seconds)
        else:
            rows = time_layers(names, seconds=seconds)
    if as_json:
        print(json.dumps(rows))
    else:
        _print(rows)


def _names(cells: str, *, is_stream: bool) -> list[str]:
    from recurra.cells import CELLS, find_cell
    from recurra.errors import ArgumentError
    from recurra.jobs.speed import LSTM_OPTIONS, TORCH_LAYERS

    if cells == "all":
        return list(TORCH_LAYERS) if is_stream else [*CELLS, *LSTM_OPTIONS]
    names = [find_cell(name.strip()).name for name in cells.split(",")]
    if is_stream and not set(names) <= set(TORCH_LAYERS):
        raise ArgumentError(f"bench step has peers for {', '.join(TORCH_LAYERS)} only")
    return names


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    from recurra.cli._tables import number, output, table

    columns = [name.replace("_", " ") for name in rows[0]]
    cells = [
        [number(v) if isinstance(v, int | float) else _shown(v) for v in row.values()]
        for row in rows
    ]
    output().print(table(columns, cells))


def _shown(value: Any) -> str:
    return " × ".join(map(str, value)) if isinstance(value, tuple) else str(value)
