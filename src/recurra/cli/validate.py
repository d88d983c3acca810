"""`recurra validate`: check a configuration without data or device."""

import json
from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("validate")(validate)


def validate(
    config: Annotated[Path, typer.Argument(help="A YAML file, as for train --config.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check a configuration: unknown keys, types, ranges. Prints it resolved."""
    from recurra.jobs.configurations import configuration_for_file, to_yaml

    resolved = configuration_for_file(config, settings or [])
    if as_json:
        print(json.dumps(resolved.model_dump(mode="json")))
    else:
        print(to_yaml(resolved), end="")
