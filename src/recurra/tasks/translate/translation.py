"""Lines in, translations out: batches, the search, words of ids, unknown words, alignment."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recurra.data.length_batches import by_length
from recurra.data.parallel import ParallelText
from recurra.data.tokenizer import Tokenizer
from recurra.errors import ArgumentError
from recurra.models.translator import RecurrentTranslator
from recurra.tasks.lm.scoring import LineScore
from recurra.tasks.mode import evaluation_mode
from recurra.tasks.translate.beam import beam_search
from recurra.tasks.translate.encoding import EncodedPairs, Tokenizers, encode_sources
from recurra.tasks.translate.search import Decoding, Hypothesis, greedy, sample

BATCH_STEPS = 10_000  # padded source tokens times hypotheses that run at once


@dataclass(frozen=True)
class Translation:
    """A translation of a line.

    Attributes:
        text: of the translation.
        score: what it is ranked by, and
        log_probability: of its tokens and the end, natural logarithm; both 0 for an empty line.
        source_tokens, tokens: as the model has them, ends left out.
        attention: (tokens + 1, source tokens + 1), the ends last; `None` if not asked for.
    """

    text: str
    score: float
    log_probability: float
    source_tokens: list[str]
    tokens: list[str]
    attention: np.ndarray | None = None

    def alignment(self) -> list[tuple[int, int]]:
        """(place in the source, place in the translation): where each token looked most.

        Raises:
            ArgumentError: the model has no attention, or it was not asked for.
        """
        if self.attention is None:
            raise ArgumentError("no attention: the model has none, or it was not asked for")
        places = max(len(self.source_tokens), 1)
        looks = self.attention[: len(self.tokens), :places].argmax(1) if self.tokens else []
        return [(int(place), k) for k, place in enumerate(looks)]


def translate_lines(
    model: RecurrentTranslator,
    tokenizers: Tokenizers,
    lines: Sequence[str],
    options: Decoding,
    *,
    ratio: float = 2.0,
    with_attention: bool = False,
    replace_unknown: bool = True,
) -> list[list[Translation]]:
    """The translations of each line, the best first; a blank line gives an empty one.

    Equal lines are translated once, so their translations are equal (unless they are drawn: then
    all equal lines share the draw).

    Args:
        model: used in evaluation mode.
        tokenizers: of both sides.
        lines: sources, of any length.
        options: of the search.
        ratio: bound of the length, for each token of the source; see `Decoding.max_ratio`.
        with_attention: keep where each token looked.
        replace_unknown: of word and character models with attention: an unknown token is replaced
            by the source token that it looked at most (Luong et al. 2015b).
    """
    distinct = list(dict.fromkeys(line for line in lines if line.strip()))
    sources = encode_sources(distinct, tokenizers.source)
    beam = 1 if options.sample else options.beam_size
    replace_unknown = replace_unknown and tokenizers.target.kind != "bpe"  # which has no unknown
    looks = model.attention is not None and (with_attention or replace_unknown)
    found: dict[str, list[Translation]] = {}
    with evaluation_mode(model):
        for rows in by_length(sources.lengths.numpy(), max(1, BATCH_STEPS // beam)):
            source, lengths = sources.batch(rows.tolist())
            bounds = options.bounds(lengths, ratio)
            given = source.long(), lengths, bounds, options
            if options.sample or options.beam_size == 1:
                search = sample if options.sample else greedy
                answers = [[one] for one in search(model, *given, with_attention=looks)]
            else:
                answers = beam_search(model, *given, with_attention=looks)
            for row, hypotheses in zip(rows, answers, strict=True):
                line = distinct[int(row)]
                found[line] = [
                    _translation(line, one, tokenizers, replace_unknown, with_attention)
                    for one in hypotheses
                ]
    nothing = [Translation("", 0.0, 0.0, [], [])]
    return [found.get(line, nothing) for line in lines]


def _translation(
    line: str,
    found: Hypothesis,
    tokenizers: Tokenizers,
    replace_unknown: bool,
    with_attention: bool,
) -> Translation:
    source, target = tokenizers
    read = source.tokens(line)
    attention = None
    if found.attention is not None:
        attention = found.attention[:, : len(read) + 1].float().cpu().numpy()
    tokens = [target.vocabulary[i] for i in found.ids]
    shown = list(tokens)
    if replace_unknown and attention is not None and read:
        for k, i in enumerate(found.ids):
            if i == target.unknown_id:
                shown[k] = read[int(attention[k, : len(read)].argmax())]
    if target.kind == "bpe":
        text = target.decode(found.ids)
    else:
        text = ("" if target.kind == "char" else " ").join(shown)
    text = " ".join(text.split("\n")).replace("\r", " ")  # one line stays one line
    scores = found.score, found.log_probability
    return Translation(text, *scores, read, tokens, attention if with_attention else None)


def score_pairs(
    model: RecurrentTranslator,
    tokenizers: Tokenizers,
    text: ParallelText,
    *,
    batch_steps: int = BATCH_STEPS,
) -> list[LineScore]:
    """How likely the model finds each given translation of its source, in the text's order.

    Returns:
        For each pair a `LineScore`, whose line is source and translation with a tab between.
    """
    pairs = EncodedPairs(text, tokenizers)
    log_p = np.zeros(len(pairs))
    with evaluation_mode(model):
        for rows in by_length(pairs.steps, batch_steps):
            found, _ = model.log_probabilities(*pairs.batch(rows))
            log_p[rows] = found.double().sum(0).cpu().numpy()
    lengths = pairs.target.lengths.tolist()
    return [
        LineScore(f"{source}\t{target}", float(value), length)
        for (source, target), value, length in zip(text.pairs(), log_p, lengths, strict=True)
    ]


def unknown_share(lines: Sequence[str], tokenizer: Tokenizer) -> float:
    """Share of tokens that the tokenizer does not know, 0..1."""
    ids = [i for line in lines for i in tokenizer.encode(line)]
    return ids.count(tokenizer.unknown_id) / max(len(ids), 1)


def nats_per_token(scores: Sequence[LineScore]) -> float:
    """Mean over tokens, ends counted."""
    tokens = sum(one.tokens for one in scores)
    return -sum(one.log_probability for one in scores) / max(tokens, 1)
