"""`recurra inspect gates`: what gates, memory and units of a run do, step by step."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recurra.data.tokenizer import END
from recurra.errors import ArgumentError, DataError
from recurra.insight.canvas import Picture
from recurra.insight.gate_figures import MOST_STEPS, following_units, heat_maps, time_scales
from recurra.insight.gates import Finding, GateRecord, find_units, record_gates
from recurra.insight.report import table
from recurra.insight.translation_figures import LOOKED, attention_map
from recurra.jobs.inspection.folder import Inspection, new_folder, write
from recurra.jobs.inspection.subjects import Passage, Subject, input_of, open_subject
from recurra.jobs.translate.training import attention_of
from recurra.jobs.translate.translator import Translator
from recurra.training.progress import Reporter

SURE = 0.3  # |r| on the held-out half from which a unit is shown
FEWEST_STEPS = 100
MAPS = 3  # sentences whose attention is drawn


def inspect_gates(
    run: Path,
    text: Sequence[str] = (),
    *,
    data: Sequence[str] | None = None,
    layer: int | None = None,
    is_reverse: bool = False,
    tokens: int = 4_000,
    out: Path | None = None,
    reporter: Reporter | None = None,
) -> Inspection:
    """Draw the gates of a run on a text, and find units that follow properties of what they read.

    Args:
        run: the folder of a finished run with a recurrent network, of any task.
        text: lines to draw, up to 60 steps of them; none takes the first of the other sequences.
        data: files to find units and time scales on; None takes the run's test part.
        layer: which recurrent layer, from 1; None takes the last.
        is_reverse: the direction that reads from the end.
        tokens: most steps of those sequences.
        out: folder; None makes a new one under `runs/`.
        reporter: shows the progress.

    Raises:
        RunFolderError, ArgumentError: no finished run of a recurrent network, or no such layer or
            direction.
        DataError: empty or unreadable data, or fewer than 100 steps to find units on.
    """
    reporter = reporter or Reporter()
    subject = open_subject(run)
    count = subject.num_layers
    chosen = count if layer is None else layer
    if not 1 <= chosen <= count:
        raise ArgumentError(f"--layer {chosen}: the model has layers 1 to {count}")
    place = chosen - 1, is_reverse
    sequences = subject.sequences(data)
    given = subject.parse(text) if text else sequences
    if text and not any(len(sequence) for sequence in given):
        raise DataError("the text has nothing but line ends; pass some words")
    passages = subject.passages(sequences, tokens)
    steps = sum(len(passage.labels) for passage in passages)
    if steps < FEWEST_STEPS:
        raise DataError(
            f"{steps} tokens are too few to find units by; expected {FEWEST_STEPS} or more: pass "
            "more with --data, or more --tokens"
        )
    folder = new_folder(out, "gates")
    with reporter.stage(f"reading {steps:,} steps, one by one"):
        studied = joined([_read(subject, passage, *place) for passage in passages])
        drawn = joined([_read(subject, p, *place) for p in subject.passages(given, MOST_STEPS)])
    maps = _attention(subject.model, list(given[:MAPS])) if text else []
    return _write(folder, subject, studied, drawn, chosen, is_reverse, maps)


class Reading(NamedTuple):
    """What happened in a layer while it read, sequence after sequence.

    Attributes:
        record: (steps, 1, units) each.
        labels: of the steps.
        properties: of the steps, by name.
    """

    record: GateRecord
    labels: list[str]
    properties: dict[str, Tensor]


def _read(subject: Subject, passage: Passage, number: int, is_reverse: bool) -> Reading:
    module, index, x = input_of(subject, passage.x, number)
    record = record_gates(module, x, index=index, is_reverse=is_reverse)
    return Reading(record, passage.labels, passage.properties)


def joined(readings: Sequence[Reading]) -> Reading:
    """Several one after the other."""
    records = [reading.record for reading in readings]

    def together(part: str) -> dict[str, Tensor]:
        return {
            name: torch.cat([getattr(record, part)[name] for record in records])
            for name in getattr(records[0], part)
        }

    return Reading(
        GateRecord(*map(together, ("gates", "states", "updates", "kept"))),
        [label for reading in readings for label in reading.labels],
        {
            name: torch.cat([reading.properties[name] for reading in readings])
            for name in readings[0].properties
        },
    )


def _attention(model: Any, lines: Sequence[str]) -> list[Picture]:
    """Where a translator looked, line by line; nothing of other models."""
    if not isinstance(model, Translator) or model.network.attention is None:
        return []
    found = model.translate(lines, with_attention=True, beam_size=1)
    maps = [attention_of(best[0]) for best in found if best]
    return [Picture(f"attention-{k}", attention_map(one), LOOKED) for k, one in enumerate(maps, 1)]


COLUMNS = ("property", "state", "unit", "r, first half", "r, held out")


def rows(findings: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The cells of a table, as text."""
    return [
        [
            f["property"],
            f["state"],
            str(f["unit"]),
            f"{f['chosen_r']:+.2f}",
            f"{f['held_out_r']:+.2f}",
        ]
        for f in findings
    ]


