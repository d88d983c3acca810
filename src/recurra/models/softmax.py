"""Softmax over a vocabulary, fused with the product before it, so that logits never exist at once.

    p(w | x) = exp(v_w·x + b_w) / Σ_u exp(v_u·x + b_u)        v_w: row w of `weight`

The rows of a batch are worked on in chunks. When gradients are wanted they are computed together
with the loss, while the chunk's logits are at hand: p minus one-hot replaces them in place, and two
products give the gradients of features and weight. What is kept is as large as the parameters,
not as batch × vocabulary.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from recurra.errors import ArgumentError, ShapeError
from recurra.kernels.cpu import softmax as generated

# Targets of this value are not counted, as in torch.nn.functional.cross_entropy.
IGNORED = -100
# Each chunk is one more pass over the weights and their gradient. Measured at (700, 200)·(200,
# 33278), 2 threads: 104, 96, 86, 75, 72 ms with 6, 12, 24, 48, 96 MiB by vectors; 78 and 66 ms with
# 48 and 96 by units for matrices.
CHUNK_BYTES = 96 << 20
CHUNK_BYTES_ON_GPU = 256 << 20


def linear_cross_entropy(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    chunk_rows: int | None = None,
) -> Tensor:
    """Mean cross-entropy of a full softmax, in nats per counted target, exact.

    Args:
        features: (rows, features), float.
        weight: (vocabulary, features); tied models pass their embedding.
        bias: (vocabulary,) or None.
        targets: (rows,), int64, in 0..vocabulary-1, or `IGNORED`: not counted.
        chunk_rows: rows whose logits exist at once; None takes 48 MiB of logits on a CPU, 256 MiB
            elsewhere. The result does not depend on it but for rounding.

    Returns:
        A scalar; 0 if no target is counted. Differentiable in features, weight and bias, twice if
        need be (the second derivative is plain torch and holds all logits). Under autocast the
        products are in its dtype and the softmax in float32.

    Raises:
        ShapeError: shapes that do not fit, or a target out of range (checked on the CPU).

    Example:
        >>> x, w = torch.randn(6, 4), torch.randn(10, 4, requires_grad=True)
        >>> targets = torch.tensor([1, 2, 3, 4, 5, IGNORED])
        >>> loss = linear_cross_entropy(x, w, None, targets, chunk_rows=4)
        >>> torch.allclose(loss, functional.cross_entropy(x @ w.T, targets))
        True
    """
    _check(features, weight, bias, targets)
    features, weight, bias, in_bfloat16 = _autocast(features, weight, bias)
    rows = chunk_rows or _chunk_rows(features, weight)
    nats: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        features, weight, bias, targets, rows, in_bfloat16
    )
    return nats


@torch.no_grad()
def target_log_probabilities(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    chunk_rows: int | None = None,
) -> Tensor:
    """Log-probability of each target under a full softmax, in nats, without gradients.

    Args: as of `linear_cross_entropy`; ignored targets get 0.

    Returns:
        (rows,) in the dtype of the features, float32 at least.
    """
    _check(features, weight, bias, targets)
    features, weight, bias, in_bfloat16 = _autocast(features, weight, bias)
    if chunk_rows is None and generated.supports(features, weight):
        indices = targets.clamp_min(0)
        found = generated.target_log_probabilities(
            features, weight, bias, indices, in_bfloat16=in_bfloat16
        )
        if found is not None:
            return found.masked_fill_(targets == IGNORED, 0.0)
    log_p = features.new_empty(len(features), dtype=_accurate(features.dtype))
    for rows in _chunks(len(features), chunk_rows or _chunk_rows(features, weight)):
        logits = product(features[rows], weight, bias).to(log_p.dtype)
        at_target = logits.gather(1, targets[rows].clamp_min(0).unsqueeze(1)).squeeze(1)
        log_p[rows] = at_target - logits.logsumexp(1)
    return log_p.masked_fill_(targets == IGNORED, 0.0)


class _LinearCrossEntropy(torch.autograd.Function):
    """Loss and gradients in one pass over the chunks."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx, features, weight, bias, targets, chunk_rows, in_bfloat16
    ):
        ctx.save_for_backward(features, weight, bias, targets)
        ctx.chunk_rows, ctx.in_bfloat16 = chunk_rows, in_bfloat16
        needed = ctx.needs_input_grad
        with torch.autocast(features.device.type, enabled=False):
            nats, ctx.gradients = _pass(
                features, weight, bias, targets, chunk_rows, in_bfloat16, needed
            )
        return nats

    @staticmethod
    def backward(ctx, d_nats):  # type: ignore[no-untyped-def]
        features, weight, bias, targets = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: someone will differentiate again
            found = _differentiable_gradients(features, weight, bias, targets, d_nats)
            return (*found, None, None, None)
        gradients = ctx.gradients
        ctx.gradients = None  # handed out once, so that autograd may keep them without a copy
        if gradients is None:
            _, gradients = _pass(
                *(features, weight, bias, targets, ctx.chunk_rows, ctx.in_bfloat16),
                ctx.needs_input_grad,
            )
        is_one = d_nats.device.type == "cpu" and float(d_nats) == 1.0
        if not is_one:
            gradients = [None if g is None else g.mul_(d_nats.to(g.dtype)) for g in gradients]
        return (*gradients, None, None, None)


