"""How translations are found: options of the search, the likeliest word, draws."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recurra.errors import ArgumentError
from recurra.models.translator import RecurrentTranslator
from recurra.tasks.lm.generation import truncated

END = 1
NEVER = float("-inf")


@dataclass(frozen=True)
class Decoding:
    """How to search.

    Attributes:
        beam_size: hypotheses that are kept at each step; 1 is greedy.
        n_best: how many to return of each sentence, at most `beam_size`.
        length_penalty: α of the score log p / ((5 + length) / 6)^α (Wu et al. 2016, equation 14);
            0 ranks by probability alone, which prefers short ones.
        coverage_penalty: β of β·Σ_s log min(Σ_t a_ts, 1), added to the score (the same); needs
            attention.
        min_length: fewest tokens before the end.
        max_length: most tokens before the end, whatever the source is.
        max_ratio: most tokens for each token of the source, plus 10; `None`: twice the ratio of
            the training text.
        no_repeat_ngram: no run of so many tokens occurs twice; 0 allows all.
        sample: draw words instead of searching; then beam_size is not used.
        temperature, top_k, top_p: of the draws.
        seed: of the draws.

    Raises:
        ArgumentError: a value out of its range.
    """

    beam_size: int = 5
    n_best: int = 1
    length_penalty: float = 1.0
    coverage_penalty: float = 0.0
    min_length: int = 0
    max_length: int = 200
    max_ratio: float | None = None
    no_repeat_ngram: int = 0
    sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("beam_size", "n_best", "max_length"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("length_penalty", "coverage_penalty", "min_length", "no_repeat_ngram"):
            if getattr(self, name) < 0:
                raise ArgumentError(f"{name}={getattr(self, name)} must not be negative")
        if self.n_best > (1 if self.sample else self.beam_size):
            raise ArgumentError(
                f"n_best={self.n_best} is more than beam_size={self.beam_size} keeps"
                + (", and sampling gives one" if self.sample else "")
            )
        if self.max_ratio is not None and self.max_ratio <= 0:
            raise ArgumentError(f"max_ratio={self.max_ratio} must be above 0")
        if self.min_length > self.max_length:
            raise ArgumentError(
                f"min_length={self.min_length} is more than max_length={self.max_length}"
            )

    def bounds(self, lengths: Tensor, ratio: float) -> list[int]:
        """Most tokens of each translation.

        Args:
            lengths: (batch,), of the sources, the end counted.
            ratio: tokens for each token of the source, where `max_ratio` is `None`.

        Example:
            >>> Decoding(max_length=30).bounds(torch.tensor([2, 90]), 1.5)
            [13, 30]
        """
        by_source = [10 + int((self.max_ratio or ratio) * int(n)) for n in lengths]
        return [max(self.min_length, min(self.max_length, most)) for most in by_source]


@dataclass(frozen=True)
class Hypothesis:
    """One translation of a sentence as ids.

    Attributes:
        ids: without the end.
        log_probability: of the ids and the end, natural logarithm.
        score: what hypotheses are ranked by.
        attention: (tokens + 1, places), or `None` if the model has none or it was not asked for.
    """

    ids: list[int]
    log_probability: float
    score: float
    attention: Tensor | None = None


def greedy(
    model: RecurrentTranslator,
    source: Tensor,
    lengths: Tensor,
    bounds: Sequence[int],
    options: Decoding,
    *,
    with_attention: bool = False,
) -> list[Hypothesis]:
    """The likeliest word at every step, for a batch; arguments: see `extend`."""
    return extend(
        model, source, lengths, bounds, options, _likeliest, with_attention=with_attention
    )


def sample(
    model: RecurrentTranslator,
    source: Tensor,
    lengths: Tensor,
    bounds: Sequence[int],
    options: Decoding,
    *,
    with_attention: bool = False,
) -> list[Hypothesis]:
    """Words drawn by their probability; equal seeds give equal words. Arguments: see `extend`."""
    generator = torch.Generator().manual_seed(options.seed)

    def draw(log_p: Tensor) -> Tensor:
        rows = [
            truncated(row, options.temperature, options.top_k, options.top_p)
            for row in log_p.cpu().unbind(0)
        ]
        drawn = torch.multinomial(torch.stack(rows), 1, generator=generator)
        return drawn.squeeze(1).to(log_p.device)

    return extend(model, source, lengths, bounds, options, draw, with_attention=with_attention)


@torch.no_grad()
def extend(
    model: RecurrentTranslator,
    source: Tensor,
    lengths: Tensor,
    bounds: Sequence[int],
    options: Decoding,
    choose: Callable[[Tensor], Tensor],
    *,
    with_attention: bool = False,
) -> list[Hypothesis]:
    """Translations word by word, for a batch; finished sentences leave it.

    Args:
        model: in evaluation mode.
        source: (places, batch).
        lengths: (batch,).
        bounds: most tokens of each translation; then the end is all that is allowed.
        options: lengths and repetition; ranking does not matter here.
        choose: one word for each row of log-probabilities (rows, vocabulary).
        with_attention: return where each word looked.
    """
    memory = model.encode(source, lengths)
    state = model.start(memory)
    at = torch.arange(len(lengths))  # which sentence a row is of
    words = torch.full((len(at),), END, device=source.device)
    tokens = words.new_zeros(len(at), 0)
    sums = memory.values.new_zeros(len(at), dtype=torch.float64)
    looks: list[Any] = [[] for _ in bounds]
    found: dict[int, Hypothesis] = {}
    while len(at):
        limits = [bounds[i] for i in at.tolist()]
        log_p, weights, state = model.next_log_probabilities(words, memory, state)
        log_p = constrain(log_p, tokens, limits, options)
        words = choose(log_p)
        sums = sums + log_p.gather(1, words.unsqueeze(1)).squeeze(1).double()
        if with_attention and weights is not None:
            for row, i in enumerate(at.tolist()):
                looks[i].append(weights[row])
        ended = (words == END).tolist()
        for row, i in enumerate(at.tolist()):
            if ended[row]:
                log_probability = float(sums[row])
                attention = torch.stack(looks[i]) if looks[i] else None
                ids = tokens[row].tolist()
                score = log_probability / length_divisor(len(ids) + 1, options.length_penalty)
                found[i] = Hypothesis(ids, log_probability, score, attention)
        tokens = torch.cat([tokens, words.unsqueeze(1)], 1)
        if any(ended):
            going = torch.tensor(
                [row for row, end in enumerate(ended) if not end], dtype=torch.long
            )
            at, words, tokens, sums = at[going], words[going], tokens[going], sums[going]
            memory, state = memory.select(going), state.select(going)
    return [found[i] for i in range(len(bounds))]


def constrain(log_p: Tensor, tokens: Tensor, limits: Sequence[int], options: Decoding) -> Tensor:
    """Log-probabilities with what is not allowed at -inf.

    Args:
        log_p: (rows, vocabulary); changed in place.
        tokens: (rows, step), what stands so far.
        limits: most tokens of each row.
        options: `min_length` and `no_repeat_ngram`.
    """
    step = tokens.shape[1]
    if step < options.min_length:
        log_p[:, END] = NEVER
    size = options.no_repeat_ngram
    if size and step >= size:
        for row, ids in enumerate(tokens.tolist()):
            begin = ids[step - size + 1 :]
            for k in range(step - size + 1):
                if ids[k : k + size - 1] == begin:
                    log_p[row, ids[k + size - 1]] = NEVER
    full = [row for row, limit in enumerate(limits) if step >= limit]
    if full:
        ends = log_p[full, END]
        log_p[full] = NEVER
        log_p[full, END] = ends
    return log_p


def length_divisor(length: int, alpha: float) -> float:
    """((5 + length) / 6)^α (Wu et al. 2016, equation 14).

    Example:
        >>> length_divisor(7, 1.0), length_divisor(7, 0.0)
        (2.0, 1.0)
    """
    return float(((5 + length) / 6) ** alpha)


def _likeliest(log_p: Tensor) -> Tensor:
    return log_p.argmax(1)
