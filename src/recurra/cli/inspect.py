"""`recurra inspect …`: instruments that show why, each a picture, numbers and a page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recurra.cli._options import AsJson, Data, Run, Seed

if TYPE_CHECKING:
    from recurra.jobs.inspection import Inspection

Cells = Annotated[str, typer.Option("--cells", metavar="A,B,…", help="Cells that doctor lists.")]
Folder = Annotated[
    Path | None,
    typer.Option("--out", metavar="FOLDER", help="Of the pictures; default: runs/<new name>."),
]
MaybeRun = Annotated[
    Path | None, typer.Argument(metavar="[RUN]", help="The folder of a finished run.")
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


@inspect.command("gradients")
def gradients(
    run: MaybeRun = None,
    lags: Annotated[int, typer.Option(metavar="K", help="Steps to look back.")] = 50,
    hidden_size: Annotated[
        int, typer.Option(metavar="N", help="Units of each network (without RUN).")
    ] = 32,
    steps: Annotated[int, typer.Option(metavar="N", help="Of training (without RUN).")] = 600,
    rows: Annotated[int, typer.Option(metavar="N", help="Sequences (with RUN).")] = 8,
    seed: Seed = None,
    out: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Follow gradients back through time, beside the bounds of theory.

    Without RUN: six networks on a problem of memory, before and after training. With RUN: that
    model, of any task, on its own test part.
    """
    from recurra.jobs.inspection import gradients as job
    from recurra.training.progress import ConsoleReporter

    shared = {"lags": lags, "seed": seed or 0, "out": out, "reporter": ConsoleReporter()}
    if run is None:
        found = job.inspect_gradients(hidden_size=hidden_size, steps=steps, **shared)  # type: ignore[arg-type]
    else:
        found = job.inspect_run_gradients(run, rows=rows, **shared)  # type: ignore[arg-type]
    _show(found, as_json, job.COLUMNS, job.rows(found.figures["networks"]))


@inspect.command("clipping")
def clipping(
    run: MaybeRun = None,
    threshold: Annotated[
        float, typer.Option(metavar="X", help="Longest gradient of the clipped path (no RUN).")
    ] = 0.05,
    rate: Annotated[float, typer.Option(metavar="R", help="Learning rate (no RUN).")] = 0.3,
    steps: Annotated[int, typer.Option(metavar="N", help="Of descent (no RUN).")] = 100,
    out: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Show the cliff that gradients are clipped for; with RUN its norms and a threshold."""
    from recurra.jobs.inspection import clipping as job

    if run is None:
        found = job.inspect_clipping(threshold=threshold, rate=rate, steps=steps, out=out)
    else:
        found = job.inspect_run_clipping(run, out=out)
    columns = job.COLUMNS if run is None else ("norms", "")
    _show(found, as_json, columns, job.rows(found.figures))


@inspect.command("memory")
def memory(
    cells: Cells = "rnn,irnn,gru,lstm",
    probes: Annotated[
        str, typer.Option(metavar="A,B,…", help="Of sentence, copying, adding.")
    ] = "sentence,copying,adding",
    full: Annotated[
        bool, typer.Option("--full", help="Longer distances, 5 seeds, 6,000 steps each.")
    ] = False,
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Of each training; default: 1,500.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(metavar="N", help="For each cell and probe; default: 3.")
    ] = None,
    out: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Ask at the end what stood at the beginning: recall against distance, cell by cell."""
    from recurra.jobs.inspection import memory as job
    from recurra.training.progress import ConsoleReporter

    found = job.inspect_memory(
        names(cells),
        probes=names(probes),
        full=full,
        steps=steps,
        seeds=seeds,
        out=out,
        reporter=ConsoleReporter(),
    )
    _show(found, as_json, job.COLUMNS, job.rows(found.figures["probes"]))


@inspect.command("gates")
def gates(
    run: Run,
    text: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Lines to draw; stdin with -.")
    ] = None,
    data: Data = None,
    layer: Annotated[
        int | None, typer.Option(metavar="N", help="From 1; default: the last.")
    ] = None,
    is_reverse: Annotated[
        bool, typer.Option("--reverse", help="The direction that reads from the end.")
    ] = False,
    tokens: Annotated[
        int, typer.Option(metavar="N", help="Most steps of what units are found on.")
    ] = 4_000,
    out: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Draw gates, memory and update of any task's run step by step, and find telling units.

    Units and time scales are found on the run's test part, or on --data; without TEXT its first
    sequences are drawn. Of a translator, TEXT draws its attention, too.
    """
    from recurra.cli._lines import read_input
    from recurra.jobs.inspection import gates as job
    from recurra.training.progress import ConsoleReporter

    found = job.inspect_gates(
        run,
        read_input(text, None) if text else [],
        data=data,
        layer=layer,
        is_reverse=is_reverse,
        tokens=tokens,
        out=out,
        reporter=ConsoleReporter(),
    )
    _show(found, as_json, job.COLUMNS, job.rows(found.figures["units"]))


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
