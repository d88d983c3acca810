"""Taggers side by side on the same text, with the same number of training words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recurra.insight.tagging_figures import taggers
from recurra.insight.tagging_report import comparison_report
from recurra.jobs import run_folder
from recurra.jobs.comparison import write_comparison
from recurra.jobs.configurations import to_yaml
from recurra.jobs.job import Contest
from recurra.jobs.machine import origin
from recurra.jobs.tag.config import TaggerConfig
from recurra.jobs.tag.corpus import read_corpus
from recurra.jobs.tag.network import build_network
from recurra.jobs.tag.tagger import Tagger
from recurra.jobs.tag.training import measure_baseline, primary_metric, train
from recurra.training.files import write_text
from recurra.training.progress import Reporter


def compare_taggers(
    base: TaggerConfig, cells: Sequence[str], folder: Path, reporter: Reporter
) -> dict[str, Any]:
    """Train a tagger of each cell, in one direction and in both; measure and draw.

    All read the same words in the same order, equally often, and have the same units in each
    direction; early stopping is off. Each is kept as a run of its own.

    Returns:
        The content of `comparison.json`.
    """
    with reporter.stage("reading the text and its tags"):
        corpus = read_corpus(base.text)
    models: dict[str, Tagger] = {}
    for name, config in _members(base, cells).items():
        own = folder / name
        own.mkdir()
        write_text(own / run_folder.CONFIG, to_yaml(config))
        model = train(config, own, reporter, corpus=corpus)
        if model is not None:
            models[name] = model
    metric = primary_metric(corpus.lexicon)
    figures = _figures(models, base, metric)
    drawn = taggers(figures["models"], {name: m.log for name, m in models.items()}, metric)
    write_comparison(folder, figures, comparison_report(figures, drawn), drawn)
    return figures


def _members(base: TaggerConfig, cells: Sequence[str]) -> dict[str, TaggerConfig]:
    """A configuration for each tagger: `gru` in one direction, `bi_gru` in both."""
    training = base.training.model_copy(update={"patience": 0, "max_minutes": None})
    members = {}
    for cell in cells:
        for is_both in (False, True):
            changes = {"cell": cell, "bidirectional": is_both}
            network = base.network.model_copy(update=changes)
            name = f"bi_{cell}" if is_both else cell
            members[name] = base.model_copy(update={"training": training, "network": network})
    return members


def _figures(models: Mapping[str, Tagger], base: TaggerConfig, metric: str) -> dict[str, Any]:
    kept = ("description", "valid", "test", "parameters", "seconds", "tokens_per_s")
    first = next(iter(models.values())).metrics
    entries: dict[str, Any] = {
        name: {key: model.metrics[key] for key in kept} for name, model in models.items()
    }
    for name, baseline in first["baselines"].items():
        entries[name] = {"description": name.replace("_", " "), **baseline}
    return {
        "task": "tag",
        "metric": metric,
        "models": entries,
        "training_tokens": base.training.max_epochs * first["data"]["train_tokens"],
        "data": first["data"],
        **origin(base.seed),
    }


def contest_of(config: TaggerConfig, reporter: Reporter) -> Contest:
    """See `recurra.jobs.job.Job.contest`."""
    corpus = read_corpus(config.text)
    metric = primary_metric(corpus.lexicon)

    def fit(member: TaggerConfig, folder: Path, shown: Reporter) -> Tagger | None:
        return train(member, folder, shown, corpus=corpus, keep=False)

    return Contest(
        metric=metric,
        higher_is_better=True,
        score=lambda test: float(test[metric]),
        baseline="most frequent tag",
        baseline_figures=measure_baseline(corpus),
        build=lambda member: build_network(member, corpus.lexicon, None),
        train=fit,
    )
