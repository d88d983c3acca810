"""The command line as functions: what a command gives, and what one that must fail says."""

from typer.testing import CliRunner, Result

from recurra.cli.main import app


def recurra(*arguments: object, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def refused(*arguments: object, stdin: str | bytes | None = None) -> str:
    """What a command that must fail says, on one line."""
    result = recurra(*arguments, stdin=stdin)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.split())
