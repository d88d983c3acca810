"""The fully connected network on the flattened window, which recurrent ones are compared with.

    output = U relu(W [x_1, …, x_window] + b)

Its first matrix grows with the window; a recurrent layer's does not.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recurra.models.forecast.inputs import (
    LEVELS,
    Covariates,
    Forecast,
    InputSizes,
    Windows,
    checked_options,
    scaling_and_heads,
)


class DenseForecaster(nn.Module):
    """Forecast all steps of the horizon from the whole window at once.

    Args:
        inputs, window, horizon, dropout, head, levels, scaling: see `DirectForecaster`.
        hidden_size: units of each hidden layer.
        num_layers: hidden layers.
    """

    is_streaming = False

    def __init__(
        self,
        inputs: InputSizes | dict[str, Any],
        *,
        window: int,
        horizon: int,
        hidden_size: int = 64,
        num_layers: int = 1,
        dropout: float = 0.0,
        head: str = "quantiles",
        levels: Sequence[float] = LEVELS,
        scaling: str = "standard",
    ) -> None:
        super().__init__()
        self._options = checked_options(dict(locals()))
        inputs = InputSizes.of(inputs)
        self.window, self.horizon, self.has_gaps = window, horizon, inputs.has_gaps
        self.scaling, self.heads = scaling_and_heads(inputs, scaling, head, levels)
        self.covariates = Covariates(inputs)
        targets = len(inputs.targets) * (2 if inputs.has_gaps else 1)
        size = window * (targets + self.covariates.past_size)
        size += (window + horizon) * self.covariates.future_size + self.covariates.static_size
        layers: list[nn.Module] = []
        for _ in range(num_layers):
            layers += [nn.Linear(size, hidden_size), nn.ReLU(), nn.Dropout(dropout)]
            size = hidden_size
        self.layers = nn.Sequential(*layers, nn.Linear(size, horizon * self.heads.size))

    def options(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-able; `DenseForecaster(**options)` is anew."""
        return dict(self._options)

    def loss(self, windows: Windows) -> Tensor:
        """Scalar, from the last step of each window."""
        loc, scale, parameters = self._outputs(windows)
        value, observed = windows.target[:, self.window :], windows.observed[:, self.window :]
        return self.heads.loss(parameters, value, observed, loc, scale)

    def forecast(self, windows: Windows, levels: Tensor) -> Forecast:
        """From the last step of each window."""
        loc, scale, parameters = self._outputs(windows)
        shape = (*parameters.shape[:2], loc.shape[-1])
        mean, quantiles = self.heads.forecast(
            parameters, levels, loc.expand(shape), scale.expand(shape)
        )
        return Forecast(mean, quantiles)

    def _outputs(self, windows: Windows) -> tuple[Tensor, Tensor, Tensor]:
        target, observed = (part[:, : self.window] for part in (windows.target, windows.observed))
        loc, scale = self.scaling(target, observed)
        parts = [(target - loc) / scale * observed]
        if self.has_gaps:
            parts.append(observed)
        parts += [self.covariates.past(windows), self.covariates.future(windows)]
        flat = [part.flatten(1) for part in parts] + [self.covariates.static(windows)]
        parameters: Tensor = self.layers(torch.cat(flat, 1))
        return loc, scale, torch.unflatten(parameters, -1, (self.horizon, -1))
