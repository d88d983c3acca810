"""Probabilities and vectors of many sequences, in batches by length and bounded memory."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from recurra.data.length_batches import by_length
from recurra.errors import DataError
from recurra.tasks.classify.encoding import EncodedExamples, EncodedInputs
from recurra.tasks.classify.metrics import figures
from recurra.tasks.mode import evaluation_mode

BATCH_ROWS = 256
BATCH_STEPS = 1 << 15


def log_probabilities(model: nn.Module, inputs: EncodedInputs) -> Tensor:
    """log p of every class for each sequence, (sequences, classes), on the CPU, in nats."""
    return _by_batches(model, inputs, model.log_probabilities)  # type: ignore[arg-type]


def answers(model: nn.Module, examples: EncodedExamples) -> Tensor:
    """log p of every class for each example, (examples, classes): of an ensemble with examples that
    one member did not learn from, the answer of that member alone."""
    if examples.unseen_by is None:
        return log_probabilities(model, examples.inputs)
    parts, orders = [], []
    for m, member in enumerate(model.members):  # type: ignore[arg-type]
        own = (examples.unseen_by == m).nonzero().squeeze(1)
        if len(own):
            parts.append(log_probabilities(member, examples.inputs.select(own)))
            orders.append(own)
    return _in_order(parts, torch.cat(orders))


def vectors(model: nn.Module, inputs: EncodedInputs) -> Tensor:
    """The sentence vector of each sequence, (sequences, vector_size), on the CPU."""
    return _by_batches(model, inputs, model.encode)  # type: ignore[arg-type]


def evaluate(model: nn.Module, examples: EncodedExamples) -> dict[str, float]:
    """The measures of `metrics.py` on encoded examples."""
    return figures(answers(model, examples), examples.targets)


def _by_batches(model: nn.Module, inputs: EncodedInputs, function: Callable[..., Tensor]) -> Tensor:
    """A function of (inputs, lengths, spelled) applied to all, rows in the order of `inputs`."""
    if not len(inputs):
        raise DataError("there is no example; expected one or more")
    device = next(model.parameters()).device
    orders: list[np.ndarray] = []
    parts = []
    with evaluation_mode(model):
        for chosen in by_length(inputs.lengths.numpy(), BATCH_STEPS, rows=BATCH_ROWS):
            padded, lengths, spelled = inputs.batch(chosen)
            there = None if spelled is None else tuple(part.to(device) for part in spelled)
            parts.append(function(padded.to(device), lengths.to(device), there).cpu())
            orders.append(chosen)
    return _in_order(parts, torch.from_numpy(np.concatenate(orders)))


def _in_order(parts: Sequence[Tensor], order: Tensor) -> Tensor:
    """Rows where `order` says that each of those of `parts`, end to end, belongs."""
    joined = torch.cat(list(parts))
    return torch.empty_like(joined).index_copy_(0, order, joined)
