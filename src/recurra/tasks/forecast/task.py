"""Forecasting as the trainer sees it: windows drawn in a new order every epoch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recurra.data.forecast.windows import FlatSeries
from recurra.errors import ArgumentError
from recurra.tasks.forecast.backtest import forecast_at
from recurra.tasks.forecast.measures import Backtest, Yardstick, score
from recurra.tasks.task import Step

MOST_ORIGINS = 2000  # of a check during training
LEAST_BATCHES = 20  # of an epoch: a table of a few hundred rows would be over before the warm-up


class ForecastTask:
    """Trains a network on windows of many series.

    Args:
        model: with the protocol of `DirectForecaster`.
        flat: all rows of all series.
        origins: flat rows by split: "train" to learn from, "valid" and "test" to measure at.
        truth: what happened after the origins of "valid" and "test".
        yardstick: what errors are measured against.
        batch_size: windows of a batch, over all ranks.
        stride: steps between the windows of an epoch, which begin at another phase in each.
        seed: of the order.
        is_squared: choose by the squared error.

    Raises:
        ArgumentError: no full batch can be drawn.

    Example: see `recurra.Forecaster.train`, which builds all of these from files.
    """

    primary_metric = "score"
    higher_is_better = False
    unit = "windows"
    figures: tuple[str, ...] = ("loss",)
    metrics: tuple[str, ...] = ("score",)

    def __init__(
        self,
        model: nn.Module,
        flat: FlatSeries,
        origins: Mapping[str, NDArray[np.int64]],
        truth: Mapping[str, NDArray[np.float64]],
        yardstick: Yardstick,
        *,
        batch_size: int,
        stride: int = 1,
        seed: int = 1,
        is_squared: bool = False,
    ) -> None:
        self.model = model
        self._network: Any = model  # the same, for its methods beyond nn.Module's
        self.flat = flat
        self.origins, self.truth, self.yardstick = origins, truth, yardstick
        self.batch_size, self.stride, self.seed = batch_size, stride, seed
        self.is_squared = is_squared
        self._rows = slice(None)
        self._order: tuple[int, Tensor] | None = None

    def shard(self, rank: int, ranks: int) -> None:
        """Keep every `ranks`-th window, from window `rank` on.

        Raises:
            ArgumentError: the batch cannot be dealt out evenly.
        """
        if self.batch_size % ranks:
            raise ArgumentError(
                f"batch_size {self.batch_size} cannot be split evenly over {ranks} processes; set "
                f"it to a multiple of {ranks}"
            )
        self._rows = slice(rank, None, ranks)

    def batches_per_epoch(self) -> int:
        """Batches of an epoch, of which the last may be smaller; at least 20.

        Where that is more than there are windows at the stride, they are drawn again at another
        phase.
        """
        return max(LEAST_BATCHES, -(-self._windows() // self.batch_size))

    def batch(self, epoch: int, index: int) -> Tensor:
        """Flat rows of the windows' origins, (batch,) int64; the device gathers the rest."""
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, self._shuffled(epoch)
        own = self._order[1][index * self.batch_size : (index + 1) * self.batch_size]
        return own[self._rows]

    def count(self, batch: Any) -> int:
        """Windows of all ranks."""
        return len(batch) * (1 if self._rows.step is None else int(self._rows.step))

    def learning_rate_scale(self, batch: Any) -> float:
        """All batches are alike."""
        return 1.0

    def initial_carry(self) -> None:
        """Nothing is carried: windows are drawn."""

    def training_step(self, batch: Any, carry: Any) -> Step:
        """Loss of one batch of windows."""
        self.flat = self.flat.to(batch.device)
        windows = self.flat.gather(batch, self._network.window, self._network.horizon)
        loss = self._network.loss(windows)
        return Step(loss, None, {"loss": loss.detach()})

    def evaluate(self, split: str) -> dict[str, float]:
        """The score of a back-test, on at most 2,000 origins, evenly spread."""
        chosen = np.linspace(0, len(self.origins[split]) - 1, MOST_ORIGINS).round().astype(np.int64)
        chosen = np.unique(chosen)
        found = self.backtest(split, chosen)
        return {"score": score(found, self.yardstick, self.is_squared)}

    def backtest(self, split: str, chosen: NDArray[np.int64] | None = None) -> Backtest:
        """Forecasts from every origin of a split, or from those at the indices `chosen`."""
        origins, truth = self.origins[split], self.truth[split]
        if chosen is not None:
            origins, truth = origins[chosen], truth[chosen]
        self.flat = self.flat.to(next(self.model.parameters()).device)
        mean, quantiles = forecast_at(self.model, self.flat, origins, self.yardstick.levels)
        return Backtest(origins, truth, mean.double().numpy(), quantiles.double().numpy())

    def _shuffled(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        origins = torch.from_numpy(self.origins["train"])
        is_short = -(-self._windows() // self.batch_size) < LEAST_BATCHES
        times = -(-LEAST_BATCHES * self.batch_size // self._windows()) if is_short else 1
        return torch.cat([self._phase(origins, generator) for _ in range(times)])

    def _windows(self) -> int:
        return max(1, len(self.origins["train"]) // self.stride)

    def _phase(self, origins: Tensor, generator: torch.Generator) -> Tensor:
        """Every `stride`-th origin, from a random one on, in random order."""
        count = self._windows()
        phase = int(torch.randint(min(self.stride, len(origins)), (1,), generator=generator))
        picked = (phase + self.stride * torch.arange(count)) % len(origins)
        return origins[picked[torch.randperm(count, generator=generator)]]
