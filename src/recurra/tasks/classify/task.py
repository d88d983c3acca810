"""Classification as the trainer sees it: batches of sequences of similar length."""

from typing import Any

from torch import Tensor, nn

from recurra.data.length_batches import Buckets
from recurra.data.spelling import Spellings
from recurra.errors import ArgumentError, DataError
from recurra.tasks.classify.encoding import EncodedExamples
from recurra.tasks.classify.metrics import METRICS, MULTI_LABEL_METRICS
from recurra.tasks.classify.prediction import evaluate
from recurra.tasks.task import Step


class ClassifierTask:
    """Trains a model on labelled sequences.

    Args:
        model: with `loss` and `log_probabilities`.
        splits: encoded examples, by name: "train", and "valid" to choose by.
        batch_size: sequences of a batch.
        seed: of the order of batches.
        longest: sequences are cut after so many steps in training, not in evaluation; None: never.
        choose_by: the metric on valid that chooses the best weights; None: "accuracy", or
            "micro_f1" for multi-label.

    Raises:
        ArgumentError: an unknown metric.
        DataError: a training example of a class that the model does not have.

    Example: see `recurra.Classifier.train`, which builds all of these from files.
    """

    unit = "steps"
    figures: tuple[str, ...] = ("nats_per_example",)

    def __init__(
        self,
        model: nn.Module,
        splits: dict[str, EncodedExamples],
        *,
        batch_size: int = 32,
        seed: int = 0,
        longest: int | None = None,
        choose_by: str | None = None,
    ) -> None:
        self.model = model
        self._network: Any = model  # the same, for its methods beyond nn.Module's
        self.splits = splits
        self.longest = longest
        self._train = splits["train"]
        leaves = self._train.leaves
        self._learned = self._train.targets if leaves is None else leaves
        self.is_multi_label = self._train.targets.dim() == 2
        self.metrics: tuple[str, ...] = MULTI_LABEL_METRICS if self.is_multi_label else METRICS
        self.primary_metric = choose_by or ("micro_f1" if self.is_multi_label else "accuracy")
        self.higher_is_better = self.primary_metric not in ("log_loss", "calibration_error")
        if self.primary_metric not in self.metrics:
            raise ArgumentError(
                f"choose_by={choose_by!r}; use one of {', '.join(self.metrics[:-1])}"
            )
        if not self.is_multi_label and (self._train.targets < 0).any():
            raise DataError(
                f"training examples have classes that the model does not: "
                f"{', '.join(self._train.unknown_labels)}"
            )
        self.buckets = Buckets(self._train.inputs.lengths, batch_size, seed=seed)
        self._rank, self._ranks = 0, 1

    def shard(self, rank: int, ranks: int) -> None:
        """Keep every `ranks`-th row, from row `rank` on; the gradients' mean is then the same.

        A last batch that cannot be dealt out evenly is filled with rows of its own, once more.

        Raises:
            ArgumentError: full batches cannot be dealt out evenly.
        """
        if self.buckets.batch_size % ranks:
            raise ArgumentError(
                f"batch_size {self.buckets.batch_size} cannot be split evenly over {ranks} "
                f"processes; set it to a multiple of {ranks}"
            )
        self._rank, self._ranks = rank, ranks

    def batches_per_epoch(self) -> int:
        """Batches that read every training example once."""
        return len(self.buckets)

    def batch(
        self, epoch: int, index: int
    ) -> tuple[Tensor, Tensor, Tensor, Spellings | None, Tensor | None, int]:
        """Inputs (time, rows, …), lengths (rows,), targets, spelled words, who does not learn from
        the rows (rows,); steps of all ranks."""
        rows = self.buckets.batch(epoch, index)
        while len(rows) % self._ranks:
            rows = rows + rows[: self._ranks - len(rows) % self._ranks]
        lengths = self._train.inputs.lengths[rows]
        if self.longest is not None:
            lengths = lengths.clamp_max(self.longest)
        own = rows[self._rank :: self._ranks]
        padded, own_lengths, spelled = self._train.inputs.batch(own, self.longest)
        unseen_by = None if self._train.unseen_by is None else self._train.unseen_by[own]
        return padded, own_lengths, self._learned[own], spelled, unseen_by, int(lengths.sum())

    def count(self, batch: Any) -> int:
        """Real steps that all ranks read in this batch."""
        return int(batch[-1])

    def learning_rate_scale(self, batch: Any) -> float:
        """1: batches differ in steps, not in examples."""
        return 1.0

    def initial_carry(self) -> None:
        """Nothing: sequences are whole."""

    def training_step(self, batch: Any, carry: Any) -> Step:
        """Loss of one batch."""
        inputs, lengths, targets, spelled, unseen_by, _ = batch
        committee = {} if unseen_by is None else {"unseen_by": unseen_by}
        loss, nats = self._network.loss(inputs, lengths, targets, spelled, **committee)
        return Step(loss, None, {"nats_per_example": nats})

    def evaluate(self, split: str) -> dict[str, float]:
        """See `metrics.py`."""
        return evaluate(self.model, self.splits[split])
