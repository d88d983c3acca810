"""Translation as the trainer sees it."""

from typing import Any

import torch
from torch import nn

from recurra.data.length_batches import LengthBatches
from recurra.data.parallel import ParallelText
from recurra.errors import ArgumentError, DataError
from recurra.models.softmax import IGNORED
from recurra.models.translator import RecurrentTranslator
from recurra.tasks.task import Step
from recurra.tasks.translate.encoding import EncodedPairs, PairBatch, Tokenizers
from recurra.tasks.translate.metrics import METRICS, measure
from recurra.tasks.translate.search import Decoding


class TranslationTask:
    """Trains a translator on batches of pairs of about equal length.

    Args:
        model: the translator.
        tokenizers: of both sides.
        splits: "train", and the texts to evaluate on by name; "valid" is needed for training.
        batch_tokens: padded tokens of a batch's longer side at most.
        seed: of the order of pairs.
        longest: pairs with a longer side, in tokens, are not trained on.
        choose_by: the metric on valid that chooses the best weights.
        checked_pairs: so many pairs of valid, from its start, are translated at each check.
        scheduled_sampling: share of the previous words that are the model's guesses, once
            `sampling_epochs` have passed; before, it grows from 0 in a line.
        sampling_epochs: see there.
        max_length: most tokens of a translation at checks.
        ratio: see `translate_lines`.

    Pairs with an empty side are not trained on. Checks translate greedily.

    Raises:
        ArgumentError: an unknown metric.
        DataError: no pair to train on.

    Example: see `recurra.Translator.train`, which builds all of these from files.
    """

    unit = "tokens"
    figures: tuple[str, ...] = ("nats_per_token",)
    metrics: tuple[str, ...] = METRICS

    def __init__(
        self,
        model: RecurrentTranslator,
        tokenizers: Tokenizers,
        splits: dict[str, ParallelText],
        *,
        batch_tokens: int,
        seed: int = 0,
        longest: int | None = None,
        choose_by: str = "bleu",
        checked_pairs: int = 1000,
        scheduled_sampling: float = 0.0,
        sampling_epochs: float = 5.0,
        max_length: int = 200,
        ratio: float = 2.0,
    ) -> None:
        if choose_by not in METRICS:
            raise ArgumentError(f"choose_by={choose_by!r}; use one of {', '.join(METRICS)}")
        self.model: nn.Module = model
        self._network, self.tokenizers, self.splits = model, tokenizers, splits
        self.primary_metric, self.higher_is_better = choose_by, choose_by != "nats_per_token"
        train = splits["train"]
        self.pairs = EncodedPairs(train, tokenizers, longest=longest, keep_empty=False)
        if not len(self.pairs):
            raise DataError(
                f"{train.where}: no pair to train on: {self.pairs.empty} of {len(train)} have an "
                f"empty side, {self.pairs.too_long} have more than {longest} tokens (longest=)"
            )
        self.batches = LengthBatches(self.pairs.steps, batch_tokens, seed=seed)
        self.checked_pairs = checked_pairs
        self.scheduled_sampling, self.sampling_epochs = scheduled_sampling, sampling_epochs
        self.decoding, self.ratio = Decoding(beam_size=1, max_length=max_length), ratio
        self._rank, self._ranks = 0, 1

    def shard(self, rank: int, ranks: int) -> None:
        """Keep every `ranks`-th pair of a batch, from `rank` on; see `batch`."""
        self._rank, self._ranks = rank, ranks

    def batches_per_epoch(self) -> int:
        """Batches of every epoch."""
        return len(self.batches)

    def batch(self, epoch: int, index: int) -> tuple[PairBatch, int, float]:
        """This rank's pairs, the target tokens of all ranks, and the share of sampled words.

        A rank without a pair gets the batch's first one, with nothing counted.
        """
        rows = self.batches.pieces(epoch, index)
        total = int(self.pairs.target.lengths[torch.from_numpy(rows.copy())].sum())
        passed = epoch + index / len(self.batches)
        share = self.scheduled_sampling * min(1.0, passed / max(self.sampling_epochs, 1e-9))
        own = rows[self._rank :: self._ranks]
        if len(own):
            return self.pairs.batch(own), total, share
        nothing = self.pairs.batch(rows[:1])
        return nothing._replace(targets=torch.full_like(nothing.targets, IGNORED)), total, share

    def count(self, batch: Any) -> int:
        """Target tokens of the batch over all ranks, ends counted."""
        return int(batch[1])

    def learning_rate_scale(self, batch: Any) -> float:
        """Batches hold about equal numbers of tokens."""
        return 1.0

    def initial_carry(self) -> Any:
        """Sentences depend on nothing before them."""
        return None

    def training_step(self, batch: Any, carry: Any) -> Step:
        """Loss of one batch: the mean over the tokens of all ranks."""
        pairs, total, share = batch
        loss, nats = self._network.loss(*pairs, sampled=share)
        if self._ranks > 1:
            part = int((pairs[3] != IGNORED).sum()) * self._ranks / max(total, 1)
            loss, nats = loss * part, nats * part
        return Step(loss, None, {"nats_per_token": nats})

    def evaluate(self, split: str) -> dict[str, float]:
        """See `Measured.figures`."""
        text = self.splits[split]
        part = ParallelText(
            text.source[: self.checked_pairs], text.target[: self.checked_pairs], text.where
        )
        found = measure(self._network, self.tokenizers, part, self.decoding, ratio=self.ratio)
        return found.figures
