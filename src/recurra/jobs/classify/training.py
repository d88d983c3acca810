"""The classification job: examples, baselines, model, figures, run folder."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from recurra.data.examples import ExampleSplits
from recurra.errors import ConfigError
from recurra.jobs import run_folder
from recurra.jobs.classify.baselines import fit_ngrams, measure_baselines
from recurra.jobs.classify.classifier import Classifier
from recurra.jobs.classify.config import ClassifierConfig
from recurra.jobs.classify.material import SPLITS, Material, fingerprint, read_material
from recurra.jobs.classify.mixture import mix
from recurra.jobs.machine import provenance
from recurra.jobs.training import check_same_data, fit_network
from recurra.models.classifier import RecurrentClassifier
from recurra.models.classifier_ensemble import ClassifierEnsemble
from recurra.tasks.classify.encoding import balanced_weights, scale_of
from recurra.tasks.classify.metrics import (
    confusion_matrix,
    f1_scores,
    reliability,
)
from recurra.tasks.classify.prediction import answers
from recurra.tasks.classify.task import ClassifierTask
from recurra.training.progress import Reporter
from recurra.training.ranks import is_main_process

SAMPLES = 8
SAMPLE_LETTERS = 80


def train(
    config: ClassifierConfig,
    folder: Path,
    reporter: Reporter,
    *,
    splits: ExampleSplits | None = None,
    material: Material | None = None,
    baselines: Mapping[str, Any] | None = None,
    keep: bool = True,
) -> Classifier | None:
    """Train, measure and describe a classifier in its folder.

    Args:
        config: resolved.
        folder: for the log and the checkpoints, and the rest if `keep`.
        reporter: shows the progress.
        splits: the examples, if they are in memory only.
        material: the examples, if they were read already.
        baselines: their figures, if they were measured already.
        keep: write the model and its figures.

    Returns:
        The model; `None` on all processes but the first.
    """
    started_s = time.monotonic()
    if material is None:
        with reporter.stage("reading and encoding the examples"):
            material = read_material(config.examples, splits, **config.reading())
    check_same_data(folder, fingerprint(material.splits))
    ngrams = None
    if config.baseline.mix_ngrams:
        if material.tokenizer is None:
            raise ConfigError("mix_ngrams is of texts; these are series: leave it out")
        ngrams = fit_ngrams(config, material, reporter) if is_main_process() else None
    if baselines is None:
        baselines = {}
        if is_main_process():
            baselines = measure_baselines(config, material, reporter, ngrams)
    network = build_network(config, material)
    batches = config.batches
    task = ClassifierTask(
        network,
        material.encoded,
        batch_size=batches.batch_size,
        seed=config.seed,
        longest=batches.longest,
        choose_by=batches.choose_by,
    )
    outcome = fit_network(task, config, folder, reporter, config.description())
    if outcome is None:
        return None
    with reporter.stage("measuring on valid and test"):
        found = {name: answers(network, material.encoded[name]) for name in SPLITS[1:]}
        own: dict[str, Any] = {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "seconds": round(outcome.seconds, 3),
        }
        mixture = None
        if ngrams is not None:
            alone = {**own, **material.figures(found)}
            mixture = mix(ngrams, found["valid"], material.encoded["valid"].targets)
            found = {n: mixture.mixed_with(found[n], ngrams.answers[n]) for n in found}
            own["parameters"] += mixture.parameters()
            own |= {"network_weight": round(mixture.weight, 4), "network_alone": alone}
        metrics = {
            "task": "classify",
            "model": "recurrent",
            "description": config.description(),
            **_measures(material, found),
            **own,
            "baselines": dict(baselines),
            "steps_per_s": round(outcome.units_per_s, 1),
            **provenance(config.seed),
            "training": outcome.facts(),
            "data": {**material.facts(), "in_memory": splits is not None},
        }
    metrics["total_seconds"] = round(time.monotonic() - started_s, 3)
    model = Classifier(
        network.eval(),
        material.classes,
        material.tokenizer,
        material.alphabet,
        material.splits.train.channels,
        config,
        metrics,
        run_folder.read_rows(folder),
        splits=splits,
        mixture=mixture,
    )
    if keep:
        with reporter.stage("writing the run folder and its report"):
            model.write(folder)
    return model


def build_network(
    config: ClassifierConfig, material: Material
) -> RecurrentClassifier | ClassifierEnsemble:
    """The untrained model of a run, its weights drawn from the run's seed.

    Raises:
        ConfigError: a class weight for a label that there is not.
    """
    torch.manual_seed(config.seed)
    tokenizer, train = material.tokenizer, material.encoded["train"]
    arguments = dict(
        classes=len(material.classes),
        vocabulary_size=0 if tokenizer is None else len(tokenizer.vocabulary),
        num_characters=0 if material.alphabet is None else len(material.alphabet),
        channels=len(material.splits.train.channels),
        multi_label=config.examples.multi_label,
        class_of_leaf=material.class_of_leaf,
        class_weights=_class_weights(config, material),
        **config.network_arguments(),
    )
    members = config.network.members
    network = (
        RecurrentClassifier(**arguments)
        if members == 1
        else ClassifierEnsemble(members, **arguments)
    )
    if tokenizer is None:
        network.set_scale(*scale_of(train.inputs.steps.values))
    return network


def _class_weights(config: ClassifierConfig, material: Material) -> list[float]:
    asked = config.regularisation.class_weights
    if asked == "none":
        return []
    if asked == "balanced":
        return balanced_weights(material.encoded["train"].targets, len(material.classes))
    assert isinstance(asked, dict)
    unknown = sorted(asked.keys() - set(material.classes))
    if unknown:
        raise ConfigError(
            f"class_weights: there is no label {unknown[0]!r}; there are: "
            f"{', '.join(material.classes)}"
        )
    return [asked.get(label, 1.0) for label in material.classes]


def _measures(material: Material, answers: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Metrics on valid and test; for test also what the report draws."""
    found = material.figures(answers)
    examples, log_p = material.encoded["test"], answers["test"]
    if examples.targets.dim() == 2:
        return {**found, "classes": material.classes}
    known = examples.targets >= 0
    confusion = confusion_matrix(
        examples.targets[known], log_p[known].argmax(1), len(material.classes)
    )
    scores = f1_scores(confusion).nan_to_num().tolist()
    return {
        **found,
        "classes": material.classes,
        "f1_by_class": dict(zip(material.classes, scores, strict=True)),
        "confusion": confusion.tolist(),
        "reliability": [asdict(b) for b in reliability(log_p.exp(), examples.targets)],
        "samples": _samples(material, log_p),
    }


def _samples(material: Material, log_p: torch.Tensor) -> list[dict[str, Any]]:
    """A few test texts with answers, spread over the test part; series have none."""
    if material.tokenizer is None:
        return []
    test, samples = material.splits.test, []
    count = min(SAMPLES, len(test))
    for k in (i * len(test) // count for i in range(count)):
        best = int(log_p[k].argmax())
        samples.append(
            {
                "text": str(test.inputs[k])[:SAMPLE_LETTERS],
                "answer": material.classes[best],
                "probability": round(float(log_p[k, best].exp()), 4),
                "truth": ", ".join(test.labels[k]),
            }
        )
    return samples
