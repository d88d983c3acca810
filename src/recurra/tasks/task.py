"""What the trainer knows of a task: batches, a loss, a metric, and nothing else."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class Step:
    """What one training step gave.

    Attributes:
        loss: scalar to differentiate, penalties included.
        carry: what the next batch starts from (the recurrent state), detached; `None` for nothing.
        figures: detached scalars to log, by name; the names carry units (`nats_per_token`).
    """

    loss: Tensor
    carry: Any = None
    figures: dict[str, Tensor] = field(default_factory=dict)


class Task(Protocol):
    """Batches, loss and metric of one job; the trainer runs any object of this shape.

    Everything is a pure function of its arguments, so that a run that was killed goes on to the
    same bits: a batch is found by its epoch and index, and random numbers come from torch's
    generators alone, which the trainer seeds before each step.

    Attributes:
        model: what is trained.
        primary_metric: the key of `evaluate`'s result that chooses the best checkpoint.
        higher_is_better: its direction.
        unit: what `count` counts, in the plural ("tokens").
        figures: names of the figures that every training step gives.
        metrics: names of the metrics that `evaluate` gives.
    """

    model: nn.Module
    primary_metric: str
    higher_is_better: bool
    unit: str
    figures: tuple[str, ...]
    metrics: tuple[str, ...]

    def shard(self, rank: int, ranks: int) -> None:
        """Keep the part of every batch that process `rank` of `ranks` works on."""

    def batches_per_epoch(self) -> int:
        """Number of batches of every epoch, the same on every rank."""

    def batch(self, epoch: int, index: int) -> Any:
        """Batch `index` of an epoch: tensors, or tuples of them, on the CPU."""

    def count(self, batch: Any) -> int:
        """How many units (tokens, …) the batch trains on, over all ranks."""

    def learning_rate_scale(self, batch: Any) -> float:
        """Factor on this step's learning rate; 1.0 unless batches differ in length."""

    def initial_carry(self) -> Any:
        """What the first batch of an epoch starts from."""

    def training_step(self, batch: Any, carry: Any) -> Step:
        """Loss of one batch."""

    def evaluate(self, split: str) -> dict[str, float]:
        """Metrics on "valid" or "test", in evaluation mode and without gradients."""
