"""Which side of a parallel text is which language: files passed in the wrong order are noticed.

A language's profile is how often its most frequent runs of one to three characters occur (Cavnar &
Trenkle 1994). Two texts are alike by the cosine of their profiles.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recurra.data.parallel import ParallelText
from recurra.errors import DataError

RUNS, SAMPLE_LINES, LINE_CHARACTERS = 300, 1000, 300
MARGIN = 0.2  # by which the other order must fit better, of a sum of two cosines
FEWEST_CHARACTERS = 40


@dataclass(frozen=True)
class Direction:
    """Profiles of the two sides of a training text.

    Attributes:
        source, target: shares by run of characters.

    Example:
        >>> text = ParallelText(["der Hund und die Katze"] * 9, ["the dog and the cat"] * 9)
        >>> direction = Direction.of(text)
        >>> direction.check(text)
        >>> direction.is_swapped(ParallelText(text.target, text.source))
        True
    """

    source: Mapping[str, float]
    target: Mapping[str, float]

    @classmethod
    def of(cls, text: ParallelText) -> "Direction":
        """From a training text."""
        return cls(profile(text.source), profile(text.target))

    def is_swapped(self, text: ParallelText) -> bool:
        """Whether a text fits clearly better with its sides exchanged; False for short ones."""
        if min(_characters(text.source), _characters(text.target)) < FEWEST_CHARACTERS:
            return False
        lines, translations = profile(text.source), profile(text.target)
        as_is = likeness(lines, self.source) + likeness(translations, self.target)
        exchanged = likeness(lines, self.target) + likeness(translations, self.source)
        return exchanged > as_is + MARGIN

    def check(self, text: ParallelText) -> None:
        """Refuse a text whose sides are exchanged.

        Raises:
            DataError: they are.
        """
        if self.is_swapped(text):
            raise DataError(
                f"{text.where}: source and target seem to be exchanged: the source reads like the "
                "language that the model translates into. Pass the source first: --data SOURCE "
                "--data TARGET"
            )

    def save(self, path: str | Path) -> None:
        """Write to a JSON file."""
        content = {"source": dict(self.source), "target": dict(self.target)}
        Path(path).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Direction":
        """Read what `save` wrote.

        Raises:
            DataError: it is something else.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(content["source"], content["target"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: holds no profiles of languages ({error})") from error


def profile(lines: Sequence[str]) -> dict[str, float]:
    """The most frequent runs of one to three characters and their shares, the first lines' only."""
    counts: Counter[str] = Counter()
    for line in lines[:SAMPLE_LINES]:
        text = f" {line[:LINE_CHARACTERS]} "
        for size in (1, 2, 3):
            counts.update(text[i : i + size] for i in range(len(text) - size + 1))
    total = max(counts.total(), 1)
    return {run: round(count / total, 7) for run, count in counts.most_common(RUNS)}


def likeness(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """The cosine of two profiles, 0..1.

    Example:
        >>> round(likeness({"a": 0.5, "b": 0.5}, {"a": 1.0}), 4)
        0.7071
    """
    dot = sum(share * b.get(run, 0.0) for run, share in a.items())
    norms = [sum(share * share for share in side.values()) ** 0.5 for side in (a, b)]
    return dot / (norms[0] * norms[1]) if all(norms) else 0.0


def _characters(lines: Sequence[str]) -> int:
    return sum(len(line) for line in lines[:SAMPLE_LINES])
