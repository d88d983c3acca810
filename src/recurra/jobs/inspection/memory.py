"""`recurra inspect memory`: how far back each cell remembers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import torch

from recurra.cells import Cell
from recurra.errors import ArgumentError
from recurra.insight.memory_figures import recall_curves
from recurra.insight.memory_probe import RecallCurve, measure_recall
from recurra.insight.probe_training import Schedule
from recurra.insight.probes import Adding, Copying, Probe, Sentence
from recurra.insight.report import table
from recurra.jobs.inspection.folder import Inspection, new_folder, write
from recurra.jobs.inspection.structure import named_cells
from recurra.training.progress import Reporter

CELLS = ("rnn", "irnn", "gru", "lstm")
WEIGHTS = 4 * 32 * (16 + 32)  # of an LSTM with 32 units and 16 inputs
FORGET_BIAS = 1.0


class Plan(NamedTuple):
    """A probe, the distances of its training, and those at which it is asked."""

    probe: Probe
    trained: tuple[int, int]
    asked: tuple[int, ...]


QUICK = {
    "sentence": Plan(Sentence(), (0, 40), (0, 5, 10, 20, 40, 60, 80)),
    "copying": Plan(Copying(), (0, 30), (0, 5, 10, 20, 30, 45, 60)),
    "adding": Plan(Adding(), (10, 50), (10, 20, 35, 50, 75, 100)),
}
FULL = {
    "sentence": Plan(Sentence(), (0, 80), (0, 5, 10, 20, 40, 60, 80, 120, 160)),
    "copying": Plan(Copying(), (0, 60), (0, 5, 10, 20, 30, 45, 60, 90, 120)),
    "adding": Plan(Adding(), (10, 100), (10, 20, 35, 50, 75, 100, 150, 200)),
}


def inspect_memory(
    cells: Sequence[str] = CELLS,
    *,
    probes: Sequence[str] = tuple(QUICK),
    full: bool = False,
    steps: int | None = None,
    seeds: int | None = None,
    out: Path | None = None,
    reporter: Reporter | None = None,
) -> Inspection:
    """Train every cell on every probe, and ask it at many distances.

    Args:
        cells: names of cells.
        probes: of "sentence", "copying", "adding".
        full: twice the distances, 5 seeds, 6,000 steps; else 3 seeds and 1,500 steps.
        steps: of each training, if not these.
        seeds: networks for each cell and probe, if not these.
        out: folder; None makes a new one under `runs/`.
        reporter: shows the progress.

    Raises:
        ArgumentError: an unknown cell or probe, one named twice, no steps or seeds.
    """
    reporter = reporter or Reporter()
    chosen, plans = named_cells(cells), FULL if full else QUICK
    unknown = [name for name in probes if name not in plans]
    if unknown or not probes or len(set(probes)) < len(probes):
        raise ArgumentError(f"--probes {','.join(probes)}: name some of {', '.join(plans)}, once")
    plans = {name: plans[name] for name in probes}
    steps = steps if steps is not None else (6_000 if full else 1_500)
    seeds = seeds if seeds is not None else (5 if full else 3)
    if steps < 1 or seeds < 1:
        raise ArgumentError(f"--steps {steps} --seeds {seeds}: must be 1 or more")
    folder = new_folder(out, "memory")
    found: dict[str, list[RecallCurve]] = {}
    for name, plan in plans.items():
        found[name] = []
        for cell in chosen:
            with reporter.stage(f"{name}: {cell.name}, {seeds} seed(s)"):
                found[name].append(_recall(cell, plan, steps, seeds))
    schedule = {"steps": steps, "seeds": seeds, "weights": WEIGHTS, "forget_bias": FORGET_BIAS}
    entries = {n: _entry(plans[n], recalls) for n, recalls in found.items()}
    drawn = recall_curves(
        found, {n: p.probe for n, p in plans.items()}, {n: p.trained[1] for n, p in plans.items()}
    )
    return write(
        folder,
        {"probes": entries, **schedule},
        [drawn],
        title="How far back do they remember?",
        lead=(
            f"Every cell with about {WEIGHTS:,} weights in its layer, {steps:,} steps of 32 "
            f"sequences, {seeds} seed(s); LSTMs start with a forget bias of {FORGET_BIAS:g}."
        ),
        tables=_tables(entries, plans),
        seed=0,
    )


def _recall(cell: Cell, plan: Plan, steps: int, seeds: int) -> RecallCurve:
    schedule = Schedule(steps=steps, distances=plan.trained)
    return measure_recall(
        cell,
        plan.probe,
        plan.asked,
        schedule,
        weights=WEIGHTS,
        seeds=seeds,
        forget_bias=FORGET_BIAS,
    )


COLUMNS = ("probe", "cell", "hidden", "near", "longest trained", "farthest")


def rows(probes: Mapping[str, Any]) -> list[list[str]]:
    """The cells of a table: right answers near, at the longest trained distance, and farthest."""
    lines = []
    for name, entry in probes.items():
        for cell, e in entry["cells"].items():
            places = (0, e["distances"].index(entry["trained_distances"][1]), -1)
            shown = [f"{e['means'][k]:.0%} ± {e['deviations'][k]:.0%}" for k in places]
            lines.append([name, cell, str(e["hidden_size"]), *shown])
    return lines


def _entry(plan: Plan, recalls: Sequence[RecallCurve]) -> dict[str, Any]:
    return {
        "trained_distances": list(plan.trained),
        "unit": plan.probe.unit,
        "chance": [plan.probe.chance(d) for d in plan.asked],
        "cells": {
            one.cell: {
                **{key: value for key, value in asdict(one).items() if key != "cell"},
                "means": list(one.means),
                "deviations": list(one.deviations),
            }
            for one in recalls
        },
    }


def _tables(probes: Mapping[str, Any], plans: Mapping[str, Plan]) -> list[str]:
    parts = [
        "<h2>Right answers, mean ± standard deviation over seeds</h2>",
        table(COLUMNS, rows(probes)),
    ]
    if "sentence" in plans:
        probe = Sentence()
        inputs, target = probe.draw(2, 12, torch.Generator().manual_seed(0))
        parts.append("<h2>What the sentences are like</h2>")
        for row in range(2):
            text = probe.text(inputs[:, row])
            answer = probe.words()[int(target[0, row])]
            parts.append(f"<blockquote>{escape(text)} → <b>{answer}</b></blockquote>")
    return parts
