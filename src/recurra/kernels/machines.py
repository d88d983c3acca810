"""The machines that kernels are generated for, by the kind of device."""

from torch import Tensor

from recurra.cells import Cell
from recurra.kernels.cpu import form as cpu_form
from recurra.kernels.cpu.host import find_host
from recurra.kernels.cpu.streaming import MOST_ROWS, step_forward
from recurra.kernels.form import Machine
from recurra.reference import Parameters, Tensors


def _cpu_step(cell: Cell, x: Tensor, state: Tensors, parameters: Parameters) -> Tensors | None:
    if x.shape[0] > MOST_ROWS:
        return None
    return step_forward(cell, x, state, parameters, find_host())


CPU = Machine(cpu_form.make_form, _cpu_step)


def machine_of(tensor: Tensor) -> Machine:
    """The machine that runs kernels on the device of a tensor."""
    return CPU
