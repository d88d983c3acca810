"""Forecasts from every origin: in one pass over each series where the memory may be carried on."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recurra.data.forecast.windows import FlatSeries
from recurra.models.forecast.inputs import Forecast
from recurra.tasks.mode import evaluation_mode

CHUNK = 2048  # forecasts computed at once
STEPS = 400_000  # steps of series read at once


def forecast_at(
    model: Any, flat: FlatSeries, origins: NDArray[np.int64], levels: tuple[float, ...]
) -> Forecast:
    """Forecasts from flat rows `origins`, on the CPU, in float32.

    A network with a constant scaling reads each series once from its first row, and forecasts from
    the memory that it has at each origin. Any other reads the window before each origin.

    Args:
        model: with the protocol of `DirectForecaster`; used in evaluation mode.
        flat: all rows, on the model's device.
        origins: (origins,).
        levels: of the quantiles.
    """
    at = torch.from_numpy(origins).to(flat.values.device)
    wanted = torch.tensor(levels, device=flat.values.device)
    paths = getattr(model, "paths", 1)
    size = max(1, CHUNK * 50 // paths) if paths > 1 else CHUNK
    parts = []
    with evaluation_mode(model):
        memory = memories_at(model, flat, at) if model.is_streaming else None
        for start in range(0, len(at), size):
            own = at[start : start + size]
            if memory is None:
                windows = flat.gather(own, model.window, model.horizon)
                found = model.forecast(_without_truth(windows, model.window), wanted)
            else:
                windows = flat.gather(own, 1, model.horizon)
                own_memory = memory[start : start + size]
                found = model.forecast_from(own_memory, _without_truth(windows, 1), wanted)
            parts.append(Forecast(*(part.cpu() for part in found)))
    return Forecast(*(torch.cat(part) for part in zip(*parts, strict=True)))


def memories_at(
    model: Any, flat: FlatSeries, origins: Tensor, start: Tensor | None = None
) -> Tensor:
    """(origins, memory) what a streaming network remembers at rows `origins`.

    Args:
        model: a streaming network.
        flat: all rows.
        origins: (origins,) int64, in any order.
        start: (series, memory) before each series' first row; None: empty.
    """
    owner = flat.owner[origins]
    first = flat.offsets[:-1]
    steps = origins - first[owner] + 1
    needed = torch.zeros_like(first).scatter_reduce(0, owner, steps, "amax")
    found: Tensor | None = None
    order = torch.argsort(needed)
    order = order[needed[order] > 0]
    while len(order):
        longest = int(needed[order[-1]])
        count = max(1, min(len(order), STEPS // longest))
        own, order = order[-count:], order[:-count]
        windows = flat.gather(first[own] + longest - 1, longest, 0, own)
        memory = model.memories(windows, None if start is None else start[own])
        place = torch.full_like(first, -1)
        place[own] = torch.arange(len(own), device=own.device)
        mine = torch.nonzero(place[owner] >= 0).squeeze(1)
        if found is None:
            found = memory.new_empty(len(origins), memory.shape[-1])
        found[mine] = memory[place[owner[mine]], origins[mine] - first[owner[mine]]]
    assert found is not None
    return found


def _without_truth(windows: Any, window: int) -> Any:
    """The same windows with all targets after the origin blanked: no network can look ahead."""
    target, observed = windows.target.clone(), windows.observed.clone()
    target[:, window:], observed[:, window:] = 0.0, 0.0
    return windows._replace(target=target, observed=observed)
