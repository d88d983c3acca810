"""Linear-chain conditional random field over ragged batches, in the log domain.

    score(y) = s_{y_1} + Σ_t e_{t, y_t} + Σ_t A_{y_t, y_{t+1}} + f_{y_n}      p(y) = exp(score(y)) / Z

    α_1 = s + e_1     α_{t+1, j} = log Σ_i exp(α_{t, i} + A_{ij}) + e_{t+1, j}     log Z = log Σ_j exp(α_{n, j} + f_j)
    β_n = f           β_{t, i} = log Σ_j exp(A_{ij} + e_{t+1, j} + β_{t+1, j})
    p(y_t = i) = exp(α_{t, i} + β_{t, i} - log Z)    p(y_t = i, y_{t+1} = j) = p(y_t = i) softmax_j(A_{ij} + e_{t+1, j} + β_{t+1, j})

Symbols: e emissions (time, batch, tags); s, f, A scores of first tags, last tags and transitions;
n a row's length. An illegal transition has the score -∞. An empty row has one sequence, the empty
one, of score 0: log Z = 0.
Source: Lafferty et al. 2001; in a tagger over a bidirectional LSTM: Huang et al. 2015, Lample et
al. 2016. The gradient of log Z is the marginals (forward-backward), computed here without autograd.
"""  # noqa: E501

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recurra.errors import ArgumentError, ShapeError
from recurra.models import crf_compiled, crf_steps
from recurra.models.crf_steps import Scores


