"""Tagging as the command line knows it; see `recurra.jobs.job.Job`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recurra.data.tagged_text import TaggedSplits
from recurra.errors import ArgumentError
from recurra.insight.tagging_report import verdict
from recurra.jobs.job import Answer, Comparison, Contest, Summary, Table
from recurra.jobs.tag.config import TaggerConfig
from recurra.jobs.tag.tagger import Tagger, read_inputs
from recurra.tasks.tag.prediction import TaggedSentence
from recurra.training.progress import Reporter

Config = TaggerConfig
CELLS = ("rnn", "gru", "lstm")
READS_TABLES = False
LINE_BY_LINE = False
WRITES = ("table", "conll", "jsonl")


def recipe(given: Mapping[str, Any]) -> str:
    """There is one."""
    return "recurrent"


def train(
    config: TaggerConfig,
    folder: Path,
    reporter: Reporter,
    *,
    at_hand: TaggedSplits | None = None,
    keep: bool = True,
) -> Tagger | None:
    """Train, measure and describe a tagger in its folder; `at_hand` is text in memory."""
    from recurra.jobs.tag import training

    return training.train(config, folder, reporter, splits=at_hand, keep=keep)


def load(folder: Path) -> Tagger:
    """The tagger of a finished run."""
    return Tagger.load(folder)


def summary(model: Tagger) -> Summary:
    """The tagger above its baseline, and a few sentences that it tagged."""
    metrics, folder = model.metrics, model.folder
    models = {metrics["description"]: metrics}
    models |= {name.replace("_", " "): m for name, m in metrics["baselines"].items()}
    return Summary(
        table(models),
        verdict(metrics),
        (
            f'recurra predict {folder} "A sentence to tag."',
            f"recurra predict {folder} --file LINES.txt --writes jsonl",
            f"recurra evaluate {folder} --data OTHER.conllu",
            "recurra compare tag",
        ),
        "It tags",
        metrics["samples"],
    )


def predict(model: Tagger, inputs: Sequence[str], options: Mapping[str, Any]) -> Answer:
    """The tag of each word with its probability.

    Options: `reads` "raw" (default), "tokens" or "conll"; `writes` "table" (default), "conll" (word
    and tag between tabs) or "jsonl" (one object a sentence).

    Raises:
        ArgumentError: an option of another task, or a value that is none of these.
    """
    unknown = options.keys() - {"reads", "writes"}
    if unknown:
        raise ArgumentError(f"--{sorted(unknown)[0]} is not for a tagger")
    writes = options.get("writes", "table")
    if writes not in WRITES:
        raise ArgumentError(f"--writes {writes!r} is unknown; use {', '.join(WRITES)}")
    answers = model.predict(read_inputs(inputs, options.get("reads", "raw")))
    records = [_record(answer) for answer in answers]
    if writes == "jsonl":
        return Answer(records, [json.dumps(record, ensure_ascii=False) for record in records])
    if writes == "conll":
        return Answer(records, [line for answer in answers for line in _conll(answer)])
    return Answer(records, tables=[_table(answer) for answer in answers])


def _record(answer: TaggedSentence) -> dict[str, Any]:
    confidence = [round(p, 4) for p in answer.confidence]
    return {"words": answer.words, "tags": answer.tags, "confidence": confidence}


def _conll(answer: TaggedSentence) -> list[str]:
    pairs = zip(answer.words, answer.tags, strict=True)
    return [*(f"{word}\t{tag}" for word, tag in pairs), ""]


def _table(answer: TaggedSentence) -> Table:
    rows = [
        (word, tag, f"{p:.3f}")
        for word, tag, p in zip(answer.words, answer.tags, answer.confidence, strict=True)
    ]
    return Table(("word", "tag", "probability"), rows)


def compare(
    config: TaggerConfig, cells: Sequence[str], folder: Path, reporter: Reporter
) -> Comparison:
    """A tagger of each cell, in one direction and in both, and the most frequent tag."""
    from recurra.jobs.tag.comparison import compare_taggers

    figures = compare_taggers(config, cells, folder, reporter)
    metric = figures["metric"]
    models = {entry["description"]: entry for entry in figures["models"].values()}
    best_first = sorted(models, key=lambda name: -models[name]["test"][metric])
    return Comparison(folder, figures, table({name: models[name] for name in best_first}))


def contest(config: TaggerConfig, reporter: Reporter) -> Contest:
    """Networks by their tags, beside each word's most frequent one."""
    from recurra.jobs.tag.comparison import contest_of

    return contest_of(config, reporter)


def table(models: Mapping[str, Mapping[str, Any]]) -> Table:
    """Models side by side."""
    has_spans = any("f1" in figures["test"] for figures in models.values())
    shown = ("precision", "recall", "f1") if has_spans else ()
    metrics = (*shown, "accuracy", "unknown_accuracy")
    rows = [
        (
            name,
            f"{figures['parameters']:,}",
            *(f"{100 * figures['test'][metric]:.2f}" for metric in metrics),
            f"{figures['tokens_per_s']:,.0f}",
            f"{figures['seconds']:.1f} s",
        )
        for name, figures in models.items()
    ]
    names = [f"{metric.replace('_', ' ')} %" for metric in metrics]
    return Table(("model", "parameters", *names, "tokens/s", "time"), rows)
