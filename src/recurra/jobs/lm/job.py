"""Language modelling as the command line knows it; see `recurra.jobs.job.Job`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recurra.data.splits import TextSplits
from recurra.errors import ArgumentError
from recurra.insight.language_model_report import model_name, verdict
from recurra.jobs.job import Answer, Comparison, Contest, Summary, Table
from recurra.jobs.lm.config import LanguageModelConfig
from recurra.jobs.lm.language_model import LanguageModel
from recurra.training.progress import Reporter

Config = LanguageModelConfig
CELLS = ("rnn", "irnn", "gru", "lstm")
READS_TABLES = False
LINE_BY_LINE = False


def recipe(given: Mapping[str, Any]) -> str:
    """One for each kind of model."""
    named = given.get("model")
    return named if named in ("ngram", "nnlm") else "recurrent"


def train(
    config: LanguageModelConfig,
    folder: Path,
    reporter: Reporter,
    *,
    at_hand: TextSplits | None = None,
    keep: bool = True,
) -> LanguageModel | None:
    """Train, measure and describe a language model in its folder; `at_hand` is text in memory."""
    from recurra.jobs.lm import training

    return training.train(config, folder, reporter, splits=at_hand, keep=keep)


def load(folder: Path) -> LanguageModel:
    """The language model of a finished run."""
    return LanguageModel.load(folder)


def summary(model: LanguageModel) -> Summary:
    """The model above its baselines, and a few lines that it writes."""
    metrics, folder = model.metrics, model.folder
    models = {metrics["description"]: metrics}
    models |= {model_name(key): value for key, value in metrics["baselines"].items()}
    return Summary(
        table(models),
        verdict(metrics),
        (
            f"recurra generate {folder} --tokens 40",
            f"recurra score {folder} --file LINES.txt",
            f"recurra evaluate {folder} --data OTHER.txt",
            "recurra compare lm",
        ),
        "It writes",
        metrics["samples"],
    )


def predict(model: LanguageModel, inputs: Sequence[str], options: Mapping[str, Any]) -> Answer:
    """The likeliest next tokens after each beginning of a line; `count` of them.

    Raises:
        ArgumentError: an option of another task.
    """
    unknown = options.keys() - {"count"}
    if unknown:
        raise ArgumentError(f"--{sorted(unknown)[0]} is not for a language model")
    answers = model.predict(inputs, **options)
    records = [
        {"input": prompt, "next": [{"token": t, "probability": p} for t, p in answer]}
        for prompt, answer in zip(inputs, answers, strict=True)
    ]
    tables = [
        Table((prompt, "probability"), [(token, f"{p:.4f}") for token, p in answer])
        for prompt, answer in zip(inputs, answers, strict=True)
    ]
    return Answer(records, tables=tables)


def compare(
    config: LanguageModelConfig, cells: Sequence[str], folder: Path, reporter: Reporter
) -> Comparison:
    """N-gram models, the NNLM and a recurrent model of each cell on the same tokens."""
    from recurra.jobs.lm.comparison import compare_language_models

    figures = compare_language_models(config, cells, folder, reporter)
    models = {
        entry.get("description", model_name(key)): entry for key, entry in figures["models"].items()
    }
    best_first = sorted(models, key=lambda name: models[name]["test"]["perplexity"])
    return Comparison(folder, figures, table({name: models[name] for name in best_first}))


def contest(config: LanguageModelConfig, reporter: Reporter) -> Contest:
    """Networks by perplexity, beside the longest n-gram model."""
    from recurra.jobs.lm.comparison import contest_of

    return contest_of(config, reporter)


def table(models: Mapping[str, Mapping[str, Any]]) -> Table:
    """Models side by side."""
    columns = ("model", "parameters", "test perplexity", "bits per byte", "tokens/s", "time")
    rows = [
        (
            name,
            f"{figures['parameters']:,}",
            f"{figures['test']['perplexity']:.2f}",
            f"{figures['test']['bits_per_byte']:.4f}",
            f"{figures['tokens_per_s']:,.0f}",
            f"{figures['seconds']:.1f} s",
        )
        for name, figures in models.items()
    ]
    return Table(columns, rows)
