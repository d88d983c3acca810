"""The named layers: torch.nn's arguments in torch.nn's order, and what `Recurrent` adds."""

from collections.abc import Sequence
from typing import TypedDict, Unpack

import torch

from recurra.cells import (
    ELMAN_CELL,
    ELMAN_RELU_CELL,
    ELMAN_SIGMOID_CELL,
    GRU_CELL,
    GRU_LAYER_NORM_CELL,
    GRU_RESET_BEFORE_CELL,
    IRNN_CELL,
    JORDAN_CELL,
    LSTM_CELL,
    LSTM_COUPLED_CELL,
    LSTM_LAYER_NORM_CELL,
    LSTM_PEEPHOLE_CELL,
)
from recurra.errors import ArgumentError
from recurra.layers.recurrent import Recurrent


class RecurrentOptions(TypedDict, total=False):
    """The keywords that every layer passes on to `Recurrent`, which explains them."""

    recurrent_dropout: float
    input_dropout: float
    zoneout: float | tuple[float, ...]
    weight_dropout: float
    forget_bias: float | None
    init: str | None
    chrono_steps: int
    initial_state: str
    residual: bool
    checkpoint_every: int
    backend: str
    device: torch.device | str | None
    dtype: torch.dtype | None


class RNN(Recurrent):
    """Elman network; drop-in for `torch.nn.RNN`.

    Equations and source: `recurra.cells.elman`.

    Args:
        nonlinearity: "tanh" or "relu" as in torch.nn, or "sigmoid".
        others: see `Recurrent`.

    Example:
        >>> y, h_n = RNN(3, 4, init="identity")(torch.randn(5, 2, 3))
        >>> y.shape
        torch.Size([5, 2, 4])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        **options: Unpack[RecurrentOptions],
    ) -> None:
        cells = {"tanh": ELMAN_CELL, "relu": ELMAN_RELU_CELL, "sigmoid": ELMAN_SIGMOID_CELL}
        if nonlinearity not in cells:
            raise ArgumentError(f"nonlinearity={nonlinearity!r}; use one of {tuple(cells)}")
        super().__init__(
            cells[nonlinearity],
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            **options,
        )
        self.nonlinearity = nonlinearity


class IRNN(Recurrent):
    """ReLU network that starts as the identity (Le et al. 2015); see `recurra.cells.elman`."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        **options: Unpack[RecurrentOptions],
    ) -> None:
        super().__init__(
            IRNN_CELL,
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            **options,
        )


class Jordan(Recurrent):
    """Network that feeds back its output (Jordan 1986); see `recurra.cells.jordan`.

    Args:
        output_size: size of the output and only state; None: `hidden_size`.
        others: see `Recurrent`.

    Example:
        >>> y, y_n = Jordan(3, 8, output_size=2)(torch.randn(5, 1, 3))
        >>> y.shape
        torch.Size([5, 1, 2])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        output_size: int | None = None,
        **options: Unpack[RecurrentOptions],
    ) -> None:
        super().__init__(
            JORDAN_CELL,
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size=output_size or 0,
            **options,
        )


class GRU(Recurrent):
    """Gated recurrent unit; drop-in for `torch.nn.GRU`.

    Equations, the two conventions and sources: `recurra.cells.gru`.

    Args:
        reset_after: True: the reset gate multiplies after the recurrent product, as torch and
            cuDNN. False: before it, as Cho et al. 2014.
        layer_norm: normalise inside the recurrence; see `recurra.cells.layer_norm`.
        others: see `Recurrent`.

    Example:
        >>> GRU(3, 4, reset_after=False).cell.name
        'gru_reset_before'
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        reset_after: bool = True,
        layer_norm: bool = False,
        **options: Unpack[RecurrentOptions],
    ) -> None:
        if layer_norm and not reset_after:
            raise ArgumentError("layer_norm=True goes with reset_after=True only")
        cell = GRU_CELL if reset_after else GRU_RESET_BEFORE_CELL
        super().__init__(
            GRU_LAYER_NORM_CELL if layer_norm else cell,
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            **options,
        )


class LSTM(Recurrent):
    """Long short-term memory; drop-in for `torch.nn.LSTM`.

    Equations and sources: `recurra.cells.lstm`, `recurra.cells.layer_norm`.

    Args:
        proj_size: size of h after its projection; 0: none.
        peephole: gates see the memory.
        coupled: forget what is written, i = 1 - f.
        layer_norm: normalise inside the recurrence.
        others: see `Recurrent`.

    Raises:
        ArgumentError: more than one of peephole, coupled and layer_norm.

    Example:
        >>> y, (h_n, c_n) = LSTM(3, 4, proj_size=2)(torch.randn(5, 1, 3))
        >>> h_n.shape, c_n.shape
        (torch.Size([1, 1, 2]), torch.Size([1, 1, 4]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        peephole: bool = False,
        coupled: bool = False,
        layer_norm: bool = False,
        **options: Unpack[RecurrentOptions],
    ) -> None:
        chosen = [
            cell
            for is_asked, cell in (
                (peephole, LSTM_PEEPHOLE_CELL),
                (coupled, LSTM_COUPLED_CELL),
                (layer_norm, LSTM_LAYER_NORM_CELL),
            )
            if is_asked
        ]
        if len(chosen) > 1:
            raise ArgumentError("peephole, coupled and layer_norm exclude each other; choose one")
        super().__init__(
            chosen[0] if chosen else LSTM_CELL,
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size=proj_size,
            **options,
        )
