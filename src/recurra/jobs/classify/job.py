"""Classification as the command line knows it; see `recurra.jobs.job.Job`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recurra.data.examples import ExampleSplits
from recurra.errors import ArgumentError, DataError
from recurra.insight.classifier_report import model_name, models_of, verdict
from recurra.jobs.classify.classifier import Classifier, Prediction
from recurra.jobs.classify.config import ClassifierConfig
from recurra.jobs.job import Answer, Comparison, Contest, Summary, Table
from recurra.training.progress import Reporter

Config = ClassifierConfig
CELLS = ("rnn", "gru", "lstm")
READS_TABLES = False
LINE_BY_LINE = False
SHOWN = 3


def recipe(given: Mapping[str, Any]) -> str:
    """There is one."""
    return "recurrent"


def train(
    config: ClassifierConfig,
    folder: Path,
    reporter: Reporter,
    *,
    at_hand: ExampleSplits | None = None,
    keep: bool = True,
) -> Classifier | None:
    """Train, measure and describe a classifier; `at_hand` is examples in memory."""
    from recurra.jobs.classify import training

    return training.train(config, folder, reporter, splits=at_hand, keep=keep)


def load(folder: Path) -> Classifier:
    """The classifier of a finished run."""
    return Classifier.load(folder)


def summary(model: Classifier) -> Summary:
    """The model above its baselines, and a few answers on test."""
    metrics, folder = model.metrics, model.folder
    samples = [
        f"{'✓' if s['answer'] == s['truth'] else '✗'} {s['text']} → {s['answer']} "
        f"({s['probability']:.0%})"
        + ("" if s["answer"] == s["truth"] else f", in truth {s['truth']}")
        for s in metrics.get("samples", [])
    ]
    text = "INPUTS.txt" if model.tokenizer is not None else "SERIES.txt"
    return Summary(
        table(models_of(metrics)),
        verdict(metrics),
        (
            f"recurra predict {folder} --file {text}",
            f"recurra predict {folder} --file {text} --encode --json",
            f"recurra evaluate {folder} --data OTHER",
            "recurra compare classify",
        ),
        "Of test, it says",
        samples,
    )


def predict(model: Classifier, inputs: Sequence[str], options: Mapping[str, Any]) -> Answer:
    """The class of each line with its probability; with `encode` its vector instead.

    A line of a model of series is written as in a `.ts` file: channels separated by colons, values
    by commas; a label after the last colon is not read.

    Raises:
        ArgumentError: an option of another task.
        DataError: a line that is no series.
    """
    unknown = options.keys() - {"encode"}
    if unknown:
        raise ArgumentError(f"--{sorted(unknown)[0]} is not for a classifier")
    given = inputs
    items: Sequence[Any] = inputs
    if model.tokenizer is None:
        numbered = [(k, s) for k, s in enumerate(inputs, 1) if s.strip() and s[0] not in "#@"]
        given = [line for _, line in numbered]
        items = [_series(line, k, len(model.channels)) for k, line in numbered]
    if options.get("encode"):
        vectors = model.encode(items).tolist()
        records = [{"input": i, "vector": v} for i, v in zip(given, vectors, strict=True)]
        return Answer(records, text=[" ".join(f"{x:.6g}" for x in v) for v in vectors])
    answers = model.predict(items)
    records = [
        {
            "input": line,
            "label": answer.label,
            "probability": answer.probability,
            "probabilities": answer.probabilities,
        }
        for line, answer in zip(given, answers, strict=True)
    ]
    rows = [
        _row(line, answer, model.network.multi_label)
        for line, answer in zip(given, answers, strict=True)
    ]
    return Answer(records, tables=[Table(("input", "label", "probability", "next"), rows)])


def _row(line: str, answer: Prediction, is_multi_label: bool) -> tuple[str, ...]:
    others = [
        f"{name} {p:.2f}"
        for name, p in list(answer.probabilities.items())[:SHOWN]
        if name != answer.label
    ]
    shown = line if len(line) <= 60 else line[:59] + "…"
    label = answer.label or "(none)" if is_multi_label else answer.label
    return shown, label, f"{answer.probability:.4f}", ", ".join(others[: SHOWN - 1])


def _series(line: str, number: int, channels: int) -> np.ndarray:
    parts = line.split(":")
    if len(parts) == channels + 1:
        parts = parts[:-1]
    rows = [part.split(",") if part.strip() else [] for part in parts]
    if len(parts) != channels or len({len(row) for row in rows}) != 1:
        raise DataError(
            f"line {number}: expected {channels} channels of equal length, separated by colons, "
            f"got {len(parts)} of {sorted({len(row) for row in rows})} values"
        )
    try:
        values = np.array([[float(value) for value in row] for row in rows], np.float32)
    except ValueError as error:
        raise DataError(f"line {number}: {error}; expected numbers and commas") from error
    if not np.isfinite(values).all():
        raise DataError(f"line {number}: a value is NaN or infinite; fill or take it out first")
    return np.ascontiguousarray(values.T)


def compare(
    config: ClassifierConfig, cells: Sequence[str], folder: Path, reporter: Reporter
) -> Comparison:
    """Each cell in one and in two directions, and the baselines, on the same examples."""
    from recurra.jobs.classify.comparison import compare_classifiers

    figures = compare_classifiers(config, cells, folder, reporter)
    models = {
        entry.get("description", model_name(key)): entry for key, entry in figures["models"].items()
    }
    best_first = sorted(models, key=lambda name: -models[name]["test"]["accuracy"])
    return Comparison(folder, figures, table({name: models[name] for name in best_first}))


def contest(config: ClassifierConfig, reporter: Reporter) -> Contest:
    """Networks by accuracy, beside the bag of n-grams."""
    from recurra.jobs.classify.comparison import contest_of

    return contest_of(config, reporter)


def table(models: Mapping[str, Mapping[str, Any]]) -> Table:
    """Models side by side."""
    columns = ("model", "parameters", "test accuracy", "macro F1", "log loss", "time")
    rows = [
        (
            name,
            f"{figures['parameters']:,}",
            f"{100 * figures['test']['accuracy']:.2f} %",
            f"{figures['test']['macro_f1']:.4f}",
            f"{figures['test']['log_loss']:.4f}",
            f"{figures['seconds']:.1f} s",
        )
        for name, figures in models.items()
    ]
    return Table(columns, rows)