def _write(
    folder: Path,
    subject: Subject,
    studied: Reading,
    drawn: Reading,
    layer: int,
    is_reverse: bool,
    maps: list[Picture],
) -> Inspection:
    record, labels, properties = studied
    states = {state: values[:, 0] for state, values in record.states.items()}
    findings = find_units(states, properties)
    scales = record.time_scales()
    order = scales[record.memory].argsort()
    pictures = [*maps, heat_maps(drawn.record, drawn.labels, order)]
    if any(float(values.max()) > 0 for values in scales.values()):
        pictures.append(time_scales(scales))
    sure = [f for f in findings if _is_sure(f)]
    if sure:
        pictures.append(following_units(sure, states, properties, labels))
    listed = [asdict(finding) for finding in findings]
    figures = {
        "run": str(subject.model.folder),
        "layer": layer,
        "is_reverse": is_reverse,
        "tokens": len(labels),
        "mean_gates": {gate: float(v.mean()) for gate, v in record.gates.items()},
        "mean_kept": {state: float(v.mean()) for state, v in record.kept.items()},
        "time_scales": {
            state: [None if math.isinf(v) else v for v in values.tolist()]
            for state, values in scales.items()
        },
        "units": listed,
    }
    note = (
        '<p class="note">A property is listed with the unit that followed it best on the first '
        f"half of {len(labels):,} steps; the second half, which chose nothing, says whether it "
        f"holds. Drawn are those with |r| of {SURE} or more there, of one sign in both halves.</p>"
    )
    return write(
        folder,
        figures,
        pictures,
        title=f"Gates of {subject.name}",
        lead=_lead(record, scales, len(sure), len(properties), layer, is_reverse),
        tables=[
            "<h2>Units and properties</h2>",
            table(COLUMNS, rows(listed)),
            note,
            *_shaded(sure[:3], states, labels),
        ],
    )


def _is_sure(finding: Finding) -> bool:
    is_of_one_sign = finding.chosen_r * finding.held_out_r > 0
    return is_of_one_sign and abs(finding.held_out_r) >= SURE


def _lead(
    record: GateRecord,
    scales: dict[str, Tensor],
    sure: int,
    properties: int,
    layer: int,
    is_reverse: bool,
) -> str:
    memory = record.memory
    median = float(scales[memory].median())
    keeps = (
        f"state {memory} keeps {float(record.kept[memory].mean()):.0%} of its value a step on "
        f"average, a median time scale of {median:.1f} steps"
        if median > 0
        else "no state is kept from step to step but through the weights"
    )
    where = f"Layer {layer}{', from the end' if is_reverse else ''}"
    return f"{where}: {keeps}. {sure} of {properties} properties have a unit that follows."


def _shaded(
    findings: Sequence[Finding],
    states: dict[str, Tensor],
    labels: Sequence[str],
) -> list[str]:
    """The start of the held-out half, shaded by a unit's value (after Karpathy et al. 2015)."""
    if not findings:
        return []
    parts = ["<h2>Read along</h2>", "<p>The darker a token, the higher the unit's value.</p>"]
    start = len(labels) // 2
    is_char = all(len(label) == 1 or label == END for label in labels)
    for finding in findings:
        values = states[finding.state][:, finding.unit]
        low, high = float(values.min()), float(values.max())
        spans = []
        for label, value in list(zip(labels, values.tolist(), strict=True))[start : start + 300]:
            if label == END:
                spans.append("<br>")
                continue
            share = (value - low) / max(high - low, 1e-9)
            shade, ink = round(255 - 200 * share), "#fff" if share > 0.6 else "#000"
            style = f"background:rgb({shade},{shade},{shade});color:{ink}"
            spans.append(f'<span style="{style}">{escape(label)}</span>' + ("" if is_char else " "))
        head = f"{finding.property}: unit {finding.unit} of {finding.state}"
        parts += [f"<h3>{escape(head)}</h3>", f"<p>{''.join(spans)}</p>"]
    return parts
