"""Measures of a classifier from its probabilities: accuracy, F1, log loss, calibration.

Sources: macro F1 is the mean of the classes' F1 (Opitz & Burst 2019, "averaged F1"); expected
calibration error after Naeini et al. 2015 and Guo et al. 2017, with bins of equal width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recurra.errors import DataError

BINS = 15
METRICS = ("accuracy", "macro_f1", "log_loss", "calibration_error", "examples")
MULTI_LABEL_METRICS = ("accuracy", "micro_f1", "macro_f1", "log_loss", "examples")


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions of like confidence.

    Attributes:
        low, high: bounds of the confidence: low < confidence ≤ high.
        count: predictions.
        confidence, accuracy: their means; 0 where there are none.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def confusion_matrix(targets: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """How often class i (row) was taken for class j (column), (classes, classes), int64.

    Example:
        >>> confusion_matrix(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    counts = torch.bincount(targets * classes + predicted, minlength=classes * classes)
    return counts.view(classes, classes)


def f1_scores(confusion: Tensor) -> Tensor:
    """F1 of each class, 2 TP / (2 TP + FP + FN), (classes,); NaN where it neither is nor is
    predicted.

    Example:
        >>> f1_scores(torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 0]])).tolist()[:2]
        [0.6666666865348816, 0.6666666865348816]
    """
    hits = confusion.diagonal()
    return 2 * hits / (confusion.sum(0) + confusion.sum(1))


def reliability(probabilities: Tensor, targets: Tensor, bins: int = BINS) -> list[ReliabilityBin]:
    """Accuracy by confidence, the probability of the predicted class.

    Args:
        probabilities: (examples, classes).
        targets: (examples,), int64; -1: a class that the model does not know, never right.
        bins: of equal width.
    """
    confidence, predicted = probabilities.double().max(1)
    is_right = (predicted == targets).double()
    index = (confidence * bins).ceil().long().clamp(1, bins) - 1
    found = []
    for k in range(bins):
        inside = index == k
        count = int(inside.sum())
        means = [float(v[inside].mean()) if count else 0.0 for v in (confidence, is_right)]
        found.append(ReliabilityBin(k / bins, (k + 1) / bins, count, *means))
    return found


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Expected calibration error: |accuracy - confidence|, mean over the predictions.

    Example:
        >>> calibration_error(
        ...     [ReliabilityBin(0.0, 0.5, 1, 0.4, 1.0), ReliabilityBin(0.5, 1.0, 3, 0.8, 0.8)]
        ... )
        0.15
    """
    total = sum(b.count for b in bins)
    return sum(b.count * abs(b.accuracy - b.confidence) for b in bins) / max(total, 1)


def measure(log_p: Tensor, targets: Tensor) -> dict[str, float]:
    """The measures of a classifier.

    An example of a class that the model does not know is an error in `accuracy` and in
    `calibration_error`, and a false alarm in the F1 of the class it was taken for. `macro_f1` is
    the mean over the model's classes that are or are predicted here. `log_loss`, in nats per
    example, is over the examples of known classes; `calibration_error` is by 15 bins of equal
    width.

    Args:
        log_p: (examples, classes), in nats.
        targets: (examples,), int64; -1: a class that the model does not know.

    Raises:
        DataError: no example.

    Example:
        >>> p = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
        >>> found = measure(p.log(), torch.tensor([0, 0, 1]))
        >>> round(found["accuracy"], 4), round(found["macro_f1"], 4), round(found["log_loss"], 4)
        (0.6667, 0.6667, 0.4594)
    """
    if not len(targets):
        raise DataError("there is no example to measure on")
    known = targets >= 0
    predicted = log_p.argmax(1)
    confusion = confusion_matrix(targets[known], predicted[known], log_p.shape[1])
    alarms = torch.bincount(predicted[~known], minlength=log_p.shape[1])
    hits = confusion.diagonal()
    scores = 2 * hits / (confusion.sum(0) + confusion.sum(1) + alarms)
    nats = -log_p[known].double().gather(1, targets[known].unsqueeze(1))
    bins = reliability(log_p.exp(), targets)
    return {
        "accuracy": _rounded(float((predicted == targets).double().mean())),
        "macro_f1": _rounded(float(scores.double().nanmean())),
        "log_loss": _rounded(float(nats.mean()) if len(nats) else 0.0),
        "calibration_error": _rounded(calibration_error(bins)),
        "examples": len(targets),
    }


def measure_multi_label(log_p: Tensor, targets: Tensor) -> dict[str, float]:
    """The measures of a classifier of which any number of classes may hold.

    A class is predicted where its probability is above one half. `accuracy` is the share of the
    examples with exactly the right set; `micro_f1` counts all decisions together; `macro_f1` is the
    mean over the classes that are or are predicted; `log_loss` is in nats per example, summed over
    the classes.

    Args:
        log_p: (examples, classes), the log-probability of each class by itself.
        targets: (examples, classes), 0 or 1.

    Raises:
        DataError: no example.
    """
    if not len(targets):
        raise DataError("there is no example to measure on")
    p, truth = log_p.double().exp(), targets.bool()
    predicted = p > 0.5
    hits = (predicted & truth).sum(0)
    counts = predicted.sum(0) + truth.sum(0)
    log_other = torch.log1p(-p.clamp_max(1 - 1e-12))
    nats = -torch.where(truth, log_p.double(), log_other).sum(1)
    macro = (2 * hits / counts).double().nanmean()
    return {
        "accuracy": _rounded(float((predicted == truth).all(1).double().mean())),
        "micro_f1": _rounded(float(2 * hits.sum() / counts.sum()) if counts.sum() else 1.0),
        "macro_f1": _rounded(float(macro) if counts.sum() else 1.0),
        "log_loss": _rounded(float(nats.mean())),
        "examples": len(targets),
    }


def figures(log_p: Tensor, targets: Tensor) -> dict[str, float]:
    """Those of `measure`, or of `measure_multi_label` if targets are rows of 0 and 1."""
    return (measure if targets.dim() == 1 else measure_multi_label)(log_p, targets)


def _rounded(value: float) -> float:
    return float(f"{value:.9g}")
