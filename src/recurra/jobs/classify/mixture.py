"""A network's answers mixed with those of a regression over n-grams.

    p(class | text) = λ p_network + (1 - λ) p_ngrams,  λ the best on valid

A bag of n-grams learns from few texts what single words and short phrases say; a recurrent network
learns what their order says, and errs elsewhere. Source: linear interpolation of Jelinek & Mercer
1980, here of classifiers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from recurra.errors import RunFolderError
from recurra.jobs.classify.baselines import FittedNgrams
from recurra.models.bag_of_ngrams import BagOfNgrams, LogisticRegression, NgramClassifier, Token
from recurra.tasks.interpolation import best_weight, interpolated
from recurra.training.files import read_about, write_tensors
from recurra.training.weights import load_weights, unshared

FILE = "ngrams.safetensors"


@dataclass(frozen=True)
class Mixture:
    """What a network's answers are mixed with.

    Attributes:
        ngrams: the other model.
        weight: λ of the network, in 0..1.
    """

    ngrams: NgramClassifier
    weight: float

    def mixed(self, log_p: Tensor, texts: Sequence[Sequence[Token]]) -> Tensor:
        """log p of each class, (texts, classes), from those of the network and the tokens."""
        return self.mixed_with(log_p, self.ngrams.log_probabilities(texts))

    def mixed_with(self, log_p: Tensor, theirs: Tensor) -> Tensor:
        """The same from the other model's own answers, (texts, classes)."""
        return interpolated(log_p, theirs, self.weight).float()

    def parameters(self) -> int:
        """How many numbers of the other model were trained."""
        return sum(parameter.numel() for parameter in self.ngrams.regression.parameters())

    def write(self, folder: Path) -> None:
        """Write into a run folder."""
        bag, regression = self.ngrams.bag, self.ngrams.regression
        about = {
            "counts": bag.counts,
            "texts": bag.texts,
            "orders": list(bag.orders),
            "classes": regression.classes,
            "multi_label": regression.multi_label,
            "class_of_leaf": regression.class_of_leaf.tolist(),
            "weight": self.weight,
        }
        write_tensors(folder / FILE, unshared(regression), about)


def mix(ngrams: FittedNgrams, log_p: Tensor, targets: Tensor) -> Mixture:
    """The mixture under which the targets of a valid split are most probable.

    Args:
        ngrams: the other model.
        log_p: of each class by the network, (texts, classes).
        targets: (texts,), int64, -1 for a class that the models do not know; multi-label (texts,
            classes), 0 or 1.
    """
    own, theirs = _of_truth(log_p, targets), _of_truth(ngrams.answers["valid"], targets)
    return Mixture(ngrams.classifier, best_weight(own, theirs))


def _of_truth(log_p: Tensor, targets: Tensor) -> Tensor:
    """log p of what is true: of the class, or of each that holds or does not; in one row."""
    if targets.dim() == 2:
        p = log_p.double().exp()
        return torch.where(targets.bool(), p, (1 - p).clamp_min(1e-12)).log().flatten()
    known = targets >= 0
    return log_p[known].gather(1, targets[known].unsqueeze(1)).squeeze(1)


def load(folder: Path) -> Mixture:
    """What `Mixture.write` wrote.

    Raises:
        RunFolderError: missing, damaged or foreign.
    """
    path = folder / FILE
    about = read_about(path)
    try:
        first, last = about["orders"]
        bag = BagOfNgrams.of(about["counts"], about["texts"], (first, last))
        options = {name: about[name] for name in ("multi_label", "class_of_leaf")}
        regression = LogisticRegression(len(bag.features), about["classes"], **options)
        mixture = Mixture(NgramClassifier(bag, regression), float(about["weight"]))
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"{path} describes no n-grams of ours: {error!r}") from error
    load_weights(regression, path)
    return mixture
