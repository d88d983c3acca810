"""Labelled examples to classify, texts or numeric series, and how they are held out."""

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from recurra.errors import DataError

HELD_OUT = 0.1
Labels = tuple[str, ...]


@dataclass(frozen=True)
class Examples:
    """Inputs with their labels.

    Attributes:
        inputs: texts, or series, each (time, channels), float32, time being unequal.
        labels: for each input its labels: one, or any number in multi-label data.
        channels: names of a series' channels; empty for texts.
        groups: what belongs together when examples are held out, one for each input; empty: equal
            inputs do.
        leaves: of labels in a hierarchy, the finest for each input, `NUM:date` if its label is
            `NUM`; empty: there is no hierarchy.
    """

    inputs: Sequence[Any]
    labels: Sequence[Labels]
    channels: tuple[str, ...] = ()
    groups: Sequence[str] = ()
    leaves: Sequence[str] = ()

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.labels):
            raise DataError(f"{len(self.inputs)} inputs have {len(self.labels)} labels")
        if self.leaves and len(self.leaves) != len(self.labels):
            raise DataError(f"{len(self.labels)} labels have {len(self.leaves)} leaves")

    @property
    def is_series(self) -> bool:
        """Whether inputs are numbers."""
        return bool(self.channels)

    def __len__(self) -> int:
        return len(self.inputs)

    def select(self, indices: Sequence[int]) -> "Examples":
        """The examples at `indices`, in that order."""
        return replace(
            self,
            inputs=[self.inputs[i] for i in indices],
            labels=[self.labels[i] for i in indices],
            groups=[self.groups[i] for i in indices] if self.groups else (),
            leaves=[self.leaves[i] for i in indices] if self.leaves else (),
        )

    def classes(self) -> list[str]:
        """The labels there are, in alphabetic order (numbers by value)."""
        found = {label for labels in self.labels for label in labels}
        return sorted(found, key=_label_order)

    def fingerprint(self) -> str:
        """A checksum of inputs and labels, in their order."""
        checksum = 0
        for item, labels in zip(self.inputs, self.labels, strict=True):
            content = item.tobytes() if self.is_series else item.encode("utf-8", "surrogatepass")
            checksum = zlib.crc32(content, checksum)
            checksum = zlib.crc32("\0".join(labels).encode(), checksum)
        checksum = zlib.crc32("\0".join(self.leaves).encode(), checksum)
        return f"{len(self)}-{checksum:08x}"


@dataclass(frozen=True)
class ExampleSplits:
    """Labelled examples by purpose.

    Attributes:
        train, valid, test: to learn from, to choose by, to report on.
        notes: what the report should say of how they were made.
    """

    train: Examples
    valid: Examples
    test: Examples
    notes: dict[str, int | float | str] = field(default_factory=dict)


def concatenate(parts: Sequence[Examples], where: str = "the data") -> Examples:
    """Several files' examples as one.

    Raises:
        DataError: texts and series together, or series of different channels.
    """
    if len({part.channels for part in parts}) != 1:
        kinds = sorted({", ".join(p.channels) or "text" for p in parts})
        raise DataError(f"{where}: files of different kinds: {'; '.join(kinds)}; read them apart")
    return Examples(
        [item for part in parts for item in part.inputs],
        [labels for part in parts for labels in part.labels],
        parts[0].channels,
        leaves=[leaf for part in parts for leaf in part.leaves],
    )


def in_hierarchy(examples: Examples, separator: str, where: str = "the data") -> Examples:
    """The same with what stands before the separator as label, and the whole label as leaf.

    Raises:
        DataError: an example of several labels, or of none.

    Example:
        >>> found = in_hierarchy(Examples(["When?", "So"], [("NUM:date",), ("X",)]), ":")
        >>> found.labels, found.leaves
        ([('NUM',), ('X',)], ['NUM:date', 'X'])
    """
    for labels in examples.labels:
        if len(labels) != 1:
            raise DataError(f"{where}: labels {', '.join(labels)!r}; a hierarchy needs one each")
    leaves = [label for (label,) in examples.labels]
    classes = [(leaf.partition(separator)[0],) for leaf in leaves]
    return replace(examples, labels=classes, leaves=leaves)


