"""`recurra inspect …`: instruments that show why, each a picture, numbers and a page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recurra.cli._options import AsJson

if TYPE_CHECKING:
    from recurra.jobs.inspection import Inspection

Cells = Annotated[str, typer.Option("--cells", metavar="A,B,…", help="Cells that doctor lists.")]
Folder = Annotated[
    Path | None,
    typer.Option("--out", metavar="FOLDER", help="Of the pictures; default: runs/<new name>."),
]

inspect = typer.Typer(
    no_args_is_help=True,
    help="See why: structure, gradients, clipping, memory, gates.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.add_typer(inspect, name="inspect")


@inspect.command("structure")
def structure(
    cells: Cells = "rnn,gru,lstm",
    input_size: Annotated[int, typer.Option(metavar="N", help="Features of a step.")] = 5,
    hidden_size: Annotated[int, typer.Option(metavar="N", help="Units of a layer.")] = 8,
    num_layers: Annotated[int, typer.Option(metavar="N", help="Stacked layers.")] = 1,
    bidirectional: Annotated[bool, typer.Option("--bidirectional", help="Two directions.")] = False,
    steps: Annotated[int, typer.Option(metavar="N", help="Of the batch that is timed.")] = 35,
    batch: Annotated[int, typer.Option(metavar="N", help="Rows of that batch.")] = 20,
    seconds: Annotated[float, typer.Option(metavar="S", help="For each timing.")] = 0.2,
    out: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Shapes, parameters, work, memory and time of cells; the defaults are the weather example."""
    from recurra.jobs.inspection import structure as job
    from recurra.training.progress import ConsoleReporter

    found = job.inspect_structure(
        names(cells),
        input_size=input_size,
        hidden_size=hidden_size,
        num_layers=num_layers,
        bidirectional=bidirectional,
        steps=steps,
        batch=batch,
        seconds=seconds,
        out=out,
        reporter=ConsoleReporter(),
    )
    _show(found, as_json, job.COLUMNS, job.rows(found.figures["cells"]))


def names(listed: str) -> list[str]:
    """The names in "a,b,c"."""
    return [name.strip() for name in listed.split(",") if name.strip()]


def _show(
    found: "Inspection", as_json: bool, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    from recurra.cli._tables import output, table

    if as_json:
        print(json.dumps({"folder": str(found.folder), **found.figures}, ensure_ascii=False))
        return
    output().print(table(columns, rows))
    pictures = ", ".join(found.pictures)
    output().print(f"\nDrawn in {found.folder}/report.html ({pictures})", soft_wrap=True)
