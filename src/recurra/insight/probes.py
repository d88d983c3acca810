"""Problems that only memory solves: what is asked at the end stood at the beginning.

Each draws its sequences from a seed, at any distance between what must be kept and the question.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from recurra.errors import ArgumentError

NAMES = ("Jane", "John", "Mary", "Paul", "Anna", "Mark", "Lucy", "Tom")
DISTRACTORS = (
    "It was late in the day .",
    "The door was open .",
    "Rain fell on the roof .",
    "Nobody had made any tea .",
    "The lamp on the desk was warm .",
    "A dog slept by the fire .",
)


class Probe(Protocol):
    """A family of problems, one for each distance.

    Attributes:
        name: in words.
        vocabulary: how many tokens there are, or 0 if the input is real numbers.
        input_size: numbers of each step, if it is.
        outputs: how many answers to choose from, or 1 for a number.
        answers: how many of the last steps are answered.
        unit: of the distance.
    """

    @property
    def name(self) -> str: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def input_size(self) -> int: ...
    @property
    def outputs(self) -> int: ...
    @property
    def answers(self) -> int: ...
    @property
    def unit(self) -> str: ...

    def draw(self, rows: int, distance: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Inputs (time, rows) int64, or (time, rows, input); targets (answers, rows)."""

    def chance(self, distance: int) -> float:
        """The score of the best guess that remembers nothing."""


