"""The states of a stack of recurrent layers, as one value that streams carry along."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from recurra.errors import ShapeError
from recurra.reference import Tensors

MOST_ZEROS = 32  # states of zeros that are kept
_zeros: dict[object, "State"] = {}


@dataclass(frozen=True)
class State:
    """What a layer remembers between two calls.

    Attributes:
        layers: for each layer and direction (layer 0 forward, layer 0 reverse, layer 1 forward …)
            the tuple of the cell's states, each (batch, size).

    A layer called with a State returns a State. `layer.initial_state(batch)` makes the first one.

    Example:
        >>> from recurra.layers import LSTM
        >>> layer = LSTM(3, 4, num_layers=2)
        >>> _, state = layer.step(torch.zeros(5, 3), layer.initial_state(5))
        >>> state.select(torch.tensor([0, 0, 3])).batch_size
        3
    """

    layers: tuple[Tensors, ...]

    @property
    def batch_size(self) -> int:
        return self.layers[0][0].shape[0]

    def map(self, function: Callable[[Tensor], Tensor]) -> "State":
        """A State with `function` applied to every tensor."""
        return State(tuple(tuple(function(s) for s in layer) for layer in self.layers))

    def detach(self) -> "State":
        """The same values, cut off from the graph: truncated back-propagation through time."""
        return self.map(Tensor.detach)

    def select(self, indices: Tensor) -> "State":
        """The rows `indices` (int64), in that order; rows may repeat, as beam search needs."""
        return self.map(lambda s: s.index_select(0, indices))

    def to(self, *args: torch.device | torch.dtype | str) -> "State":
        """Moved or converted, as `Tensor.to`."""
        return self.map(lambda s: s.to(*args))  # type: ignore[call-overload]

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file."""
        from safetensors.torch import save_file

        save_file(
            {
                f"{k}.{n}": s.detach().contiguous().clone()
                for k, layer in enumerate(self.layers)
                for n, s in enumerate(layer)
            },
            path,
        )

    @classmethod
    def load(cls, path: str | Path) -> "State":
        """Read what `save` wrote."""
        from safetensors.torch import load_file

        tensors = load_file(path)
        keys = sorted(tuple(int(part) for part in key.split(".")) for key in tensors)
        layers = [[tensors[f"{k}.{n}"] for k, n in keys if k == i] for i in range(keys[-1][0] + 1)]
        return cls(tuple(tuple(layer) for layer in layers))


def shared_zeros(
    sizes: tuple[tuple[int, ...], ...], directions: int, batch: int, dtype: torch.dtype
) -> State:
    """A State of zeros on the CPU that other calls get, too: for who only reads it.

    Made anew if somebody wrote to it nevertheless.

    Args:
        sizes: of each state, for each layer.
        directions: of each layer.
        batch: rows.
        dtype: of the states.
    """
    key = sizes, directions, batch, dtype
    found = _zeros.get(key)
    if found is None or any([s._version for layer in found.layers for s in layer]):
        if len(_zeros) >= MOST_ZEROS:
            _zeros.clear()
        with torch.inference_mode(False):
            layers = [
                tuple([torch.zeros(batch, s, dtype=dtype, device="cpu") for s in own])
                for own in sizes
            ]
        found = _zeros[key] = State(tuple([own for own in layers for _ in range(directions)]))
    return found


def from_torch(hx: Tensor | Tensors, states: tuple[str, ...]) -> State:
    """A State from torch.nn's form: one tensor (layers·directions, batch, size) for each state."""
    tensors = (hx,) if isinstance(hx, Tensor) else tuple(hx)
    if len(tensors) != len(states):
        raise ShapeError(
            f"the initial state has {len(tensors)} tensors, the cell has {len(states)}: {states}; "
            "pass one for each, in that order"
        )
    return State(tuple(zip(*(t.unbind(0) for t in tensors), strict=True)))


def to_torch(state: State) -> Tensor | Tensors | State:
    """torch.nn's form of a State; a State itself if its layers differ in size."""
    if len(state.layers) == 1:  # views: a copy would be a hundredth of a small layer's step
        (own,) = state.layers
        return own[0].unsqueeze(0) if len(own) == 1 else tuple([s.unsqueeze(0) for s in own])
    columns = tuple(zip(*state.layers, strict=True))
    if any(s.shape != column[0].shape for column in columns for s in column):
        return state
    stacked = tuple([torch.stack(column) for column in columns])
    return stacked if len(stacked) > 1 else stacked[0]
