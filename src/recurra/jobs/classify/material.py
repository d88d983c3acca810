"""The examples of a run: read, held out, encoded, and recognised again by their fingerprint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from recurra.data import language_names
from recurra.data.examples import (
    Examples,
    ExampleSplits,
    concatenate,
    deal,
    in_hierarchy,
    split_examples,
)
from recurra.data.labelled_series import read_series
from recurra.data.labelled_texts import read_labelled_texts, text_files
from recurra.data.spelling import Alphabet
from recurra.data.tokenizer import Tokenizer
from recurra.errors import DataError
from recurra.jobs.classify.config import ExampleOptions
from recurra.tasks.classify.encoding import EncodedExamples, check_training_labels, encode
from recurra.tasks.classify.metrics import figures

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Material:
    """Examples in three parts, as they are and as tensors.

    Attributes:
        splits: the examples.
        classes: the labels of what is learned from, in their order.
        tokenizer: trained on the texts that are learned from; `None` for series.
        alphabet: of these texts, if words are spelled.
        encoded: by split; "train" is what is learned from, and if valid is shared has valid at its
            end.
        class_of_leaf: of classes in a hierarchy, the class that each leaf is in.
    """

    splits: ExampleSplits
    classes: list[str]
    tokenizer: Tokenizer | None
    alphabet: Alphabet | None
    encoded: dict[str, EncodedExamples]
    class_of_leaf: list[int] = field(default_factory=list)

    def figures(self, answers: Mapping[str, Tensor]) -> dict[str, Any]:
        """The measures of answers, log p (examples, classes), to the examples of each split."""
        return {name: figures(log_p, self.encoded[name].targets) for name, log_p in answers.items()}

    def facts(self) -> dict[str, Any]:
        """Counts for the report and `metrics.json`."""
        test, steps = self.encoded["test"], self.encoded["train"].inputs.lengths
        facts: dict[str, Any] = {f"{name}_examples": len(self.encoded[name]) for name in SPLITS}
        facts |= {"classes": len(self.classes), "train_steps": int(steps.sum())}
        if (shares := self.encoded["valid"].unseen_by) is not None:
            facts["valid_shared_by"] = int(shares.max()) + 1
        if self.class_of_leaf:
            facts["leaves"] = len(self.class_of_leaf)
        facts["longest_train_example_in_steps"] = int(steps.max())
        if self.tokenizer is not None:
            share = test.unknown_tokens / max(1, len(test.inputs.steps.values))
            facts |= {
                "vocabulary": len(self.tokenizer.vocabulary),
                "test_unknown_token_share": share,
            }
        for name in ("valid", "test"):
            if self.encoded[name].unknown_labels:
                facts[f"{name}_labels_unknown_to_train"] = self.encoded[name].unknown_labels
        return {**facts, "fingerprint": fingerprint(self.splits), **self.splits.notes}


def read_material(
    options: ExampleOptions,
    splits: ExampleSplits | None = None,
    *,
    is_spelled: bool = False,
    members: int = 1,
) -> Material:
    """Read, hold out and encode the examples of a run.

    Args:
        options: where the examples are and how to read them.
        splits: the examples, if they are at hand already.
        is_spelled: words are read with their characters.
        members: among whom valid is shared, if it is.

    Raises:
        DataError: data that cannot be read, or that nothing can be learned from.
    """
    splits = splits or read_splits(options)
    where = ", ".join(options.data) or "the examples"
    if not len(splits.train):
        raise DataError(f"{where}: there is no training example")
    parts = {name: getattr(splits, name) for name in SPLITS}
    if options.share_valid:
        parts["train"] = concatenate([splits.train, splits.valid], where)
    learned: Examples = parts["train"]
    classes = learned.classes()
    check_training_labels(learned.labels, classes, multi_label=options.multi_label, where=where)
    tokenizer = None if learned.is_series else train_tokenizer(options, learned.inputs)
    alphabet = None
    if is_spelled and tokenizer is not None:
        alphabet = Alphabet.train(w for text in learned.inputs for w in tokenizer.cut(text))
    leaves = sorted(set(learned.leaves))
    encoded = {
        name: encode(
            part,
            classes,
            tokenizer,
            alphabet,
            multi_label=options.multi_label,
            leaves=leaves if name == "train" else (),
        )
        for name, part in parts.items()
    }
    if options.share_valid:
        shares = torch.tensor(deal(splits.valid, members))
        unseen_by = torch.cat([torch.full((len(splits.train),), -1), shares])
        encoded["train"] = replace(encoded["train"], unseen_by=unseen_by)
        encoded["valid"] = replace(encoded["valid"], unseen_by=shares)
    of_leaf = _class_of_leaf(learned, leaves, classes)
    return Material(splits, classes, tokenizer, alphabet, encoded, of_leaf)


def _class_of_leaf(learned: Examples, leaves: Sequence[str], classes: Sequence[str]) -> list[int]:
    pairs = zip(learned.leaves, learned.labels, strict=True) if leaves else ()
    parents = sorted({(leaf, label) for leaf, (label,) in pairs})
    if len(parents) > len(leaves):
        (leaf, one), (_, other) = next(p for p in pairwise(parents) if p[0][0] == p[1][0])
        raise DataError(f"leaf {leaf!r} is in the classes {one!r} and {other!r}, not in one")
    return [classes.index(label) for _, label in parents]


def train_tokenizer(options: ExampleOptions, texts: Sequence[str]) -> Tokenizer:
    """The tokenizer of the training texts."""
    return Tokenizer.train(
        texts,
        options.tokenizer,
        vocabulary_size=options.vocabulary_size,
        minimum_count=options.minimum_count,
        lowercase=options.lowercase,
        split_punctuation=options.split_punctuation,
    )


def read_splits(options: ExampleOptions) -> ExampleSplits:
    """The examples of a run: embedded, or from files; parts not named are held out.

    Raises:
        DataError: files that cannot be read as asked, or parts of different kinds.
    """
    if not options.data:
        if options.valid or options.test:
            raise DataError("--valid and --test need --data: the examples to train on")
        return language_names.load()
    splits = split_examples(
        read_files(options.data, options),
        valid=not options.valid,
        test=not options.test,
        where=", ".join(options.data),
    )
    valid = read_files(options.valid, options) if options.valid else splits.valid
    test = read_files(options.test, options) if options.test else splits.test
    for part, paths in ((valid, options.valid), (test, options.test)):
        check_same_kind(part, splits.train.channels, ", ".join(paths))
    return replace(splits, valid=valid, test=test)


def read_files(paths: Sequence[str], options: ExampleOptions) -> Examples:
    """The examples of files, folders and globs: series if they are `.ts` or `id` is set."""
    examples = _read_files(paths, options)
    separator = options.hierarchy_separator
    return in_hierarchy(examples, separator, ", ".join(paths)) if separator else examples


def _read_files(paths: Sequence[str], options: ExampleOptions) -> Examples:
    files = text_files(paths)
    if options.id is not None or files[0].name.endswith((".ts", ".ts.gz")):
        return read_series(
            files,
            id=options.id,
            time=options.time,
            label=options.label,
            channels=options.channels,
        )
    return read_labelled_texts(
        files, text=options.text, label=options.label, label_separator=options.label_separator
    )


def check_same_kind(examples: Examples, channels: tuple[str, ...], where: str) -> None:
    """Refuse examples that are not what the training examples are.

    Raises:
        DataError: texts for series, or series of other channels.
    """
    if examples.channels != channels:
        expected, got = (", ".join(c) or "texts" for c in (channels, examples.channels))
        raise DataError(f"{where}: the model reads {expected}; these are {got}")


def fingerprint(splits: ExampleSplits) -> str:
    """A short name of exactly these examples in these splits."""
    return " ".join(getattr(splits, name).fingerprint() for name in SPLITS)
