"""One step of a stream: a cell's step and both products in one call, weights read as they lie.

What a call needs besides its tensors (layout, scratch, tables) is made once for each cell and size
and kept by each thread, because at batch 1 the work itself takes microseconds.
"""

import ctypes
import threading

import torch
from torch import Tensor

from recurra.cells import Cell
from recurra.kernels.cpu.code import Code, forward_code
from recurra.kernels.cpu.host import Host
from recurra.kernels.cpu.scratch import new_numbers, new_zeros
from recurra.kernels.cpu.threads import run_parallel, thread_limit
from recurra.kernels.plan import Options
from recurra.reference import Parameters, Tensors

# Rows beyond which packing the weights for register-blocked products pays off.
MOST_ROWS = 4
# Below so many weights, a second thread costs more than it does.
LEAST_WEIGHTS = 40_000


class _Kept(threading.local):
    """A thread's steppers."""

    def __init__(self) -> None:
        self.steppers: dict[object, _Stepper] = {}


_kept = _Kept()


def step_forward(
    cell: Cell, x: Tensor, state: Tensors, parameters: Parameters, host: Host
) -> Tensors:
    """The states after one step, without gradients.

    Args:
        cell: without zoneout or masks.
        x: (batch, input), float32 on the CPU, contiguous, as all others.
        state: (batch, size) each.
        parameters: of the layer.
        host: the processor.
    """
    x, state = x.contiguous(), tuple([s.contiguous() for s in state])
    parameters = _contiguous(parameters)
    key = (cell, x.shape, parameters.weight_ih.shape[0], state[0].shape[1], thread_limit(), host)
    stepper = _kept.steppers.get(key)
    if stepper is None:
        sizes = x.shape[0], x.shape[1], key[2] // len(cell.gates)
        stepper = _kept.steppers[key] = _Stepper(cell, *sizes, key[3], host)
    return stepper(x, state, parameters)


class _Stepper:
    def __init__(
        self, cell: Cell, batch: int, inputs: int, hidden: int, output: int, host: Host
    ) -> None:
        self.cell, self.host = cell, host
        options = Options((False,) * len(cell.states), has_input=True, is_step=True)
        self.code: Code = forward_code(cell, options, host, 0)
        self.sizes = [output] + [hidden] * (len(cell.states) - 1)
        gates, widest = len(cell.gates), -(-max(hidden, output) // host.lanes) * host.lanes
        weights = gates * hidden * (inputs + output)
        self.threads = thread_limit() if weights >= LEAST_WEIGHTS else 1
        self.late = 4 * (gates - len(cell.late_gates)) * hidden * output
        self.buffers = {
            "gates": new_numbers(batch, gates * hidden),
            "tile": new_numbers(batch, gates * widest),
            "late_operand": new_numbers(batch, hidden),
            "inner": new_numbers(batch, hidden),
            "saved": new_numbers(batch, gates * hidden),
            "vectors": new_numbers(1, len(cell.vectors) * hidden),
        }
        self.zeros = new_zeros(max(gates * hidden, output))
        self.no_bias = self.zeros.data_ptr()
        self.tables = torch.tensor([[[batch, 0, 0, 0, 0, 0]]], device="cpu")
        self.first_rows = torch.zeros(1, dtype=torch.int64, device="cpu")
        self.barrier = ctypes.c_int64()
        scratch_row = -(-hidden // host.lanes) * host.lanes * self.code.scratch_blocks
        self.scratch = new_numbers(self.threads * scratch_row)
        rows = {"gates": (gates * hidden, hidden), "tile": (gates * widest, widest)}
        rows |= {"saved": (gates * hidden, hidden), "vectors": (0, hidden)}
        rows |= {name: (hidden, 0) for name in ("late_operand", "inner")}
        rows |= {"x": (inputs, 0), "bias_output": (0, output)}
        rows |= {name: (0, hidden) for name in ("bias_input", "bias_hidden")}
        for k, size in enumerate(self.sizes):
            rows |= {f"state{k}": (size, 0), f"previous{k}": (size, 0)}
        known = {"steps": 1, "share": self.threads, "threads": self.threads}
        known |= {"hidden": hidden, "output": output, "input": inputs}
        known |= {"tables": self.tables.data_ptr(), "first_rows": self.first_rows.data_ptr()}
        known |= {"barriers": ctypes.addressof(self.barrier), "scratch": self.scratch.data_ptr()}
        known |= {"scratch_thread": scratch_row}
        known |= {f"{name}.at": buffer.data_ptr() for name, buffer in self.buffers.items()}
        known |= {f"{name}.row": row for name, (row, _) in rows.items()}
        known |= {f"{name}.block": block for name, (_, block) in rows.items()}
        self.values, places = self.code.values(known), self.code.layout.places
        self.refused, self.share = places["refused"], places["share"]
        spare = len(places)  # for what this cell's code does not ask for
        self.pointers = [places.get(name, spare) for name in self._pointer_names()]
        self.address = ctypes.addressof(self.values)

    def _pointer_names(self) -> list[str]:
        """The arguments that change from call to call, in the order of `__call__`'s addresses."""
        names = ["x.at", "weight.input", "bias_input.at"]
        names += ["weight.early", "bias_hidden.at", "weight.late"]
        names += ["weight.output", "bias_output.at"]
        states = range(len(self.cell.states))
        return names + [f"previous{k}.at" for k in states] + [f"state{k}.at" for k in states]

    def __call__(self, x: Tensor, state: Tensors, parameters: Parameters) -> Tensors:
        if self.cell.vectors:
            torch.cat(parameters.vectors, out=self.buffers["vectors"].view(-1))
        new = tuple([torch.empty_like(s) for s in state])
        ih, hh, bias_ih, bias_hh, hr, bias_hr, _ = parameters
        no_bias, early = self.no_bias, 0 if hh is None else hh.data_ptr()
        addresses = [
            x.data_ptr(),
            ih.data_ptr(),
            no_bias if bias_ih is None else bias_ih.data_ptr(),
            early,
            no_bias if bias_hh is None else bias_hh.data_ptr(),
            early + self.late,
            0 if hr is None else hr.data_ptr(),
            no_bias if bias_hr is None else bias_hr.data_ptr(),
        ]
        addresses += [s.data_ptr() for s in state] + [s.data_ptr() for s in new]
        values = self.values
        for place, address in zip(self.pointers, addresses, strict=True):
            values[place] = address
        self._run()
        return new

    def _run(self) -> None:
        values = self.values
        if self.threads > 1:
            self.barrier.value = 0
            values[self.refused], values[self.share] = 0, self.threads
            is_team = run_parallel(self.code.enter_address, self.address, self.threads)
            if is_team and not values[self.refused]:
                return
        values[self.share] = 1
        self.code.run(self.address, 0)


def _contiguous(parameters: Parameters) -> Parameters:
    """The same; a weight that is not contiguous, of which the layers have none, copied."""
    for p in parameters[:6]:
        if p is not None and not p.is_contiguous():
            break
    else:
        return parameters
    six = (p if p is None else p.contiguous() for p in parameters[:6])
    return Parameters._make((*six, parameters.vectors))
