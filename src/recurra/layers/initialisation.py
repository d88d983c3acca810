"""What the weights start as."""

import math

import torch
from torch import Tensor, nn

from recurra.cells import Cell
from recurra.errors import ArgumentError

INITS = ("uniform", "orthogonal", "identity", "chrono")


@torch.no_grad()
def initialise(
    parameters: dict[str, Tensor],
    cell: Cell,
    init: str | None,
    forget_bias: float | None,
    chrono_steps: int,
) -> None:
    """Fill the weights of one layer in one direction, in place.

    Args:
        parameters: by short name (`weight_ih`, …, the cell's vectors), in the order of
            registration, which for "uniform" draws the numbers that torch.nn would draw.
        cell: gives the blocks of rows, and the default of `init`.
        init: "uniform": torch.nn's U(-1/√hidden, 1/√hidden). "orthogonal": each gate's recurrent
            block orthogonal (Saxe et al. 2014), input block Xavier uniform, biases zero.
            "identity": recurrent blocks the identity, input weights N(0, 0.001), biases zero (Le
            et al. 2015, section 3). "chrono": uniform, but forget and input biases for memories
            of up to `chrono_steps` steps, b_f = log U(1, steps - 1), b_i = -b_f (Tallec &
            Ollivier 2018, equation 16). None: the cell's own.
        forget_bias: total bias of gate f, all of it in `bias_ih`; None leaves it.
        chrono_steps: the longest lag, in steps, that "chrono" prepares for.

    Raises:
        ArgumentError: unknown init, or the cell has no gate f where one is needed.
    """
    init = init or cell.recurrent_init
    if init not in INITS:
        raise ArgumentError(f"init={init!r} is unknown; use one of {INITS}")
    hidden = parameters["weight_ih"].shape[0] // len(cell.gates)
    bound = 1 / math.sqrt(hidden) if hidden else 0.0
    for name, p in parameters.items():
        if name in cell.vectors:
            _initialise_vector(name, p, bound)
        elif init in ("uniform", "chrono") or name == "weight_hr":
            nn.init.uniform_(p, -bound, bound)
        elif name.startswith("bias"):
            nn.init.zeros_(p)
        elif name == "weight_ih":
            nn.init.normal_(p, std=0.001) if init == "identity" else nn.init.xavier_uniform_(p)
        else:
            for block in p.chunk(len(cell.gates)):
                nn.init.eye_(block) if init == "identity" else nn.init.orthogonal_(block)
    if init == "chrono":
        _initialise_chrono(parameters, cell, chrono_steps)
    if forget_bias is not None:
        _gate(parameters, cell, "bias_ih", "f").fill_(forget_bias)
        if "bias_hh" in parameters:
            _gate(parameters, cell, "bias_hh", "f").zero_()


def _initialise_vector(name: str, p: Tensor, bound: float) -> None:
    if name.startswith("gain"):
        nn.init.ones_(p)
    elif name.startswith("peephole"):
        nn.init.uniform_(p, -bound, bound)
    else:
        nn.init.zeros_(p)


def _initialise_chrono(parameters: dict[str, Tensor], cell: Cell, steps: int) -> None:
    forget = _gate(parameters, cell, "bias_ih", "f")
    forget.uniform_(1, max(steps - 1, 1)).log_()
    if "i" in cell.gates:
        _gate(parameters, cell, "bias_ih", "i").copy_(-forget)
    for gate in ("i", "f"):
        if gate in cell.gates and "bias_hh" in parameters:
            _gate(parameters, cell, "bias_hh", gate).zero_()


def _gate(parameters: dict[str, Tensor], cell: Cell, name: str, gate: str) -> Tensor:
    """The block of one gate's rows."""
    if gate not in cell.gates or name not in parameters:
        raise ArgumentError(
            f"cell {cell.name!r} with gates {cell.gates} has no {name} of a gate {gate!r}: "
            "forget_bias and init='chrono' need one (and bias=True)"
        )
    return parameters[name].chunk(len(cell.gates))[cell.gates.index(gate)]
