"""The cells: equations, gate order, states, one step each. `CELLS` lists them by name."""

from difflib import get_close_matches

from recurra.cells._cell import Cell, Step
from recurra.cells.elman import ELMAN_CELL, ELMAN_RELU_CELL, ELMAN_SIGMOID_CELL, IRNN_CELL
from recurra.cells.gru import GRU_CELL, GRU_RESET_BEFORE_CELL
from recurra.cells.jordan import JORDAN_CELL
from recurra.cells.layer_norm import GRU_LAYER_NORM_CELL, LSTM_LAYER_NORM_CELL
from recurra.cells.lstm import LSTM_CELL, LSTM_COUPLED_CELL, LSTM_PEEPHOLE_CELL
from recurra.cells.minimal import MIN_GRU_CELL, MIN_LSTM_CELL
from recurra.errors import ArgumentError

CELLS: dict[str, Cell] = {
    cell.name: cell
    for cell in (
        ELMAN_CELL,
        ELMAN_RELU_CELL,
        ELMAN_SIGMOID_CELL,
        IRNN_CELL,
        JORDAN_CELL,
        GRU_CELL,
        GRU_RESET_BEFORE_CELL,
        GRU_LAYER_NORM_CELL,
        LSTM_CELL,
        LSTM_PEEPHOLE_CELL,
        LSTM_COUPLED_CELL,
        LSTM_LAYER_NORM_CELL,
        MIN_GRU_CELL,
        MIN_LSTM_CELL,
    )
}


def find_cell(name: str) -> Cell:
    """The shipped cell of that name.

    Raises:
        ArgumentError: no such cell; names the nearest.

    Example:
        >>> find_cell("gru").gates
        ('r', 'z', 'n')
    """
    if name in CELLS:
        return CELLS[name]
    near = get_close_matches(name, CELLS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ArgumentError(f"there is no cell named {name!r}{hint} Cells: {', '.join(CELLS)}")


def resolve_cell(cell: str | Cell) -> Cell:
    """A cell as it is, or the shipped one of a name; see `find_cell`."""
    return find_cell(cell) if isinstance(cell, str) else cell


def shipped_name(cell: Cell) -> str:
    """The name by which `find_cell` finds a cell: how a model's options() describe it.

    Raises:
        ArgumentError: the cell is a user's own, which no name in a file can bring back.

    Example:
        >>> shipped_name(GRU_CELL)
        'gru'
    """
    if CELLS.get(cell.name) is not cell:
        raise ArgumentError(
            f"cell {cell.name!r} is not one of recurra's, so options() cannot describe it; keep "
            "the constructor's arguments and the weights instead"
        )
    return cell.name


__all__ = [
    "CELLS",
    "ELMAN_CELL",
    "ELMAN_RELU_CELL",
    "ELMAN_SIGMOID_CELL",
    "GRU_CELL",
    "GRU_LAYER_NORM_CELL",
    "GRU_RESET_BEFORE_CELL",
    "IRNN_CELL",
    "JORDAN_CELL",
    "LSTM_CELL",
    "LSTM_COUPLED_CELL",
    "LSTM_LAYER_NORM_CELL",
    "LSTM_PEEPHOLE_CELL",
    "MIN_GRU_CELL",
    "MIN_LSTM_CELL",
    "Cell",
    "Step",
    "find_cell",
    "resolve_cell",
    "shipped_name",
]
