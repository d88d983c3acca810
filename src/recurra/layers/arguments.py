"""What a layer may be made with and called with, checked where it comes in."""

from collections.abc import Sequence

import torch
from torch import Tensor

from recurra.errors import ArgumentError, ShapeError
from recurra.layers.state import State


def check_sizes(
    input_size: int, sizes: list[int], num_layers: int, proj_size: int, initial_state: str
) -> None:
    """Raises ArgumentError for sizes below 1, or not as many as layers."""
    if num_layers < 1 or len(sizes) != num_layers:
        raise ArgumentError(
            f"hidden_size gives {len(sizes)} layers and num_layers={num_layers}; they must agree "
            "and be at least 1"
        )
    if input_size < 1 or min(sizes) < 1 or proj_size < 0:
        raise ArgumentError(
            f"sizes must be positive: input_size={input_size}, hidden_size={sizes}, "
            f"proj_size={proj_size}"
        )
    if initial_state not in ("zeros", "learned"):
        raise ArgumentError(f"initial_state={initial_state!r}; use 'zeros' or 'learned'")


def check_probabilities(*named: tuple[str, float]) -> None:
    """Raises ArgumentError for a value outside 0..1."""
    for name, p in named:
        if not 0 <= p <= 1:
            raise ArgumentError(f"{name}={p} is no probability; it must be in 0..1")


def checked_lengths(lengths: Tensor, time: int, batch: int) -> Tensor:
    """Lengths as int64; raises ShapeError unless they are integers in 0..time, one for each row."""
    if lengths.shape != (batch,) or lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise ShapeError(
            f"lengths is {lengths.dtype} {tuple(lengths.shape)}; expected integers of shape "
            f"({batch},), one for each row"
        )
    if not torch.compiler.is_compiling() and batch:
        numbers = lengths.tolist()  # a quarter of the time of a minimum and a maximum in torch
        low, high = min(numbers), max(numbers)
        if low < 0 or high > time:
            raise ShapeError(f"lengths go from {low} to {high}; they must be in 0..{time} (time)")
    return lengths if lengths.dtype is torch.int64 else lengths.long()


def check_state(
    state: State,
    names: tuple[str, ...],
    batch: int,
    sizes: Sequence[tuple[int, ...]],
    directions: int,
    weight: Tensor,
) -> None:
    """Raises ShapeError unless a state has these sizes, and the weights' dtype and device.

    Args:
        state: given to a layer.
        names: of a cell's states.
        batch: rows.
        sizes: of each state, for each layer.
        directions: of each layer.
        weight: one of the layer's. Under autocast the state's dtype may be another.
    """
    expected, dtype, device = len(sizes) * directions, weight.dtype, weight.device
    if len(state.layers) != expected:
        raise ShapeError(
            f"the initial state has {len(state.layers)} layers·directions, the layer has {expected}"
        )
    for k, states in enumerate(state.layers):
        layer = k // directions
        for name, s, size in zip(names, states, sizes[layer], strict=True):
            if s.shape != (batch, size):
                raise ShapeError(
                    f"state {name} of layer {layer} has shape {tuple(s.shape)}, the layer "
                    f"needs {(batch, size)}"
                )
            if s.dtype is dtype and s.device == device:
                continue
            is_cast = torch.is_autocast_enabled(device.type)
            if not is_cast or s.device != device:
                raise ShapeError(
                    f"state {name} of layer {layer} is {s.dtype} on {s.device}, the layer's "
                    f"weights are {dtype} on {device}; convert one of them"
                )
