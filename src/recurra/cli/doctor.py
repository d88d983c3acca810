"""`recurra doctor`: versions, threads, which backend runs each cell and why, and whether right."""

import json
from dataclasses import asdict

import typer

from recurra.cli._options import AsJson


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("doctor")(doctor)


def doctor(as_json: AsJson = False) -> None:
    """Check this installation: every cell on its backend against the reference."""
    from recurra.jobs.machine import machine, versions
    from recurra.jobs.self_check import check_cells
    from recurra.training.progress import ConsoleReporter

    with ConsoleReporter().stage("checking every cell against the reference"):
        checks = check_cells()
    if as_json:
        cells = [{**asdict(check), "ok": check.is_ok} for check in checks]
        print(json.dumps({"versions": versions(), "machine": machine(), "cells": cells}))
    else:
        _print(versions(), machine(), checks)
    if not all(check.is_ok for check in checks):
        raise typer.Exit(1)


def _print(versions: dict, machine: dict, checks: list) -> None:  # type: ignore[type-arg]
    from recurra.cli._tables import output, table

    console = output()
    for name, value in {**versions, **machine}.items():
        console.print(f"{name:<12} {value}")
    rows = [
        (
            check.cell,
            check.backend,
            f"{check.error:.0e}",
            "right" if check.is_ok else "WRONG",
        )
        for check in checks
    ]
    console.print()
    console.print(table(("cell", "backend", "largest error", ""), rows))
    console.print("\nWhy (in the order of preference):")
    for check in checks:
        others = "; ".join(f"{name}: {reason}" for name, reason in check.reasons.items())
        console.print(f"  {check.cell}: {others}", soft_wrap=True)
