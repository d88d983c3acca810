"""The text of a tagging run: read, split, described."""

from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np

from recurra.data import python_roles, spans
from recurra.data.columns import read_tagged
from recurra.data.lexicon import Lexicon
from recurra.data.tagged_text import TaggedSplits, TaggedText, split_sentences
from recurra.data.vectors import read_vectors
from recurra.errors import DataError
from recurra.jobs.tag.config import TaggedTextOptions


class Vectors(NamedTuple):
    """Pretrained vectors: words and (words, size)."""

    words: list[str]
    numbers: np.ndarray


class Corpus(NamedTuple):
    """A run's text, its lexicon, and pretrained vectors if there are any."""

    splits: TaggedSplits
    lexicon: Lexicon
    vectors: Vectors | None

    def facts(self) -> dict[str, Any]:
        """What `metrics.json` says of the text."""
        splits, lexicon = self.splits, self.lexicon
        parts = {"train": splits.train, "valid": splits.valid, "test": splits.test}
        return {
            **splits.notes,
            **{f"{name}_sentences": len(part) for name, part in parts.items()},
            **{f"{name}_tokens": part.tokens for name, part in parts.items()},
            "words": len(lexicon.words),
            "characters": len(lexicon.alphabet),
            "tags": len(lexicon.tags),
            "scheme": lexicon.source_scheme,
            "fingerprint": fingerprint(splits),
        }


def read_corpus(options: TaggedTextOptions, at_hand: TaggedSplits | None = None) -> Corpus:
    """Text, lexicon and vectors of a run.

    Raises:
        DataError: a file that cannot be read, or one tag only.
    """
    splits = at_hand or read_splits(options)
    vectors = None
    if options.vectors is not None:
        wanted = {w for part in _parts(splits) for words in part.words for w in words}
        wanted |= {word.lower() for word in wanted}
        vectors = Vectors(*read_vectors(options.vectors, wanted, options.vector_words))
    lexicon = Lexicon.train(
        splits.train,
        scheme=None if options.scheme == "none" else options.scheme,
        minimum_count=options.minimum_count,
        lowercase=options.lowercase,
        further_words=vectors.words if vectors else (),
    )
    found = {tag for tags in splits.train.tags for tag in tags}
    if len(found) < 2:
        raise DataError(
            f"{splits.train.where}: every one of the {splits.train.tokens:,} words to train on has "
            f"the tag {next(iter(found))!r}; there is nothing to learn. Is it the right column "
            "(--set column=)? Do other tags stand at the end only, which is held out without "
            "--valid and --test?"
        )
    return Corpus(splits, lexicon, vectors)


def read_splits(options: TaggedTextOptions) -> TaggedSplits:
    """Sentences to train on, to choose by and to report on."""
    if not options.data:
        return python_roles.load()
    column = options.column
    found = {
        name: read_tagged(paths, column)
        for name in ("data", "valid", "test")
        if (paths := getattr(options, name))
    }
    parts = split_sentences(found["data"], valid="valid" not in found, test="test" not in found)
    return TaggedSplits(
        parts.train,
        found.get("valid", parts.valid),
        found.get("test", parts.test),
        {"text": found["data"].where},
    )


def word_vectors(lexicon: Lexicon, vectors: Vectors) -> tuple[list[int], np.ndarray]:
    """Ids and vectors of the lexicon's words; a word without one takes its lower-cased form's."""
    at = {word: k for k, word in enumerate(vectors.words)}
    pairs = [
        (i, k)
        for i, word in enumerate(lexicon.words)
        if (k := at.get(word, at.get(word.lower()))) is not None
    ]
    return [i for i, _ in pairs], vectors.numbers[[k for _, k in pairs]]


def allowed(lexicon: Lexicon) -> list[list[bool]] | None:
    """Which tag may follow which; `None` if all may."""
    if lexicon.scheme is None:
        return None
    return spans.allowed_transitions(lexicon.tags, lexicon.scheme)


def fingerprint(splits: TaggedSplits) -> str:
    """Equal for equal texts and tags."""
    digest = sha256()
    for part in _parts(splits):
        for words, tags in part:
            digest.update("\0".join((*words, "\1", *tags, "\2")).encode())
        digest.update(b"\3")
    return digest.hexdigest()[:16]


def _parts(splits: TaggedSplits) -> tuple[TaggedText, TaggedText, TaggedText]:
    return splits.train, splits.valid, splits.test
