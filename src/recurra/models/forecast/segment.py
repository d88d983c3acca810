"""Segment-wise recurrent forecaster: few recurrent steps over long windows, parallel decoding.

    s_n = relu(W x_{segment n})      h_n = cell(s_n, h_{n-1})      ŷ_{segment m} = V cell(e_m, h_N)

Symbols: n = 1 … window/segment; m = 1 … horizon/segment; e_m a learned vector for each segment to
come and each target. Source: Lin et al. 2023 (SegRNN, "PMF" decoding). Differs: covariates, if
there are any, are read with each segment, and what is known ahead is added to e_m. With a highway
ŷ + U x is the output: what is linear in the window needs no recurrence (Lai et al. 2018, LSTNet,
section 3.6).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recurra.cells import Cell, resolve_cell, shipped_name
from recurra.errors import ArgumentError
from recurra.layers import Recurrent, State
from recurra.models.forecast.inputs import (
    LEVELS,
    Covariates,
    Forecast,
    InputSizes,
    Windows,
    checked_options,
    scaling_and_heads,
)


class SegmentForecaster(nn.Module):
    """Forecast each target by itself, segment by segment, with weights that all targets share.

    Args:
        inputs, window, horizon, cell, hidden_size, dropout, head, levels, scaling, backend: see
            `DirectForecaster`; `dropout` is before the output.
        segment: steps of a segment; a window or horizon that it does not divide is padded.
        highway: add a linear map from the target's window to the output; it begins as zero.

    Raises:
        ArgumentError: targets of different kinds, which cannot share weights.

    Example:
        >>> inputs = InputSizes(("real", "real"), (0.0, 0.0), (1.0, 1.0))
        >>> model = SegmentForecaster(inputs, window=8, horizon=5, segment=4, hidden_size=8)
        >>> sum(p.numel() for p in model.parameters()) > 0
        True
    """

    is_streaming = False

    def __init__(
        self,
        inputs: InputSizes | dict[str, Any],
        *,
        window: int,
        horizon: int,
        cell: str | Cell = "gru",
        hidden_size: int = 128,
        segment: int = 24,
        highway: bool = False,
        dropout: float = 0.0,
        head: str = "quantiles",
        levels: Sequence[float] = LEVELS,
        scaling: str = "last",
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self._options = checked_options(dict(locals()))
        inputs = InputSizes.of(inputs)
        if len(set(inputs.targets)) > 1:
            raise ArgumentError(
                f"targets of kinds {', '.join(inputs.targets)}: the segment model shares weights "
                "between targets, which must all be of one kind; choose model=direct"
            )
        self.window, self.horizon, self.segment = window, horizon, segment
        self.targets, self.has_gaps = len(inputs.targets), inputs.has_gaps
        self.scaling, _ = scaling_and_heads(inputs, scaling, head, levels)
        _, self.heads = scaling_and_heads(
            InputSizes(inputs.targets[:1], inputs.mean[:1], inputs.std[:1]), scaling, head, levels
        )
        self.cell = resolve_cell(cell)
        self.covariates = Covariates(inputs)
        features = 1 + inputs.has_gaps + self.covariates.past_size + self.covariates.future_size
        self.embed = nn.Linear(segment * features + self.covariates.static_size, hidden_size)
        self.layers = Recurrent(self.cell, hidden_size, hidden_size, backend=backend)
        self.segments = math.ceil(horizon / segment)
        half = hidden_size // 2
        self.position = nn.Parameter(torch.randn(self.segments, half))
        self.channel = nn.Parameter(torch.randn(self.targets, hidden_size - half))
        self.ahead = nn.Linear(max(1, segment * self.covariates.future_size), hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, segment * self.heads.size)
        self.highway = nn.Linear(window, horizon * self.heads.size, bias=False) if highway else None
        if self.highway is not None:
            nn.init.zeros_(self.highway.weight)

    def options(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-able; `SegmentForecaster(**options)` is anew."""
        return {**self._options, "cell": shipped_name(self.cell)}

    def loss(self, windows: Windows) -> Tensor:
        """Scalar, from the last step of each window."""
        loc, scale, parameters = self._outputs(windows)
        value, observed = (
            part[:, -self.horizon :].unsqueeze(-1) for part in (windows.target, windows.observed)
        )
        loc, scale = loc.unsqueeze(-1), scale.unsqueeze(-1)
        return self.heads.loss(parameters, value, observed, loc, scale)

    def forecast(self, windows: Windows, levels: Tensor) -> Forecast:
        """From the last step of each window."""
        loc, scale, parameters = self._outputs(windows)
        shape = (*parameters.shape[:3], 1)
        loc, scale = (part.unsqueeze(-1).expand(shape) for part in (loc, scale))
        mean, quantiles = self.heads.forecast(parameters, levels, loc, scale)
        return Forecast(mean.squeeze(-1), quantiles.squeeze(-2))

    def _outputs(self, windows: Windows) -> tuple[Tensor, Tensor, Tensor]:
        """Location and scale (batch, 1, targets); parameters (batch, horizon, targets, size)."""
        target, observed = (part[:, : self.window] for part in (windows.target, windows.observed))
        loc, scale = self.scaling(target, observed)
        batch = len(target)
        scaled = (target - loc) / scale * observed
        x = self._segments(scaled, observed, windows)
        _, state = self.layers(torch.relu(self.embed(x)), self.layers.initial_state(x.shape[1]))
        code = torch.cat(
            [
                self.position.unsqueeze(1).expand(-1, self.targets, -1),
                self.channel.unsqueeze(0).expand(self.segments, -1, -1),
            ],
            -1,
        )
        code = code.unsqueeze(1).expand(-1, batch, -1, -1)
        if self.covariates.future_size:
            future = self.covariates.future(windows)[:, self.window :]
            code = code + self.ahead(_cut(future, self.segment, at_end=True)).unsqueeze(2)
        code = code.reshape(1, -1, code.shape[-1])
        repeated = _repeat(state, self.segments)
        y, _ = self.layers(code.contiguous(), repeated)
        out = self.output(self.dropout(y[0]))
        out = out.view(self.segments, batch, self.targets, self.segment, self.heads.size)
        out = out.permute(1, 0, 3, 2, 4).flatten(1, 2)[:, : self.horizon]
        if self.highway is not None:
            linear = self.highway(scaled.transpose(1, 2))  # (batch, targets, horizon·size)
            out = out + torch.unflatten(linear, -1, (self.horizon, -1)).transpose(1, 2)
        return loc, scale, out

    def _segments(self, scaled: Tensor, observed: Tensor, windows: Windows) -> Tensor:
        """(segments, batch·targets, features of a segment)."""
        batch = len(scaled)
        own = [scaled.unsqueeze(-1)]
        if self.has_gaps:
            own.append(observed.unsqueeze(-1))
        shared = []
        if self.covariates.past_size:
            shared.append(self.covariates.past(windows))
        if self.covariates.future_size:
            shared.append(self.covariates.future(windows)[:, : self.window])
        each = torch.cat(own, -1).permute(0, 2, 1, 3)  # (batch, targets, window, own)
        if shared:
            other = torch.cat(shared, -1).unsqueeze(1).expand(-1, self.targets, -1, -1)
            each = torch.cat([each, other], -1)
        x = _cut(each.reshape(batch * self.targets, self.window, -1), self.segment)
        if self.covariates.static_size:
            static = self.covariates.static(windows).repeat_interleave(self.targets, 0)
            x = torch.cat([x, static.expand(len(x), -1, -1)], -1)
        return x


def _cut(x: Tensor, segment: int, at_end: bool = False) -> Tensor:
    """(batch, steps, features) as (segments, batch, segment·features), zeros where it is short."""
    missing = -x.shape[1] % segment
    pad = (0, 0, 0, missing) if at_end else (0, 0, missing, 0)
    x = nn.functional.pad(x, pad) if missing else x
    return torch.unflatten(x, 1, (-1, segment)).flatten(2).transpose(0, 1)


def _repeat(state: Any, times: int) -> State:
    """The state of each row for `times` rows: the whole batch, again and again."""
    repeated: State = state.map(lambda s: s.repeat(times, 1))
    return repeated