@dataclass(frozen=True)
class Sentence:
    """*Jane walked into the room . John walked in too . <distractors> Jane said hi to* … John.

    Two of eight names walk in; either may be the one who speaks at the end, so both must be kept.
    The distance is the number of words of distractors, drawn from six sentences and cut at their
    end so that there are exactly as many. Chance is 1/8; to know the two names but not which of
    them speaks is worth 1/2. Source: the example by which Stanford's CS224
    lecture notes on recurrent networks explain vanishing gradients, made into a measurement.

    Example:
        >>> probe = Sentence()
        >>> inputs, target = probe.draw(1, 6, torch.Generator().manual_seed(0))
        >>> probe.text(inputs[:, 0])
        'Mary walked into the room . Paul walked in too . dog slept by the fire . Mary said hi to'
        >>> probe.words()[int(target)]
        'Paul'
    """

    name: str = "who was there? (sentence)"
    input_size: int = 0
    outputs: int = len(NAMES)
    answers: int = 1
    unit: str = "words between"

    @property
    def vocabulary(self) -> int:
        return len(self.words())

    def words(self) -> list[str]:
        """All words; the names come first."""
        frame = ["walked", "into", "the", "room", ".", "in", "too", "said", "hi", "to"]
        others = [word for sentence in DISTRACTORS for word in sentence.split()]
        return list(dict.fromkeys([*NAMES, *frame, *others]))

    def text(self, tokens: Tensor) -> str:
        """The words of (time,) tokens."""
        words = self.words()
        return " ".join(words[int(token)] for token in tokens)

    def draw(self, rows: int, distance: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        ids = {word: i for i, word in enumerate(self.words())}
        order = torch.rand(rows, len(NAMES), generator=generator).argsort(1)
        first, second = order[:, 0], order[:, 1]
        is_first = torch.rand(rows, generator=generator) < 0.5
        asker, answer = torch.where(is_first, first, second), torch.where(is_first, second, first)

        def fixed(text: str) -> Tensor:
            return torch.tensor([ids[word] for word in text.split()]).unsqueeze(1).expand(-1, rows)

        parts = [
            *(first.unsqueeze(0), fixed("walked into the room .")),
            *(second.unsqueeze(0), fixed("walked in too .")),
            self._distractors(rows, distance, ids, generator),
            *(asker.unsqueeze(0), fixed("said hi to")),
        ]
        return torch.cat(parts), answer.unsqueeze(0)

    def _distractors(
        self, rows: int, distance: int, ids: dict[str, int], generator: torch.Generator
    ) -> Tensor:
        """(distance, rows): whole sentences, but for the first, which may lack its beginning."""
        sentences = [[ids[word] for word in sentence.split()] for sentence in DISTRACTORS]
        shortest = min(map(len, sentences))
        count = -(-distance // shortest) if distance else 0
        picks = torch.randint(len(sentences), (rows, count), generator=generator).tolist()
        columns = [[word for pick in row for word in sentences[pick]] for row in picks]
        kept = [column[len(column) - distance :] for column in columns]
        return torch.tensor(kept, dtype=torch.long).view(rows, distance).t()

    def chance(self, distance: int) -> float:
        return 1 / len(NAMES)


@dataclass(frozen=True)
class Recall:
    """Say at the end which of eight symbols came first; between them stand other symbols.

    A bare form of the "long time lag" problems of Hochreiter & Schmidhuber 1997, section 5.2.

    Example:
        >>> inputs, target = Recall().draw(3, 5, torch.Generator().manual_seed(0))
        >>> inputs.shape, bool((inputs[0] == target[0]).all())
        (torch.Size([7, 3]), True)
    """

    name: str = "recall the first symbol"
    vocabulary: int = 17
    input_size: int = 0
    outputs: int = 8
    answers: int = 1
    unit: str = "symbols between"

    def draw(self, rows: int, distance: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        first = torch.randint(8, (1, rows), generator=generator)
        noise = torch.randint(8, 16, (distance, rows), generator=generator)
        return torch.cat((first, noise, first.new_full((1, rows), 16))), first

    def chance(self, distance: int) -> float:
        return 1 / 8


@dataclass(frozen=True)
class Copying:
    """Keep three symbols of four over a pause, then say them in their order.

    Source: Hochreiter & Schmidhuber 1997, section 5, in the form of Arjovsky et al. 2016, section
    4.1 (there ten symbols of eight). The input is the symbols, `distance` blanks, then the signal
    to speak and blanks; the last three steps are answered.

    Example:
        >>> inputs, targets = Copying().draw(1, 4, torch.Generator().manual_seed(0))
        >>> len(inputs), torch.equal(inputs[:3], targets)
        (10, True)
    """

    name: str = "copy three symbols"
    vocabulary: int = 6
    input_size: int = 0
    outputs: int = 4
    answers: int = 3
    unit: str = "blanks between"

    def draw(self, rows: int, distance: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        symbols = torch.randint(4, (3, rows), generator=generator)
        pause, signal = symbols.new_full((distance, rows), 4), symbols.new_full((1, rows), 5)
        return torch.cat((symbols, pause, signal, symbols.new_full((2, rows), 4))), symbols

    def chance(self, distance: int) -> float:
        return 1 / 4


@dataclass(frozen=True)
class Adding:
    """Add two marked numbers among many: each step brings a number in 0..1 and a mark.

    The first marked number is among the first tenth of the steps or the first two, the second one
    anywhere in the first half after it; the sum is asked at the end. Source: Hochreiter &
    Schmidhuber 1997, section 5.4. Differs: marks are 0 and 1, numbers uniform in 0..1, and the
    target is the plain sum. The score is the share within 0.08 of the sum, which is the paper's
    0.04 on its targets of half the range; always saying 1 is right in 0.1536 of the cases.

    Example:
        >>> inputs, target = Adding().draw(2, 20, torch.Generator().manual_seed(0))
        >>> marked = (inputs[..., 0] * inputs[..., 1]).sum(0)
        >>> bool(torch.allclose(marked, target[0])), inputs[..., 1].sum(0).tolist()
        (True, [2.0, 2.0])
    """

    name: str = "add two marked numbers"
    vocabulary: int = 0
    input_size: int = 2
    outputs: int = 1
    answers: int = 1
    unit: str = "steps"

    def draw(self, rows: int, distance: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if distance < 4:
            raise ArgumentError(f"the adding problem needs 4 steps or more, got {distance}")
        early = max(2, distance // 10)
        first = torch.randint(early, (rows,), generator=generator)
        share = torch.rand(rows, generator=generator)
        second = first + 1 + (share * (max(distance // 2, early + 1) - first - 1)).long()
        numbers = torch.rand(distance, rows, generator=generator)
        marks = torch.zeros(distance, rows)
        marks[first, torch.arange(rows)] = 1
        marks[second, torch.arange(rows)] = 1
        return torch.stack((numbers, marks), -1), (numbers * marks).sum(0, keepdim=True)

    def chance(self, distance: int) -> float:
        return 1 - 0.92**2
