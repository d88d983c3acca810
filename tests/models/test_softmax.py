"""The fused softmax gives the numbers of the plain formulas, whatever the chunks."""

import copy

import pytest
import torch
from torch.nn import functional

from recurra.errors import ArgumentError, ShapeError
from recurra.kernels.cpu import softmax as generated
from recurra.models.softmax import (
    IGNORED,
    AdaptiveSoftmax,
    FullSoftmax,
    linear_cross_entropy,
    target_log_probabilities,
)

ROWS, FEATURES, VOCABULARY = 11, 5, 23


def _inputs(dtype: torch.dtype = torch.float64, scale: float = 1.0) -> list[torch.Tensor]:
    x = torch.randn(ROWS, FEATURES, dtype=dtype) * scale
    w, b = torch.randn(VOCABULARY, FEATURES, dtype=dtype), torch.randn(VOCABULARY, dtype=dtype)
    return [p.requires_grad_() for p in (x, w, b)]


def _targets() -> torch.Tensor:
    targets = torch.randint(VOCABULARY, (ROWS,))
    targets[3] = IGNORED
    return targets


def _plain(x, w, b, targets) -> torch.Tensor:
    return functional.cross_entropy(functional.linear(x, w, b), targets, ignore_index=IGNORED)


@pytest.mark.parametrize("chunk_rows", [1, 4, 11, 100, None])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 3e-6)], ids=str
)
def test_loss_and_gradients_equal_the_plain_formula(chunk_rows, dtype, tolerance) -> None:
    inputs, targets = _inputs(), _targets()
    expected = _plain(*inputs, targets)
    wanted = torch.autograd.grad(3 * expected, inputs)
    ours = [p.detach().to(dtype).requires_grad_() for p in inputs]
    nats = linear_cross_entropy(*ours, targets, chunk_rows=chunk_rows)
    got = torch.autograd.grad(3 * nats, ours)
    assert nats.dtype == dtype
    torch.testing.assert_close(nats.double(), expected, rtol=0, atol=tolerance)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("features", [5, 31, 40, 64, 100, 137])
@pytest.mark.parametrize("chunk_rows", [33, None])
def test_generated_code_equals_the_plain_formula(features: int, chunk_rows: int | None) -> None:
    rows, words = 211, 1009  # primes, so that no tile, panel or block of words is full
    x, b = torch.randn(rows, features), torch.randn(words)
    w = torch.randn(words, features) * min(1.0, 8 / features**0.5)  # no larger logits than with 64
    targets = torch.randint(words, (rows,))
    targets[7] = IGNORED
    ours = [p.requires_grad_() for p in (x, w, b)]
    assert generated.supports(x, w)
    nats = linear_cross_entropy(*ours, targets, chunk_rows=chunk_rows)
    plain = [p.detach().double().requires_grad_() for p in ours]
    expected = _plain(*plain, targets)
    torch.testing.assert_close(nats.double(), expected, rtol=1e-6, atol=0)
    wanted = torch.autograd.grad(2 * expected, plain)
    for a, b in zip(torch.autograd.grad(2 * nats, ours), wanted, strict=True):
        assert (a - b).norm() < 2e-6 * b.norm()


@pytest.mark.parametrize("features", [5, 64, 100])
def test_generated_log_probabilities_equal_log_softmax(features: int) -> None:
    rows, words = 211, 5003
    x, w, b = torch.randn(rows, features), torch.randn(words, features), torch.randn(words)
    targets = torch.randint(words, (rows,))
    expected = functional.linear(x.double(), w.double(), b.double()).log_softmax(1)
    expected = expected.gather(1, targets.unsqueeze(1)).squeeze(1)
    got = generated.target_log_probabilities(x, w, b, targets)
    torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=1e-5)
    targets[3] = IGNORED
    expected[3] = 0.0
    got = target_log_probabilities(x, w, b, targets)
    torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=1e-5)


