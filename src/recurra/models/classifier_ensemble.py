"""Several classifiers as one: the mean of their probabilities.

    p(class | x) = 1/M Σ_m p_m(class | x)

Each starts from its own weights and drops its own features, so that they err differently, and the
mean errs less than one of them, above all where there is little to learn from; its probabilities
are better calibrated, too. All learn from the same batches, and none from the others' answers.
Source: Lakshminarayanan et al. 2017, section 2.4 (without adversarial examples).

Each may leave out examples of its own, which can then be asked of it as of a model that never saw
them, while the others learn from them: a cross-validation committee (Krogh & Vedelsby 1995;
Parmanto, Munro & Doyle 1996).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recurra.errors import ArgumentError
from recurra.layers import Recurrent, State
from recurra.models.classifier import RecurrentClassifier
from recurra.models.words import Spelled


class ClassifierEnsemble(nn.Module):
    """Classifiers of the same classes and inputs; used as `RecurrentClassifier` is.

    Args:
        count: members, at least 1.
        classes: of each; and
        options: the further arguments of each, see `RecurrentClassifier`.

    Raises:
        ArgumentError: no member.

    Example:
        >>> model = ClassifierEnsemble(2, 3, vocabulary_size=10, hidden_size=4)
        >>> tokens = torch.ones(6, 2, dtype=torch.long)
        >>> model.log_probabilities(tokens).shape, model.encode(tokens).shape
        (torch.Size([2, 3]), torch.Size([2, 16]))
    """

    def __init__(self, count: int, classes: int, **options: Any) -> None:
        super().__init__()
        if count < 1:
            raise ArgumentError(f"count={count} must be at least 1")
        self.members = nn.ModuleList(RecurrentClassifier(classes, **options) for _ in range(count))

    @property
    def _all(self) -> Sequence[RecurrentClassifier]:
        return list(self.members)  # type: ignore[arg-type]

    @property
    def multi_label(self) -> bool:
        """Whether any number of classes may hold at once."""
        return self._all[0].multi_label

    @property
    def layers(self) -> Recurrent:
        """The recurrent layers of the first member."""
        return self._all[0].layers

    @property
    def vector_size(self) -> int:
        """Size of the sentence vector: those of all members, end to end."""
        return sum(member.vector_size for member in self._all)

    def options(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-able."""
        return {"count": len(self.members), **self._all[0].options()}

    def set_scale(self, mean: Tensor, scale: Tensor) -> None:
        """See `RecurrentClassifier.set_scale`."""
        for member in self._all:
            member.set_scale(mean, scale)

    def step(
        self, inputs_t: Tensor, state: State | None = None, spelled: Spelled | None = None
    ) -> tuple[Tensor, State]:
        """See `RecurrentClassifier.step`; the state is that of all members, end to end."""
        own: list[State | None] = [None] * len(self.members)
        if state is not None:
            size = len(state.layers) // len(self.members)
            starts = range(0, len(state.layers), size)
            own = [State(state.layers[start : start + size]) for start in starts]
        found = [m.step(inputs_t, s, spelled) for m, s in zip(self._all, own, strict=True)]
        layers = [layer for _, new in found for layer in new.layers]
        return _mean([log_p for log_p, _ in found]), State(tuple(layers))

    def encode(
        self, inputs: Tensor, lengths: Tensor | None = None, spelled: Spelled | None = None
    ) -> Tensor:
        """The sentence vectors of all members, end to end, (batch, vector_size)."""
        return torch.cat([member.encode(inputs, lengths, spelled) for member in self._all], 1)

    def log_probabilities(
        self, inputs: Tensor, lengths: Tensor | None = None, spelled: Spelled | None = None
    ) -> Tensor:
        """log p of each class, (batch, classes), in nats; see `RecurrentClassifier`."""
        return _mean([m.log_probabilities(inputs, lengths, spelled) for m in self._all])

    def loss(
        self,
        inputs: Tensor,
        lengths: Tensor | None,
        targets: Tensor,
        spelled: Spelled | None = None,
        unseen_by: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The sum of the members' losses, so that none learns from another, and the mean of their
        cross-entropies; see `RecurrentClassifier.loss`.

        Args:
            inputs, lengths, targets, spelled: see there.
            unseen_by: (batch,), int64: the member that does not learn from an example, -1 for none;
                None: all learn from all.
        """
        found = [
            member.loss(
                *(inputs, lengths, targets, spelled), None if unseen_by is None else unseen_by != m
            )
            for m, member in enumerate(self._all)
        ]
        losses, nats = zip(*found, strict=True)
        return torch.stack(losses).sum(), torch.stack(nats).mean()


def _mean(log_p: Sequence[Tensor]) -> Tensor:
    """The logarithm of the mean of probabilities."""
    return torch.stack(list(log_p)).logsumexp(0) - math.log(len(log_p))
