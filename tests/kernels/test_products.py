"""Generated products and packing, at every level that this processor has, against plain ones."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.errors import ArgumentError
from recurra.kernels.cpu.couples import along_columns
from recurra.kernels.cpu.host import LEVELS, find_host
from recurra.kernels.cpu.products import (
    along_rows,
    linear,
    pack,
    pack_turned,
    product_of_rows,
    sums_of_products,
    take_rows,
)
from recurra.kernels.schedule import Rows

pytestmark = pytest.mark.kernels


def _possible(level: str) -> bool:
    try:
        find_host(level)
    except ArgumentError:
        return False
    return True


HOSTS = [find_host(level) for level in LEVELS if _possible(level)]


SIZES = [
    (1, 1, 1),
    (13, 7, 5),
    (256, 12, 32),
    (257, 25, 33),
    (600, 64, 48),
    (31, 100, 17),
    (300, 203, 20),
    (530, 300, 1),
]


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.level)
@pytest.mark.parametrize(("rows", "m", "n"), SIZES)
def test_sums_of_products_equal_those_in_float64(host, rows, m, n):
    torch.manual_seed(rows + m + n)
    left, right = torch.randn(rows, m + 3)[:, 1 : m + 1], torch.randn(rows, n + 2)[:, 2:]
    other = torch.randn(rows, m + 40)[:, :-1]  # more panels than the first
    for rights in ([right], [right, other]):
        found = sums_of_products(left, [Rows(right) for right in rights], host)
        assert len({t.data_ptr() for pair in found for t in pair}) == 2 * len(rights)
        for (product, sums), b in zip(found, rights, strict=True):
            expected = left.double().t() @ b.double()
            scale = (left.double().abs().t() @ b.double().abs()).clamp_min(1)
            assert ((product - expected).abs() / scale).max() < 1e-6
            torch.testing.assert_close(sums, left.sum(0), rtol=1e-5, atol=1e-4)


in_bfloat16 = pytest.mark.skipif(
    not find_host().multiplies_bfloat16, reason="this processor does not multiply bfloat16"
)


@in_bfloat16
@pytest.mark.parametrize(("rows", "m", "n"), [*SIZES, (511, 300, 208)])
def test_products_in_bfloat16_are_those_of_the_rounded_numbers(rows, m, n):
    left, right = torch.randn(rows, m + 3)[:, 1 : m + 1], torch.randn(rows, n + 2)[:, 2:]
    a, b = left.bfloat16().double(), right.bfloat16().double()
    ((product, sums),) = sums_of_products(left, [Rows(right)], find_host(), in_bfloat16=True)
    scale = (a.abs().t() @ b.abs()).clamp_min(1)
    assert ((product - a.t() @ b).abs() / scale).max() < 1e-6
    torch.testing.assert_close(sums, left.sum(0), rtol=1e-5, atol=1e-4)  # of exact numbers

    weight, bias = torch.randn(n, m), torch.randn(n)
    w = weight.bfloat16().double()
    scale = (a.abs() @ w.abs().t()).clamp_min(1)
    for offset in (bias, None):
        product = linear(left, weight, offset, find_host(), in_bfloat16=True)
        expected = a @ w.t() + (0 if offset is None else offset)
        assert product.shape == (rows, n)
        assert product.stride(1) == 1
        assert ((product - expected).abs() / scale).max() < 1e-6


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.level)
@pytest.mark.parametrize(("rows", "m", "n"), SIZES)
def test_products_of_rows_equal_those_in_float64(host, rows, m, n):
    torch.manual_seed(rows + m + n)
    left, weight, bias = torch.randn(rows, m + 3)[:, 1 : m + 1], torch.randn(n, m), torch.randn(n)
    a, w = left.double(), weight.double()
    scale = (a.abs() @ w.abs().t()).clamp_min(1)
    by_rows = linear(left, weight, bias, host)
    assert ((by_rows - (a @ w.t() + bias)).abs() / scale).max() < 1e-6
    turned = pack_turned(weight.t(), host, "turned")
    product = product_of_rows(left, turned, n, None, host)
    assert ((product - a @ w.t()).abs() / scale).max() < 1e-6


@in_bfloat16
@pytest.mark.parametrize(("depth", "units"), [(1, 1), (2, 16), (7, 33), (40, 100)])
def test_couples_are_neighbours_rounded_to_bfloat16(depth, units):
    rows = torch.randn(depth, units)
    rounded = torch.nn.functional.pad(rows.bfloat16(), (0, units % 2, 0, depth % 2))
    by_rows = along_rows(rows, find_host()).view(torch.bfloat16).view(-1, units, 2)
    for k in range(2):
        assert torch.equal(by_rows[..., k], rounded[k::2, :units])
    by_columns = along_columns(rows).view(torch.bfloat16)
    assert torch.equal(by_columns, rounded[:depth])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 40), st.integers(1, 60), st.integers(1, 60))
def test_sums_of_products_of_any_size(rows, m, n):
    left, right = torch.randn(rows, m), torch.randn(rows, n)
    ((product, sums),) = sums_of_products(left, [Rows(right)], find_host())
    torch.testing.assert_close(product, left.t() @ right, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(sums, left.sum(0), rtol=1e-4, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 40), st.randoms())
def test_sums_of_products_take_rows_from_where_a_table_says(rows, m, n, random):
    places = torch.tensor([random.randrange(50) for _ in range(rows)])
    left, right = torch.randn(rows, m), torch.randn(50, n)
    other = torch.randn(rows, n)
    given = [Rows(right, places), Rows(torch.cat([torch.ones(2, n), other]), first=2)]
    (product, _), (plain, _) = sums_of_products(left, given, find_host())
    torch.testing.assert_close(product, left.t() @ right[places], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(plain, left.t() @ other, rtol=1e-4, atol=1e-4)


def _packed(blocks: torch.Tensor, lanes: int) -> torch.Tensor:
    """The order that `tiles` reads, number by number."""
    count, units, depth = blocks.shape
    vectors = -(-units // lanes)
    numbers = []
    for first in range(0, vectors, 2):
        width = min(2, vectors - first) * lanes
        for block in range(count):
            for d in range(depth):
                for unit in range(first * lanes, first * lanes + width):
                    numbers.append(float(blocks[block, unit, d]) if unit < units else 0.0)
    return torch.tensor(numbers)


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.level)
@pytest.mark.parametrize(("count", "columns"), [(0, 5), (1, 1), (40, 16), (700, 67)])
def test_rows_are_taken_by_number_and_missing_ones_are_zero(host, count, columns):
    rows = torch.randn(50, columns + 3)[:, :columns]
    places = torch.randint(-1, 50, (count,))
    expected = rows[places].masked_fill((places < 0).unsqueeze(1), 0.0)
    assert torch.equal(take_rows(rows, places, host), expected)
    assert torch.equal(take_rows(rows[:0], places.fill_(-1), host), torch.zeros(count, columns))


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.level)
@pytest.mark.parametrize(
    ("count", "units", "depth"), [(1, 1, 1), (3, 5, 7), (2, 16, 3), (1, 33, 70), (4, 40, 9)]
)
def test_weights_are_packed_as_tiles_read_them(host, count, units, depth):
    blocks = torch.randn(count, units, depth)
    weight = blocks.flatten(0, 1)
    packed = pack(weight, units, host, "test", blocks=count)
    assert torch.equal(packed, _packed(blocks, host.lanes))
    last = pack(weight[-units:], units, host, "test")
    assert torch.equal(last, _packed(blocks[-1:], host.lanes))
    turned = pack_turned(blocks[0].t(), host, "test")
    assert torch.equal(turned, _packed(blocks[:1], host.lanes))