def test_generated_code_gives_way_when_a_sum_overflows() -> None:
    x, w = torch.zeros(32, 3), torch.zeros(1000, 3)
    x[:, 0], w[900, 0] = 1.0, 200.0  # 200 nats above the words that the shift is taken from
    targets = torch.zeros(32, dtype=torch.int64)
    share = torch.full((32,), 1 / 32)
    assert generated.softmax_gradients(x, w, None, targets, share, chunk_rows=32) is None
    assert generated.target_log_probabilities(x, w, None, targets) is None
    log_p = target_log_probabilities(x, w, None, targets)
    assert torch.equal(log_p, functional.linear(x, w).log_softmax(1)[range(len(x)), targets])
    nats = linear_cross_entropy(x.requires_grad_(), w.requires_grad_(), None, targets)
    torch.testing.assert_close(nats.detach(), torch.tensor(200.0))


def test_gradcheck_to_second_order() -> None:
    shapes = [(3, 2), (4, 2), (4,)]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    targets = torch.tensor([3, IGNORED, 0])

    def loss(*p):
        return linear_cross_entropy(*p, targets, chunk_rows=2)

    torch.autograd.gradcheck(loss, inputs)
    torch.autograd.gradgradcheck(loss, inputs)


def test_unbiased_and_partial_gradients() -> None:
    x, w, _ = _inputs()
    targets = _targets()
    expected = torch.autograd.grad(_plain(x, w, None, targets), w)[0]
    got = torch.autograd.grad(linear_cross_entropy(x.detach(), w, None, targets), w)[0]
    torch.testing.assert_close(got, expected)
    with torch.no_grad():
        nats = linear_cross_entropy(x, w, None, targets)
    torch.testing.assert_close(nats, _plain(x, w, None, targets).detach())


def test_backward_may_run_twice() -> None:
    inputs, targets = _inputs(), _targets()
    nats = linear_cross_entropy(*inputs, targets, chunk_rows=4)
    first = torch.autograd.grad(nats, inputs, retain_graph=True)
    second = torch.autograd.grad(nats, inputs)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_large_logits_stay_finite(dtype: torch.dtype) -> None:
    x, w, b = _inputs(dtype, scale=1000.0)
    targets = (x @ w.T).argmin(1)  # the least likely word of each row: p underflows
    nats = linear_cross_entropy(x, w, b, targets, chunk_rows=4)
    plain = _plain(x, w, b, targets)
    torch.testing.assert_close(nats, plain, rtol=1e-5, atol=0)
    for gradient in torch.autograd.grad(nats, (x, w, b)):
        assert gradient.isfinite().all()


def test_no_counted_target_costs_nothing() -> None:
    inputs = _inputs()
    nats = linear_cross_entropy(*inputs, torch.full((ROWS,), IGNORED))
    assert nats == 0
    assert all(not g.any() for g in torch.autograd.grad(nats, inputs))


@pytest.mark.parametrize("chunk_rows", [1, 4, None])
def test_log_probabilities_equal_log_softmax(chunk_rows) -> None:
    x, w, b = _inputs(torch.float32)
    targets = _targets()
    got = target_log_probabilities(x, w, b, targets, chunk_rows=chunk_rows)
    expected = functional.linear(x, w, b).log_softmax(1)
    expected = expected.gather(1, targets.clamp_min(0).unsqueeze(1)).squeeze(1)
    expected = expected.masked_fill(targets == IGNORED, 0).detach()
    torch.testing.assert_close(got, expected, rtol=0, atol=4e-6)
    assert not got.requires_grad


def test_autocast_takes_products_in_bfloat16_and_sums_in_float32() -> None:
    inputs, targets = _inputs(torch.float32), _targets()
    with torch.autocast("cpu", torch.bfloat16):
        nats = linear_cross_entropy(*inputs, targets, chunk_rows=4)
    got = torch.autograd.grad(nats, inputs)
    assert nats.dtype == torch.float32
    assert all(g.dtype == torch.float32 for g in got)
    wanted = torch.autograd.grad(_plain(*inputs, targets), inputs)
    for a, b in zip(got, wanted, strict=True):
        assert (a - b).norm() < 0.03 * b.norm()


