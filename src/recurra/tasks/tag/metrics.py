"""How good tags are: accuracy by word, and entities as conlleval counts them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from recurra.data.spans import entities
from recurra.errors import ShapeError

Tags = Sequence[Sequence[str]]


@dataclass(frozen=True)
class SpanCounts:
    """Entities of a type, or of all.

    Attributes:
        right: found with the right bounds and type.
        found: predicted.
        expected: in the gold tags.

    Example:
        >>> counts = SpanCounts(right=2, found=4, expected=3)
        >>> {name: round(value, 3) for name, value in counts.figures().items()}
        {'precision': 0.5, 'recall': 0.667, 'f1': 0.571}
    """

    right: int
    found: int
    expected: int

    def figures(self) -> dict[str, float]:
        """`precision`, `recall` and `f1`, in 0..1; 0 where conlleval has nothing to divide by."""
        precision = self.right / self.found if self.found else 0.0
        recall = self.right / self.expected if self.expected else 0.0
        total = precision + recall
        f1 = 2 * precision * recall / total if total else 0.0
        return {"precision": precision, "recall": recall, "f1": f1}


def span_counts(gold: Tags, predicted: Tags) -> dict[str, SpanCounts]:
    """Entities by type, "" being all, as the script conlleval counts them.

    An entity is right if its bounds and its type are. Types come in alphabetic order.

    Source: Tjong Kim Sang & Buchholz 2000.

    Example:
        >>> gold = [["B-PER", "I-PER", "O", "B-LOC"]]
        >>> span_counts(gold, [["B-PER", "I-PER", "O", "B-PER"]])["PER"]
        SpanCounts(right=1, found=2, expected=1)
    """
    right, found, expected = Counter[str](), Counter[str](), Counter[str]()
    for own, other in zip(gold, predicted, strict=True):
        if all(tag == "O" for tag in own) and all(tag == "O" for tag in other):
            continue
        of_gold, of_predicted = set(entities(own)), set(entities(other))
        for entity in of_gold:
            expected[entity.type] += 1
        for entity in of_predicted:
            found[entity.type] += 1
            right[entity.type] += entity in of_gold
    kinds = sorted(found.keys() | expected.keys())
    by_type = {kind: SpanCounts(right[kind], found[kind], expected[kind]) for kind in kinds}
    return {"": SpanCounts(right.total(), found.total(), expected.total()), **by_type}


@dataclass(frozen=True)
class Measured:
    """How good the tags of a text are.

    Attributes:
        figures: `accuracy` by word and, of words that are not in the training text,
            `unknown_accuracy` (0 if there are none); with entities `precision`, `recall` and `f1`;
            `tokens`, `unknown_tokens`, `unseen_tags` (words whose gold tag was not in the training
            text: always wrong). Shares are in 0..1.
        by_type: precision, recall, f1 and the number `expected` of each type of entity; for tags
            without entities, those of each tag.
        confusion: counts of (gold, predicted) tags.
        unseen: gold tags that were not in the training text, with their counts.
    """

    figures: dict[str, float]
    by_type: dict[str, dict[str, float]]
    confusion: Counter[tuple[str, str]]
    unseen: dict[str, int]


def measure(
    gold: Tags,
    predicted: Tags,
    *,
    known_tags: Sequence[str],
    unknown: Sequence[bool] = (),
    has_spans: bool = False,
) -> Measured:
    """Compare tags with those that are right.

    Args:
        gold: one list a sentence.
        predicted: the same shape.
        known_tags: those of the training text.
        unknown: for each word of all sentences, whether it was not in the training text.
        has_spans: tags hold entities.

    Raises:
        ShapeError: sentences of different numbers of words.

    Example:
        >>> found = measure([["D", "N"], ["V"]], [["D", "V"], ["V"]], known_tags=["D", "N", "V"])
        >>> round(found.figures["accuracy"], 3), found.by_type["V"]["precision"]
        (0.667, 0.5)
    """
    sizes = [len(tags) for tags in gold], [len(tags) for tags in predicted]
    if sizes[0] != sizes[1]:
        raise ShapeError(f"gold and predicted tags are of {sizes[0]} and {sizes[1]} words")
    pairs = [
        pair
        for own, other in zip(gold, predicted, strict=True)
        for pair in zip(own, other, strict=True)
    ]
    confusion = Counter(pairs)
    known = set(known_tags)
    unseen = Counter(own for own, _ in pairs if own not in known)
    hard = [own == other for (own, other), is_hard in zip(pairs, unknown, strict=False) if is_hard]
    figures: dict[str, float] = {
        "accuracy": sum(n for (own, other), n in confusion.items() if own == other)
        / max(len(pairs), 1),
        "unknown_accuracy": sum(hard) / max(len(hard), 1),
    }
    if has_spans:
        counts = span_counts(gold, predicted)
        figures |= counts.pop("").figures()
    else:
        counts = _tag_counts(confusion)
    figures |= {
        "tokens": len(pairs),
        "unknown_tokens": len(hard),
        "unseen_tags": unseen.total(),
    }
    by_type = {
        kind: {**count.figures(), "expected": count.expected} for kind, count in counts.items()
    }
    return Measured(figures, by_type, confusion, dict(unseen.most_common()))


def metric_names(has_spans: bool) -> tuple[str, ...]:
    """The keys of `Measured.figures`."""
    spans = ("precision", "recall", "f1") if has_spans else ()
    return ("accuracy", "unknown_accuracy", *spans, "tokens", "unknown_tokens", "unseen_tags")


def _tag_counts(confusion: Counter[tuple[str, str]]) -> dict[str, SpanCounts]:
    found, expected = Counter[str](), Counter[str]()
    for (own, other), count in confusion.items():
        expected[own] += count
        found[other] += count
    tags = sorted(found.keys() | expected.keys())
    return {tag: SpanCounts(confusion[tag, tag], found[tag], expected[tag]) for tag in tags}
