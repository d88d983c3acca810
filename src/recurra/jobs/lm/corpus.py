"""The text of a run: read, split, tokenised, and recognised again by its fingerprint."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from recurra.data import python_documentation
from recurra.data.splits import TextSplits, split_lines
from recurra.data.text import expand_paths, read_lines
from recurra.data.tokenizer import Tokenizer
from recurra.errors import DataError
from recurra.jobs.lm.config import TextOptions
from recurra.jobs.lm.predictors import Predictor
from recurra.tasks.lm.evaluation import EncodedText, encode

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Corpus:
    """A text in three parts, as lines and as tokens.

    Attributes:
        splits: the lines.
        tokenizer: trained on the training lines.
        encoded: tokens by split.
    """

    splits: TextSplits
    tokenizer: Tokenizer
    encoded: dict[str, EncodedText]

    def lines(self, split: str) -> list[str]:
        """The lines of "train", "valid" or "test"."""
        lines: list[str] = getattr(self.splits, split)
        return lines

    def facts(self) -> dict[str, Any]:
        """Counts for the report and `metrics.json`."""
        counts = {f"{name}_tokens": len(self.encoded[name].tokens) for name in SPLITS}
        test = self.encoded["test"]
        return {
            **counts,
            "vocabulary": len(self.tokenizer.vocabulary),
            "test_unknown_share": test.unknown / len(test.tokens),
            "fingerprint": fingerprint(self.splits),
            **self.splits.notes,
        }


def read_corpus(options: TextOptions, splits: TextSplits | None = None) -> Corpus:
    """Read, split and tokenise the text of a run.

    Args:
        options: where the text is and how to cut it into tokens.
        splits: the lines, if they are at hand already.

    Raises:
        DataError: a text that cannot be read, or with nothing in it.
    """
    splits = splits or read_splits(options)
    tokenizer = Tokenizer.train(
        splits.train,
        options.tokenizer,
        vocabulary_size=options.vocabulary_size,
        minimum_count=options.minimum_count,
        lowercase=options.lowercase,
        split_punctuation=options.split_punctuation,
    )
    named = {name: getattr(splits, name) for name in SPLITS}
    encoded = {name: encode(lines, tokenizer, f"the {name} text") for name, lines in named.items()}
    return Corpus(splits, tokenizer, encoded)


def read_splits(options: TextOptions) -> TextSplits:
    """The lines of a run's text: embedded, or from files; parts not named are held out.

    Raises:
        DataError: see `recurra.data.text`; or a held-out text without text to train on.
    """
    if not options.data:
        if options.valid or options.test:
            raise DataError("--valid and --test need --data: the text to train on")
        return python_documentation.load()
    lines = read_files(options.data)
    splits = split_lines(
        lines, valid=not options.valid, test=not options.test, where=", ".join(options.data)
    )
    return TextSplits(
        train=splits.train,
        valid=read_files(options.valid) if options.valid else splits.valid,
        test=read_files(options.test) if options.test else splits.test,
        notes=splits.notes,
    )


def read_files(paths: Sequence[str | Path]) -> list[str]:
    """All lines of files, folders and globs, in order."""
    return [line for path in expand_paths(list(paths)) for line in read_lines(path)]


def measure(predictor: Predictor, corpus: Corpus) -> dict[str, Any]:
    """Metrics on valid and test, and on test as it was before overlaps with train were left out."""
    texts = {"valid": corpus.splits.valid, "test": corpus.splits.test}
    if "test" in corpus.splits.overlapping:
        texts["test_with_overlap"] = corpus.splits.overlapping["test"]
    return {name: predictor.evaluate(lines, f"the {name} text") for name, lines in texts.items()}


def fingerprint(splits: TextSplits) -> str:
    """A short name of exactly these lines in these splits.

    Example:
        >>> fingerprint(TextSplits(["a"], ["b"], ["c"])) == fingerprint(
        ...     TextSplits(["a", "b"], ["b"], ["c"])
        ... )
        False
    """
    digest = sha256()
    for name in SPLITS:
        for line in getattr(splits, name):
            digest.update(line.encode() + b"\n")
        digest.update(b"\0")
    return digest.hexdigest()[:16]
