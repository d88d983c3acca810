"""A text in three parts: to train on, to choose by, to report on."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from recurra.errors import DataError

HELD_OUT = 0.05


@dataclass(frozen=True)
class TextSplits:
    """Lines of text by purpose.

    Attributes:
        train, valid, test: one sentence or paragraph an item.
        notes: what the report should say of how they were made.
        overlapping: valid and test with the paragraphs that were left out of them because they
            share text with train; empty where nothing was.
    """

    train: list[str]
    valid: list[str]
    test: list[str]
    notes: dict[str, int | float | str] = field(default_factory=dict)
    overlapping: dict[str, list[str]] = field(default_factory=dict)


def split_lines(
    lines: Sequence[str], *, valid: bool = True, test: bool = True, where: str = "the text"
) -> TextSplits:
    """Hold out the end of a text: the last twentieth to choose by, the one before to report on.

    Whole blocks are held out, not single lines, since neighbouring lines share words that a model
    would otherwise know already.

    Args:
        lines: the text in its order.
        valid: hold out lines to choose by.
        test: hold out lines to report on.
        where: names the text in an error.

    Raises:
        DataError: too few lines to hold any out.

    Example:
        >>> splits = split_lines([str(i) for i in range(40)])
        >>> splits.test, splits.valid
        (['36', '37'], ['38', '39'])
    """
    parts = valid + test
    held_out = max(1, int(len(lines) * HELD_OUT))
    if parts and len(lines) < parts + 1:
        raise DataError(
            f"{where} has {len(lines)} lines, too few to hold out a part to measure on; pass "
            "--valid and --test, or more text"
        )
    end = len(lines) - held_out * valid
    start = end - held_out * test
    return TextSplits(
        train=list(lines[:start]), valid=list(lines[end:]), test=list(lines[start:end])
    )
