"""From a plan to a Triton function: the text is written, then read as a module of its own."""

import linecache
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from recurra.cells import Cell
from recurra.kernels.plan import Options
from recurra.kernels.planner import plan_for
from recurra.kernels.triton.emitter import Source, emit


@dataclass(frozen=True, eq=False)
class Code:
    """One pass: its source, and the function that Triton compiles for each set of sizes."""

    source: Source
    function: Any
    compiled: dict[Any, Any] = field(default_factory=dict)

    def call(
        self,
        programs: int,
        arguments: Sequence[Tensor | int],
        constants: tuple[Any, ...],
        options: Mapping[str, Any],
        device: torch.device,
    ) -> None:
        """Run so many programs.

        Triton finds its compiled code by looking at each argument, which takes longer than a short
        scan; here it is found by what it depends on: constants, and whether addresses are whole
        multiples of 16 bytes. Numbers are not specialised.

        Args:
            programs: how many.
            arguments: in the order of the source's.
            constants: for `SIZES` and the source's flags.
            options: of Triton's launch.
            device: where.
        """
        grid = (programs, 1, 1)
        aligned = tuple([isinstance(a, int) or a.data_ptr() % 16 == 0 for a in arguments])
        key = constants, aligned, tuple(options.values()), device
        found = self.compiled.get(key)
        if found is None:
            self.compiled[key] = self.function[grid](*arguments, *constants, **options)
        else:
            found[grid](*arguments, *constants)


@cache
def code_for(cell: Cell, options: Options, *, is_forward: bool) -> Code:
    """A cell's pass. Triton keeps what it compiles on disk, by the text and the sizes."""
    source = emit(plan_for(cell, options), is_forward=is_forward)
    digest = sha256(source.text.encode()).hexdigest()[:16]
    name = f"<recurra {cell.name} {'forward' if is_forward else 'backward'} {digest}>"
    # Triton reads a function's text where Python's tracebacks do
    linecache.cache[name] = (len(source.text), None, source.text.splitlines(True), name)
    space: dict[str, Any] = {"__name__": f"recurra.kernels.triton.made_{digest}"}
    exec(compile(source.text, name, "exec"), space)
    return Code(source, space["scan"])
