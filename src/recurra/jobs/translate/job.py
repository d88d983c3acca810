"""Translation as the command line knows it; see `recurra.jobs.job.Job`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recurra.data.parallel import ParallelSplits
from recurra.errors import ArgumentError
from recurra.insight.translation_report import verdict
from recurra.jobs.job import Answer, Comparison, Contest, Summary, Table
from recurra.jobs.translate.config import TranslatorConfig
from recurra.jobs.translate.translator import Translator
from recurra.tasks.translate.translation import Translation
from recurra.training.configuration import read_settings
from recurra.training.progress import Reporter

Config = TranslatorConfig
CELLS = ("rnn", "gru", "lstm")
READS_TABLES = False
LINE_BY_LINE = True  # `predict` answers each line of stdin as it comes
WRITES = ("text", "alignment", "jsonl")
METRICS = {"bleu": "BLEU", "chrf": "chrF", "exact_match": "exact match"}


def recipe(given: Mapping[str, Any]) -> str:
    """There is one."""
    return "dates"


def train(
    config: TranslatorConfig,
    folder: Path,
    reporter: Reporter,
    *,
    at_hand: ParallelSplits | None = None,
    keep: bool = True,
) -> Translator | None:
    """Train, measure and describe a translator in its folder; `at_hand` is text in memory."""
    from recurra.jobs.translate import training

    return training.train(config, folder, reporter, splits=at_hand, keep=keep)


def load(folder: Path) -> Translator:
    """The translator of a finished run."""
    return Translator.load(folder)


def summary(model: Translator) -> Summary:
    """The translator above the copied source, and a few translations of test."""
    metrics, folder = model.metrics, model.folder
    models = {metrics["description"]: metrics}
    greedy = {"test": metrics["greedy_test"], "parameters": metrics["parameters"], "seconds": 0.0}
    if model.config.decoding.beam_size > 1:
        models["the same, greedy"] = {**greedy, "tokens_per_s": 0.0}
    models |= {name.replace("_", " "): m for name, m in metrics["baselines"].items()}
    samples = [
        f"{one['source']} → {one['translation']}"
        + ("" if one["translation"] == one["reference"] else f"  (reference: {one['reference']})")
        for one in metrics["samples"]["some"]
    ]
    return Summary(
        table(models),
        verdict(metrics),
        (
            f"recurra predict {folder} --file LINES.txt",
            f"recurra predict {folder} --set beam_size=10 --set n_best=5 - < LINES.txt",
            f"recurra evaluate {folder} --data SOURCE --data TARGET",
            f"recurra score {folder} --file SOURCE_TAB_TRANSLATION.txt",
            "recurra compare translate",
        ),
        "It translates",
        samples,
    )


def predict(model: Translator, inputs: Sequence[str], options: Mapping[str, Any]) -> Answer:
    """The translation of each line, a line each; blank lines stay blank.

    Options: `set`, `KEY=VALUE` of how to search; `writes` "text" (default), "alignment" (the text,
    a tab, and source-target places as Pharaoh writes them, `0-0 1-2`) or "jsonl". With `n_best`
    above 1 each line of text becomes up to so many: `line ||| translation ||| score`, as Moses.

    Raises:
        ArgumentError: an option of another task, or a value that is none of these.
    """
    unknown = options.keys() - {"set", "writes"}
    if unknown:
        raise ArgumentError(f"--{sorted(unknown)[0]} is not for a translator")
    writes = options.get("writes", "text")
    if writes not in WRITES:
        raise ArgumentError(f"--writes {writes!r} is unknown; use {', '.join(WRITES)}")
    given = read_settings(TranslatorConfig, options.get("set", ()))
    foreign = [path for path in given if not path.startswith("decoding.")]
    if foreign:
        raise ArgumentError(
            f"--set {foreign[0].rpartition('.')[2]} is of training; predict takes how to search: "
            f"{', '.join(model.decoding().model_dump())}"
        )
    changes = {path.partition(".")[2]: value for path, value in given.items()}
    aligns = model.network.attention is not None
    if writes == "alignment" and not aligns:
        raise ArgumentError("--writes alignment: this model has no attention to align by")
    found = model.translate(inputs, with_attention=aligns, **changes)
    records = [_record(line, best, aligns=aligns) for line, best in zip(inputs, found, strict=True)]
    if writes == "jsonl":
        return Answer(records, [json.dumps(record, ensure_ascii=False) for record in records])
    if model.decoding(**changes).n_best > 1:
        lines = [
            f"{number} ||| {one.text} ||| {one.score:.4f}"
            for number, best in enumerate(found)
            for one in best
        ]
        return Answer(records, lines)
    texts = [best[0].text for best in found]
    if writes == "alignment":
        texts = [f"{text}\t{_pairs(best[0])}" for text, best in zip(texts, found, strict=True)]
    return Answer(records, texts)


def _record(line: str, best: Sequence[Translation], *, aligns: bool) -> dict[str, Any]:
    entries: list[dict[str, Any]] = []
    for one in best:
        entry: dict[str, Any] = {"translation": one.text, "score": round(one.score, 6)}
        entry["log_probability"] = round(one.log_probability, 6)
        if aligns and one.attention is not None:
            entry |= {"source_tokens": one.source_tokens, "tokens": one.tokens}
            entry["alignment"] = [list(pair) for pair in one.alignment()]
        entries.append(entry)
    record = {"input": line, **entries[0]}
    return record if len(entries) == 1 else {**record, "n_best": entries}


def _pairs(one: Translation) -> str:
    if one.attention is None:
        return ""
    return " ".join(f"{source}-{target}" for source, target in one.alignment())


def compare(
    config: TranslatorConfig, cells: Sequence[str], folder: Path, reporter: Reporter
) -> Comparison:
    """The plainest translator, then every extension and cell added to it, one at a time."""
    from recurra.jobs.translate.comparison import compare_translators

    figures = compare_translators(config, cells, folder, reporter)
    models = {entry["added"]: entry for entry in figures["models"].values()}
    return Comparison(folder, figures, table(models, "added"))


def contest(config: TranslatorConfig, reporter: Reporter) -> Contest:
    """Networks by exact translations, beside the copied source."""
    from recurra.jobs.translate.comparison import contest_of

    return contest_of(config, reporter)


def table(models: Mapping[str, Mapping[str, Any]], first: str = "model") -> Table:
    """Models side by side; what was not trained has neither speed nor time."""
    rows = [
        (
            name,
            f"{figures['parameters']:,}",
            f"{figures['test']['bleu']:.2f}",
            f"{figures['test']['chrf']:.2f}",
            f"{100 * figures['test']['exact_match']:.2f} %",
            f"{figures['tokens_per_s']:,.0f}" if figures["seconds"] else "",
            f"{figures['seconds']:.1f} s" if figures["seconds"] else "",
        )
        for name, figures in models.items()
    ]
    return Table((first, "parameters", *METRICS.values(), "tokens/s", "time"), rows)
