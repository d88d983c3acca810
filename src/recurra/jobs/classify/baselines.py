"""What a classifier must beat: the most frequent class, and logistic regression without order.

The regression over n-grams may also answer beside the network; see `mixture.py`.
"""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recurra.data.ragged import Ragged
from recurra.jobs.classify.config import ClassifierConfig
from recurra.jobs.classify.material import Material
from recurra.models.bag_of_ngrams import (
    BagOfNgrams,
    LogisticRegression,
    NgramClassifier,
    select_rows,
)
from recurra.tasks.classify.encoding import scale_of, tokens_of
from recurra.training.progress import Reporter

ORDERS = {"char": (1, 4), "word": (1, 2), "bpe": (1, 2)}
MANY_TEXTS = 1000  # of as many, n-grams that occur in one text alone are left out
Rows = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class FittedNgrams:
    """The logistic regression over n-grams of a run.

    Attributes:
        name: as a baseline.
        classifier: fitted to train.
        answers: log p on valid and test, (texts, classes) each; on a text of valid that is learned
            from, without having learned from its share.
        figures: of these answers.
    """

    name: str
    classifier: NgramClassifier
    answers: dict[str, Tensor]
    figures: dict[str, Any]


def fit_ngrams(config: ClassifierConfig, material: Material, reporter: Reporter) -> FittedNgrams:
    """Fit and measure the regression over the n-grams of texts."""
    tokenizer = material.tokenizer
    assert tokenizer is not None
    with reporter.stage("bag of n-grams with logistic regression"):
        started_s = time.monotonic()
        orders = ORDERS[tokenizer.kind]
        texts = {
            name: tokens_of(encoded.inputs, tokenizer) for name, encoded in material.encoded.items()
        }
        rare = 2 if len(texts["train"]) >= MANY_TEXTS else 1
        bag = BagOfNgrams(texts["train"], orders=orders, minimum_count=rare)
        rows = {split: bag.rows(tokens) for split, tokens in texts.items()}
        regression, answers, found = _logistic(config, material, rows, started_s)
    name = f"bag_of_{tokenizer.kind}_ngrams_{orders[1]}"
    return FittedNgrams(name, NgramClassifier(bag, regression), answers, found)


def measure_baselines(
    config: ClassifierConfig,
    material: Material,
    reporter: Reporter,
    ngrams: FittedNgrams | None = None,
) -> dict[str, dict[str, Any]]:
    """Figures of the baselines, by name; `ngrams` if they are fitted already."""
    if not config.baseline.baselines:
        return {}
    found = {"most_frequent_class": _most_frequent(material)}
    if material.tokenizer is None:
        with reporter.stage("logistic regression on the channels' statistics"):
            rows = {name: _statistics(material, name) for name in material.encoded}
            *_, found["channel_statistics"] = _logistic(config, material, rows, time.monotonic())
        return found
    ngrams = ngrams or fit_ngrams(config, material, reporter)
    return {**found, ngrams.name: ngrams.figures}


def _most_frequent(material: Material) -> dict[str, Any]:
    """Answers with the shares of the classes in train, whatever the input."""
    targets = material.encoded["train"].targets
    if targets.dim() == 2:
        shares = targets.mean(0).clamp(1e-6, 1 - 1e-6)
    else:
        shares = torch.bincount(targets, minlength=len(material.classes)) / len(targets)
    answers = {
        name: shares.log().expand(len(material.encoded[name]), -1) for name in ("valid", "test")
    }
    return {
        **material.figures(answers),
        "parameters": len(material.classes),
        "seconds": 0.0,
    }


def _logistic(
    config: ClassifierConfig, material: Material, rows: dict[str, Rows], started_s: float
) -> tuple[LogisticRegression, dict[str, Tensor], dict[str, Any]]:
    """Logistic regression with the penalty that is best on valid by log loss; its answers on valid
    and test, and its figures."""
    features = int(rows["train"][0].max()) + 1
    train, classes = material.encoded["train"], len(material.classes)
    targets = train.targets if train.leaves is None else train.leaves
    options: dict[str, Any] = {
        "multi_label": targets.dim() == 2,
        "class_of_leaf": material.class_of_leaf,
    }
    parts = _learned_and_asked(material)
    models = [LogisticRegression(features, classes, **options) for _ in parts]
    best: dict[str, Any] = {}
    best_weights: dict[str, Tensor] = {}
    answers: dict[str, Tensor] = {}
    for penalty in sorted(config.baseline.penalties, reverse=True):  # each starts from the last
        valid = torch.empty(len(material.encoded["valid"]), classes)
        for model, (learned, asked) in zip(models, parts, strict=True):
            model.fit(select_rows(rows["train"], learned), targets[learned], penalty=penalty)
            valid[asked] = model.log_probabilities(select_rows(rows["valid"], asked))
        log_loss = material.figures({"valid": valid})["valid"]["log_loss"]
        if not best or log_loss < best["log_loss"]:
            best, answers = {"log_loss": log_loss, "penalty": penalty}, {"valid": valid}
            best_weights = {key: value.clone() for key, value in models[0].state_dict().items()}
    model, penalty = models[0], best["penalty"]
    model.load_state_dict(best_weights)
    if len(parts) > 1:
        model.fit(rows["train"], targets, penalty=penalty)
    answers["test"] = model.log_probabilities(rows["test"])
    figures = {
        **material.figures(answers),
        "penalty": penalty,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": round(time.monotonic() - started_s, 3),
    }
    return model, answers, figures


def _learned_and_asked(material: Material) -> list[tuple[Tensor, Tensor]]:
    """What is learned from, of train, and what is then asked, of valid: all at once, or if valid is
    shared by its shares."""
    train, valid = material.encoded["train"], material.encoded["valid"]
    if train.unseen_by is None or valid.unseen_by is None:
        return [(torch.arange(len(train)), torch.arange(len(valid)))]
    return [
        ((train.unseen_by != m).nonzero().squeeze(1), (valid.unseen_by == m).nonzero().squeeze(1))
        for m in sorted(set(valid.unseen_by.tolist()))
    ]


def _statistics(material: Material, split: str) -> Rows:
    """Mean, spread, extremes, first and last value of each channel, and the length, as rows."""
    vectors = torch.stack(
        [statistics_of(x) for x in _items(material.encoded["train"].inputs.steps)]
    )
    mean, scale = scale_of(vectors)
    own = torch.stack([statistics_of(x) for x in _items(material.encoded[split].inputs.steps)])
    values = (own - mean) / scale
    count, features = values.shape
    indices = torch.arange(features).repeat(count)
    return indices, values.flatten(), torch.arange(0, count * features, features)


def _items(inputs: Ragged) -> list[Tensor]:
    return [inputs[k] for k in range(len(inputs))]


def statistics_of(series: Tensor) -> Tensor:
    """Numbers that describe a series (time, channels) whatever its length; zeros for an empty one.

    Example:
        >>> statistics_of(torch.tensor([[1.0], [3.0]])).tolist()
        [2.0, 1.0, 1.0, 3.0, 1.0, 3.0, 2.0]
    """
    length = torch.tensor([float(len(series))])
    if not len(series):
        return torch.cat([series.new_zeros(6 * series.shape[1]), length])
    parts = (
        *(series.mean(0), series.std(0, correction=0), series.amin(0), series.amax(0)),
        *(series[0], series[-1], length),
    )
    return torch.cat(parts)