class LinearChainCRF(nn.Module):
    """Scores of first tags, last tags and of each tag after each other.

    Args:
        num_tags: tags, at least 1.
        allowed: (tags + 1) rows of (tags + 1) booleans: may tag j follow tag i; the last row is
            for the first tag of a sentence, the last column for what may end one. `None`: all may.

    Shapes: emissions (time, batch, tags), floating point; lengths (batch,), integers in 0..time,
        `None` for full rows; what stands past a length is never read.

    Raises:
        ArgumentError: `allowed` of another shape.

    Example:
        >>> crf = LinearChainCRF(3)
        >>> emissions, lengths = torch.randn(5, 2, 3), torch.tensor([5, 0])
        >>> crf.log_partition(emissions, lengths).shape, crf.decode(emissions, lengths)[0].shape
        (torch.Size([2]), torch.Size([5, 2]))
    """

    def __init__(self, num_tags: int, allowed: Sequence[Sequence[bool]] | None = None) -> None:
        super().__init__()
        if num_tags < 1:
            raise ArgumentError(f"num_tags={num_tags} must be at least 1")
        self.num_tags = num_tags
        self.first = nn.Parameter(torch.zeros(num_tags))
        self.between = nn.Parameter(torch.empty(num_tags, num_tags))
        self.last = nn.Parameter(torch.zeros(num_tags))
        nn.init.uniform_(self.between, -0.1, 0.1)
        size = num_tags + 1
        table = torch.ones(size, size, dtype=torch.bool)
        if allowed is not None:
            table = torch.tensor(allowed, dtype=torch.bool)
        if table.shape != (size, size):
            raise ArgumentError(
                f"allowed has shape {tuple(table.shape)}; expected {(size, size)}: {num_tags} tags "
                "and the boundary of a sentence"
            )
        self.register_buffer("allowed", table, persistent=False)
        self.allowed: Tensor

    def scores(self) -> Scores:
        """The scores with -∞ for what is illegal."""
        allowed = self.allowed
        return Scores(
            self.first.masked_fill(~allowed[-1, :-1], -torch.inf),
            self.between.masked_fill(~allowed[:-1, :-1], -torch.inf),
            self.last.masked_fill(~allowed[:-1, -1], -torch.inf),
        )

    def score(self, emissions: Tensor, tags: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Score of given tags (time, batch), as (batch,); -∞ for illegal ones, 0 for empty rows."""
        lengths = self._checked(emissions, lengths)
        time, batch = emissions.shape[:2]
        first, between, last = self.scores()
        inside = torch.arange(time, device=emissions.device).unsqueeze(1) < lengths
        tags = tags.masked_fill(~inside, 0)
        read = emissions.gather(2, tags.unsqueeze(2)).squeeze(2)
        total = torch.where(inside, read, 0.0).sum(0)
        moved = between[tags[:-1], tags[1:]]
        total = total + torch.where(inside[1:], moved, 0.0).sum(0)
        end = tags[(lengths - 1).clamp(min=0), torch.arange(batch, device=tags.device)]
        return total + torch.where(lengths > 0, first[tags[0]] + last[end], 0.0)

    def log_partition(self, emissions: Tensor, lengths: Tensor | None = None) -> Tensor:
        """log Z of each row, (batch,); differentiable once."""
        lengths = self._checked(emissions, lengths)
        result: Tensor
        result = _LogPartition.apply(emissions, *self.scores(), lengths)  # type: ignore[no-untyped-call]
        return result

    def log_likelihood(
        self, emissions: Tensor, tags: Tensor, lengths: Tensor | None = None
    ) -> Tensor:
        """log p(tags) of each row in nats, (batch,)."""
        return self.score(emissions, tags, lengths) - self.log_partition(emissions, lengths)

    @torch.no_grad()
    def marginals(self, emissions: Tensor, lengths: Tensor | None = None) -> Tensor:
        """p(y_t = j) of every tag, (time, batch, tags); 0 past each length; without gradients."""
        lengths = self._checked(emissions, lengths)
        steps, scores = _recursions(emissions), self.scores()
        alphas, sums = steps.forward(emissions, scores, lengths)
        result: Tensor = steps.backward(emissions, scores, lengths, alphas, sums, None)[0]
        return result

    @torch.no_grad()
    def decode(self, emissions: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The best tags by Viterbi's algorithm; among equals, those of lower ids at their ends.

        Returns:
            `(tags, scores)`: (time, batch), int64, 0 past each length; (batch,).
        """
        lengths = self._checked(emissions, lengths)
        result: tuple[Tensor, Tensor]
        result = _recursions(emissions).viterbi(emissions, self.scores(), lengths)
        return result

    def _checked(self, emissions: Tensor, lengths: Tensor | None) -> Tensor:
        if emissions.dim() != 3 or emissions.shape[2] != self.num_tags or not len(emissions):
            raise ShapeError(
                f"emissions have shape {tuple(emissions.shape)}; expected (time, batch, "
                f"{self.num_tags}) with one step or more"
            )
        time, batch = emissions.shape[:2]
        if lengths is None:
            return torch.full((batch,), time, device=emissions.device)
        if lengths.shape != (batch,) or lengths.is_floating_point():
            raise ShapeError(
                f"lengths is {lengths.dtype} {tuple(lengths.shape)}; expected integers ({batch},)"
            )
        if batch and (int(lengths.min()) < 0 or int(lengths.max()) > time):
            raise ShapeError(
                f"lengths go from {int(lengths.min())} to {int(lengths.max())}; they must be in "
                f"0..{time} (time)"
            )
        return lengths.to(emissions.device)


def _recursions(emissions: Tensor) -> Any:
    """The module that runs the recursions: compiled on a CPU, plain PyTorch elsewhere."""
    return crf_compiled if emissions.device.type == "cpu" else crf_steps


class _LogPartition(torch.autograd.Function):
    """log Z, and its gradients by forward-backward."""

    @staticmethod
    def forward(
        ctx: Any, emissions: Tensor, first: Tensor, between: Tensor, last: Tensor, lengths: Tensor
    ) -> Tensor:
        steps, scores = _recursions(emissions), Scores(first, between, last)
        alphas, sums = steps.forward(emissions, scores, lengths)
        ctx.save_for_backward(emissions, *scores, lengths, alphas, sums)
        result: Tensor = sums.to(emissions.dtype)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        emissions, first, between, last, lengths, alphas, sums = ctx.saved_tensors
        steps, scores = _recursions(emissions), Scores(first, between, last)
        d_e, d_between = steps.backward(emissions, scores, lengths, alphas, sums, gradient)
        rows = torch.arange(len(lengths), device=lengths.device)
        ends = d_e[(lengths - 1).clamp(min=0), rows]  # of an empty row: 0, as all of its row
        return d_e, d_e[0].sum(0), d_between, ends.sum(0), None
