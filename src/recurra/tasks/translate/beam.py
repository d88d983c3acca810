"""Beam search over a batch of sentences, their hypotheses side by side in one batch of rows.

A sentence is done when `beam_size` hypotheses have ended, or at its bound. A hypothesis ends only
if its end is among the `beam_size` best continuations of its sentence; so a beam of 1 is greedy.
Source: Sutskever et al. 2014, section 3.2; scores after Wu et al. 2016, equation 14.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from recurra.models.translator import RecurrentTranslator
from recurra.tasks.translate.search import (
    END,
    NEVER,
    Decoding,
    Hypothesis,
    constrain,
    length_divisor,
)


@torch.no_grad()
def beam_search(
    model: RecurrentTranslator,
    source: Tensor,
    lengths: Tensor,
    bounds: Sequence[int],
    options: Decoding,
    *,
    with_attention: bool = False,
) -> list[list[Hypothesis]]:
    """The best translations of each sentence, the best first.

    Args:
        model: in evaluation mode.
        source: (places, batch).
        lengths: (batch,).
        bounds: most tokens of each translation; then the end is all that is allowed.
        options: of the search.
        with_attention: return where each word looked.

    Returns:
        For each sentence `n_best` hypotheses, fewer only if there are no more.
    """
    beam = options.beam_size
    looks = with_attention or options.coverage_penalty > 0
    memory = model.encode(source, lengths)
    rows = torch.arange(len(lengths), device=source.device).repeat_interleave(beam)
    memory = memory.select(rows)
    state = model.start(memory)
    alive = list(range(len(lengths)))  # sentences that go on, `beam` rows each
    sums = memory.values.new_full((len(alive), beam), NEVER)
    sums[:, 0] = 0.0
    words = torch.full((len(alive) * beam,), END, device=source.device)
    tokens = words.new_zeros(len(words), 0)
    looked = memory.values.new_zeros(len(words), 0, memory.mask.shape[1])
    ended: list[list[Hypothesis]] = [[] for _ in alive]
    while alive:
        limits = [bounds[i] for i in alive for _ in range(beam)]
        log_p, weights, state = model.next_log_probabilities(words, memory, state)
        log_p = constrain(log_p, tokens, limits, options)
        if looks and weights is not None:
            looked = torch.cat([looked, weights.unsqueeze(1)], 1)
        best, parents, chosen = _continuations(sums, log_p, beam)
        _collect(ended, alive, best, parents, chosen, tokens, looked, options)
        sums, parents, chosen = _not_ended(best, parents, chosen, beam)
        going = [
            place
            for place, i in enumerate(alive)
            if len(ended[i]) < beam and bool((sums[place] > NEVER).any())
        ]
        alive = [alive[place] for place in going]
        places = torch.tensor(going, dtype=torch.long, device=source.device)
        sums, words = sums[places], chosen[places].flatten()
        kept = (places.unsqueeze(1) * beam + parents[places]).flatten()
        state, looked = state.select(kept), looked[kept]
        tokens = torch.cat([tokens[kept], words.unsqueeze(1)], 1)
        if len(going) * beam < len(memory.mask):  # rows of a sentence share its memory
            memory = memory.select(kept)
    ranked = [sorted(found, key=lambda one: -one.score) for found in ended]
    return [found[: options.n_best] for found in ranked]


def _continuations(sums: Tensor, log_p: Tensor, beam: int) -> tuple[Tensor, Tensor, Tensor]:
    """The 2·beam best of each sentence: sums, which hypothesis, which word; (sentences, 2·beam)."""
    vocabulary = log_p.shape[1]
    count = min(2 * beam, vocabulary)
    best, chosen = log_p.topk(count, 1)  # first of each row: far fewer numbers to rank together
    total = (sums.unsqueeze(2) + best.view(*sums.shape, count)).flatten(1)
    best, places = total.topk(min(2 * beam, total.shape[1]), 1)
    return best, places // count, chosen.view(len(sums), -1).gather(1, places)


def _collect(
    ended: list[list[Hypothesis]],
    alive: Sequence[int],
    best: Tensor,
    parents: Tensor,
    chosen: Tensor,
    tokens: Tensor,
    looked: Tensor,
    options: Decoding,
) -> None:
    """Add the hypotheses whose end is among the best `beam` to those that ended."""
    beam = options.beam_size
    ends = (chosen[:, :beam] == END) & (best[:, :beam] > NEVER)
    for place, rank in ends.nonzero().tolist():
        found = ended[alive[place]]
        if len(found) == beam:
            continue
        row = place * beam + int(parents[place, rank])
        ids, log_probability = tokens[row].tolist(), float(best[place, rank])
        score = log_probability / length_divisor(len(ids) + 1, options.length_penalty)
        attention = looked[row] if looked.shape[1] else None
        if options.coverage_penalty and attention is not None:
            covered = attention.sum(0)
            covered = covered[covered > 0].clamp_max(1.0)  # places past the end have none
            score += options.coverage_penalty * float(covered.log().sum())
        found.append(Hypothesis(ids, log_probability, score, attention))


def _not_ended(
    best: Tensor, parents: Tensor, chosen: Tensor, beam: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The `beam` best continuations that are no end, in their order; -inf where there are fewer."""
    is_end = chosen == END
    order = is_end.to(torch.int8).argsort(dim=1, stable=True)[:, :beam]
    sums = best.masked_fill(is_end, NEVER).gather(1, order)
    parents, chosen = parents.gather(1, order), chosen.gather(1, order)
    missing = beam - sums.shape[1]
    if missing > 0:
        pad = torch.nn.functional.pad
        sums = pad(sums, (0, missing), value=NEVER)
        parents, chosen = pad(parents, (0, missing)), pad(chosen, (0, missing))
    return sums, parents, chosen
