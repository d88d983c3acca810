"""Words by their characters: the ids of all words' characters at once."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recurra.data.tokenizer import UNKNOWN

LONGEST_WORD = 32  # characters that are read of a word; of a longer one, both its ends
_NO_CODE = 0xFFFFFFFF  # above every character's


class Alphabet:
    """Characters with their ids; id 0 is any other character.

    Args:
        characters: by id, the first being `<unk>`.

    Example:
        >>> alphabet = Alphabet.train(["abba", "b"])
        >>> alphabet.characters
        ['<unk>', 'b', 'a']
        >>> characters, lengths = alphabet.spell(["ab", "", "bäb"])
        >>> characters.tolist(), lengths.tolist()
        ([[2, 1, 0], [0, 0, 0], [1, 0, 1]], [2, 0, 3])
    """

    def __init__(self, characters: Sequence[str]) -> None:
        self.characters = list(characters)
        codes = np.array([*map(ord, self.characters[1:]), _NO_CODE], np.uint32)
        order = np.argsort(codes)
        self._codes = codes[order]
        self._ids = np.append(np.arange(1, len(codes)), 0)[order].astype(np.int32)

    @classmethod
    def train(cls, words: Iterable[str]) -> "Alphabet":
        """The characters of words, the most frequent first and equals in their own order."""
        counts = Counter(character for word in words for character in word)
        return cls([UNKNOWN, *sorted(counts, key=lambda c: (-counts[c], c))])

    def __len__(self) -> int:
        return len(self.characters)

    def spell(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """`(characters, lengths)`: (words, widest ≥ 1), int32, 0 past each end; (words,), int64."""
        half = LONGEST_WORD // 2
        read = [w if len(w) <= LONGEST_WORD else w[:half] + w[-half:] for w in words]
        lengths = np.fromiter(map(len, read), np.int64, len(read))
        codes = np.frombuffer("".join(read).encode("utf-32-le", "surrogatepass"), np.uint32)
        at = np.searchsorted(self._codes, codes)
        characters = np.zeros((len(read), lengths.max(initial=1)), np.int32)
        inside = np.arange(characters.shape[1]) < lengths[:, None]
        characters[inside] = np.where(self._codes[at] == codes, self._ids[at], 0)
        return characters, lengths


class Spellings(NamedTuple):
    """Words as a network reads them, wherever they stand.

    Attributes:
        ids: (words,), int64: of the words themselves.
        characters: (characters, words), int64; 0 past each word's end.
        lengths: (words,), int64: characters of each.
    """

    ids: Tensor
    characters: Tensor
    lengths: Tensor


class SpelledWords:
    """The distinct words of a text: what of them costs Python's time is done once.

    Args:
        ids: (words,), int64: of the words themselves.
        words: by their place.
        alphabet: of their characters.

    Attributes:
        ids: of the words.
        lengths: (words,), int64: characters of each.
    """

    def __init__(self, ids: np.ndarray, words: Sequence[str], alphabet: Alphabet) -> None:
        self.ids = ids
        self._characters, self.lengths = alphabet.spell(words)

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, places: np.ndarray) -> Spellings:
        """The words at some places."""
        lengths = self.lengths[places]
        characters = self._characters[places, : lengths.max(initial=1)]
        return Spellings(
            torch.from_numpy(self.ids[places]),
            torch.from_numpy(characters.T.astype(np.int64)),
            torch.from_numpy(lengths),
        )


def distinct_places(words: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The distinct words in the order they come up, and which of them each word is, (words,).

    Example:
        >>> distinct, places = distinct_places(["b", "a", "b"])
        >>> distinct, places.tolist()
        (['b', 'a'], [0, 1, 0])
    """
    distinct = list(dict.fromkeys(words))
    place = dict(zip(distinct, range(len(distinct)), strict=True))
    return distinct, np.fromiter(map(place.__getitem__, words), np.int64, len(words))
