"""Tags of sentences in bounded memory, and word by word."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from recurra.data.encoded_sentences import LONGEST, EncodedSentences
from recurra.data.length_batches import by_length
from recurra.data.lexicon import Lexicon
from recurra.errors import ArgumentError
from recurra.layers import State
from recurra.tasks.mode import evaluation_mode

BLOCK = 1 << 16  # words that are encoded at once
BATCH = 1 << 13  # padded steps that run at once
CONTEXT = 64  # words that a piece of a long sentence sees of its neighbours, on either side


@dataclass(frozen=True)
class TaggedSentence:
    """One sentence's answer.

    Attributes:
        words: as they were given.
        tags: in the scheme of the training text.
        confidence: probability of each tag, of a CRF its marginal; empty if it was not asked for.
    """

    words: list[str]
    tags: list[str]
    confidence: list[float]


@dataclass(frozen=True)
class _Window:
    """Words to read, of which those from `first` to `last` are answered."""

    words: Sequence[str]
    first: int
    last: int
    ends_sentence: bool


def tag_sentences(
    model: Any,
    lexicon: Lexicon,
    sentences: Iterable[Sequence[str]],
    *,
    confidence: bool = True,
) -> Iterator[TaggedSentence]:
    """Tag sentences, in their order, as they come.

    Up to 65,536 words are read ahead, put into batches of about equal length, and run 8,192 steps
    at a time: memory does not grow with the text. A sentence of more than 512 words is read in
    windows of 512 that overlap: each word is answered with 64 words of context or more on either
    side, as far as there are any, and not with the whole sentence. So a line of a million words
    takes the memory of its words and no more.

    Args:
        model: a `RecurrentTagger`; used in evaluation mode.
        lexicon: its words, characters and tags.
        sentences: lists of words, which may be empty.
        confidence: False saves the time for probabilities.
    """
    is_legal = model.crf is not None
    words: list[str] = []
    ids: list[int] = []
    p: list[float] = []
    for block in _blocks(sentences):
        encoded = EncodedSentences([window.words for window in block], lexicon, longest=None)
        all_ids, all_p = run(model, encoded, confidence=confidence)
        for window, start in zip(block, encoded.offsets.tolist(), strict=False):
            first, last = window.first, window.last
            words += window.words[first:last]
            ids += all_ids[start + first : start + last].tolist()
            p += all_p[start + first : start + last].tolist() if confidence else ()
            if window.ends_sentence:
                yield TaggedSentence(words, lexicon.decode_tags(ids, is_legal=is_legal), p)
                words, ids, p = [], [], []


def run(
    model: Any, encoded: EncodedSentences, *, confidence: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Tag ids and their probabilities for all words of encoded sentences, each (words,)."""
    device = next(model.parameters()).device
    ids = np.zeros(len(encoded.words), np.int64)
    p = np.ones(len(encoded.words), np.float32)
    # most callers are in evaluation mode, and to go through all modules takes a sentence's time
    with evaluation_mode(model) if model.training else torch.no_grad():
        vectors = _word_vectors(model, encoded, device)
        for pieces in by_length(encoded.lengths, BATCH) if len(encoded.words) else ():
            positions, inside = encoded.positions(pieces)
            words = encoded.words[np.where(inside, positions, 0)]
            lengths = torch.from_numpy(encoded.lengths[pieces]).to(device)
            distinct, rows = np.unique(words, return_inverse=True)
            emissions = model.emissions_of(
                vectors[torch.from_numpy(distinct).to(device)],
                lengths,
                torch.from_numpy(rows.reshape(words.shape)).to(device),
            )
            answer = model.answer(emissions, lengths, confidence=confidence)
            ids[positions[inside]] = answer.tags.cpu().numpy()[inside]
            p[positions[inside]] = answer.confidence.cpu().numpy()[inside]
    return ids, p


def _word_vectors(model: Any, encoded: EncodedSentences, device: torch.device) -> torch.Tensor:
    """Each distinct word's vector, (distinct, features)."""
    parts = by_length(encoded.distinct.lengths, BATCH)
    if not parts:
        return torch.zeros(0, device=device)
    read = [
        model.words.distinct(tuple(part.to(device) for part in encoded.distinct.select(group)))
        for group in parts
    ]
    order = torch.from_numpy(np.argsort(np.concatenate(parts))).to(device)
    return torch.cat(read)[order]


def _blocks(sentences: Iterable[Sequence[str]]) -> Iterator[list[_Window]]:
    """Windows of sentences, up to `BLOCK` words at once."""
    block: list[_Window] = []
    size = 0
    for sentence in sentences:
        for window in _windows(sentence):
            block.append(window)
            size += len(window.words) + 1
            if size >= BLOCK:
                yield block
                block, size = [], 0
    if block:
        yield block


def _windows(sentence: Sequence[str]) -> Iterator[_Window]:
    """A sentence, or if it is long its parts with their context."""
    if len(sentence) <= LONGEST:
        yield _Window(sentence, 0, len(sentence), True)
        return
    step = LONGEST - 2 * CONTEXT
    for start in range(0, len(sentence), step):
        end = min(start + step, len(sentence))
        begin = max(start - CONTEXT, 0)
        words = sentence[begin : end + CONTEXT]
        yield _Window(words, start - begin, end - begin, end == len(sentence))


class TagStream:
    """Tags words as they come: for a tagger without the reverse direction and without a CRF.

    The numbers are those of the whole sentence at once; the tags are of the scheme that was
    learned, since what ends an entity in another one depends on the next word.

    Args:
        model: a `RecurrentTagger`.
        lexicon: its words, characters and tags.
        streams: how many sentences run side by side.

    Attributes:
        state: what the layers remember, to be saved or restored; `None` at a sentence's start.

    Raises:
        ArgumentError: the tagger has a reverse direction or a CRF.
    """

    def __init__(self, model: Any, lexicon: Lexicon, *, streams: int = 1) -> None:
        if model.bidirectional or model.crf is not None:
            raise ArgumentError(
                "a tagger answers word by word only with bidirectional=false and crf=false; train "
                "one with these"
            )
        self.model, self.lexicon, self.streams = model, lexicon, streams
        self.state: State | None = None

    def reset(self) -> None:
        """Begin new sentences in all streams."""
        self.state = None

    def step(self, words: Sequence[str]) -> list[tuple[str, float]]:
        """The tag of the next word of each stream, with its probability.

        Args:
            words: one for each stream.

        Returns:
            Tags are in the scheme that the model learned, not converted: that would need the words
            to come.

        Raises:
            ArgumentError: not one word for each stream.
        """
        if len(words) != self.streams:
            raise ArgumentError(f"{len(words)} words for {self.streams} streams; pass one for each")
        spelled = self.lexicon.spell(words).select(np.arange(len(words)))
        with evaluation_mode(self.model):
            log_p, self.state = self.model.step(*spelled, self.state)
        best, ids = log_p.exp().max(1)
        return [
            (self.lexicon.tags[tag], p) for tag, p in zip(ids.tolist(), best.tolist(), strict=True)
        ]
