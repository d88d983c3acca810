"""Classifiers side by side: cells, one direction and two, on the same examples and epochs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recurra.insight.classifier_figures import comparison
from recurra.insight.classifier_report import comparison_report, model_name
from recurra.jobs import run_folder
from recurra.jobs.classify.baselines import measure_baselines
from recurra.jobs.classify.classifier import Classifier
from recurra.jobs.classify.config import ClassifierConfig
from recurra.jobs.classify.material import read_material
from recurra.jobs.classify.training import build_network, train
from recurra.jobs.comparison import write_comparison
from recurra.jobs.configurations import to_yaml
from recurra.jobs.job import Contest
from recurra.jobs.machine import origin
from recurra.training.files import write_text
from recurra.training.progress import Reporter


def compare_classifiers(
    base: ClassifierConfig, cells: Sequence[str], folder: Path, reporter: Reporter
) -> dict[str, Any]:
    """Train a classifier of each cell in one and in two directions; measure and draw.

    All read the same examples in the same order, equally often, and have the same hidden size for
    each direction; early stopping is off. Each is kept as a run of its own.

    Returns:
        The content of `comparison.json`.
    """
    with reporter.stage("reading and encoding the examples"):
        material = read_material(base.examples, **base.reading())
    baselines = measure_baselines(base, material, reporter)
    models: dict[str, Classifier] = {}
    for name, config in _members(base, cells).items():
        own = folder / name
        own.mkdir()
        write_text(own / run_folder.CONFIG, to_yaml(config))
        model = train(config, own, reporter, material=material, baselines={})
        if model is not None:
            models[name] = model
    kept = ("description", "valid", "test", "parameters", "seconds", "steps_per_s")
    entries: dict[str, Any] = dict(baselines)
    entries |= {name: {key: m.metrics[key] for key in kept} for name, m in models.items()}
    first = next(iter(models.values())).metrics
    figures = {
        "task": "classify",
        "models": entries,
        "epochs": base.training.max_epochs,
        "data": first["data"],
        **origin(base.seed),
    }
    drawn = _drawn(entries, models)
    write_comparison(folder, figures, comparison_report(figures, drawn), drawn)
    return figures


def _members(base: ClassifierConfig, cells: Sequence[str]) -> dict[str, ClassifierConfig]:
    training = base.training.model_copy(update={"patience": 0, "max_minutes": None})
    members = {}
    for cell in cells:
        for is_bidirectional in (False, True):
            changes = {"cell": cell, "bidirectional": is_bidirectional}
            network = base.network.model_copy(update=changes)
            name = f"{cell}_bidirectional" if is_bidirectional else cell
            members[name] = base.model_copy(update={"network": network, "training": training})
    return members


def _drawn(entries: Mapping[str, Any], models: Mapping[str, Classifier]) -> Any:
    named = {name: entry.get("description", model_name(name)) for name, entry in entries.items()}
    return comparison(
        {named[name]: entry["test"]["accuracy"] for name, entry in entries.items()},
        {named[name]: model.log for name, model in models.items()},
        {
            named[name]: entry["valid"]["accuracy"]
            for name, entry in entries.items()
            if name not in models
        },
    )


def contest_of(config: ClassifierConfig, reporter: Reporter) -> Contest:
    """See `recurra.jobs.job.Job.contest`."""
    material = read_material(config.examples, **config.reading())
    name, baseline = list(measure_baselines(config, material, reporter).items())[-1]

    def fit(member: ClassifierConfig, folder: Path, shown: Reporter) -> Classifier | None:
        return train(member, folder, shown, material=material, baselines={}, keep=False)

    return Contest(
        metric="accuracy",
        higher_is_better=True,
        score=lambda test: float(test["accuracy"]),
        baseline=model_name(name),
        baseline_figures=baseline,
        build=lambda member: build_network(member, material),
        train=fit,
    )