def _pass(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    chunk_rows: int,
    in_bfloat16: bool,
    needed: Sequence[bool],
) -> tuple[Tensor, list[Tensor | None]]:
    """Mean nats, and the gradients of features, weight and bias where they are needed."""
    dtype = _accurate(features.dtype)
    counted = (targets != IGNORED).to(dtype)
    share = counted / counted.sum().clamp_min(1.0)  # of each row in the mean
    indices = targets.clamp_min(0)
    if all(needed[:2]) and generated.supports(features, weight):
        found = generated.softmax_gradients(
            features, weight, bias, indices, share, chunk_rows=chunk_rows, in_bfloat16=in_bfloat16
        )
        if found is not None:
            nats, *gradients = found
            return nats, [g if n else None for g, n in zip(gradients, needed, strict=False)]
    return _pass_by_chunks(features, weight, bias, indices, share, chunk_rows, needed)


def _pass_by_chunks(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    indices: Tensor,
    share: Tensor,
    chunk_rows: int,
    needed: Sequence[bool],
) -> tuple[Tensor, list[Tensor | None]]:
    """`_pass` by torch's functions, for any dtype and device."""
    dtype = share.dtype
    nats = features.new_zeros((), dtype=dtype)
    d_features = torch.empty_like(features) if needed[0] else None
    d_weight = torch.zeros_like(weight) if needed[1] else None
    d_bias = torch.zeros_like(bias) if bias is not None and needed[2] else None
    for rows in _chunks(len(features), chunk_rows):
        x, t, s = features[rows], indices[rows].unsqueeze(1), share[rows].unsqueeze(1)
        logits = product(x, weight, bias).to(dtype)
        at_target = logits.gather(1, t)
        if not any(needed):
            nats += (s * (logits.logsumexp(1, keepdim=True) - at_target)).sum()
            continue
        highest, where = logits.max(1, keepdim=True)
        p = torch.softmax(logits, 1, out=logits)
        # the highest logit's probability is exp(0) / sum, so the sum needs no pass of its own
        nats += (s * (highest - p.gather(1, where).log() - at_target)).sum()
        d_logits = p.scatter_add_(1, t, torch.full_like(at_target, -1.0)).to(x.dtype)
        s = s.to(x.dtype)
        if d_features is not None:
            d_features[rows] = product(d_logits, weight.t()).mul_(s)
        if d_weight is not None:
            d_weight += product((x * s).t(), d_logits.t()).t()
        if d_bias is not None:
            d_bias += torch.mv(d_logits.t(), s.squeeze(1))
    return nats, [d_features, d_weight, d_bias]


