"""Attention of a decoder over an encoder's outputs, by three scores, with coverage.

    e_ts = score(h_t, m_s) + w·c_ts      a_t = softmax over s of e_t      context_t = Σ_s a_ts m_s

    dot        h·m                                     (Luong et al. 2015, section 3.1)
    general    h·(W m)                                 (the same)
    additive   v·tanh(W m + U h)                       (Bahdanau et al. 2015, equation A.1.2)

with h_t the decoder's output at step t, m_s the encoder's at s, and c_ts = Σ_{u<t} a_us, the
coverage (Tu et al. 2016; See et al. 2017, equations 10 to 12). Differs: all scores look at h_t, the
state *after* the step, as Luong's do; Bahdanau's looks at the one before. The coverage has one
weight w that is added to the score, not a vector inside the tanh. With outputs of two directions,
"dot" takes their sum as key, so that sizes agree.
"""

import torch
from torch import Tensor, nn

from recurra.errors import ArgumentError

SCORES = ("dot", "general", "additive")
LARGEST = 1 << 24  # numbers of an additive score's tanh that exist at once


class Attention(nn.Module):
    """Where a decoder looks.

    Args:
        score: "dot", "general" or "additive".
        query_size: of the decoder's outputs.
        memory_size: of the encoder's outputs; for "dot" `query_size` or twice that.
        coverage: scores know how much each place was looked at before. Weights are then computed
            step by step.

    Raises:
        ArgumentError: an unknown score, or sizes that "dot" cannot multiply.

    Example:
        >>> attention = Attention("general", 4, 6)
        >>> values, mask = torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool)
        >>> found = attention(torch.randn(2, 3, 4), attention.keys(values), values, mask)
        >>> context, weights, coverage = found
        >>> context.shape, weights.shape
        (torch.Size([2, 3, 6]), torch.Size([2, 3, 5]))
    """

    def __init__(
        self, score: str, query_size: int, memory_size: int, *, coverage: bool = False
    ) -> None:
        super().__init__()
        if score not in SCORES:
            raise ArgumentError(f"attention {score!r} is unknown; use one of {', '.join(SCORES)}")
        if score == "dot" and memory_size not in (query_size, 2 * query_size):
            raise ArgumentError(
                f"dot attention multiplies decoder outputs of size {query_size} with encoder "
                f"outputs of size {memory_size}; they must be equal; use general"
            )
        self.score, self.query_size = score, query_size
        self.project = None
        if score != "dot":
            self.project = nn.Linear(memory_size, query_size, bias=False)
        self.query = nn.Linear(query_size, query_size) if score == "additive" else None
        self.vector = nn.Parameter(torch.empty(query_size)) if score == "additive" else None
        if self.vector is not None:
            nn.init.uniform_(self.vector, -(query_size**-0.5), query_size**-0.5)
        self.coverage_weight = nn.Parameter(torch.zeros(())) if coverage else None

    def keys(self, values: Tensor) -> Tensor:
        """What queries are compared with, (batch, places, query_size); once for each source."""
        if self.project is not None:
            keys: Tensor = self.project(values)
            return keys
        if values.shape[-1] == self.query_size:
            return values
        return values.reshape(*values.shape[:-1], 2, self.query_size).sum(-2)

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor,
        coverage: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Look.

        Args:
            queries: (batch, time, query_size).
            keys: what `keys` gave.
            values: (batch, places, memory_size).
            mask: bool (batch, places), True at real places. A row without any is not allowed.
            coverage: (batch, places), the sum of weights before the first query; `None`: zeros.

        Returns:
            `(context, weights, coverage)`: (batch, time, memory_size); (batch, time, places), which
            sum to 1 over real places; the coverage after the last query, `None` without coverage.
        """
        scores = self._scores(queries, keys)
        scores = scores.masked_fill(~mask.unsqueeze(1), float("-inf"))
        if self.coverage_weight is None:
            weights = scores.softmax(-1)
            return weights @ values, weights, None
        covered = scores.new_zeros(mask.shape) if coverage is None else coverage
        steps = []
        for step in scores.unbind(1):
            steps.append((step + self.coverage_weight * covered).softmax(-1))
            covered = covered + steps[-1]
        weights = torch.stack(steps, 1)
        return weights @ values, weights, covered

    def _scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        if self.query is None:
            return queries @ keys.transpose(1, 2)
        assert self.vector is not None
        asked = self.query(queries)
        batch, places, size = keys.shape
        rows = max(1, LARGEST // max(1, batch * places * size))
        parts = [
            (part.unsqueeze(2) + keys.unsqueeze(1)).tanh() @ self.vector
            for part in asked.split(rows, 1)
        ]
        return torch.cat(parts, 1)


def coverage_loss(weights: Tensor, counted: Tensor) -> Tensor:
    """Σ_t Σ_s min(a_ts, c_ts) over counted steps: looking twice at a place costs (See et al. 2017).

    Args:
        weights: (batch, time, places).
        counted: (batch, time), 1 at real steps, else 0.

    Example:
        >>> once = torch.eye(3).unsqueeze(0)
        >>> float(coverage_loss(once, torch.ones(1, 3)))
        0.0
    """
    before = weights.cumsum(1) - weights
    overlaps = torch.minimum(weights, before).sum(-1)
    return (overlaps * counted).sum()
