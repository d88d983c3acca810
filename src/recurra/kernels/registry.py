"""Which implementation runs a cell over a sequence, and why each other one does not."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._C._functorch import maybe_current_level
from torch.compiler import is_compiling

from recurra.cells import Cell
from recurra.errors import ArgumentError, NotSupportedByBackend
from recurra.kernels import reference_backend, torch_backend
from recurra.kernels.cpu import backend as cpu_backend
from recurra.kernels.problem import Problem, Support, device_of
from recurra.kernels.triton import backend as triton_backend
from recurra.reference import Controls, Parameters, Tensors


@dataclass(frozen=True)
class Backend:
    """One implementation of "run this cell over this sequence".

    Attributes:
        name: what users pass as `backend=`.
        supports: decides from the facts of the problem alone, never by trying.
        run: `(cell, x, state, parameters, controls, all_states) -> (sequences, last)`, with the
            meaning of `recurra.reference.scan`; without `all_states`, `sequences` holds
            `states[0]` only.
        yields: why "auto" leaves a problem that is supported to a later backend; empty: it does
            not.
    """

    name: str
    supports: Callable[[Problem], Support]
    run: Callable[..., tuple[Tensors, Tensors]]
    yields: Callable[[Problem], str] = lambda problem: ""


# The order is the order of preference of backend="auto".
BACKENDS: tuple[Backend, ...] = (
    Backend("cpu", cpu_backend.supports, cpu_backend.run),
    Backend("triton", triton_backend.supports, triton_backend.run, triton_backend.yields),
    Backend("torch", torch_backend.supports, torch_backend.run),
    Backend("reference", reference_backend.supports, reference_backend.run),
)


def backend_names() -> tuple[str, ...]:
    """What `backend=` accepts."""
    return ("auto", *(backend.name for backend in BACKENDS))


def choose(problem: Problem, name: str = "auto") -> Backend:
    """The backend that runs a problem.

    "auto" takes the first of `BACKENDS` that supports it and does not yield; a backend asked for
    by name never falls back.

    Raises:
        ArgumentError: there is no backend of that name.
        NotSupportedByBackend: the named one refuses; says why.
    """
    for backend in BACKENDS:
        if name in ("auto", backend.name):
            support = backend.supports(problem)
            if support.ok and not (name == "auto" and backend.yields(problem)):
                return backend
            if name != "auto":
                raise NotSupportedByBackend(
                    f"backend {name!r} cannot run cell {problem.cell.name!r} here: "
                    f"{support.reason}; backend='auto' takes one that can"
                )
    # the reference supports everything, so "auto" has found one
    raise ArgumentError(f"backend {name!r} does not exist; use one of {backend_names()}")


def explain(problem: Problem) -> dict[str, Support]:
    """Every backend's answer to a problem, in the order of preference."""
    found = {}
    for backend in BACKENDS:
        support = backend.supports(problem)
        yields = backend.yields(problem) if support.ok else ""
        found[backend.name] = support._replace(reason=yields) if yields else support
    return found


def run(
    cell: Cell,
    x: Tensor,
    state: Tensors,
    parameters: Parameters,
    controls: Controls = Controls(),
    *,
    all_states: bool = False,
    backend: str = "auto",
) -> tuple[Tensors, Tensors]:
    """Run a cell over a padded batch by the chosen backend; see `recurra.reference.scan`.

    While `torch.compile` looks on, generated kernels stand in the graph as one operator, and the
    reference, for what they cannot run, as a loop with as many parts as there are steps.
    """
    if is_compiling():
        chosen_run = reference_backend.run
        if backend in ("auto", "cpu") and cpu_backend.supports_in_graph(cell, x):
            chosen_run = cpu_backend.run
        elif backend in ("auto", "triton") and triton_backend.supports_in_graph(cell, x):
            chosen_run = triton_backend.run
        x, controls = controls.expanded(x)
        return chosen_run(cell, x, state, parameters, controls, all_states)
    if backend in ("auto", "cpu") and cpu_backend.runs_plainly(cell, x, controls):
        return cpu_backend.run(cell, x, state, parameters, controls, all_states)
    problem = describe(cell, x, state, parameters, controls, all_states)
    chosen = choose(problem, backend)
    if chosen.name not in ("cpu", "triton"):
        x, controls = controls.expanded(x)
    return chosen.run(cell, x, state, parameters, controls, all_states)


def step(
    cell: Cell, x: Tensor, state: Tensors, parameters: Parameters, *, backend: str = "auto"
) -> Tensors:
    """The states after one step, for x of (batch, input); as `run` gives them, sooner.

    A stream's step takes microseconds, so where nothing needs a gradient and nothing looks on, the
    step's own kernel is called without a description of the problem.
    """
    if (
        backend in ("auto", "cpu")
        and not torch.is_grad_enabled()
        and not is_compiling()
        and maybe_current_level() is None
    ):
        found = cpu_backend.step(cell, x, state, parameters)
        if found is not None:
            return found
    return run(cell, x.unsqueeze(0), state, parameters, backend=backend)[1]


def describe(
    cell: Cell,
    x: Tensor,
    state: Tensors,
    parameters: Parameters,
    controls: Controls,
    all_states: bool,
) -> Problem:
    """The facts of a scan, from its tensors."""
    shape = (x if controls.rows is None else controls.rows).shape
    needs_gradient = has_differentiable_mask = False
    if torch.is_grad_enabled():
        tensors = (*parameters[:6], *parameters.vectors, x, *state)
        needs_gradient = _needs_gradient(tensors)
        has_differentiable_mask = _needs_gradient((controls.hidden_mask, *controls.zoneout))
    return Problem(
        cell=cell,
        time=shape[0],
        batch=shape[1],
        input_size=x.shape[-1],
        hidden_size=parameters.weight_ih.shape[0] // len(cell.gates),
        output_size=state[0].shape[-1],
        dtype=x.dtype,
        device=device_of(x),
        has_bias=parameters.bias_ih is not None,
        has_lengths=controls.lengths is not None,
        has_reset=controls.reset is not None,
        has_hidden_mask=controls.hidden_mask is not None,
        has_zoneout=any([z is not None for z in controls.zoneout]),
        has_differentiable_mask=has_differentiable_mask,
        is_reverse=controls.is_reverse,
        needs_gradient=needs_gradient,
        all_states=all_states,
        is_transformed=maybe_current_level() is not None,
    )


def _needs_gradient(tensors: Iterable[Tensor | None]) -> bool:
    return any(t is not None and t.requires_grad for t in tensors)
