"""Language models side by side on the same text, with the same number of training tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recurra.insight.language_model_figures import comparison
from recurra.insight.language_model_report import comparison_report, model_name
from recurra.jobs import run_folder
from recurra.jobs.comparison import write_comparison
from recurra.jobs.configurations import to_yaml
from recurra.jobs.job import Contest
from recurra.jobs.lm.config import LanguageModelConfig
from recurra.jobs.lm.corpus import read_corpus
from recurra.jobs.lm.language_model import LanguageModel
from recurra.jobs.lm.network import build_network
from recurra.jobs.lm.ngrams import measure_baselines
from recurra.jobs.lm.training import train
from recurra.jobs.machine import origin
from recurra.training.files import write_text
from recurra.training.progress import Reporter


def compare_language_models(
    base: LanguageModelConfig, cells: Sequence[str], folder: Path, reporter: Reporter
) -> dict[str, Any]:
    """Train n-gram models, the NNLM and a recurrent model of each cell; measure and draw.

    All neural models read the same tokens in the same order, equally often, and have the same
    hidden size; early stopping is off. Each is kept as a run of its own.

    Returns:
        The content of `comparison.json`.
    """
    with reporter.stage("reading and tokenising the text"):
        corpus = read_corpus(base.text)
    models = {}
    for name, config in _members(base, cells).items():
        own = folder / name
        own.mkdir()
        write_text(own / run_folder.CONFIG, to_yaml(config))
        model = train(config, own, reporter, corpus=corpus)
        if model is not None:
            models[name] = model
    figures = _figures(models, base)
    drawn = _drawn(figures, models)
    write_comparison(folder, figures, comparison_report(figures, drawn), drawn)
    return figures


def _members(base: LanguageModelConfig, cells: Sequence[str]) -> dict[str, LanguageModelConfig]:
    """A configuration for each model. The n-gram models come first, as the NNLM's baselines."""
    training = base.training.model_copy(update={"patience": 0, "max_minutes": None})
    without = base.ngram.model_copy(update={"baselines": ()})
    base = base.model_copy(update={"training": training})
    members = {"nnlm": base.model_copy(update={"model": "nnlm"})}
    for cell in cells:
        network = base.network.model_copy(update={"cell": cell})
        changes = {"model": "recurrent", "network": network, "ngram": without}
        members[cell] = base.model_copy(update=changes)
    return members


def _figures(models: Mapping[str, LanguageModel], base: LanguageModelConfig) -> dict[str, Any]:
    kept = ("description", "valid", "test", "parameters", "seconds", "tokens_per_s")
    entries: dict[str, Any] = dict(models["nnlm"].metrics["baselines"])
    for name, model in models.items():
        entries[name] = {key: model.metrics[key] for key in kept}
    steps = models["nnlm"].metrics["training"]["steps"]
    return {
        "task": "lm",
        "models": entries,
        "training_tokens": steps * base.batches.batch_size * base.batches.bptt_steps,
        "data": models["nnlm"].metrics["data"],
        **origin(base.seed),
    }


def _drawn(figures: Mapping[str, Any], models: Mapping[str, LanguageModel]) -> Any:
    entries = figures["models"]
    named = {name: entry.get("description", model_name(name)) for name, entry in entries.items()}
    return comparison(
        {named[name]: entry["test"]["perplexity"] for name, entry in entries.items()},
        {named[name]: model.log for name, model in models.items()},
        {
            named[name]: entry["valid"]["perplexity"]
            for name, entry in entries.items()
            if name not in models
        },
    )


def contest_of(config: LanguageModelConfig, reporter: Reporter) -> Contest:
    """See `recurra.jobs.job.Job.contest`."""
    corpus = read_corpus(config.text)
    baselines = measure_baselines(config, corpus, reporter)
    name, baseline = next(iter(baselines.items()))
    without = config.ngram.model_copy(update={"baselines": ()})

    def fit(member: LanguageModelConfig, folder: Path, shown: Reporter) -> LanguageModel | None:
        member = member.model_copy(update={"ngram": without})
        return train(member, folder, shown, corpus=corpus, keep=False)

    return Contest(
        metric="perplexity",
        higher_is_better=False,
        score=lambda test: float(test["perplexity"]),
        baseline=model_name(name),
        baseline_figures=baseline.figures,
        build=lambda member: build_network(member, len(corpus.tokenizer.vocabulary)),
        train=fit,
    )
