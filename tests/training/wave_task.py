"""A task small enough to train in a blink, with dropout and a carried state."""

from typing import Any

import torch
from torch import Tensor, nn

from recurra.tasks.task import Step


class Network(nn.Module):
    """One recurrent layer that predicts the next value of a wave."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.GRU(1, 8)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self.layer(x, state)
        return self.head(self.dropout(y)), state


class WaveTask:
    """Predict a sine wave one step ahead, in lanes whose state is carried."""

    primary_metric = "mse"
    higher_is_better = False
    unit = "values"
    figures = ("mse",)
    metrics = ("mse",)

    def __init__(self, batches: int = 7, bad_step: int | None = None, seed: int = 0) -> None:
        self.model = Network(seed)
        self.batches = batches
        self.bad_step = bad_step
        self.columns = slice(None)

    def shard(self, rank: int, ranks: int) -> None:
        self.columns = slice(rank, None, ranks)

    def batches_per_epoch(self) -> int:
        return self.batches

    def batch(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        wave = torch.sin(torch.arange(6 * index, 6 * index + 7)[:, None] * 0.3 + torch.arange(4.0))
        if self.bad_step is not None and epoch * self.batches + index >= self.bad_step:
            wave = wave * float("nan")
        wave = wave[:, self.columns, None]
        return wave[:-1], wave[1:]

    def count(self, batch: Any) -> int:
        return 24

    def learning_rate_scale(self, batch: Any) -> float:
        return 1.0

    def initial_carry(self) -> Tensor:
        return torch.zeros(1, 4, 8)[:, self.columns]

    def training_step(self, batch: Any, carry: Any) -> Step:
        x, target = batch
        y, state = self.model(x, carry)
        loss = (y - target).square().mean()
        return Step(loss, state.detach(), {"mse": loss.detach()})

    def evaluate(self, split: str) -> dict[str, float]:
        x, target = self.batch(0, self.batches if self.bad_step is None else 0)
        y, _ = self.model(x, torch.zeros(1, x.shape[1], 8))
        return {"mse": float((y - target).detach().square().mean())}
