"""A cell's compiled kernels: plan, machine code, and room for named arguments."""

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from recurra.cells import Cell
from recurra.kernels.cpu import matrix, tiles
from recurra.kernels.cpu.compiler import MachineCode, compile_cached
from recurra.kernels.cpu.driver import Layout, build_driver, make_layout, scratch_blocks
from recurra.kernels.cpu.host import Host
from recurra.kernels.cpu.threads import address_in_process, openmp
from recurra.kernels.plan import Options, Phase, Plan, Product
from recurra.kernels.planner import plan_for

_Run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
# its name, and the (blocks, unit) of its units and of its depth
Weight = tuple[str, tuple[int, str], tuple[int, str]]
Values = ctypes.Array[ctypes.c_int64]  # the arguments of a pass, in the order of its layout


@dataclass(frozen=True)
class Code:
    """The code of one pass, forward or backward."""

    layout: Layout
    weights: tuple[Weight, ...]
    scratch_blocks: int
    lanes: int
    machine: MachineCode
    run: Callable[[int, int], None]  # (arguments, thread)
    enter_address: int

    def values(self, known: Mapping[str, int]) -> Values:
        """Room for all arguments, with those that are known, others 0; and a spare one behind."""
        names, known = self.layout.names, {**system_arguments(), **known}
        return (ctypes.c_int64 * (len(names) + 1))(*(known.get(name, 0) for name in names))


@cache
def forward_code(cell: Cell, options: Options, host: Host, parts: int) -> Code:
    """A cell's forward pass, compiled or read from disk at first use; parts: see `tile_table`."""
    return _code(plan_for(cell, options), host, parts, is_forward=True)


@cache
def backward_code(cell: Cell, options: Options, host: Host, parts: int) -> Code:
    """A cell's backward pass, compiled or read at first use; parts: see `tile_table`."""
    return _code(plan_for(cell, options), host, parts, is_forward=False)


def _code(plan: Plan, host: Host, parts: int, *, is_forward: bool) -> Code:
    phases: tuple[Phase, ...] = plan.forward if is_forward else plan.backward
    name = f"{plan.cell.name}-{'forward' if is_forward else 'backward'}"
    key = repr((plan.options, plan.graph.nodes, phases, parts))
    build = partial(build_driver, plan, host, parts, is_forward=is_forward)
    machine = compile_cached(_file_name(name), key, build, host)
    return Code(
        layout=make_layout(plan, parts, is_forward=is_forward),
        weights=tuple((p.weight, p.width, p.depth) for p in phases if isinstance(p, Product)),
        scratch_blocks=scratch_blocks(plan, phases),
        lanes=host.lanes,
        machine=machine,
        run=_Run(machine.address("run")),
        enter_address=machine.address("enter"),
    )


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)


@cache
def tile_table(host: Host, parts: int) -> tuple[Tensor, MachineCode]:
    """The addresses of all tiles, in their places; and what keeps them alive.

    Args:
        host: they are for.
        parts: of a number whose couples they multiply; 0: plain numbers.
    """
    name = f"tiles-{parts}"
    if host.uses_units(parts):
        places, build = matrix.tile_names(), partial(matrix.build_tiles, host, parts)
    else:
        places, build = tiles.tile_names(host), partial(tiles.build_tiles, host, parts)
    machine = compile_cached(name, name, build, host)
    table = torch.zeros(max(places) + 1, dtype=torch.int64, device="cpu")
    for place, tile in places.items():
        table[place] = machine.address(tile)
    return table, machine


@cache
def system_arguments() -> dict[str, int]:
    """Addresses of the system's functions that kernels call."""
    return {**openmp(), "give_way": address_in_process("sched_yield")}
