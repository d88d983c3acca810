"""Autoregressive forecaster with a distribution head, which feeds itself with what it draws.

    h_t = layers(x_t, h_{t-1})      p(y_{t+1} | all up to t) = head(W [h_t, f_{t+1}])

Symbols: x_t the target and covariates of step t; f what is known ahead. Source: Salinas et al.
2020 (DeepAR). Differs: what is known ahead of t + 1 enters at the output, so that a memory depends
on the past alone; covariates that are not known ahead are read with a flag, and left out when the
network feeds itself.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recurra.cells import Cell, resolve_cell, shipped_name
from recurra.errors import ArgumentError
from recurra.models.forecast.inputs import (
    LEVELS,
    Encoder,
    Forecast,
    InputSizes,
    Windows,
    checked_options,
    scaling_and_heads,
)

MOST_ROWS = 4000  # paths drawn at once: with more, a step's gates no longer stay in the cache


class AutoregressiveForecaster(nn.Module):
    """Forecast step by step, by paths drawn from the distribution of each next step.

    Args:
        inputs, window, horizon, cell, hidden_size, num_layers, dropout, scaling, backend: see
            `DirectForecaster`.
        head: a distribution: "gaussian", "student_t" or "negative_binomial".
        levels: of the quantiles, which are those of the paths.
        paths: how many are drawn for each forecast, side by side.

    Raises:
        ArgumentError: a head that cannot be sampled.
    """

    def __init__(
        self,
        inputs: InputSizes | dict[str, Any],
        *,
        window: int,
        horizon: int,
        cell: str | Cell = "lstm",
        hidden_size: int = 64,
        num_layers: int = 1,
        dropout: float = 0.0,
        head: str = "student_t",
        levels: Sequence[float] = LEVELS,
        paths: int = 100,
        scaling: str = "mean",
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self._options = checked_options(dict(locals()))
        inputs = InputSizes.of(inputs)
        self.window, self.horizon, self.paths = window, horizon, paths
        self.scaling, self.heads = scaling_and_heads(inputs, scaling, head, levels)
        if not self.heads.is_distribution or paths < 1:
            raise ArgumentError(
                f"head={head!r}, paths={paths}: an autoregressive network draws paths, so its head "
                "must be gaussian, student_t or negative_binomial, and paths at least 1"
            )
        self.cell = resolve_cell(cell)
        self.encoder = Encoder(
            inputs, self.cell, hidden_size, num_layers, dropout, backend, has_flag=True
        )
        self.dropout = nn.Dropout(dropout)
        width = hidden_size + self.encoder.covariates.future_size
        self.output = nn.Linear(width, self.heads.size)

    def options(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-able; `AutoregressiveForecaster(**options)` is anew."""
        return {**self._options, "cell": shipped_name(self.cell)}

    @property
    def is_streaming(self) -> bool:
        """Whether the memory may be carried from step to step without end."""
        return self.scaling.is_constant

    def loss(self, windows: Windows) -> Tensor:
        """−log p of every step of window and horizon but the first, given those before it."""
        loc, scale = self._scale(windows)
        future = self.encoder.covariates.future(windows)
        x = self._steps(windows, loc, scale, future, windows.target.shape[1] - 1)
        inside = nn.functional.pad(windows.inside, (0, self.horizon - 1), value=True)
        h = self.encoder.read(x, inside).transpose(0, 1)
        parameters = self._output(h, future[:, 1:])
        observed = windows.observed[:, 1:] * inside.unsqueeze(-1)
        return self.heads.loss(parameters, windows.target[:, 1:], observed, loc, scale)

    def forecast(self, windows: Windows, levels: Tensor) -> Forecast:
        """From the last step of each window."""
        loc, scale = self._scale(windows)
        future = self.encoder.covariates.future(windows)
        x = self._steps(windows, loc, scale, future, windows.past.shape[1])
        memory = self._last_memory(x, windows.inside)
        return self._drawn(memory, windows, future, levels, loc, scale)

    def memories(self, windows: Windows, memory: Tensor | None = None) -> Tensor:
        """The memory after every step of `windows.past`, (batch, time, memory); see `Direct…`."""
        loc, scale = self._scale(windows)
        future = self.encoder.covariates.future(windows)
        x = self._steps(windows, loc, scale, future, windows.past.shape[1])
        return self.encoder.memories(x, memory).transpose(0, 1)

    def forecast_from(self, memory: Tensor, windows: Windows, levels: Tensor) -> Forecast:
        """From memories (batch, memory); of the windows only what is known ahead is read."""
        loc, scale = self._scale(windows)
        future = self.encoder.covariates.future(windows)
        return self._drawn(memory, windows, future, levels, loc, scale)

    def sample(
        self, memory: Tensor, future: Tensor, static: Tensor, loc: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Paths from memories, all as one batch.

        Args:
            memory: (batch, memory) at the origins.
            future: (batch, horizon, future) and `static` (batch, static), embedded.
            loc, scale: (batch, 1, targets).

        Returns:
            (batch, paths, horizon, targets): what was drawn, and the mean at each step given the
            path before it.
        """
        batch = memory.shape[0]
        future, static, loc, scale = (
            part.repeat_interleave(self.paths, 0) for part in (future, static, loc, scale)
        )
        state = self.encoder.state(memory.repeat_interleave(self.paths, 0))
        loc, scale = loc[:, 0], scale[:, 0]
        drawn, means = [], []
        for k in range(self.horizon):
            h = state.layers[-1][0]
            value, mean = self.heads.sample(self._output(h, future[:, k]), loc, scale)
            drawn.append(value)
            means.append(mean)
            if k + 1 < self.horizon:
                scaled = ((value - loc) / scale).unsqueeze(1)
                own = (scaled, torch.ones_like(scaled), None, future[:, k : k + 1], static)
                _, state = self.encoder.layers.step(self.encoder.steps(*own)[0], state)
        shape = (batch, self.paths, self.horizon, -1)
        return torch.stack(drawn, 1).view(shape), torch.stack(means, 1).view(shape)

    def _drawn(
        self,
        memory: Tensor,
        windows: Windows,
        future: Tensor,
        levels: Tensor,
        loc: Tensor,
        scale: Tensor,
    ) -> Forecast:
        static = self.encoder.covariates.static(windows)
        ahead = future[:, -self.horizon :]
        own = (memory, ahead, static, loc, scale)
        count = max(1, MOST_ROWS // self.paths)
        some = zip(*(torch.split(part, count) for part in own), strict=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # equal questions get equal answers
            found = [self.sample(*parts) for parts in some]
        paths, means = (torch.cat(parts) for parts in zip(*found, strict=True))
        return Forecast(means.mean(1), paths.quantile(levels, dim=1).movedim(0, -1))

    def _scale(self, windows: Windows) -> tuple[Tensor, Tensor]:
        steps = windows.past.shape[1]
        loc, scale = self.scaling(windows.target[:, :steps], windows.observed[:, :steps])
        return loc, scale

    def _steps(
        self, windows: Windows, loc: Tensor, scale: Tensor, future: Tensor, steps: int
    ) -> Tensor:
        covariates = self.encoder.covariates
        return self.encoder.steps(
            (windows.target[:, :steps] - loc) / scale,
            windows.observed[:, :steps],
            covariates.past(windows)[:, :steps],
            future[:, :steps],
            covariates.static(windows),
        )

    def _last_memory(self, x: Tensor, inside: Tensor) -> Tensor:
        reset = None
        if not bool(inside.all()):
            reset = torch.ones_like(inside)
            reset[:, 1:] = ~inside[:, :-1]
            reset = reset.t().contiguous()
        start = self.encoder.layers.initial_state(x.shape[1])
        state: Any = self.encoder.layers(x.contiguous(), start, reset=reset)[1]
        return self.encoder.memory(state)

    def _output(self, h: Tensor, ahead: Tensor) -> Tensor:
        parameters: Tensor = self.output(torch.cat([self.dropout(h), ahead], -1))
        return parameters
