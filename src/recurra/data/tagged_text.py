"""Sentences with a tag for each word, and their three parts: train, valid, test."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from recurra.data.splits import HELD_OUT
from recurra.errors import DataError


@dataclass(frozen=True)
class TaggedText:
    """Sentences of words, each word with its tag.

    Attributes:
        words: one list a sentence; a sentence may be empty.
        tags: the same shape.
        where: names the text in errors, as a file does.

    Raises:
        DataError: words and tags that are not of the same number.

    Example:
        >>> text = TaggedText([["the", "cat"], []], [["DET", "NOUN"], []])
        >>> len(text), text.tokens
        (2, 2)
    """

    words: list[list[str]]
    tags: list[list[str]]
    where: str = "the text"

    def __post_init__(self) -> None:
        if len(self.words) != len(self.tags):
            raise DataError(
                f"{self.where}: {len(self.words)} sentences of words, {len(self.tags)} of tags"
            )
        for number, (words, tags) in enumerate(self, start=1):
            if len(words) != len(tags):
                raise DataError(
                    f"{self.where}, sentence {number}: {len(words)} words and {len(tags)} tags; "
                    "expected one tag for each word"
                )

    def __len__(self) -> int:
        return len(self.words)

    def __iter__(self) -> Iterator[tuple[list[str], list[str]]]:
        return zip(self.words, self.tags, strict=True)

    @property
    def tokens(self) -> int:
        """Words in all sentences."""
        return sum(map(len, self.words))

    def part(self, start: int, end: int) -> "TaggedText":
        """Sentences `start` to `end`, `end` excluded."""
        return TaggedText(self.words[start:end], self.tags[start:end], self.where)


def joined(texts: Sequence[TaggedText]) -> TaggedText:
    """Several texts as one, in their order."""
    return TaggedText(
        [words for text in texts for words in text.words],
        [tags for text in texts for tags in text.tags],
        ", ".join(dict.fromkeys(text.where for text in texts)),
    )


@dataclass(frozen=True)
class TaggedSplits:
    """Tagged sentences by purpose.

    Attributes:
        train, valid, test: to learn from, to choose by, to report on.
        notes: what the report should say of how they were made.
    """

    train: TaggedText
    valid: TaggedText
    test: TaggedText
    notes: dict[str, int | float | str] = field(default_factory=dict)


def split_sentences(text: TaggedText, *, valid: bool = True, test: bool = True) -> TaggedSplits:
    """Hold out the end of a text: the last twentieth to choose by, the one before to report on.

    Args:
        text: sentences in their order; neighbours stay together, since they share names.
        valid: hold out sentences to choose by.
        test: hold out sentences to report on.

    Raises:
        DataError: too few sentences to hold any out.

    Example:
        >>> text = TaggedText([[str(i)] for i in range(40)], [["NUM"]] * 40)
        >>> splits = split_sentences(text)
        >>> splits.test.words, splits.valid.words
        ([['36'], ['37']], [['38'], ['39']])
    """
    parts = valid + test
    if parts and len(text) < parts + 1:
        raise DataError(
            f"{text.where} has {len(text)} sentences, too few to hold out a part to measure on; "
            "pass --valid and --test, or more text"
        )
    held_out = max(1, int(len(text) * HELD_OUT))
    end = len(text) - held_out * valid
    start = end - held_out * test
    return TaggedSplits(text.part(0, start), text.part(end, len(text)), text.part(start, end))
