"""From a plan to a Triton function: the text is written, then read as a module of its own."""

import linecache
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any

from recurra.cells import Cell
from recurra.kernels.plan import Options
from recurra.kernels.planner import plan_for
from recurra.kernels.triton.emitter import Source, emit


@dataclass(frozen=True, eq=False)
class Code:
    """One pass: its source, and the function that Triton compiles for each set of sizes."""

    source: Source
    function: Any


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
