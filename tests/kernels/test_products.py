"""Generated products and packing, at every level that this processor has, against plain ones."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.errors import ArgumentError
from recurra.kernels.cpu.host import BFLOAT16, HALVES, LEVELS, THIRDS, find_host
from recurra.kernels.cpu.products import (
    along_rows,
    linear,
    pack,
    pack_turned,
    product_of_rows,
    sums_of_products,
    take_rows,
)
from recurra.kernels.cpu.products_code import possible_parts
from recurra.kernels.schedule import Places, Rows

pytestmark = pytest.mark.kernels


def _possible(level: str) -> bool:
    try:
        find_host(level)
    except ArgumentError:
        return False
    return True


HOSTS = [find_host(level) for level in LEVELS if _possible(level)]
# every way to multiply float32: by vectors, and by units for matrices, in parts
WAYS = [(host, p) for host in HOSTS for p in possible_parts(host) if p != BFLOAT16]
in_float32 = pytest.mark.parametrize(("host", "parts"), WAYS, ids=lambda a: getattr(a, "level", a))

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


@in_float32
@pytest.mark.parametrize(("rows", "m", "n"), SIZES)
def test_sums_of_products_equal_those_in_float64(host, parts, rows, m, n):
    torch.manual_seed(rows + m + n)
    left, right = torch.randn(rows, m + 3)[:, 1 : m + 1], torch.randn(rows, n + 2)[:, 2:]
    other = torch.randn(rows, m + 40)[:, :-1]  # more panels than the first
    for rights in ([right], [right, other]):
        found = sums_of_products(left, [Rows(right) for right in rights], host, parts=parts)
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
    ((product, sums),) = sums_of_products(left, [Rows(right)], find_host(), parts=BFLOAT16)
    scale = (a.abs().t() @ b.abs()).clamp_min(1)
    assert ((product - a.t() @ b).abs() / scale).max() < 1e-6
    torch.testing.assert_close(sums, left.sum(0), rtol=1e-5, atol=1e-4)  # of exact numbers

    weight, bias = torch.randn(n, m), torch.randn(n)
    w = weight.bfloat16().double()
    scale = (a.abs() @ w.abs().t()).clamp_min(1)
    for offset in (bias, None):
        product = linear(left, weight, offset, find_host(), parts=BFLOAT16)
        expected = a @ w.t() + (0 if offset is None else offset)
        assert product.shape == (rows, n)
        assert product.stride(1) == 1
        assert ((product - expected).abs() / scale).max() < 1e-6


@in_float32
@pytest.mark.parametrize(("rows", "m", "n"), SIZES)
def test_products_of_rows_equal_those_in_float64(host, parts, rows, m, n):
    torch.manual_seed(rows + m + n)
    left, weight, bias = torch.randn(rows, m + 3)[:, 1 : m + 1], torch.randn(n, m), torch.randn(n)
    a, w = left.double(), weight.double()
    scale = (a.abs() @ w.abs().t()).clamp_min(1)
    by_rows = linear(left, weight, bias, host, parts=parts)
    assert ((by_rows - (a @ w.t() + bias)).abs() / scale).max() < 1e-6
    turned = pack_turned(weight.t(), host, "turned", parts=parts)
    product = product_of_rows(left, turned, n, None, host, parts=parts)
    assert ((product - a @ w.t()).abs() / scale).max() < 1e-6


@in_bfloat16
@pytest.mark.parametrize(("depth", "units"), [(1, 1), (2, 16), (7, 33), (40, 100)])
def test_couples_are_neighbours_rounded_to_bfloat16(depth, units):
    rows = torch.randn(depth, units)
    rounded = torch.nn.functional.pad(rows.bfloat16(), (0, units % 2, 0, depth % 2))
    by_rows = along_rows(rows, find_host()).view(torch.bfloat16).view(-1, units, 2)
    for k in range(2):
        assert torch.equal(by_rows[..., k], rounded[k::2, :units])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 40), st.integers(1, 60), st.integers(1, 60))
def test_sums_of_products_of_any_size(rows, m, n):
    left, right = torch.randn(rows, m), torch.randn(rows, n)
    for host, parts in WAYS:
        ((product, sums),) = sums_of_products(left, [Rows(right)], host, parts=parts)
        torch.testing.assert_close(product, left.t() @ right, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(sums, left.sum(0), rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 300), st.integers(1, 1100))
def test_products_of_rows_of_any_size(rows, depth, units):
    left, weight, bias = torch.randn(rows, depth), torch.randn(units, depth), torch.randn(units)
    expected = torch.nn.functional.linear(left, weight, bias)
    for host, parts in WAYS:
        product = linear(left, weight, bias, host, parts=parts)
        torch.testing.assert_close(product, expected, rtol=1e-4, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 40), st.randoms())
def test_sums_of_products_take_rows_from_where_a_table_says(rows, m, n, random):
    places = torch.tensor([random.randrange(50) for _ in range(rows)])
    left, right = torch.randn(rows, m), torch.randn(50, n)
    other = torch.randn(rows, n)
    given = [
        Rows(right, Places(places, 0, rows)),
        Rows(torch.cat([torch.ones(2, n), other]), first=2),
    ]
    for host, parts in WAYS:
        (product, _), (plain, _) = sums_of_products(left, given, host, parts=parts)
        torch.testing.assert_close(product, left.t() @ right[places], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(plain, left.t() @ other, rtol=1e-4, atol=1e-4)


by_units = pytest.mark.parametrize(
    "host", [host for host in HOSTS if host.has_matrix_units], ids=lambda host: host.level
)


@by_units
@pytest.mark.parametrize("scale", [1e-22, 1e-12, 1.0, 1e12, 1e17])
def test_float32_in_parts_is_as_exact_at_any_scale(host, scale):
    torch.manual_seed(0)
    spread = torch.logspace(-6, 0, 200)  # of each row's numbers, so that small ones count, too
    left, weight = torch.randn(40, 200) * spread * scale, torch.randn(64, 200) / spread
    expected = left.double() @ weight.double().t()
    product = linear(left, weight, None, host, parts=host.float32_parts)
    error, plain = (t - expected for t in (product, left @ weight.t()))
    assert error.norm() <= 1.5 * plain.norm()
    assert error.abs().max() <= 2 * plain.abs().max()


@by_units
@pytest.mark.parametrize("tiny", [1e-32, 1e-35, 1.1e-38, 1e-40, 1e-45, 0.0])
def test_numbers_that_have_no_last_part_disturb_no_other(host, tiny):
    """Their last digits are lost, as what a unit takes for zero, and nothing else."""
    torch.manual_seed(1)
    left, right = torch.randn(70, 40), torch.randn(70, 50)
    left[torch.rand(70, 40) < 0.3] = tiny
    right[torch.rand(70, 50) < 0.3] = -tiny
    expected = left.double().t() @ right.double()
    parts = host.float32_parts
    ((sums, _),) = sums_of_products(left, [Rows(right)], host, parts=parts)
    torch.testing.assert_close(sums.double(), expected, rtol=1e-5, atol=1e-5)
    packed = pack_turned(right, host, "turned", parts=parts)
    product = product_of_rows(left.t().contiguous(), packed, 50, None, host, parts=parts)
    torch.testing.assert_close(product.double(), expected, rtol=1e-5, atol=1e-5)
    other = linear(left.t().contiguous(), right.t(), None, host, parts=parts)
    torch.testing.assert_close(other.double(), expected, rtol=1e-5, atol=1e-5)


@by_units
def test_infinite_and_missing_numbers_stay_visible_in_parts(host):
    left = torch.randn(3, 40)
    left[1, 7], left[2, 9] = float("inf"), float("nan")
    product = linear(left, torch.randn(33, 40), None, host, parts=host.float32_parts)
    assert product[0].isfinite().all()
    assert not product[1:].isfinite().any()


@by_units
def test_matrix_units_are_shared_with_other_libraries(host):
    """They hold their setting from call to call, and oneDNN has another one."""
    left, weight = torch.randn(70, 130), torch.randn(50, 130)
    a, b = left.bfloat16(), weight.bfloat16()

    def product() -> torch.Tensor:
        return linear(left, weight, None, host, parts=host.float32_parts)

    theirs, ours = a @ b.t(), product()
    for _ in range(3):
        assert torch.equal(a @ b.t(), theirs)
        assert torch.equal(product(), ours)


@by_units
def test_rows_and_columns_of_very_different_sizes_are_as_exact_as_each_other(host):
    torch.manual_seed(2)
    left = torch.randn(70, 130) * torch.logspace(-12, 12, 70).unsqueeze(1)
    weight = torch.randn(50, 130) * torch.logspace(10, -10, 50).unsqueeze(1)
    left[5], weight[7] = 0.0, 0.0
    product = linear(left, weight, None, host, parts=host.float32_parts)
    expected = left.double() @ weight.double().t()
    size = left.double().abs() @ weight.double().abs().t()
    assert ((product - expected).abs() <= 2e-7 * size).all()
    ((sums, _),) = sums_of_products(
        left.t().contiguous(), [Rows(weight.t().contiguous())], host, parts=host.float32_parts
    )
    assert ((sums - expected).abs() <= 2e-7 * size).all()


@by_units
@pytest.mark.parametrize("small", [1e-3, 1e-6, 1e-9, 1e-12])
def test_a_small_number_beside_a_large_one_is_off_by_little(host, small):
    """The least float16 is 2⁻³⁹ of the largest number: also where the large one is not counted."""
    left, weight = torch.zeros(16, 128), torch.zeros(32, 128)
    left[:, 0], left[:, 1] = 1.0, small * (1 + torch.rand(16))
    weight[:, 1], weight[:, 2] = 0.5 + torch.rand(32), 1.0
    product = linear(left, weight, None, host, parts=host.float32_parts)
    expected = left.double() @ weight.double().t()
    assert ((product - expected).abs() <= 4e-7 * expected + 2**-38).all()


def _couples(blocks: torch.Tensor, parts: int, lanes: int) -> torch.Tensor:
    """The depth's numbers as couples of so many parts, and what undoes their scale."""
    if not parts:
        return blocks
    rest = torch.nn.functional.pad(blocks, (0, -blocks.shape[2] % (2 * lanes)))
    found = []
    if parts == HALVES:
        _, exponents = torch.frexp(rest.abs().amax(2, keepdim=True))
        undoing = torch.exp2(torch.where(rest.any(2, keepdim=True), exponents - 15.0, -126.0))
        rest = rest / undoing
    for _ in range(parts):
        if parts == HALVES:
            part = rest.half()
        elif parts == BFLOAT16:
            part = rest.bfloat16()
        else:  # cut off, not rounded
            part = (rest.view(torch.int32) & -65536).view(torch.float32).bfloat16()
        found.append(part.unflatten(2, (-1, 2 * lanes)))
        rest = rest - part.float()
    assert parts != THIRDS or not rest.any()
    couples = torch.stack(found, dim=3).flatten(2).view(torch.float32)
    return torch.cat([couples, undoing], 2) if parts == HALVES else couples


def _packed(blocks: torch.Tensor, parts: int, lanes: int) -> torch.Tensor:
    """The order that `tiles` reads, number by number."""
    count, units, _ = blocks.shape
    vectors = -(-units // lanes)
    padded = torch.nn.functional.pad(blocks, (0, 0, 0, vectors * lanes - units))
    couples = _couples(padded, parts, lanes)
    pieces = [
        couples[block, first * lanes : min(first + 2, vectors) * lanes].t().flatten()
        for first in range(0, vectors, 2)
        for block in range(count)
    ]
    return torch.cat(pieces)


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
    for parts in possible_parts(host):
        packed = pack(weight, units, host, "test", blocks=count, parts=parts)
        assert _is_same(packed, _packed(blocks, parts, host.lanes))
        last = pack(weight[-units:], units, host, "test", parts=parts)
        assert _is_same(last, _packed(blocks[-1:], parts, host.lanes))
        turned = pack_turned(blocks[0].t(), host, "test", parts=parts)
        assert _is_same(turned, _packed(blocks[:1], parts, host.lanes))


def _is_same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Bit by bit: couples may look like numbers that are not any."""
    return torch.equal(a.view(torch.int32), b.view(torch.int32))
