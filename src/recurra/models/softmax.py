"""Exact softmax cross-entropy over a large vocabulary, without the logits of the whole batch."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# Logits that exist at once; 16 M floats are 64 MiB, and chunks of this size keep products large.
CHUNK_LOGITS = 16_000_000


def linear_cross_entropy(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    chunk_logits: int = CHUNK_LOGITS,
) -> Tensor:
    """Mean cross-entropy of softmax(features @ weight.T + bias), in nats per target.

    The logits exist for a chunk of rows at a time, and all gradients are made in the same pass,
    while a chunk's probabilities are at hand: softmax minus one-hot, times what it multiplied.

    Args:
        features: (tokens, size), float.
        weight: (vocab, size); pass the embedding's for tied weights.
        bias: (vocab,) or None.
        targets: (tokens,), int64 in 0..vocab-1.
        chunk_logits: bound of rows·vocab in a chunk; changes memory, not the answer.

    Returns:
        A scalar. It is differentiable once; a second derivative raises torch's error.

    Example:
        >>> loss = linear_cross_entropy(torch.zeros(3, 2), torch.zeros(5, 2), None, torch.arange(3))
        >>> round(loss.item(), 4)  # log 5
        1.6094
    """
    if torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (features, weight, bias)
    ):
        loss: Tensor = _LinearCrossEntropy.apply(features, weight, bias, targets, chunk_logits)  # type: ignore[no-untyped-call]
        return loss
    return -target_log_probabilities(features, weight, bias, targets, chunk_logits).mean()


@torch.no_grad()
def target_log_probabilities(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    chunk_logits: int = CHUNK_LOGITS,
) -> Tensor:
    """log p of each target, (tokens,), chunk by chunk, without gradients; arguments as above."""
    parts = []
    for rows, wanted in _chunks(features, targets, len(weight), chunk_logits):
        logits = functional.linear(rows, weight, bias)
        picked = logits.gather(1, wanted.unsqueeze(1)).squeeze(1)
        parts.append(picked - logits.logsumexp(1))
    return torch.cat(parts) if parts else features.new_zeros(0)


def _chunks(features: Tensor, targets: Tensor, vocabulary_size: int, chunk_logits: int) -> zip:  # type: ignore[type-arg]
    size = max(1, chunk_logits // vocabulary_size)
    return zip(torch.split(features, size), torch.split(targets, size), strict=True)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        chunk_logits: int,
    ) -> Tensor:
        count = max(len(features), 1)
        d_features = torch.empty_like(features)
        d_weight = torch.zeros_like(weight)
        d_bias = None if bias is None else torch.zeros_like(bias)
        nats = features.new_zeros((), dtype=torch.float64)
        start = 0
        for rows, wanted in _chunks(features, targets, len(weight), chunk_logits):
            logits = functional.linear(rows, weight, bias)
            picked = logits.gather(1, wanted.unsqueeze(1))
            highest = logits.amax(1, keepdim=True)
            probabilities = logits.sub_(highest).exp_()
            total = probabilities.sum(1, keepdim=True)
            nats += (total.log() + highest - picked).double().sum()
            probabilities.div_(total.mul_(count))
            probabilities[torch.arange(len(rows), device=rows.device), wanted] -= 1 / count
            torch.mm(probabilities, weight, out=d_features[start : start + len(rows)])
            d_weight.addmm_(probabilities.t(), rows)
            if d_bias is not None:
                d_bias += probabilities.sum(0)
            start += len(rows)
        ctx.save_for_backward(d_features, d_weight, d_bias)
        return (nats / count).to(features.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        scaled = (None if d is None else d * upstream for d in ctx.saved_tensors)
        return *scaled, None, None


class AdaptiveSoftmax(nn.Module):
    """Adaptive softmax (Grave et al. 2017): frequent words cheap, rare ones in small clusters.

    torch's `AdaptiveLogSoftmaxWithLoss` with the head and tails of our vocabulary, whose ids are
    sorted by frequency as it needs. An approximation of structure, not of arithmetic: its
    probabilities sum to one.

    Args:
        size: of the features.
        vocabulary_size: words.
        cutoffs: ids at which clusters begin, rising, within 1..vocab-1.
    """

    def __init__(self, size: int, vocabulary_size: int, cutoffs: tuple[int, ...]) -> None:
        super().__init__()
        self.inner = nn.AdaptiveLogSoftmaxWithLoss(size, vocabulary_size, list(cutoffs))

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats per target."""
        loss: Tensor = self.inner(features, targets).loss
        return loss

    def target_log_probabilities(self, features: Tensor, targets: Tensor) -> Tensor:
        """log p of each target, (tokens,)."""
        output: Tensor = self.inner(features, targets).output
        return output

    def log_probabilities(self, features: Tensor) -> Tensor:
        """log p of all words, (tokens, vocab)."""
        result: Tensor = self.inner.log_prob(features)
        return result


class FullSoftmax(nn.Module):
    """One weight row and bias for each word.

    Args:
        size: of the features.
        vocabulary_size: words.
        weight: share this parameter (vocab, size), the embedding's: tied weights (Press & Wolf
            2017); None: an own one.
    """

    def __init__(self, size: int, vocabulary_size: int, weight: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary_size, size)) if weight is None else weight
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))
        if weight is None:
            nn.init.uniform_(self.weight, -0.1, 0.1)

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats per target."""
        return linear_cross_entropy(features, self.weight, self.bias, targets)

    def target_log_probabilities(self, features: Tensor, targets: Tensor) -> Tensor:
        """log p of each target, (tokens,)."""
        return target_log_probabilities(features, self.weight, self.bias, targets)

    def log_probabilities(self, features: Tensor) -> Tensor:
        """log p of all words, (tokens, vocab)."""
        return functional.linear(features, self.weight, self.bias).log_softmax(-1)
