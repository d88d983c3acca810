"""Recurrent layers of any cell, one on the other, with dropout between them; and reading backwards.

What `recurra.Recurrent` does for several layers, but for the dropout between them: here it can be
variational, one mask for all steps (Gal & Ghahramani 2016).
"""

from typing import Any

import torch
from torch import Tensor, nn

from recurra.cells import Cell
from recurra.layers import Recurrent, State
from recurra.layers.dropout import dropout


class RecurrentStack(nn.Module):
    """Layers whose states are one `State`.

    Args:
        cell: the recurrence.
        input_size: features of each step.
        hidden_size: units of each layer and direction.
        num_layers: layers.
        bidirectional: each layer reads from both ends.
        hidden_dropout: share dropped between layers, in training mode.
        variational: one mask for all steps, not one a step.
        residual: add a layer's input to its output where their sizes are equal.
        options: further keywords of `recurra.Recurrent`.

    Example:
        >>> from recurra.cells import GRU_CELL
        >>> stack = RecurrentStack(GRU_CELL, 3, 4, 2, bidirectional=True)
        >>> y, state = stack(torch.randn(5, 2, 3), lengths=torch.tensor([5, 1]))
        >>> y.shape, len(state.layers)
        (torch.Size([5, 2, 8]), 4)
    """

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        bidirectional: bool = False,
        hidden_dropout: float = 0.0,
        variational: bool = True,
        residual: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        self.hidden_dropout, self.variational = hidden_dropout, variational
        self.num_directions = 2 if bidirectional else 1
        self.output_size = self.num_directions * hidden_size
        sizes = [input_size] + [self.output_size] * (num_layers - 1)
        self.input_size = input_size
        self.layers = nn.ModuleList(
            Recurrent(
                cell,
                inputs,
                hidden_size,
                bidirectional=bidirectional,
                residual=residual and inputs == self.output_size,
                **options,
            )
            for inputs in sizes
        )

    def initial_state(self, batch_size: int) -> State:
        """The state before the first step, each (batch, hidden)."""
        return State(
            tuple(s for layer in self._each() for s in layer.initial_state(batch_size).layers)
        )

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        *,
        lengths: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Run all layers over all steps.

        Args:
            x: (time, batch, input_size).
            state: before the first step; `None`: zeros.
            lengths: (batch,), int64, real steps of each row; `None`: all.
            rows: (time, batch), int64: each step's place in x, which is then (distinct,
                input_size); see `recurra.Recurrent`.

        Returns:
            `(output, state)`: (time, batch, output_size), zero past each length; the State after
            each row's last step.
        """
        batch = (x if rows is None else rows).shape[1]
        state = self.initial_state(batch) if state is None else state
        after: list[tuple[Tensor, ...]] = []
        for k, layer in enumerate(self._each()):
            if k:
                x = drop(x, self.hidden_dropout, self.training, variational=self.variational)
            own = state.layers[k * self.num_directions : (k + 1) * self.num_directions]
            x, new = layer(x, State(own), lengths=lengths, rows=None if k else rows)
            after += new.layers
        return x, State(tuple(after))

    def _each(self) -> list[Recurrent]:
        return list(self.layers)  # type: ignore[arg-type]


def drop(x: Tensor, p: float, is_training: bool, *, variational: bool) -> Tensor:
    """Dropout in training: one mask (batch, features) for all steps, or one a step.

    Args:
        x: (time, batch, features).
        p: share dropped.
        is_training: False gives x.
        variational: one mask.
    """
    if not is_training or not p:
        return x
    return x * dropout(x.new_ones(1, *x.shape[1:]), p) if variational else dropout(x, p)


def backwards(x: Tensor, lengths: Tensor) -> Tensor:
    """Each row's real steps from its last to its first; what stands past them stays there.

    Args:
        x: (time, batch, …).
        lengths: (batch,), int64.

    Example:
        >>> backwards(torch.tensor([[1, 4], [2, 0], [3, 0]]), torch.tensor([3, 1])).tolist()
        [[3, 4], [2, 0], [1, 0]]
    """
    steps = torch.arange(len(x), device=x.device).unsqueeze(1)
    places = torch.where(steps < lengths, lengths - 1 - steps, steps)
    return x.gather(0, places.view(*places.shape, *(1,) * (x.dim() - 2)).expand_as(x))


def chosen(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """x[first, second] of x (…, …, size), by a gradient that is cheaper than that of indexing."""
    return x.flatten(0, 1).index_select(0, first * x.shape[1] + second)