def _differentiable_gradients(
    features: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, d_nats: Tensor
) -> list[Tensor | None]:
    """The gradients as functions that autograd can differentiate again."""
    inputs = [features, weight, bias]
    wanted = [p for p in inputs if p is not None and p.requires_grad]
    logits = functional.linear(features, weight, bias)
    total = functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
    nats = total / (targets != IGNORED).sum().clamp_min(1)
    found = iter(torch.autograd.grad(nats, wanted, d_nats, create_graph=True))
    return [next(found) if p is not None and p.requires_grad else None for p in inputs]


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b, by the fastest library at hand: oneDNN for float32 on a CPU.

    torch's own choice there is MKL, which on the AMD machine where this was measured gives 90 to
    140 GFLOP/s at (175, 200)·(200, 33278), 2 threads, where oneDNN gives 270 to 310.
    """
    is_plain = x.dtype == torch.float32 and x.device.type == "cpu" and x.numel() > 0
    if is_plain and torch._C._has_mkldnn:
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return result
    return functional.linear(x, weight, bias)


def _chunks(rows: int, chunk_rows: int) -> Iterator[slice]:
    """Slices of nearly equal length, none longer than `chunk_rows`.

    Example:
        >>> [(s.start, s.stop) for s in _chunks(10, 4)]
        [(0, 4), (4, 8), (8, 10)]
        >>> [(s.start, s.stop) for s in _chunks(9, 8)]
        [(0, 5), (5, 9)]
    """
    length = math.ceil(rows / max(math.ceil(rows / chunk_rows), 1))
    for start in range(0, rows, max(length, 1)):
        yield slice(start, min(start + length, rows))


def _chunk_rows(features: Tensor, weight: Tensor) -> int:
    room = CHUNK_BYTES if features.device.type == "cpu" else CHUNK_BYTES_ON_GPU
    return max(1, room // (weight.shape[0] * features.element_size()))


def _accurate(dtype: torch.dtype) -> torch.dtype:
    """The dtype that sums of exponentials are taken in."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _autocast(
    features: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, bool]:
    """The operands in autocast's dtype, if it is on; or in float32 for generated code, and whether
    that shall round them to bfloat16, which saves time on some processors only."""
    kind = features.device.type
    if not torch.is_autocast_enabled(kind):
        return features, weight, bias, False
    dtype = torch.get_autocast_dtype(kind)
    if dtype == torch.bfloat16 and generated.supports(features.float(), weight):
        return features.float(), weight, bias, generated.multiplies_bfloat16(features)
    return features.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype), False


