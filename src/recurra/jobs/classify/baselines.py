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
from recurra.models.bag_of_ngrams import BagOfNgrams, LogisticRegression, NgramClassifier
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
        figures: on valid and test.
    """

    name: str
    classifier: NgramClassifier
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
        regression, found = _logistic(config, material, rows, started_s)
    name = f"bag_of_{tokenizer.kind}_ngrams_{orders[1]}"
    return FittedNgrams(name, NgramClassifier(bag, regression), found)


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
            _, found["channel_statistics"] = _logistic(config, material, rows, time.monotonic())
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
) -> tuple[LogisticRegression, dict[str, Any]]:
    """Logistic regression with the penalty that is best on valid by log loss, and its figures."""
    features = int(rows["train"][0].max()) + 1
    targets = material.encoded["train"].targets
    model = LogisticRegression(features, len(material.classes), multi_label=targets.dim() == 2)
    best: dict[str, Any] = {}
    best_weights: dict[str, Tensor] = {}
    for penalty in sorted(config.baseline.penalties, reverse=True):  # each starts from the last
        model.fit(rows["train"], targets, penalty=penalty)
        answers = {name: model.log_probabilities(rows[name]) for name in ("valid", "test")}
        measured = material.figures(answers)
        if not best or measured["valid"]["log_loss"] < best["valid"]["log_loss"]:
            best = {**measured, "penalty": penalty}
            best_weights = {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict(best_weights)
    best["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    return model, {**best, "seconds": round(time.monotonic() - started_s, 3)}


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
