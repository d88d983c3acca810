"""From the outputs of every step to one vector, over the real steps alone, in pieces of any size.

    last       forward half of the output after the last step, reverse half after the first one
    mean       1/n Σ y_t
    max        max_t y_t, each feature by itself (Collobert et al. 2011)
    attention  Σ α_t y_t with α = softmax over t of v·tanh(W y_t + b) (Yang et al. 2016, eq. 5 to 7)
    concat     last, max and mean side by side (Howard & Ruder 2018, section 3.3)

Each is kept as a few running tensors, so that a sequence may come step by step or in chunks, and
every prefix has its answer. A sequence without steps gives zeros. The running softmax of attention
is that of Milakov & Gimelshein 2018.
"""

import torch
from torch import Tensor, nn

from recurra.errors import ArgumentError

KINDS = ("last", "mean", "max", "attention", "concat")
Tensors = tuple[Tensor, ...]
_LOWEST = -1e30  # below any score; finite, so that differences of two stay defined


class Pooling(nn.Module):
    """Pools outputs (time, batch, size) into (batch, `output_size`).

    Args:
        kind: "last", "mean", "max", "attention" or "concat".
        size: features of an output.
        bidirectional: its second half is that of the reverse direction.
        attention_size: rows of W; None: as many as features.

    Raises:
        ArgumentError: an unknown kind.

    Example:
        >>> pooling = Pooling("mean", 2)
        >>> y = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]], [[9.0, 9.0]]])
        >>> pooling(y, torch.tensor([2]))
        tensor([[2., 3.]])
    """

    def __init__(
        self,
        kind: str,
        size: int,
        *,
        bidirectional: bool = False,
        attention_size: int | None = None,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ArgumentError(f"pooling {kind!r} is unknown; use one of {', '.join(KINDS)}")
        self.kind, self.size, self.bidirectional = kind, size, bidirectional
        self.output_size = 3 * size if kind == "concat" else size
        self._parts = ("last", "max", "mean") if kind == "concat" else (kind,)
        if kind == "attention":
            self.project = nn.Linear(size, attention_size or size)
            self.score = nn.Linear(attention_size or size, 1, bias=False)

    def start(self, batch: int, like: Tensor) -> Tensors:
        """What is kept before the first step: (batch, …) each, the first the count of steps."""
        kept = [like.new_zeros(batch, 1)]
        for part in self._parts:
            if part == "max":
                kept.append(like.new_full((batch, self.size), _LOWEST))
            else:
                kept.append(like.new_zeros(batch, self.size))
            if part == "attention":
                kept += [like.new_full((batch, 1), _LOWEST), like.new_zeros(batch, 1)]
        return tuple(kept)

    def update(self, kept: Tensors, y: Tensor, lengths: Tensor | None = None) -> Tensors:
        """Take in further steps.

        Args:
            kept: what `start` or `update` returned.
            y: (time, batch, size), time at least 1; not read past each length.
            lengths: (batch,), int64: real steps; None: all.
        """
        time, batch = y.shape[:2]
        if lengths is None:
            lengths = torch.full((batch,), time, device=y.device)
        is_real = (torch.arange(time, device=y.device).unsqueeze(1) < lengths).unsqueeze(-1)
        y = y.masked_fill(~is_real, 0.0)
        new = [kept[0] + lengths.unsqueeze(1).to(kept[0].dtype)]
        rest = kept[1:]
        for part in self._parts:
            if part == "last":
                new.append(self._last(rest[0], kept[0], y, lengths))
            elif part == "mean":
                new.append(rest[0] + y.sum(0))
            elif part == "max":
                new.append(torch.maximum(rest[0], y.masked_fill(~is_real, _LOWEST).amax(0)))
            else:
                new += self._attend(rest, y, is_real)
            rest = rest[1:]
        return tuple(new)

    def _last(self, kept: Tensor, count: Tensor, y: Tensor, lengths: Tensor) -> Tensor:
        index = (lengths - 1).clamp_min(0).view(1, -1, 1).expand(1, -1, y.shape[2])
        has_steps = (lengths > 0).unsqueeze(1)
        last = torch.where(has_steps, y.gather(0, index).squeeze(0), kept)
        if not self.bidirectional:
            return last
        half = self.size // 2
        first = torch.where(has_steps & (count == 0), y[0, :, half:], kept[:, half:])
        return torch.cat([last[:, :half], first], 1)

    def _attend(self, kept: Tensors, y: Tensor, is_real: Tensor) -> list[Tensor]:
        total, highest, weight = kept
        scores = self.score(self.project(y).tanh()).masked_fill(~is_real, _LOWEST)
        new_highest = torch.maximum(highest, scores.amax(0)).detach()
        weights = (scores - new_highest).exp() * is_real
        shrink = (highest - new_highest).exp()
        return [
            total * shrink + (weights * y).sum(0),
            new_highest,
            weight * shrink + weights.sum(0),
        ]

    def answer(self, kept: Tensors) -> Tensor:
        """The vector of what was read so far, (batch, output_size)."""
        count, rest = kept[0], kept[1:]
        vectors = []
        for part in self._parts:
            if part == "mean":
                vectors.append(rest[0] / count.clamp_min(1))
            elif part == "attention":
                vectors.append(rest[0] / rest[2].clamp_min(1e-30))
            else:
                vectors.append(torch.where(count > 0, rest[0], 0.0))
            rest = rest[1:]
        return torch.cat(vectors, 1)

    def forward(self, y: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Pool whole sequences; see `update` for the arguments."""
        return self.answer(self.update(self.start(y.shape[1], y), y, lengths))

    def extra_repr(self) -> str:
        return f"{self.kind}, {self.size}"
