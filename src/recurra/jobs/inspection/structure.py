"""`recurra inspect structure`: shapes, counts, memory and time of cells."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recurra.cells import find_cell
from recurra.errors import ArgumentError
from recurra.insight.report import table
from recurra.insight.structure import (
    Check,
    Structure,
    Times,
    check_layout,
    measure_times,
    structure,
)
from recurra.insight.structure_figures import costs, weights_to_scale
from recurra.jobs.inspection.folder import Inspection, new_folder, write
from recurra.layers import Recurrent
from recurra.training.progress import Reporter


def inspect_structure(
    cells: Sequence[str] = ("rnn", "gru", "lstm"),
    *,
    input_size: int = 5,
    hidden_size: int = 8,
    num_layers: int = 1,
    bidirectional: bool = False,
    steps: int = 35,
    batch: int = 20,
    seconds: float = 0.2,
    out: Path | None = None,
    reporter: Reporter | None = None,
) -> Inspection:
    """Count and measure cells of equal size, side by side.

    Args:
        cells: names of cells.
        input_size, hidden_size, num_layers, bidirectional: of the layers; the defaults are the
            weather example's, five readings a day and eight hidden units.
        steps, batch: of the batch that is timed.
        seconds: spent on each timing.
        out: folder; None makes a new one under `runs/`.
        reporter: shows the progress.

    Raises:
        ArgumentError: no cell, an unknown one, one named twice, or a size under 1.
    """
    reporter = reporter or Reporter()
    chosen = named_cells(cells)
    sizes = {"num_layers": num_layers, "bidirectional": bidirectional}
    found = [structure(cell, input_size, hidden_size, **sizes) for cell in chosen]  # type: ignore[arg-type]
    folder = new_folder(out, "structure")
    times, checks = {}, {}
    for cell in chosen:
        with reporter.stage(f"measuring {cell.name}"):
            layer = Recurrent(cell, input_size, hidden_size, **sizes)  # type: ignore[arg-type]
            times[cell.name] = measure_times(layer, steps=steps, batch=batch, seconds=seconds)
            checks[cell.name] = check_layout(cell, input_size, hidden_size)
    entries = {one.cell: _entry(one, times[one.cell], checks[one.cell]) for one in found}
    ratios = {f"{a.cell} / {b.cell}": str(a.ratio(b)) for a in found for b in found if a is not b}
    tables = [
        "<h2>Counts</h2>",
        table(COLUMNS, rows(entries)),
        "<h2>Exact ratios of weights</h2>",
        table(("", "weights"), list(ratios.items())),
        *_shape_tables(found, checks),
    ]
    return write(
        folder,
        {"cells": entries, "ratios": ratios},
        [weights_to_scale(found), costs(found, times)],
        title="Structure of recurrent cells",
        lead=_lead(found),
        tables=tables,
    )


def named_cells(cells: Sequence[str]) -> list[Any]:
    """The cells of these names.

    Raises:
        ArgumentError: none, an unknown one, or one named twice.
    """
    if not cells or len(set(cells)) < len(cells):
        raise ArgumentError(f"--cells {','.join(cells)}: name one cell or more, each once")
    return [find_cell(name) for name in cells]


COLUMNS = (
    "cell",
    "gates + values",
    "parameters",
    "mul-adds/step",
    "saved B/step",
    "by autograd",
    "µs/step",
    "ms forward",
    "ms training",
)


def rows(entries: dict[str, dict[str, Any]]) -> list[list[str]]:
    """The cells of a table, as text."""
    return [
        [
            name,
            f"{' '.join(e['gates']) or '–'} + {' '.join(e['candidates'])}",
            f"{e['parameters']:,}",
            f"{e['multiply_adds_per_step']:,}",
            "–" if e["saved_bytes_per_step"] is None else f"{e['saved_bytes_per_step']:,}",
            f"{e['autograd_bytes_per_step']:,}",
            "–" if e["step_us"] is None else f"{e['step_us']:.1f}",
            f"{e['forward_ms']:.3f}",
            f"{e['training_ms']:.3f}",
        ]
        for name, e in entries.items()
    ]


def _entry(one: Structure, times: Times, checks: Sequence[Check]) -> dict[str, Any]:
    kinds = {kind: [g.name for g in one.gates if g.kind == kind] for kind in ("gate", "candidate")}
    plain = asdict(one)
    del plain["gates"], plain["cell"]
    timing = {k: None if v != v else v for k, v in asdict(times).items() if k != "shape"}
    return {
        "gates": kinds["gate"],
        "candidates": kinds["candidate"],
        **plain,
        **timing,
        "timed_shape": {"time": times.shape[0], "batch": times.shape[1]},
        "checks": [{**asdict(check), "is_true": check.is_true} for check in checks],
    }


def _lead(found: Sequence[Structure]) -> str:
    first = found[0]
    text = (
        f"Input {first.input_size}, hidden {first.hidden_size}: one step reads {first.input_size} "
        f"numbers and keeps {first.hidden_size} for each state."
    )
    by_name = {one.cell: one for one in found}
    if {"gru", "lstm"} <= by_name.keys():
        ratio = by_name["gru"].ratio(by_name["lstm"])
        text += f" The GRU has exactly {ratio} of the LSTM's weights: 2 gates against 3."
    return text


def _shape_tables(found: Sequence[Structure], checks: dict[str, list[Check]]) -> list[str]:
    parts = ["<h2>Shapes</h2>"]
    for one in found:
        shapes = {**one.weights, **{f"{n} (last state, one row)": s for n, s in one.states.items()}}
        listed = [
            (name, " × ".join(map(str, shape)), f"{math.prod(shape):,}")
            for name, shape in {**shapes, "output (one step, one row)": one.output}.items()
        ]
        verified = [
            (c.statement, f"{c.error:.0e}", "true" if c.is_true else "FALSE")
            for c in checks[one.cell]
        ]
        parts += [
            f"<h3>{one.cell}</h3>",
            table((one.cell, "shape", "numbers"), listed),
            table(("verified on live tensors", "largest difference", ""), verified),
        ]
    return parts