def _check(features: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> None:
    if features.dim() != 2 or weight.dim() != 2 or features.shape[1] != weight.shape[1]:
        raise ShapeError(
            f"features {tuple(features.shape)} and weight {tuple(weight.shape)} do not fit; "
            "expected (rows, features) and (vocabulary, features)"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(f"bias has shape {tuple(bias.shape)}, expected ({weight.shape[0]},)")
    if targets.shape != features.shape[:1] or targets.dtype != torch.int64:
        raise ShapeError(
            f"targets is {targets.dtype} {tuple(targets.shape)}; expected torch.int64 "
            f"({features.shape[0]},), one for each row of features"
        )
    if targets.device.type != "cpu" or not len(targets):
        return
    counted = targets[targets != IGNORED]
    if len(counted) and not 0 <= int(counted.min()) <= int(counted.max()) < weight.shape[0]:
        raise ShapeError(
            f"targets go from {int(counted.min())} to {int(counted.max())}; the vocabulary has ids "
            f"0..{weight.shape[0] - 1} ({IGNORED} is not counted)"
        )


class FullSoftmax(nn.Module):
    """The output layer of a language model: an exact softmax over all words.

    Args:
        size: features of each row.
        vocabulary_size: words.
        tied: the embedding (vocabulary_size, size) whose weights to use (Press & Wolf 2017); it
            stays their only owner, so that a saved model holds them once. None: an own `weight`.

    Own weights start uniform in ±0.1, biases at zero.

    Example:
        >>> head = FullSoftmax(4, 10)
        >>> head.log_probabilities(torch.randn(3, 4)).exp().sum(1).allclose(torch.ones(3))
        True
    """

    def __init__(self, size: int, vocabulary_size: int, tied: nn.Embedding | None = None) -> None:
        super().__init__()
        if tied is not None and tied.weight.shape != (vocabulary_size, size):
            raise ArgumentError(
                f"a tied embedding must be ({vocabulary_size}, {size}), "
                f"got {tuple(tied.weight.shape)}"
            )
        self._tied = (tied,)  # in a tuple, so that it is no submodule
        self.own_weight = None
        if tied is None:
            self.own_weight = nn.Parameter(torch.empty(vocabulary_size, size))
            nn.init.uniform_(self.own_weight, -0.1, 0.1)
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))

    @property
    def weight(self) -> Tensor:
        """(vocabulary, size)."""
        tied = self._tied[0]
        weight = self.own_weight if tied is None else tied.weight
        assert weight is not None
        return weight

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats; see `linear_cross_entropy`."""
        return linear_cross_entropy(features, self.weight, self.bias, targets)

    def smoothing(self, features: Tensor, targets: Tensor) -> Tensor:
        """What label smoothing adds to the mean cross-entropy, over its ε (Szegedy et al. 2016).

        Cross-entropy against (1-ε)·one-hot + ε/V is the target's cross-entropy + ε·(target's logit
        - mean logit): the logits of all words need not exist for it.

        Args:
            features: (rows, features).
            targets: (rows,), int64, all counted.
        """
        direction = self.weight[targets] - self.weight.mean(0)
        difference = (features * direction).sum(-1) + self.bias[targets] - self.bias.mean()
        return difference.sum() / max(len(targets), 1)

    def target_log_probabilities(self, features: Tensor, targets: Tensor) -> Tensor:
        """Log-probability of each target, (rows,), without gradients; 0 where ignored."""
        return target_log_probabilities(features, self.weight, self.bias, targets)

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Log-probabilities of all words, (rows, vocabulary), float32 or wider."""
        logits = functional.linear(features, self.weight, self.bias)
        return logits.to(_accurate(logits.dtype)).log_softmax(1)


class AdaptiveSoftmax(nn.Module):
    """An output layer that spends less on rare words; the same methods as `FullSoftmax`.

    The words are ordered by frequency, as `Tokenizer` orders them. The first `cutoffs[0]` and one
    entry for each later cluster share one softmax; a cluster's words have their own, on features
    projected to a quarter, a sixteenth, … of their size. Exact probabilities of a different model,
    not an approximation of the full softmax. Source: Grave et al. 2017, by torch.nn's
    AdaptiveLogSoftmaxWithLoss.

    Args:
        size: features of each row.
        vocabulary_size: words.
        cutoffs: increasing ids where clusters begin, all below `vocabulary_size`.

    Raises:
        ArgumentError: cutoffs that do not increase within the vocabulary.
    """

    def __init__(self, size: int, vocabulary_size: int, cutoffs: Sequence[int]) -> None:
        super().__init__()
        cuts = list(cutoffs)
        if not cuts or cuts != sorted(set(cuts)) or cuts[0] < 1 or cuts[-1] >= vocabulary_size:
            raise ArgumentError(
                f"cutoffs={cuts} must increase and lie in 1..{vocabulary_size - 1}, below the size "
                "of the vocabulary"
            )
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(size, vocabulary_size, cuts, head_bias=True)

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats over the targets that are not `IGNORED`."""
        counted = targets != IGNORED
        log_p = self.softmax(features[counted], targets[counted]).output
        loss: Tensor = -log_p.sum() / counted.sum().clamp_min(1)
        return loss

    @torch.no_grad()
    def target_log_probabilities(self, features: Tensor, targets: Tensor) -> Tensor:
        """Log-probability of each target, (rows,), without gradients; 0 where ignored."""
        counted = targets != IGNORED
        log_p = features.new_zeros(len(targets))
        log_p[counted] = self.softmax(features[counted], targets[counted]).output
        return log_p

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Log-probabilities of all words, (rows, vocabulary)."""
        log_p: Tensor = self.softmax.log_prob(features)
        return log_p
