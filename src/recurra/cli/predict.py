"""`recurra predict`: what a model says of each input."""

import json
from pathlib import Path
from typing import Annotated

import typer

from recurra.cli._options import AsJson, Run, Settings


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
    reads: Annotated[
        str | None,
        typer.Option(
            metavar="KIND", help="tag: raw text (default), tokens between blanks, or conll."
        ),
    ] = None,
    writes: Annotated[
        str | None,
        typer.Option(
            metavar="FORM",
            help="tag: table (default), conll or jsonl; translate: text (default), alignment, "
            "jsonl.",
        ),
    ] = None,
    encode: Annotated[
        bool, typer.Option("--encode", help="classify: the vector of each input instead.")
    ] = False,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """What a model says of each input.

    A language model: the likeliest next tokens after each beginning of a line. A tagger: the tag of
    each word with its probability. A classifier: the class of each line with its probability, or
    its vector. A translator: each line's translation, for stdin as soon as the line comes; --set
    beam_size=1 and the like choose the search. A forecaster: what comes after the rows of a CSV
    file, or after all that it has read.
    """
    from recurra.cli._lines import is_stdin, read_input, stdin_lines
    from recurra.cli._tables import output, table
    from recurra.jobs.job import find_job
    from recurra.jobs.loading import load
    from recurra.training.progress import ConsoleReporter

    with ConsoleReporter().stage(f"reading {run}"):
        model = load(run)
    job = find_job(model.metrics["task"])
    options = {
        **{"count": count, "reads": reads, "writes": writes, "encode": encode or None},
        **{"set": settings},
    }
    given = {name: value for name, value in options.items() if value is not None}
    if job.LINE_BY_LINE and not as_json and is_stdin(text or [], file):
        for line in stdin_lines():
            print("\n".join(job.predict(model, [line], given).text), flush=True)
        return
    if job.READS_TABLES and text != ["-"]:  # without any, a stdin that is no terminal is not read
        inputs = [*(text or []), *([] if file is None else [str(file)])]
    else:
        inputs = read_input(text or [], file)
    answer = job.predict(model, inputs, given)
    if as_json:
        print(json.dumps(answer.records, ensure_ascii=False))
        return
    for line in answer.text:
        print(line)
    for part in answer.tables:
        output().print(table(part.columns, part.rows))
