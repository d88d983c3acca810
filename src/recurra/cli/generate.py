"""`recurra generate`: text that goes on from a prompt, written as it is drawn."""

import json
from typing import Annotated

import typer

from recurra.cli._options import AsJson, Run, Seed
from recurra.cli._runs import load_to


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("generate")(generate)


def generate(
    run: Run,
    prompt: Annotated[
        str, typer.Argument(metavar="[PROMPT]", help="What the text begins with.")
    ] = "",
    tokens: Annotated[int, typer.Option(metavar="N", help="How many to draw.")] = 50,
    temperature: Annotated[
        float, typer.Option(metavar="T", help="Below 1: likelier tokens; 0: the likeliest.")
    ] = 1.0,
    top_k: Annotated[
        int | None, typer.Option(metavar="K", help="Draw among the K likeliest.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(metavar="P", help="Draw among those that make up P.")
    ] = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Write text with a trained language model."""

    pieces = load_to("generate", run).stream(
        prompt, tokens=tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
    )
    if as_json:
        print(json.dumps({"prompt": prompt, "text": "".join(pieces)}, ensure_ascii=False))
        return
    print(prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()
