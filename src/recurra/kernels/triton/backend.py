"""The backend "triton": generated kernels for NVIDIA's GPUs, from float32 or bfloat16."""

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from recurra.cells import Cell
from recurra.kernels import generated, torch_backend
from recurra.kernels.machines import TRITON
from recurra.kernels.problem import Problem, Support
from recurra.kernels.triton.form import is_interpreted
from recurra.reference import Controls, Parameters, Tensors

# Up to here a layer that torch.nn has takes cuDNN less time, because its call does (measured on an
# H100: R of 120,000 weights takes the two as long).
LEAST_WEIGHTS = 120_000
OLDEST = (8, 0)  # compute capability: Ampere, the first with TF32 and bfloat16


def supports(problem: Problem) -> Support:
    """Whether the kernels run a problem: float32 or bfloat16, GPU, a step that can be traced."""
    if problem.device != "cuda" and not (problem.device == "cpu" and is_interpreted()):
        return Support(False, f"generated for NVIDIA's GPUs, not for {problem.device!r}")
    missing = _missing()
    return Support(False, missing) if missing else generated.supports(problem)


def yields(problem: Problem) -> str:
    """Why cuDNN's own kernel runs a plain scan sooner than these: its call costs less."""
    if not torch_backend.supports(problem).ok:
        return ""
    weights = len(problem.cell.gates) * problem.hidden_size * problem.output_size
    if weights >= LEAST_WEIGHTS:
        return ""
    return f"could run this; cuDNN is faster where R has fewer than {LEAST_WEIGHTS:,} weights"


def supports_in_graph(cell: Cell, x: Tensor) -> bool:
    """Whether a graph of `torch.compile` may hold the operator for a scan of this input."""
    return x.device.type == "cuda" and not _missing() and generated.supports_in_graph(cell, x)


def run(
    cell: Cell,
    x: Tensor,
    state: Tensors,
    parameters: Parameters,
    controls: Controls,
    all_states: bool,
) -> tuple[Tensors, Tensors]:
    """The scan; in bfloat16, or under autocast to it, with products of bfloat16."""
    in_bfloat16 = generated.asks_for_bfloat16(x)
    return generated.run(
        cell, x, state, parameters, controls, all_states, TRITON, in_bfloat16=in_bfloat16
    )


@torch.compiler.assume_constant_result
def _missing() -> str:
    """What stands in the way on this machine, whatever the problem; empty: nothing."""
    return _found_missing()


@cache
def _found_missing() -> str:
    if find_spec("triton") is None:
        return "the package triton is not installed; torch's builds for CUDA bring it"
    if torch.version.hip:
        return "nobody has run these kernels on AMD's GPUs yet"
    if torch.cuda.is_available() and torch.cuda.get_device_capability() < OLDEST:
        return f"needs a GPU of compute capability {OLDEST[0]}.{OLDEST[1]} or later"
    return ""
