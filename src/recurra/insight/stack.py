"""A stack of recurrent layers as one function from state to state, step by step, in the open.

Layers run whole sequences by kernels and show their ends. Instruments need what lies between: every
state as a node of the graph, and the step as a function whose Jacobian can be taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recurra.errors import ArgumentError
from recurra.layers import Recurrent
from recurra.reference import Parameters, Tensors, one_step


@dataclass(frozen=True)
class Stack:
    """Layers in evaluation mode, one on the other, each in one direction.

    Attributes:
        layers: as given; each may have several layers inside.
        dtype: what everything is computed in.

    Raises:
        ArgumentError: a bidirectional layer, which has no step from state to state.

    Example:
        >>> from recurra.layers import LSTM
        >>> stack = Stack([LSTM(3, 4, num_layers=2)])
        >>> stack.names
        ('h, layer 1', 'c, layer 1', 'h, layer 2', 'c, layer 2')
        >>> [s.shape[1] for s in stack.advance(torch.zeros(1, 3), stack.initial(1))]
        [4, 4, 4, 4]
    """

    layers: Sequence[Recurrent]
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if any(layer.bidirectional for layer in self.layers):
            raise ArgumentError(
                "a bidirectional layer has no step from state to state; pass one of its directions"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The states in their order."""
        cells = [layer.cell for layer in self.layers for _ in range(layer.num_layers)]
        if len(cells) == 1:
            return cells[0].states
        return tuple(f"{s}, layer {k + 1}" for k, cell in enumerate(cells) for s in cell.states)

    def initial(self, batch: int) -> Tensors:
        """All states before the first step, each (batch, size)."""
        states = [s for layer in self.layers for s in layer.initial_state(batch).layers]
        return tuple(s.detach().to(self.dtype) for own in states for s in own)

    def advance(self, x_t: Tensor, states: Tensors) -> Tensors:
        """The states after one step, from the input (batch, input) and the states before it."""
        rest = list(states)
        new: list[Tensor] = []
        for layer in self.layers:
            count = len(layer.cell.states)
            for k in range(layer.num_layers):
                own, rest = tuple(rest[:count]), rest[count:]
                after = _one_layer(layer, k, x_t, own)
                new += after
                is_residual = layer.residual and after[0].shape == x_t.shape
                x_t = x_t + after[0] if is_residual else after[0]
        return tuple(new)

    def top(self, states: Tensors) -> Tensor:
        """The state that is the top layer's output, without a residual's sum."""
        return states[-len(self.layers[-1].cell.states)]


def _one_layer(layer: Recurrent, k: int, x_t: Tensor, states: Tensors) -> Tensors:
    p = cast_parameters(layer, k, x_t.dtype)
    from_input = torch.nn.functional.linear(x_t, p.weight_ih, p.bias_ih)
    new = one_step(layer.cell, from_input, states, p)
    return tuple(
        z * old + (1 - z) * n if z else n
        for z, old, n in zip(layer.zoneout, states, new, strict=True)
    )


def cast_parameters(layer: Recurrent, k: int, dtype: torch.dtype) -> Parameters:
    """The detached weights of layer k of a stack in one direction, in another precision."""
    p = layer._weights(k, 0)
    six = (None if t is None else t.detach().to(dtype) for t in p[:6])
    return Parameters(*six, tuple(v.detach().to(dtype) for v in p.vectors))  # type: ignore[arg-type, call-arg]
