"""The recursions of a linear-chain CRF in plain PyTorch: any device, any floating point type.

Letters as in `recurra.models.crf`. Rows are put in falling order of length, so that those inside at
a step stand in front and a step works on them alone.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Scores(NamedTuple):
    """A field's scores, -∞ where illegal: first (tags,), between (tags, tags), last (tags,)."""

    first: Tensor
    between: Tensor
    last: Tensor


def forward(e: Tensor, scores: Scores, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """α of every step, (time, batch, tags), undefined past each length; and log Z, (batch,)."""
    rows = _Rows.of(lengths, len(e))
    alphas = _forward(e[:, rows.order], scores, rows)
    sums = _at_ends(alphas, rows, lambda x: (x + scores.last).logsumexp(-1))
    return rows.back(alphas, 1), rows.back(sums, 0)


def backward(
    e: Tensor,
    scores: Scores,
    lengths: Tensor,
    alphas: Tensor,
    sums: Tensor,
    weights: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Marginals, times a weight for each row if there are weights.

    Returns:
        p(y_t), (time, batch, tags), 0 past each length, and Σ p(y_t, y_{t+1}), (tags, tags), over
        all rows and steps; the latter is 0 without weights.
    """
    rows = _Rows.of(lengths, len(e))
    ordered = alphas[:, rows.order], sums[rows.order]
    w = None if weights is None else weights[rows.order]
    betas, d_between = _backward(e[:, rows.order], scores, rows, *ordered, w)
    steps = torch.arange(len(e), device=e.device).unsqueeze(1)
    p = (ordered[0] + betas - ordered[1].unsqueeze(-1)).exp()
    p = p.masked_fill((steps >= rows.lengths).unsqueeze(-1), 0.0)
    return rows.back(p if w is None else p * w.unsqueeze(-1), 1), d_between


def viterbi(e: Tensor, scores: Scores, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The best tags, (time, batch), int64, 0 past each length; and their scores, (batch,)."""
    rows = _Rows.of(lengths, len(e))
    tags, best = _viterbi(e[:, rows.order], scores, rows)
    return rows.back(tags, 1), rows.back(best, 0)


class _Rows(NamedTuple):
    """Rows in falling order of length.

    `order`: (batch,); `lengths` in that order; `inside`: how many are inside at each step, and 0
    after the last.
    """

    order: Tensor
    lengths: Tensor
    inside: list[int]

    @classmethod
    def of(cls, lengths: Tensor, time: int) -> "_Rows":
        ordered, order = lengths.sort(descending=True, stable=True)
        steps = torch.arange(time, device=lengths.device)
        inside = (lengths.unsqueeze(1) > steps).sum(0).tolist()
        return cls(order, ordered, [*inside, 0])

    def back(self, x: Tensor, axis: int) -> Tensor:
        """Rows in the order in which they were given."""
        return x.index_select(axis, self.order.argsort())


def _forward(e: Tensor, scores: Scores, rows: _Rows) -> Tensor:
    alphas = torch.empty_like(e)
    torch.add(e[0], scores.first, out=alphas[0])
    for step in range(1, len(e)):
        n = rows.inside[step]
        if not n:
            break
        paths = alphas[step - 1, :n].unsqueeze(2) + scores.between  # (rows, from, to)
        torch.add(paths.logsumexp(1), e[step, :n], out=alphas[step, :n])
    return alphas


def _backward(
    e: Tensor, scores: Scores, rows: _Rows, alphas: Tensor, sums: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """β of every step, and Σ weight · p(y_t, y_{t+1})."""
    betas = torch.empty_like(e)
    d_between = torch.zeros_like(scores.between)
    for step in range(len(e) - 1, -1, -1):
        n, goes_on = rows.inside[step], rows.inside[step + 1]
        betas[step, goes_on:n] = scores.last
        if not goes_on:
            continue
        following = e[step + 1, :goes_on] + betas[step + 1, :goes_on]
        paths = following.unsqueeze(1) + scores.between  # (rows, from, to)
        here = paths.logsumexp(2)
        betas[step, :goes_on] = here
        if weights is not None:
            share = (alphas[step, :goes_on] + here - sums[:goes_on].unsqueeze(1)).exp()
            chosen = (paths - here.unsqueeze(2)).exp().nan_to_num(0.0)  # -∞ - -∞: nothing leads on
            weighted = share * weights[:goes_on].unsqueeze(1)
            d_between += (chosen * weighted.unsqueeze(2)).sum(0)
    return betas, d_between


def _at_ends(x: Tensor, rows: _Rows, function: Any) -> Tensor:
    """A function of each row's last step, (batch,); 0 for empty rows."""
    at = (rows.lengths - 1).clamp(min=0)
    ends: Tensor = function(x[at, torch.arange(len(at), device=x.device)])
    return ends.masked_fill(rows.lengths == 0, 0.0)


def _viterbi(e: Tensor, scores: Scores, rows: _Rows) -> tuple[Tensor, Tensor]:
    time, batch, _ = e.shape
    came_from = torch.zeros(e.shape, dtype=torch.long, device=e.device)
    best = e[0] + scores.first
    for step in range(1, time):
        n = rows.inside[step]
        if not n:
            break
        highest, came_from[step, :n] = (best[:n].unsqueeze(2) + scores.between).max(1)
        best[:n] = highest + e[step, :n]
    ends, tag = (best + scores.last).max(1)
    tags = torch.zeros(time, batch, dtype=torch.long, device=e.device)
    for step in range(time - 1, -1, -1):
        n, goes_on = rows.inside[step], rows.inside[step + 1]
        if goes_on:
            earlier = came_from[step + 1, :goes_on].gather(1, tag[:goes_on].unsqueeze(1))
            tag[:goes_on] = earlier.squeeze(1)
        tags[step, :n] = tag[:n]
    return tags, ends.masked_fill(rows.lengths == 0, 0.0)
