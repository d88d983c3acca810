"""What a tagger knows by name: words with their counts, characters, tags."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recurra.data import spans
from recurra.data.spelling import Alphabet, SpelledWords
from recurra.data.tagged_text import TaggedText
from recurra.data.tokenizer import UNKNOWN
from recurra.errors import ArgumentError, DataError

_FORMAT = "recurra-lexicon-1"


class Lexicon:
    """Words, characters and tags of a training text, each with its id. Made by `train` or `load`.

    Id 0 of words and of characters is the unknown one; then the rest, the most frequent first and
    equally frequent ones in alphabetic order. Tags that hold entities are complete: every prefix
    of the scheme for every type, so that a legal sequence exists for every sentence.

    Attributes:
        words: by id; `counts` the same: occurrences in the training text, 0 for words that are
            known by a pretrained vector alone.
        alphabet: the characters of the words.
        tags: by id.
        scheme: the scheme of `tags` ("bio" or "bioes"), `None` if they hold no entities.
        source_scheme: that of the training text, in which answers are given.
        lowercase: words are folded; characters are not.

    Example:
        >>> text = TaggedText([["the", "Cat"], ["the"]], [["D", "N"], ["D"]])
        >>> lexicon = Lexicon.train(text)
        >>> lexicon.words, lexicon.counts, lexicon.tags
        (['<unk>', 'the', 'Cat'], [0, 2, 1], ['D', 'N'])
        >>> lexicon.word_id("cat"), lexicon.tag_id("V")
        (0, None)
    """

    def __init__(
        self,
        words: Sequence[str],
        counts: Sequence[int],
        characters: Sequence[str],
        tags: Sequence[str],
        *,
        scheme: str | None = None,
        source_scheme: str | None = None,
        lowercase: bool = False,
    ) -> None:
        self.words, self.counts = list(words), list(counts)
        self.alphabet, self.tags = Alphabet(characters), list(tags)
        self.scheme, self.source_scheme = scheme, source_scheme
        self.lowercase = lowercase
        self._word_ids = {word: i for i, word in enumerate(self.words)}
        self._tag_ids = {tag: i for i, tag in enumerate(self.tags)}

    @classmethod
    def train(
        cls,
        text: TaggedText,
        *,
        scheme: str | None = "auto",
        minimum_count: int = 1,
        lowercase: bool = False,
        further_words: Sequence[str] = (),
    ) -> "Lexicon":
        """Learn the names of a training text.

        Args:
            text: words and tags.
            scheme: to learn entities in: "bio" or "bioes"; "auto": "bio" if the tags are in any
                scheme, else none; `None`: tags are taken as they are.
            minimum_count: rarer words are unknown, but for `further_words`.
            lowercase: fold words (characters stay as they are).
            further_words: words that have a pretrained vector.

        Raises:
            ArgumentError: a minimum under 1, a scheme that is none of these, or one for tags that
                hold no entities.
            DataError: no word in the text.
        """
        if minimum_count < 1:
            raise ArgumentError(f"minimum_count={minimum_count} must be at least 1")
        source = spans.recognise(text.tags) if scheme is not None else None
        used = _scheme_to_learn(scheme, source, text.where)
        counts = Counter(w.lower() if lowercase else w for words in text.words for w in words)
        if not counts:
            raise DataError(f"{text.where}: no word in any sentence; expected some to learn from")
        further = dict.fromkeys(w.lower() if lowercase else w for w in further_words)
        kept = [w for w, n in _by_count(counts) if n >= minimum_count or w in further]
        known = set(kept) | {UNKNOWN}
        kept = [w for w in kept if w != UNKNOWN] + [w for w in further if w not in known]
        seen = {tag for tags in text.tags for tag in tags}
        types = {spans.split_tag(tag)[1] for tag in seen if tag != spans.OUTSIDE}
        return cls(
            [UNKNOWN, *kept],
            [0, *(counts[w] for w in kept)],
            Alphabet.train(word for words in text.words for word in words).characters,
            spans.all_tags(types, used) if used else sorted(seen),
            scheme=used,
            source_scheme=source,
            lowercase=lowercase,
        )

    def word_id(self, word: str) -> int:
        """Id of a word; 0 if it is unknown."""
        return self._word_ids.get(word.lower() if self.lowercase else word, 0)

    def spell(self, words: Sequence[str]) -> SpelledWords:
        """Words with their ids and characters."""
        ids = np.fromiter(map(self.word_id, words), np.int64, len(words))
        return SpelledWords(ids, words, self.alphabet)

    def tag_id(self, tag: str) -> int | None:
        """Id of a tag in `scheme`; `None` if it was not in the training text."""
        return self._tag_ids.get(tag)

    def encode_tags(self, tags: Sequence[str]) -> list[int | None]:
        """Ids of one sentence's tags in any scheme; see `tag_id`."""
        learned = spans.convert(tags, self.scheme) if self.scheme else tags
        return [self._tag_ids.get(tag) for tag in learned]

    def decode_tags(self, ids: Sequence[int], *, is_legal: bool = False) -> list[str]:
        """One sentence's tags in the scheme of the training text.

        Args:
            ids: of the tags.
            is_legal: no tag breaks the rules of `scheme`, so none needs mending.
        """
        tags = [self.tags[i] for i in ids]
        if self.source_scheme is None or (is_legal and self.source_scheme == self.scheme):
            return tags
        return spans.convert(tags, self.source_scheme)

    def to_json(self) -> str:
        """All there is to it, as JSON text."""
        content = {
            "format": _FORMAT,
            "lowercase": self.lowercase,
            "scheme": self.scheme,
            "source_scheme": self.source_scheme,
            "tags": self.tags,
            "characters": self.alphabet.characters,
            "words": self.words,
            "counts": self.counts,
        }
        return json.dumps(content, ensure_ascii=False)

    def save(self, path: str | Path) -> None:
        """Write to a JSON file."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Lexicon":
        """Read what `save` wrote.

        Raises:
            DataError: the file is no lexicon of ours.
        """
        try:
            content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
            found = content.pop("format")
            if found != _FORMAT:
                raise DataError(f"{path}: format {found!r}, expected {_FORMAT!r}")
            return cls(**content)
        except DataError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}: is not a lexicon of recurra ({type(error).__name__}: {error}); pass one "
                "that Lexicon.save wrote"
            ) from error


def _by_count(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _scheme_to_learn(scheme: str | None, source: str | None, where: str) -> str | None:
    if scheme not in (None, "auto", "bio", "bioes"):
        raise ArgumentError(f"scheme={scheme!r} is unknown; use auto, bio, bioes or none")
    if scheme in ("bio", "bioes") and source is None:
        raise ArgumentError(
            f"scheme={scheme}: the tags of {where} hold no entities (O and B-, I-, … before a "
            "type); use scheme=auto or none, or another column"
        )
    return "bio" if scheme == "auto" and source else None if scheme == "auto" else scheme
