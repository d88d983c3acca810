"""Tagged sentences as numbers: each distinct word once, and where it stands."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recurra.data.lexicon import Lexicon
from recurra.data.spelling import distinct_places

UNSEEN = -100  # of a tag that was not in the training text: counted, not learned from
LONGEST = 512


class Words(NamedTuple):
    """Sentences of a batch, their distinct words apart: what a tagger reads.

    Attributes:
        places: (time, batch), int64: which of the distinct words; 0 past each length.
        lengths: (batch,), int64, 0 ≤ n ≤ time.
        ids: (distinct,), int64: the words' ids.
        characters: (characters, distinct), int64; 0 past each word's end.
        character_lengths: (distinct,), int64.
    """

    places: Tensor
    lengths: Tensor
    ids: Tensor
    characters: Tensor
    character_lengths: Tensor


class EncodedSentences:
    """Sentences ready to be batched.

    Args:
        sentences: lists of words.
        lexicon: gives the ids.
        tags: one list a sentence, in any scheme; `None`: none.
        longest: a longer sentence is cut into pieces of at most so many words: memory stays
            bounded whatever a line holds. `None`: sentences stay whole.

    Attributes:
        offsets: (pieces + 1,): where each piece begins among all words.
        sentence: (pieces,): which sentence a piece is of.
        words: (words,): which distinct word.
        distinct: the distinct words.
        tags: (words,): ids, `UNSEEN` for tags that the lexicon lacks.
        unseen: those tags, with their counts.

    Example:
        >>> from recurra.data.tagged_text import TaggedText
        >>> text = TaggedText([["a", "b", "a"]], [["X", "Y", "X"]])
        >>> encoded = EncodedSentences(text.words, Lexicon.train(text), tags=text.tags)
        >>> encoded.batch(np.array([0])).places.tolist()
        [[0], [1], [0]]
        >>> encoded.tags.tolist()
        [0, 1, 0]
    """

    def __init__(
        self,
        sentences: Sequence[Sequence[str]],
        lexicon: Lexicon,
        *,
        tags: Sequence[Sequence[str]] | None = None,
        longest: int | None = LONGEST,
    ) -> None:
        distinct, self.words = distinct_places(list(chain.from_iterable(sentences)))
        lengths = np.array([len(words) for words in sentences], np.int64)
        self.sentence, self.offsets = _pieces(lengths, longest)
        self.distinct = lexicon.spell(distinct)
        self.unseen: Counter[str] = Counter()
        self.tags = np.fromiter(self._tag_ids(tags or (), lexicon), np.int64)

    def _tag_ids(self, tags: Sequence[Sequence[str]], lexicon: Lexicon) -> Iterator[int]:
        for sentence in tags:
            for tag, found in zip(sentence, lexicon.encode_tags(sentence), strict=True):
                if found is None:
                    self.unseen[tag] += 1
                yield UNSEEN if found is None else found

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Words of each piece, (pieces,)."""
        return np.diff(self.offsets)

    def batch(self, pieces: np.ndarray) -> Words:
        """Some pieces side by side, in their order; time is 1 at least.

        No piece at all gives one empty sentence.
        """
        positions, inside = self.positions(pieces)
        distinct, places = np.unique(self.words[positions[inside]], return_inverse=True)
        if not len(distinct):  # all are empty: one word that is read nowhere
            return Words(
                places=torch.zeros(len(inside), max(len(pieces), 1), dtype=torch.long),
                lengths=torch.zeros(max(len(pieces), 1), dtype=torch.long),
                ids=torch.zeros(1, dtype=torch.long),
                characters=torch.zeros(1, 1, dtype=torch.long),
                character_lengths=torch.ones(1, dtype=torch.long),
            )
        padded = np.zeros(inside.shape, np.int64)
        padded[inside] = places
        return Words(
            torch.from_numpy(padded),
            torch.from_numpy(self.lengths[pieces]),
            *self.distinct.select(distinct),
        )

    def tag_batch(self, pieces: np.ndarray) -> Tensor:
        """Tag ids of the same pieces, (time, batch), `UNSEEN` past each length."""
        positions, inside = self.positions(pieces)
        padded = np.full(inside.shape, UNSEEN, np.int64)
        padded[inside] = self.tags[positions[inside]]
        return torch.from_numpy(padded)

    def positions(self, pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where each step reads among all words, and whether it is inside its piece.

        Both (time, batch).
        """
        lengths = self.lengths[pieces]
        steps = np.arange(max(lengths.max(initial=0), 1))[:, None]
        return self.offsets[pieces] + steps, steps < lengths


def _pieces(lengths: np.ndarray, longest: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The sentence of each piece, and where pieces begin among all words."""
    if longest is None or not len(lengths) or lengths.max() <= longest:
        return np.arange(len(lengths)), np.concatenate([[0], np.cumsum(lengths)])
    counts = np.maximum(-(-lengths // longest), 1)
    sentence = np.repeat(np.arange(len(lengths)), counts)
    first = np.cumsum(counts) - counts
    begins = (np.arange(len(sentence)) - first[sentence]) * longest
    starts = np.cumsum(lengths) - lengths
    return sentence, np.append(starts[sentence] + begins, lengths.sum())