@pytest.mark.kernels
@pytest.mark.parametrize(
    ("rows", "features", "words", "chunk_rows"),
    [
        (33, 7, 1001, None),
        (100, 64, 1500, 40),
        (70, 33, 1013, 32),
        (40, 96, 1000, None),
        (210, 131, 1013, 100),
    ],
)
def test_generated_products_in_bfloat16_are_those_of_the_rounded_numbers(
    rows, features, words, chunk_rows
) -> None:
    if not generated.multiplies_bfloat16(torch.empty(rows, features)):
        pytest.skip("bfloat16 saves this processor nothing here")
    torch.manual_seed(rows)
    x, w, b = torch.randn(rows, features), torch.randn(words, features) / 4, torch.randn(words)
    targets = torch.randint(0, words, (rows,))
    targets[3] = IGNORED
    given = [t.requires_grad_() for t in (x, w, b)]
    rounded = [t.detach().bfloat16().double() for t in (x, w)] + [b.detach().double()]
    wanted = _plain(*rounded, targets)
    with torch.autocast("cpu", torch.bfloat16):
        nats = linear_cross_entropy(*given, targets, chunk_rows=chunk_rows)
        log_p = target_log_probabilities(*given, targets)
    torch.testing.assert_close(nats.double(), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(-log_p.double().sum() / (rows - 1), wanted, rtol=0, atol=1e-5)
    # p is rounded too before it is multiplied, by 2^-9 at most
    exact = [t.requires_grad_() for t in rounded]
    expected = torch.autograd.grad(_plain(*exact, targets), exact)
    for g, e in zip(torch.autograd.grad(nats, given), expected, strict=True):
        assert (g - e).norm() < 2**-8 * e.norm()


def test_errors_say_what_does_not_fit() -> None:
    x, w, b = _inputs()
    with pytest.raises(ShapeError, match=r"0\.\.22 \(-100 is not counted\)"):
        linear_cross_entropy(x, w, b, torch.full((ROWS,), 23))
    with pytest.raises(ShapeError, match="one for each row"):
        linear_cross_entropy(x, w, b, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ShapeError, match="do not fit"):
        linear_cross_entropy(x, w[:, 1:], b, _targets())
    with pytest.raises(ShapeError, match="bias has shape"):
        linear_cross_entropy(x, w, b[1:], _targets())
    with pytest.raises(ArgumentError, match="cutoffs"):
        AdaptiveSoftmax(4, 10, [5, 10])


def test_a_tied_softmax_uses_the_embedding_also_in_a_copy() -> None:
    embedding = torch.nn.Embedding(VOCABULARY, FEATURES)
    both = torch.nn.ModuleList([embedding, FullSoftmax(FEATURES, VOCABULARY, tied=embedding)])
    assert [name for name, _ in both.named_parameters()] == ["0.weight", "1.bias"]
    twin = copy.deepcopy(both)
    assert twin[1].weight is twin[0].weight
    assert twin[1].weight is not embedding.weight
    with pytest.raises(ArgumentError, match="tied embedding"):
        FullSoftmax(FEATURES + 1, VOCABULARY, tied=embedding)


def test_adaptive_softmax_is_a_distribution_and_ignores_what_is_masked() -> None:
    head = AdaptiveSoftmax(FEATURES * 4, VOCABULARY, [6, 12])
    x, targets = torch.randn(ROWS, FEATURES * 4), _targets()
    log_p = head.log_probabilities(x)
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(ROWS))
    at_target = log_p.gather(1, targets.clamp_min(0).unsqueeze(1)).squeeze(1)
    at_target = at_target.masked_fill(targets == IGNORED, 0)
    torch.testing.assert_close(head.target_log_probabilities(x, targets), at_target.detach())
    torch.testing.assert_close(head.loss(x, targets), -at_target.sum() / (ROWS - 1))