def hold_out(
    examples: Examples, *, share: float = HELD_OUT, seed: int = 1, where: str = "the data"
) -> tuple[Examples, Examples]:
    """Keep a part of every class apart, by groups: equal inputs never stand on both sides.

    Groups of a class are shuffled by the seed and its first ones held out until they make up
    `share` of the class's examples; a class of which that is less than half an example gives none.
    An example of several labels, or a group of several classes, counts for the rarest of them.

    Args:
        examples: what to split.
        share: of each class, in 0..1.
        seed: of the shuffle; equal data and seed give equal parts.
        where: names the data in an error.

    Returns:
        `(kept, held_out)`, each in the order of the data.

    Raises:
        DataError: nothing could be held out.

    Example:
        >>> data = Examples(list("aabcdefghijklmnopqrs"), [("x",)] * 10 + [("y",)] * 10)
        >>> kept, out = hold_out(data)
        >>> [labels for labels in out.labels], len(kept)
        ([('x',), ('y',)], 18)
    """
    members = _members_of_groups(examples)
    frequency = Counter(label for labels in examples.labels for label in labels)
    strata: dict[str, list[list[int]]] = defaultdict(list)
    for group in members:
        labels = {label for i in group for label in examples.labels[i]}
        strata[min(labels, key=lambda label: (frequency[label], label), default="")].append(group)
    chosen: set[int] = set()
    for stratum in sorted(strata):
        chosen |= _draw(strata[stratum], share, np.random.default_rng([seed, _hash(stratum)]))
    kept = [i for i in range(len(examples)) if i not in chosen]
    if not chosen or not kept:
        raise DataError(
            f"{where} has {len(examples)} examples in {len(members)} different inputs, too few to "
            "hold out a part to measure on; pass --valid and --test, or more data"
        )
    return examples.select(kept), examples.select(sorted(chosen))


def _members_of_groups(examples: Examples) -> list[list[int]]:
    members: dict[Any, list[int]] = defaultdict(list)
    keys = examples.groups or [_key(item) for item in examples.inputs]
    for i, key in enumerate(keys):
        members[key].append(i)
    return list(members.values())


def deal(examples: Examples, parts: int) -> list[int]:
    """Which of so many parts each example is dealt to: each class evenly, by groups.

    Args:
        examples: what to deal; equal inputs, or those of a group, come into the same part.
        parts: how many, numbered from 0.

    Example:
        >>> deal(Examples(list("abcadb"), [(label,) for label in "xxyxyx"]), 2)
        [0, 1, 0, 0, 1, 1]
    """
    groups = sorted(_members_of_groups(examples), key=lambda group: examples.labels[group[0]])
    part_of = {i: k % parts for k, group in enumerate(groups) for i in group}
    return [part_of[i] for i in range(len(examples))]


def _draw(groups: list[list[int]], share: float, random: np.random.Generator) -> set[int]:
    wanted = round(share * sum(map(len, groups)))
    drawn: set[int] = set()
    for k in random.permutation(len(groups)):
        if len(drawn) + len(groups[k]) <= wanted:
            drawn |= set(groups[k])
    return drawn


def split_examples(
    examples: Examples,
    *,
    valid: bool = True,
    test: bool = True,
    seed: int = 1,
    where: str = "the data",
) -> ExampleSplits:
    """Train, valid and test: a tenth each of the data as it is; a part not asked for is empty.

    Raises:
        DataError: too few examples.
    """
    train, nothing = examples, examples.select([])
    parts = {"valid": nothing, "test": nothing}
    share = HELD_OUT
    for name, is_wanted in (("test", test), ("valid", valid)):
        if is_wanted:
            train, parts[name] = hold_out(train, share=share, seed=seed, where=where)
            share = HELD_OUT / (1 - HELD_OUT)  # a tenth of all is a ninth of the rest
    return ExampleSplits(train, parts["valid"], parts["test"])


def _key(item: Any) -> Any:
    return (item.shape, item.tobytes()) if isinstance(item, np.ndarray) else item


def _hash(text: str) -> int:
    return zlib.crc32(text.encode())


def _label_order(label: str) -> tuple[int, float, str]:
    is_number = re.fullmatch(r"-?\d+(\.\d+)?", label) is not None
    return (0, float(label), label) if is_number else (1, 0.0, label)
