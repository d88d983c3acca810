"""A small network on a probe, trained for a number of steps that is equal for all."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recurra.cells import Cell
from recurra.errors import ArgumentError
from recurra.insight.probes import Probe
from recurra.insight.structure import one_thread
from recurra.layers import Recurrent

EMBEDDING_SIZE = 16
CLOSE = 0.08  # to the sum, for the adding problem


@dataclass(frozen=True)
class Schedule:
    """How a probe's network is trained: Adam, a new batch each step.

    Attributes:
        steps: of training.
        rows: of a batch.
        distances: the shortest and the longest; each batch has one distance, drawn uniformly.
        learning_rate: of Adam; falls to a tenth by a cosine.
        clip: of the gradient's norm.
    """

    steps: int = 600
    rows: int = 32
    distances: tuple[int, int] = (1, 40)
    learning_rate: float = 4e-3
    clip: float = 1.0

    def __post_init__(self) -> None:
        low, high = self.distances
        if self.steps < 0 or self.rows < 1 or not 0 <= low <= high:
            raise ArgumentError(
                f"steps={self.steps}, rows={self.rows}, distances={low}..{high}: expected 0 steps "
                "or more, 1 row or more, and distances that do not fall"
            )


class ProbeNetwork(nn.Module):
    """Embedding (or the numbers themselves), one recurrent layer, a linear answer.

    Args:
        cell: the recurrence.
        probe: what it is to solve; gives the sizes.
        hidden_size: units.
        forget_bias, init: see `recurra.Recurrent`.

    Example:
        >>> from recurra.cells import GRU_CELL
        >>> from recurra.insight.probes import Recall
        >>> network = ProbeNetwork(GRU_CELL, Recall(), 8)
        >>> network(torch.zeros(5, 2, dtype=torch.long)).shape
        torch.Size([1, 2, 8])
    """

    def __init__(
        self,
        cell: Cell,
        probe: Probe,
        hidden_size: int,
        *,
        forget_bias: float | None = None,
        init: str | None = None,
    ) -> None:
        super().__init__()
        size = EMBEDDING_SIZE if probe.vocabulary else probe.input_size
        self.embedding = nn.Embedding(probe.vocabulary, size) if probe.vocabulary else None
        self.layer = Recurrent(cell, size, hidden_size, forget_bias=forget_bias, init=init)
        self.answer = nn.Linear(self.layer.output_sizes[0], probe.outputs)
        self.answers = probe.answers

    def embed(self, inputs: Tensor) -> Tensor:
        """What the layer reads, (time, rows, size)."""
        return inputs if self.embedding is None else self.embedding(inputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Answers of the last steps, (answers, rows, outputs)."""
        answers: Tensor = self.answer(self.layer(self.embed(inputs))[0][-self.answers :])
        return answers


def loss_of(answers: Tensor, targets: Tensor) -> Tensor:
    """Of each row, (rows,): mean squared error of numbers, else cross-entropy in nats."""
    if answers.shape[-1] == 1:
        return (answers.squeeze(-1) - targets).square().mean(0)
    losses = nn.functional.cross_entropy(answers.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view(targets.shape).mean(0)


def train(network: ProbeNetwork, probe: Probe, schedule: Schedule, seed: int) -> list[float]:
    """Train in place, on one thread; gives the loss of every step.

    Equal seeds draw equal batches, whatever the network.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), schedule.learning_rate)
    course = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, max(schedule.steps, 1), 0.1 * schedule.learning_rate
    )
    low, high = schedule.distances
    losses = []
    with one_thread():
        for _ in range(schedule.steps):
            distance = int(torch.randint(low, high + 1, (), generator=generator))
            inputs, targets = probe.draw(schedule.rows, distance, generator)
            optimizer.zero_grad()
            loss = loss_of(network(inputs), targets).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), schedule.clip)
            optimizer.step()
            course.step()
            losses.append(float(loss.detach()))
    return losses


def accuracy(
    network: ProbeNetwork, probe: Probe, distances: Sequence[int], seed: int, rows: int = 256
) -> list[float]:
    """The share of right answers at each distance, on sequences that training did not draw."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    with one_thread(), torch.no_grad():
        for distance in distances:
            inputs, targets = probe.draw(rows, distance, generator)
            answers = network(inputs)
            if answers.shape[-1] == 1:
                is_right = (answers.squeeze(-1) - targets).abs() <= CLOSE
            else:
                is_right = answers.argmax(-1) == targets
            found.append(float(is_right.float().mean()))
    return found
