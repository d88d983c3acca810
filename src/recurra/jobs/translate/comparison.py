"""The ablation: each classic extension, attention and each cell added alone, on the same budget."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recurra.insight.translation_figures import ablation
from recurra.insight.translation_report import comparison_report
from recurra.jobs import run_folder
from recurra.jobs.comparison import write_comparison
from recurra.jobs.configurations import to_yaml
from recurra.jobs.job import Contest
from recurra.jobs.machine import origin
from recurra.jobs.translate.config import TranslatorConfig
from recurra.jobs.translate.corpus import read_corpus
from recurra.jobs.translate.network import build_network
from recurra.jobs.translate.training import measure_copy, train
from recurra.jobs.translate.translator import Translator
from recurra.training.files import write_text
from recurra.training.progress import Reporter

PLAIN: dict[str, Any] = {
    "separate_weights": False,
    "source_at_every_step": False,
    "num_layers": 1,
    "bidirectional": False,
    "reverse_source": False,
    "attention": "none",
    "input_feeding": False,
    "coverage": False,
}
EXTENSIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "separate_weights": ("weights of its own for each side", {"separate_weights": True}),
    "source_at_every_step": ("the source at every step", {"source_at_every_step": True}),
    "two_layers": ("a second layer", {"num_layers": 2}),
    "bidirectional": ("both directions", {"bidirectional": True}),
    "reverse_source": ("the source reversed", {"reverse_source": True}),
    "attention": ("attention", {"attention": "dot"}),
}


def compare_translators(
    base: TranslatorConfig, cells: Sequence[str], folder: Path, reporter: Reporter
) -> dict[str, Any]:
    """Train the plainest model and, added to it one at a time, each extension, attention and cell.

    The plain model is one shared recurrence of the configuration's cell. All read the same pairs in
    the same order, equally often; early stopping and limits of time are off, and all translate by
    the same search. Each is kept as a run of its own.

    Returns:
        The content of `comparison.json`.
    """
    with reporter.stage("reading the text and its translations"):
        corpus = read_corpus(base.text)
    models: dict[str, tuple[str, Translator]] = {}
    for name, (added, config) in members(base, cells).items():
        own = folder / name
        own.mkdir()
        write_text(own / run_folder.CONFIG, to_yaml(config))
        model = train(config, own, reporter, corpus=corpus)
        if model is not None:
            models[name] = added, model
    figures = _figures(models, base)
    drawn = ablation(figures["models"], {name: model.log for name, (_, model) in models.items()})
    write_comparison(folder, figures, comparison_report(figures, drawn), drawn)
    return figures


def members(
    base: TranslatorConfig, cells: Sequence[str]
) -> dict[str, tuple[str, TranslatorConfig]]:
    """What is added, and the configuration, by name; the plain model first, everything last.

    Example:
        >>> found = members(TranslatorConfig(), ["rnn", "lstm"])
        >>> list(found)[:2], list(found)[-2:]
        (['plain', 'separate_weights'], ['cell_rnn', 'everything'])
    """
    training = base.training.model_copy(update={"patience": 0, "max_minutes": None})
    regular = base.regularisation.model_copy(update={"coverage_loss": 0.0})
    own = base.network.cell if base.network.cell in cells else cells[0]
    plain = {**PLAIN, "cell": own}
    changes = {"plain": (f"nothing (one shared {own.upper()})", plain)}
    changes |= {name: (added, {**plain, **more}) for name, (added, more) in EXTENSIONS.items()}
    for cell in cells:
        if cell != own:
            changes[f"cell_{cell}"] = (f"{cell.upper()} for {own.upper()}", {**plain, "cell": cell})
    everything = {key: value for _, more in EXTENSIONS.values() for key, value in more.items()}
    changes["everything"] = ("all six", {**plain, **everything})
    return {
        name: (
            added,
            base.model_copy(
                update={
                    "training": training,
                    "regularisation": regular,
                    "network": base.network.model_copy(update=network),
                }
            ),
        )
        for name, (added, network) in changes.items()
    }


def _figures(
    models: Mapping[str, tuple[str, Translator]], base: TranslatorConfig
) -> dict[str, Any]:
    kept = ("description", "valid", "test", "parameters", "seconds", "tokens_per_s")
    _, first = next(iter(models.values()))
    return {
        "task": "translate",
        "models": {
            name: {"added": added, **{key: model.metrics[key] for key in kept}}
            for name, (added, model) in models.items()
        },
        "epochs": base.training.max_epochs,
        "signatures": first.metrics["signatures"],
        "data": first.metrics["data"],
        **origin(base.seed),
        "versions": first.metrics["versions"],
    }


def contest_of(config: TranslatorConfig, reporter: Reporter) -> Contest:
    """See `recurra.jobs.job.Job.contest`."""
    corpus = read_corpus(config.text)

    def fit(member: TranslatorConfig, folder: Path, shown: Reporter) -> Translator | None:
        return train(member, folder, shown, corpus=corpus, keep=False)

    return Contest(
        metric="exact match",
        higher_is_better=True,
        score=lambda test: float(test["exact_match"]),
        baseline="copy of the source",
        baseline_figures=measure_copy(corpus.splits),
        build=lambda member: build_network(member, corpus.tokenizers),
        train=fit,
    )
