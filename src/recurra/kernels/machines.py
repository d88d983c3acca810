"""The machines that kernels are generated for, by the kind of device."""

from torch import Tensor

from recurra.cells import Cell
from recurra.kernels.cpu import form as cpu_form
from recurra.kernels.cpu.host import find_host
from recurra.kernels.cpu.streaming import MOST_ROWS, step_forward
from recurra.kernels.form import Machine
from recurra.kernels.triton import form as triton_form
from recurra.reference import Parameters, Tensors


def _cpu_step(cell: Cell, x: Tensor, state: Tensors, parameters: Parameters) -> Tensors | None:
    if x.shape[0] > MOST_ROWS:
        return None
    return step_forward(cell, x, state, parameters, find_host())


def _no_step(cell: Cell, x: Tensor, state: Tensors, parameters: Parameters) -> None:
    return None


CPU = Machine(cpu_form.make_form, cpu_form.setting, _cpu_step)
TRITON = Machine(triton_form.make_form, triton_form.setting, _no_step)


def machine_of(tensor: Tensor) -> Machine:
    """The machine that runs kernels on the device of a tensor."""
    return TRITON if tensor.device.type == "cuda" else CPU
