"""Language modelling as the trainer sees it: truncated back-propagation through lanes of text."""

from typing import Any

from torch import Tensor, nn

from recurra.data.lanes import Lanes
from recurra.errors import ArgumentError
from recurra.tasks.lm.evaluation import METRICS, EncodedText, evaluate
from recurra.tasks.task import Step


class LanguageModelTask:
    """Trains a model on contiguous lanes of text whose state is carried from window to window.

    Args:
        model: with `initial_state`, `loss` and `log_probabilities`.
        lanes: windows of the training text.
        splits: the texts to evaluate on, by name; "valid" is needed for training.
        eos_id: the id of the end of a sentence.

    Example: see `recurra.LanguageModel.train`, which builds all of these from files.
    """

    primary_metric = "perplexity"
    higher_is_better = False
    unit = "tokens"
    figures: tuple[str, ...] = ("nats_per_token",)
    metrics: tuple[str, ...] = METRICS

    def __init__(
        self, model: nn.Module, lanes: Lanes, splits: dict[str, EncodedText], eos_id: int
    ) -> None:
        self.model = model
        self._network: Any = model  # the same, for its methods beyond nn.Module's
        self.lanes = lanes
        self.splits = splits
        self.eos_id = eos_id
        self._columns = slice(None)

    def shard(self, rank: int, ranks: int) -> None:
        """Keep every `ranks`-th lane, from lane `rank` on; the gradients' mean is then the same.

        Raises:
            ArgumentError: the lanes cannot be dealt out evenly.
        """
        if self.lanes.batch_size % ranks:
            raise ArgumentError(
                f"batch_size {self.lanes.batch_size} cannot be split evenly over {ranks} "
                f"processes; set it to a multiple of {ranks}"
            )
        self._columns = slice(rank, None, ranks)

    def batches_per_epoch(self) -> int:
        """Windows in a lane."""
        return len(self.lanes)

    def batch(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets, each (time, lanes of this rank), int64."""
        inputs, targets = self.lanes.window(epoch, index)
        return inputs[:, self._columns], targets[:, self._columns]

    def count(self, batch: Any) -> int:
        """Tokens that all ranks predict in this batch."""
        return int(batch[0].shape[0] * self.lanes.batch_size)

    def learning_rate_scale(self, batch: Any) -> float:
        """Shorter windows take shorter steps (Merity et al. 2018, section 3.1)."""
        return float(batch[0].shape[0] / self.lanes.bptt_steps)

    def initial_carry(self) -> Any:
        """The model's state before a text."""
        return self._network.initial_state(len(range(self.lanes.batch_size)[self._columns]))

    def training_step(self, batch: Any, carry: Any) -> Step:
        """Loss of one window; gradients stop at its start."""
        inputs, targets = batch
        loss, nats, state = self._network.loss(inputs, targets, carry)
        return Step(loss, tuple(part.detach() for part in state), {"nats_per_token": nats})

    def evaluate(self, split: str) -> dict[str, float]:
        """Perplexity per word, bits per byte, nats per token, tokens."""
        return evaluate(self.model, self.splits[split], self.eos_id)
