"""The contract is itself tested: deliberate mistakes in a backend must each be noticed."""

from collections.abc import Callable

import pytest
import torch

from recurra.cells import CELLS, Cell
from recurra.kernels import registry
from recurra.kernels.problem import Support
from recurra.reference import Controls, Parameters, Tensors, scan
from recurra.testing import check_cell

Scan = Callable[[Cell, torch.Tensor, Tensors, Parameters, Controls], tuple[Tensors, Tensors]]


def _blocks(weight: torch.Tensor, cell: Cell) -> list[torch.Tensor]:
    return list(weight.chunk(len(cell.gates)))


def swap_gates(cell, x, state, parameters, controls):
    def swap(p):
        first, second, *rest = _blocks(p, cell)
        return torch.cat((second, first, *rest))

    return scan(cell, x, state, Parameters(*map(swap, parameters[:4])), controls)


def transpose_blocks(cell, x, state, parameters, controls):
    turned = torch.cat([block.t() for block in _blocks(parameters.weight_hh, cell)])
    return scan(cell, x, state, parameters._replace(weight_hh=turned), controls)


def swap_states(cell, x, state, parameters, controls):
    return scan(cell, x, state[::-1], parameters, controls)


def ignore_state(cell, x, state, parameters, controls):
    return scan(cell, x, tuple(torch.zeros_like(s) for s in state), parameters, controls)


def drop_recurrent_bias(cell, x, state, parameters, controls):
    return scan(cell, x, state, parameters._replace(bias_hh=None), controls)


def stop_one_step_early(cell, x, state, parameters, controls):
    if controls.lengths is not None:
        controls = controls._replace(lengths=(controls.lengths - 1).clamp(min=0))
    return scan(cell, x, state, parameters, controls)


def ignore_reset(cell, x, state, parameters, controls):
    return scan(cell, x, state, parameters, controls._replace(reset=None))


def ignore_direction(cell, x, state, parameters, controls):
    return scan(cell, x, state, parameters, controls._replace(is_reverse=False))


def detach_state(cell, x, state, parameters, controls):
    return scan(cell, x, tuple(s.detach() for s in state), parameters, controls)


def damage_last_step(cell, x, state, parameters, controls):
    sequences, last = scan(cell, x, state, parameters, controls)
    y = torch.cat((sequences[0][:-1], sequences[0][-1:] * 1.001))
    return (y, *sequences[1:]), last


MUTANTS: list[Scan] = [
    swap_gates,
    transpose_blocks,
    swap_states,
    ignore_state,
    drop_recurrent_bias,
    stop_one_step_early,
    ignore_reset,
    ignore_direction,
    detach_state,
    damage_last_step,
]


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_noticed(mutant: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(cell, x, state, parameters, controls, all_states):
        sequences, last = mutant(cell, x, state, parameters, controls)
        return (sequences if all_states else sequences[:1]), last

    backend = registry.Backend("mutant", lambda problem: Support(True, "a mutant"), run)
    monkeypatch.setattr(registry, "BACKENDS", (backend, *registry.BACKENDS))
    with pytest.raises(AssertionError):
        check_cell(CELLS["lstm"], backend="mutant")


def test_the_unchanged_reference_passes_as_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(cell, x, state, parameters, controls, all_states):
        sequences, last = scan(cell, x, state, parameters, controls)
        return (sequences if all_states else sequences[:1]), last

    backend = registry.Backend("mutant", lambda problem: Support(True, "no mutant"), run)
    monkeypatch.setattr(registry, "BACKENDS", (backend, *registry.BACKENDS))
    check_cell(CELLS["lstm"], backend="mutant")
