"""`recurra inspect gates`: what gates, memory and units of a run do, token by token."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recurra.data.tokenizer import END, Tokenizer
from recurra.errors import ArgumentError, DataError
from recurra.insight.gate_figures import following_units, heat_maps, time_scales
from recurra.insight.gates import (
    Finding,
    GateRecord,
    find_units,
    record_gates,
    text_properties,
)
from recurra.insight.report import table
from recurra.jobs.inspection.folder import Inspection, new_folder, write
from recurra.jobs.inspection.language_models import load_recurrent
from recurra.jobs.lm.corpus import read_files
from recurra.jobs.lm.language_model import LanguageModel
from recurra.models.language_model import RecurrentLanguageModel
from recurra.training.progress import Reporter

SURE = 0.3  # |r| on the held-out half from which a unit is shown
FEWEST_TOKENS = 100


def inspect_gates(
    run: Path,
    text: Sequence[str] = (),
    *,
    data: Sequence[str] | None = None,
    layer: int | None = None,
    tokens: int = 4_000,
    out: Path | None = None,
    reporter: Reporter | None = None,
) -> Inspection:
    """Draw the gates of a run's language model on a text, and find units that follow properties.

    Args:
        run: the folder of a finished run of a recurrent language model.
        text: lines to draw, up to 60 tokens of them; none takes the first lines of the other text.
        data: files to find units and time scales on; None takes the run's test text.
        layer: which recurrent layer, from 1; None takes the last.
        tokens: most tokens of that text.
        out: folder; None makes a new one under `runs/`.
        reporter: shows the progress.

    Raises:
        RunFolderError, ArgumentError: no finished run of a recurrent model, or no such layer.
        DataError: an empty or unreadable text, or one of fewer than 100 tokens to find units on.
    """
    reporter = reporter or Reporter()
    trained, network = load_recurrent(run)
    count = len(network.layers)
    chosen = count if layer is None else layer
    if not 1 <= chosen <= count:
        raise ArgumentError(f"--layer {chosen}: the model has layers 1 to {count}")
    lines = read_files(list(data)) if data else trained._splits().test
    tokenizer = trained.predictor.tokenizer
    studied = torch.from_numpy(tokenizer.encode_lines(lines)).long()[:tokens]
    if len(studied) < FEWEST_TOKENS:
        raise DataError(
            f"{len(studied)} tokens are too few to find units by; expected {FEWEST_TOKENS} or "
            "more: pass a longer text with --data, or more --tokens"
        )
    drawn = torch.from_numpy(tokenizer.encode_lines(text)).long() if text else studied
    if text and len(drawn) == len(text):
        raise DataError("the text has nothing but line ends; pass some words")
    folder = new_folder(out, "gates")
    with reporter.stage(f"reading {len(studied):,} tokens of the text, step by step"):
        long = _record(network, studied, tokenizer.eos_id, chosen)
        short = _record(network, drawn, tokenizer.eos_id, chosen)
    return _write(folder, trained, long, short, studied, drawn, chosen)


def _record(network: RecurrentLanguageModel, tokens: Tensor, eos_id: int, layer: int) -> GateRecord:
    """What happens in a layer while it reads tokens; an end of line stands before the first.

    That first step is left out of the record, so that step t is the one that reads token t.
    """
    inputs = torch.cat((tokens.new_tensor([eos_id]), tokens)).unsqueeze(1)
    with torch.no_grad():
        x = network.embedding(inputs)
        for below in list(network.layers)[: layer - 1]:
            x = below(x)[0]
    record = record_gates(network.layers[layer - 1], x)  # type: ignore[arg-type]
    parts = (record.gates, record.states, record.updates, record.kept)
    return GateRecord(*({name: values[1:] for name, values in part.items()} for part in parts))


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
    trained: LanguageModel,
    long: GateRecord,
    short: GateRecord,
    studied: Tensor,
    drawn: Tensor,
    layer: int,
) -> Inspection:
    tokenizer, name = trained.predictor.tokenizer, trained.metrics["description"]
    labels = _labels(tokenizer, studied)
    properties = text_properties(labels, END)
    states = {state: values[:, 0] for state, values in long.states.items()}
    findings = find_units(states, properties)
    scales = long.time_scales()
    order = scales[long.memory].argsort()
    pictures = [heat_maps(short, _labels(tokenizer, drawn), order)]
    if any(float(values.max()) > 0 for values in scales.values()):
        pictures.append(time_scales(scales))
    sure = [f for f in findings if _is_sure(f)]
    if sure:
        pictures.append(following_units(sure, states, properties, labels))
    listed = [asdict(finding) for finding in findings]
    figures = {
        "run": str(trained.folder),
        "layer": layer,
        "tokens": len(studied),
        "mean_gates": {gate: float(v.mean()) for gate, v in long.gates.items()},
        "mean_kept": {state: float(v.mean()) for state, v in long.kept.items()},
        "time_scales": {
            state: [None if math.isinf(v) else v for v in values.tolist()]
            for state, values in scales.items()
        },
        "units": listed,
    }
    note = (
        '<p class="note">A property is listed with the unit that followed it best on the first '
        f"half of {len(studied):,} tokens; the second half, which chose nothing, says whether it "
        f"holds. Drawn are those with |r| of {SURE} or more there, of one sign in both halves.</p>"
    )
    return write(
        folder,
        figures,
        pictures,
        title=f"Gates of {name}",
        lead=_lead(long, scales, len(sure), layer),
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


def _lead(record: GateRecord, scales: dict[str, Tensor], sure: int, layer: int) -> str:
    memory = record.memory
    median = float(scales[memory].median())
    keeps = (
        f"state {memory} keeps {float(record.kept[memory].mean()):.0%} of its value a step on "
        f"average, a median time scale of {median:.1f} tokens"
        if median > 0
        else "no state is kept from step to step but through the weights"
    )
    return f"Layer {layer}: {keeps}. {sure} of 7 properties of the text have a unit that follows."


def _labels(tokenizer: Tokenizer, tokens: Tensor) -> list[str]:
    return [
        END if int(token) == tokenizer.eos_id else tokenizer.decode([int(token)])
        for token in tokens
    ]


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
