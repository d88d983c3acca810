"""Direct multi-horizon encoder-decoder: all steps of the horizon at once, from every origin.

    h_t = layers(x_t, h_{t-1})     c_{t,k} = W_k h_t + V f_{t+k}     output_{t,k} = U relu(c_{t,k})

Symbols: t origin; k = 1 … horizon; x what is known at t; f what is known ahead (calendar, future
covariates). Source: Wen et al. 2017, "A multi-horizon quantile recurrent forecaster"; its forking
sequences are the training at every origin of a window. Differs: one hidden layer as decoder.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recurra.cells import Cell, resolve_cell, shipped_name
from recurra.models.forecast.inputs import (
    LEVELS,
    Encoder,
    Forecast,
    InputSizes,
    Windows,
    checked_options,
    origins_of,
    scaling_and_heads,
)


class DirectForecaster(nn.Module):
    """Forecast all steps of the horizon from the memory at the origin.

    Args:
        inputs: what there is to read; or as `InputSizes.as_dict` gave it.
        window: steps read in training; with a constant scaling the memory is carried further in
            use.
        horizon: steps to forecast.
        cell, hidden_size, num_layers: of the encoder.
        decoder_size: units of the decoder for each step of the horizon.
        dropout: share dropped between layers and before the decoder.
        head: see `models.forecast.heads.HEADS`; yes/no targets have a probability always.
        levels: of the quantiles.
        scaling: see `models.forecast.scaling`.
        carries: learn from every origin of a window and carry the memory on in use, if the scaling
            is constant; False: read each window from an empty memory, and learn from its last step.
        backend: of the recurrent layers.

    Protocol of all forecasting networks: `loss(windows)`, `forecast(windows, levels)`,
    `options()`; where `is_streaming`, also `memories` and `forecast_from`.

    Example:
        >>> model = DirectForecaster(InputSizes(("real",), (0.0,), (1.0,)), window=8, horizon=3)
        >>> model.is_streaming
        True
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
        decoder_size: int = 32,
        dropout: float = 0.0,
        head: str = "quantiles",
        levels: Sequence[float] = LEVELS,
        scaling: str = "standard",
        carries: bool = True,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self._options = checked_options(dict(locals()))
        inputs = InputSizes.of(inputs)
        self.window, self.horizon, self.carries = window, horizon, carries
        self.scaling, self.heads = scaling_and_heads(inputs, scaling, head, levels)
        self.cell = resolve_cell(cell)
        self.encoder = Encoder(inputs, self.cell, hidden_size, num_layers, dropout, backend)
        self.dropout = nn.Dropout(dropout)
        self.context = nn.Linear(hidden_size, horizon * decoder_size)
        self.ahead = nn.Linear(
            max(1, self.encoder.covariates.future_size), decoder_size, bias=False
        )
        self.output = nn.Linear(decoder_size, self.heads.size)

    def options(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-able; `DirectForecaster(**options)` is anew."""
        return {**self._options, "cell": shipped_name(self.cell)}

    @property
    def is_streaming(self) -> bool:
        """Whether the memory may be carried from step to step without end."""
        return self.scaling.is_constant and self.carries

    def loss(self, windows: Windows) -> Tensor:
        """Scalar; over every origin of the window, or its last one where windows are scaled."""
        loc, scale, x, future = self._read(windows)
        if self.is_streaming:
            h = self.encoder.read(x, windows.inside).transpose(0, 1)
        else:
            h = self.encoder.read_to_end(x, windows.inside).unsqueeze(1)
        value = origins_of(windows.target, self.window, self.horizon)
        observed = origins_of(windows.observed, self.window, self.horizon)
        ahead = origins_of(future, self.window, self.horizon)
        if not self.is_streaming:
            value, observed, ahead = (part[:, -1:] for part in (value, observed, ahead))
        elif not bool(windows.inside.all()):
            observed = observed * windows.inside[:, :, None, None]
        parameters = self._decode(h, ahead)
        return self.heads.loss(parameters, value, observed, loc.unsqueeze(1), scale.unsqueeze(1))

    def forecast(self, windows: Windows, levels: Tensor) -> Forecast:
        """From the last step of each window."""
        loc, scale, x, future = self._read(windows)
        h = self.encoder.read_to_end(x, windows.inside)
        parameters = self._decode(h, future[:, -self.horizon :])
        return self._forecast(parameters, levels, loc, scale)

    def memories(self, windows: Windows, memory: Tensor | None = None) -> Tensor:
        """The memory after every step of `windows.past`, (batch, time, memory).

        Args:
            windows: with any number of steps; the first `past.shape[1]` are read.
            memory: (batch, memory) before the first; None: empty.
        """
        _, _, x, _ = self._read(windows)
        return self.encoder.memories(x, memory).transpose(0, 1)

    def forecast_from(self, memory: Tensor, windows: Windows, levels: Tensor) -> Forecast:
        """From memories (batch, memory); of the windows only what is known ahead is read."""
        steps = windows.past.shape[1]
        loc, scale = self.scaling(windows.target[:, :steps], windows.observed[:, :steps])
        future = self.encoder.covariates.future(windows)[:, -self.horizon :]
        parameters = self._decode(self.encoder.output(memory), future)
        return self._forecast(parameters, levels, loc, scale)

    def _read(self, windows: Windows) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        steps = windows.past.shape[1]
        target, observed = windows.target[:, :steps], windows.observed[:, :steps]
        loc, scale = self.scaling(target, observed)
        covariates = self.encoder.covariates
        future = covariates.future(windows)
        x = self.encoder.steps(
            (target - loc) / scale,
            observed,
            covariates.past(windows),
            future[:, :steps],
            covariates.static(windows),
        )
        return loc, scale, x, future

    def _decode(self, h: Tensor, ahead: Tensor) -> Tensor:
        """Parameters (…, horizon, size) from h (…, hidden) and what is known (…, horizon, …)."""
        context = torch.unflatten(self.context(self.dropout(h)), -1, (self.horizon, -1))
        if ahead.shape[-1]:
            context = context + self.ahead(ahead)
        parameters: Tensor = self.output(torch.relu(context))
        return parameters

    def _forecast(self, parameters: Tensor, levels: Tensor, loc: Tensor, scale: Tensor) -> Forecast:
        shape = (*parameters.shape[:2], loc.shape[-1])
        mean, quantiles = self.heads.forecast(
            parameters, levels, loc.expand(shape), scale.expand(shape)
        )
        return Forecast(mean, quantiles)
