"""The parallel text of a run: read, held out, tokenised, described."""

from dataclasses import dataclass
from typing import Any

from recurra.data import date_sentences
from recurra.data.direction import Direction
from recurra.data.parallel import ParallelSplits, read_parallel, split_parallel
from recurra.data.tokenizer import Tokenizer
from recurra.errors import ConfigError, DataError
from recurra.jobs.translate.config import ParallelTextOptions
from recurra.tasks.translate.encoding import Tokenizers

BPE_SIZE = 8000
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Corpus:
    """A run's text and its tokenizers.

    Attributes:
        splits: pairs in three parts.
        tokenizers: of source and target; the same twice for a joint vocabulary.
        direction: which language is on which side.
        ratio: bound of a translation's tokens, for each source token.
        counts: tokens of each side of train.
    """

    splits: ParallelSplits
    tokenizers: Tokenizers
    direction: Direction
    ratio: float
    counts: tuple[int, int]

    def facts(self) -> dict[str, Any]:
        """What `metrics.json` says of the text."""
        splits = self.splits
        return {
            **splits.notes,
            **{f"{name}_pairs": len(getattr(splits, name)) for name in SPLITS},
            "train_source_tokens": self.counts[0],
            "train_target_tokens": self.counts[1],
            "source_vocabulary": len(self.tokenizers.source.vocabulary),
            "target_vocabulary": len(self.tokenizers.target.vocabulary),
            "fingerprint": splits.fingerprint(),
        }


def read_corpus(options: ParallelTextOptions, at_hand: ParallelSplits | None = None) -> Corpus:
    """Text and tokenizers of a run.

    Raises:
        DataError: files that cannot be read, unequal numbers of lines, a valid or test text whose
            sides are exchanged, or nothing to train on.
    """
    splits = at_hand or read_splits(options)
    train = splits.train
    if not any(s.strip() and t.strip() for s, t in train.pairs()):
        raise DataError(f"{train.where}: no pair has text on both sides; there is nothing to learn")
    direction = Direction.of(train)
    for part in (splits.valid, splits.test):
        direction.check(part)
    tokenizers = train_tokenizers(options, splits)
    counts = tuple(
        sum(len(tokenizer.encode(line)) + 1 for line in lines)
        for lines, tokenizer in zip((train.source, train.target), tokenizers, strict=True)
    )
    return Corpus(splits, tokenizers, direction, 2 * counts[1] / counts[0], (counts[0], counts[1]))


def read_splits(options: ParallelTextOptions) -> ParallelSplits:
    """Pairs to train on, to choose by and to report on: embedded, or from files.

    Raises:
        DataError, ConfigError: see `read_corpus`.
    """
    if not options.data:
        if options.valid or options.test:
            raise ConfigError("--valid and --test need --data: the text to train on")
        return date_sentences.load(options.dates)
    found = {
        name: read_parallel(paths, source=options.source, target=options.target)
        for name in ("data", "valid", "test")
        if (paths := getattr(options, name))
    }
    train, valid, test = split_parallel(
        found["data"], valid="valid" not in found, test="test" not in found
    )
    return ParallelSplits(
        train, found.get("valid", valid), found.get("test", test), {"text": found["data"].where}
    )


def train_tokenizers(options: ParallelTextOptions, splits: ParallelSplits) -> Tokenizers:
    """Learn the tokens of the training text, of both sides together or of each."""
    size = options.vocabulary_size
    if size is None and options.tokenizer == "bpe":
        size = BPE_SIZE
    train = splits.train
    sides = [[*train.source, *train.target]]
    if options.vocabulary == "separate":
        sides = [train.source, train.target]
    trained = [
        Tokenizer.train(
            lines,
            options.tokenizer,
            vocabulary_size=size,
            minimum_count=options.minimum_count,
            lowercase=options.lowercase,
        )
        for lines in sides
    ]
    return Tokenizers(trained[0], trained[-1])
