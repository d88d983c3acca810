"""How far back each recurrence remembers, at equal parameters and equal training."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from recurra.cells import Cell
from recurra.errors import ArgumentError
from recurra.insight.probe_training import (
    EMBEDDING_SIZE,
    ProbeNetwork,
    Schedule,
    accuracy,
    train,
)
from recurra.insight.probes import Probe
from recurra.insight.structure import equal_hidden_size


@dataclass(frozen=True)
class RecallCurve:
    """What one cell kept on one probe.

    Attributes:
        cell: its name.
        hidden_size: at which it has the weights that were asked for.
        parameters: of the whole network.
        distances: at which it was asked.
        scores: for each seed, the share of right answers at each distance.
    """

    cell: str
    hidden_size: int
    parameters: int
    distances: tuple[int, ...]
    scores: tuple[tuple[float, ...], ...]

    @property
    def means(self) -> tuple[float, ...]:
        """Over seeds, at each distance."""
        return tuple(sum(column) / len(column) for column in zip(*self.scores, strict=True))

    @property
    def deviations(self) -> tuple[float, ...]:
        """Sample standard deviation over seeds, at each distance; 0 for one seed.

        Example:
            >>> RecallCurve("gru", 1, 1, (5,), ((0.0,), (1.0,))).deviations
            (0.7071067811865476,)
        """
        count = len(self.scores)
        if count < 2:
            return (0.0,) * len(self.distances)
        return tuple(
            math.sqrt(sum((x - mean) ** 2 for x in column) / (count - 1))
            for column, mean in zip(zip(*self.scores, strict=True), self.means, strict=True)
        )


def measure_recall(
    cell: Cell,
    probe: Probe,
    distances: Sequence[int],
    schedule: Schedule,
    *,
    weights: int,
    seeds: int,
    forget_bias: float | None = None,
    rows: int = 256,
    done: Callable[[], None] = lambda: None,
) -> RecallCurve:
    """Train a cell on a probe with several seeds, and ask it at each distance.

    Args:
        cell: any cell.
        probe: the problem.
        distances: to ask at; beyond `schedule.distances` is beyond what was trained.
        schedule: the same for every cell.
        weights: matrix weights of the recurrent layer; its hidden size follows.
        seeds: networks to train; seed k draws the same batches for every cell.
        forget_bias: of cells that have a gate f.
        rows: sequences for each distance, the same for every cell.
        done: called after each network.

    Raises:
        ArgumentError: no seed, or no distance.

    Example:
        >>> from recurra.cells import GRU_CELL
        >>> from recurra.insight import probes
        >>> schedule = Schedule(steps=2, rows=2, distances=(1, 2))
        >>> found = measure_recall(
        ...     GRU_CELL, probes.Recall(), [1, 4], schedule, weights=500, seeds=2
        ... )
        >>> len(found.scores), len(found.means)
        (2, 2)
    """
    if seeds < 1 or not distances:
        raise ArgumentError(f"seeds={seeds} and {len(distances)} distances: expected 1 or more")
    size = EMBEDDING_SIZE if probe.vocabulary else probe.input_size
    hidden = equal_hidden_size(cell, size, weights)
    bias = forget_bias if "f" in cell.gates else None
    scores = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        network = ProbeNetwork(cell, probe, hidden, forget_bias=bias)
        train(network, probe, schedule, seed)
        scores.append(tuple(accuracy(network, probe, distances, seed=10_000, rows=rows)))
        done()
    parameters = sum(p.numel() for p in network.parameters())
    return RecallCurve(cell.name, hidden, parameters, tuple(distances), tuple(scores))
