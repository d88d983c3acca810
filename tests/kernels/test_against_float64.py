"""Kernels at sizes that reach every path: tails, tiles, shared weights, long and short sequences.

Each is held to four times plain torch's own float32 error, on the whole of every result and at its
worst step, with random weights, states and upstream gradients.
"""

import pytest
import torch

from recurra.cells import CELLS
from recurra.kernels.cpu.form import form_for
from recurra.kernels.cpu.host import find_host
from recurra.kernels.plan import Options
from recurra.testing import errors_against_float64

pytestmark = pytest.mark.kernels

# (time, batch, inputs, hidden): primes, one row, one step, over a tile, an R of over 2 MB.
CASES = {
    "one step": (1, 3, 5, 7),
    "one row": (65, 1, 13, 31),
    "two rows": (7, 2, 64, 64),
    "primes": (7, 23, 11, 53),
    "over a tile": (13, 41, 40, 129),
    "tall": (2, 130, 3, 16),
    "whole vectors": (9, 21, 32, 48),  # the loop multiplies the input, too
    "units for matrices": (9, 41, 112, 96),
}
LONG = (300, 3, 7, 19)
LARGE = {"rnn": 769, "gru": 449, "lstm": 384, "lstm_layer_norm": 384, "gru_reset_before": 449}
NAMES = list(CELLS)


def check(
    name: str,
    controls: str,
    is_reverse: bool,
    sizes: tuple[int, int, int, int],
    *,
    under_autocast: bool = False,
) -> None:
    torch.manual_seed(sum(sizes))
    keys = ("time", "batch", "input_size", "hidden_size")
    errors = errors_against_float64(
        CELLS[name],
        backend="cpu",
        controls=controls,
        is_reverse=is_reverse,
        under_autocast=under_autocast,
        **dict(zip(keys, sizes, strict=True)),
    )
    wrong = [error for error in errors if not error.is_ok]
    assert not wrong, wrong


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", NAMES)
def test_kernels_are_as_exact_as_plain_torch(name: str, case: str) -> None:
    kinds = ("plain", "lengths", "reset", "masks")
    turn = NAMES.index(name) + list(CASES).index(case)  # so that all kinds and directions come
    check(name, "plain", False, CASES[case])
    controls = kinds[1 + turn % 3] if CASES[case][0] > 1 else "reset"
    check(name, controls, turn % 2 == 1, CASES[case])


@pytest.mark.parametrize("controls", ["lengths", "reset", "masks"])
@pytest.mark.parametrize("name", NAMES)
def test_a_loop_that_multiplies_the_input_is_as_exact(name: str, controls: str) -> None:
    check(name, controls, NAMES.index(name) % 2 == 0, CASES["whole vectors"])


@pytest.mark.parametrize(
    ("sizes", "is_in_loop"),
    [
        ((21, 32, 48), (True, True)),
        ((21, 33, 48), (True, True)),
        ((21, 1, 48), (True, False)),  # most of the gradient's vectors would be padding
        ((21, 32, 49), (False, True)),
        ((3, 32, 48), (False, False)),  # too few rows
        ((64, 640, 640), (False, False)),  # too many weights
    ],
)
def test_the_loop_multiplies_the_input_where_that_pays(sizes, is_in_loop) -> None:
    batch, inputs, hidden = sizes
    options = Options((False, False), needs_gradient=True)
    form = form_for(CELLS["lstm"], options, find_host(), batch, hidden, hidden, threads=2)
    assert (form.takes_input(inputs), form.gives_input(inputs)) == is_in_loop


@pytest.mark.parametrize("name", ["rnn", "jordan", "gru", "lstm", "lstm_layer_norm"])
def test_errors_do_not_grow_over_three_hundred_steps(name: str) -> None:
    check(name, "plain", False, LONG)


@pytest.mark.parametrize("controls", ["plain", "lengths"])
@pytest.mark.parametrize("name", LARGE)
def test_threads_that_share_a_large_matrix_are_as_exact(name: str, controls: str) -> None:
    check(name, controls, False, (5, 6, 10, LARGE[name]))


@pytest.mark.parametrize("name", LARGE)
def test_units_that_share_a_large_matrix_are_as_exact(name: str) -> None:
    sizes = (4, 19, 10, LARGE[name])
    options = Options((False,) * len(CELLS[name].states), needs_gradient=True)
    form = form_for(CELLS[name], options, find_host(), sizes[1], sizes[3], sizes[3], threads=2)
    assert (form.share, form.parts) == (2, find_host().float32_parts)
    check(name, "lengths", LARGE[name] % 2 == 0, sizes)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", NAMES)
def test_products_in_bfloat16_are_as_exact_as_those_of_plain_torch(name: str, case: str) -> None:
    if not find_host().multiplies_bfloat16:
        pytest.skip("this processor does not multiply bfloat16")
    kinds = ("plain", "lengths", "reset", "masks")
    turn = NAMES.index(name) + list(CASES).index(case)
    controls = kinds[turn % 4] if CASES[case][0] > 1 else "plain"
    check(name, controls, turn % 2 == 1, CASES[case], under_autocast=True)


@pytest.mark.parametrize("name", LARGE)
def test_threads_that_share_a_matrix_in_bfloat16_are_as_exact(name: str) -> None:
    check(name, "plain", False, (5, 6, 10, 2 * LARGE[name]), under_autocast=True)


@pytest.mark.parametrize("level", ["avx2", "basic"])
@pytest.mark.parametrize("name", NAMES)
def test_a_lesser_processor_is_as_exact(name: str, level: str, at_level) -> None:
    at_level(level)
    check(name, "lengths", NAMES.index(name) % 2 == 1, CASES["primes"])
