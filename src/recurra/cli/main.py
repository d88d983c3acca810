"""`recurra`: one verb a file; this one names them and turns errors into messages and exit codes."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from recurra import __version__
from recurra.cli import (
    bench,
    compare,
    doctor,
    evaluate,
    generate,
    inspect,
    predict,
    score,
    train,
    validate,
)
from recurra.errors import RecurraError


class Verbs(TyperGroup):
    """Verbs in the order of use; what the user can mend is a message and exit code 2."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order in which they were added."""
        return list(self.commands)

    def invoke(self, ctx: Any) -> Any:
        """Run a verb: `RecurraError` exits with 2, Ctrl-C with 130."""
        try:
            return super().invoke(ctx)
        except RecurraError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as stop:
            print(str(stop) or "stopped; no file was left half-written", file=sys.stderr)
            raise typer.Exit(getattr(stop, "exit_code", 130)) from None


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Recurrent sequence models: any cell at kernel speed, whole jobs by one command.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        print(f"recurra {__version__}")
        raise typer.Exit


@app.callback()
def recurra(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Recurrent sequence models: any cell at kernel speed, whole jobs by one command."""


for verb in (train, evaluate, predict, generate, score, compare, inspect, bench, validate, doctor):
    verb.add_to(app)


def main() -> None:
    """The entry point of the command."""
    app()


if __name__ == "__main__":
    main()
