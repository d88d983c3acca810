"""What a cell is: a value that holds one pure step function and the names around it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from recurra.errors import CellError

Tensors = tuple[Tensor, ...]
Step = Callable[..., Tensors]


@dataclass(frozen=True)
class Cell:
    """A recurrence, written once.

    One step of any cell, with `h` for `states[0]`, the state that the weights see::

        from_input  = W x_t + b_ih                      one block of `hidden` units per gate
        from_hidden = R h_{t-1} + b_hh                  the same
        states_t    = step(from_input, from_hidden, states_{t-1})

    `step` gets tuples of tensors of shape (..., hidden), in the order of `gates` and `states`, and
    returns the new states in the same order. It must be pure and must act on each row alone:
    pointwise operations, and means or sums over the last axis. It sees no weights, no time, no
    lengths and no device; gradients, kernels and layers are derived from it.

    Args:
        name: what users write, `--cell NAME`; lower case.
        gates: order of the blocks of rows in `weight_ih` and `weight_hh`.
        states: names of the states; the first is the layer's output and is what R multiplies.
        step: `(from_input, from_hidden, state) -> state`, with a fourth argument, the tuple of
            `vectors`, if the cell has any.
        vectors: names of learned per-unit vectors, each (hidden,): peepholes, gains, shifts.
            A name that begins with `gain` starts at one, any other at zero (peepholes: uniform).
        recurrent: False for a cell without R (minGRU); `from_hidden` is then `()`.
        late_gates: gates, last in `gates`, whose recurrent product is of `late_operand` and not
            of h (a GRU that resets before the product). `from_hidden` holds all gates in `step`.
        late_operand: `(from_input, from_hidden, state) -> (..., hidden)`, what R multiplies for
            the late gates; its `from_hidden` holds the other gates only.
        output: a pointwise function; the cell then has a product inside the loop after `step`,
            `states[0] = output(weight_hr @ states[0] + bias_hr)`: LSTM projection (identity, no
            bias) and Jordan's feedback. `step` may then not use the value of `states[0]`.
        output_bias: whether that product has the bias `bias_hr`.
        recurrent_init: what `weight_hh` starts as unless the layer is told otherwise: "uniform"
            (torch's ±1/√hidden), "orthogonal" or "identity".

    Raises:
        CellError: names that repeat, no state, or fields that contradict each other.

    Example:
        >>> import torch
        >>> def step(from_input, from_hidden, state):
        ...     (h,) = state
        ...     (a,) = (x + r for x, r in zip(from_input, from_hidden))
        ...     return (0.5 * h + 0.5 * torch.tanh(a),)
        >>> leaky = Cell(name="leaky", gates=("a",), states=("h",), step=step)
        >>> leaky.step((torch.zeros(2, 3),), (torch.zeros(2, 3),), (torch.ones(2, 3),))[0].shape
        torch.Size([2, 3])
    """

    name: str
    gates: tuple[str, ...]
    states: tuple[str, ...]
    step: Step
    vectors: tuple[str, ...] = ()
    recurrent: bool = True
    late_gates: tuple[str, ...] = ()
    late_operand: Callable[..., Tensor] | None = None
    output: Callable[[Tensor], Tensor] | None = None
    output_bias: bool = False
    recurrent_init: str = "uniform"

    def __post_init__(self) -> None:
        for field in ("gates", "states", "vectors"):
            names = getattr(self, field)
            if len(set(names)) != len(names):
                raise CellError(f"cell {self.name!r}: {field} {names} repeat a name")
        if not self.gates or not self.states:
            raise CellError(f"cell {self.name!r} needs at least one gate and one state")
        if bool(self.late_gates) != (self.late_operand is not None):
            raise CellError(f"cell {self.name!r}: late_gates and late_operand go together")
        if self.late_gates and self.gates[-len(self.late_gates) :] != self.late_gates:
            raise CellError(
                f"cell {self.name!r}: late_gates {self.late_gates} must be the last of {self.gates}"
            )
        if self.late_gates and not self.recurrent:
            raise CellError(f"cell {self.name!r}: late_gates need recurrent=True")

    def __hash__(self) -> int:
        return hash(self.step)  # of all fields it would take a tenth of a short stream's step

    @property
    def fields(self) -> tuple[Any, ...]:
        """What `Cell(*fields)` makes an equal one of; each is a constant to `torch.compile`.

        A cell as a whole is not, in torch 2.11.
        """
        return (
            *(self.name, self.gates, self.states, self.step, self.vectors, self.recurrent),
            *(self.late_gates, self.late_operand, self.output, self.output_bias),
            self.recurrent_init,
        )

    def advance(
        self, from_input: Tensors, from_hidden: Tensors, state: Tensors, vectors: Tensors = ()
    ) -> Tensors:
        """`step`, with the vectors passed only to a cell that has them."""
        if self.vectors:
            return self.step(from_input, from_hidden, state, vectors)
        return self.step(from_input, from_hidden, state)
