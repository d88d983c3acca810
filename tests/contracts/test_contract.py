"""Every shipped cell keeps the public contract, on the reference and on what users get."""

import pytest
import torch

from recurra.cells import CELLS, Cell
from recurra.errors import CellError
from recurra.testing import check_cell


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("name", CELLS)
def test_cell_keeps_the_contract(name: str, backend: str) -> None:
    check_cell(CELLS[name], backend=backend)


def _user_step(from_input, from_hidden, state):
    """Coupled gates, a leak and two memories: no cell that any library has."""
    _, c, m = state
    i, g, o = (x + r for x, r in zip(from_input, from_hidden, strict=True))
    i, g, o = i.sigmoid(), g.tanh(), (o + 0.1 * c).sigmoid()
    c = (1 - i) * c + i * g
    m = 0.9 * m + 0.1 * c
    return o * torch.tanh(c + m), c, m


def test_a_users_cell_keeps_the_contract() -> None:
    check_cell(Cell("leaky", gates=("i", "g", "o"), states=("h", "c", "m"), step=_user_step))


def test_a_step_with_too_few_states_is_named() -> None:
    cell = Cell("short", gates=("a",), states=("h", "c"), step=lambda x, r, s: (x[0] + r[0],))
    with pytest.raises(CellError, match=r"cell 'short': step returned 1 values; .* 2 states"):
        check_cell(cell, backend="reference")


def test_a_step_that_mixes_rows_breaks_the_contract() -> None:
    def step(from_input, from_hidden, state):
        return (torch.tanh(from_input[0] + from_hidden[0] + state[0].mean(0)),)

    with pytest.raises(AssertionError):
        check_cell(Cell("mixing", ("a",), ("h",), step), backend="reference")
