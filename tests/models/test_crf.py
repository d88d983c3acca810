"""The CRF against a sum over all paths, compiled and in plain PyTorch."""

from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from recurra.data.spans import all_tags, allowed_transitions
from recurra.errors import ArgumentError, ShapeError
from recurra.models import crf_compiled, crf_steps
from recurra.models.crf import LinearChainCRF

LENGTHS = torch.tensor([4, 0, 1, 3, 2])


@pytest.fixture(params=["compiled", "steps"])
def _recursions(request, monkeypatch) -> str:
    """Both implementations of the recursions, on the CPU."""
    module = {"compiled": crf_compiled, "steps": crf_steps}[request.param]
    monkeypatch.setattr("recurra.models.crf._recursions", lambda emissions: module)
    return request.param


def _crf(num_tags: int = 3, allowed=None, scale: float = 1.0) -> LinearChainCRF:
    crf = LinearChainCRF(num_tags, allowed).double()
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter, std=scale)
    return crf


def _emissions(num_tags: int = 3, scale: float = 1.0) -> Tensor:
    return (scale * torch.randn(4, len(LENGTHS), num_tags).double()).requires_grad_()


def _paths(crf: LinearChainCRF, e: Tensor, row: int) -> dict[tuple[int, ...], Tensor]:
    """Every path of a row with its score, by the definition."""
    first, between, last = crf.scores()
    scores = {}
    for path in product(range(crf.num_tags), repeat=int(LENGTHS[row])):
        score = sum((e[t, row, y] for t, y in enumerate(path)), e.new_zeros(()))
        score = score + sum((between[a, b] for a, b in pairwise(path)), 0.0)
        scores[path] = score + first[path[0]] + last[path[-1]] if path else score
    return scores


def _sums(crf: LinearChainCRF, e: Tensor) -> Tensor:
    rows = range(len(LENGTHS))
    return torch.stack([torch.stack([*_paths(crf, e, r).values()]).logsumexp(0) for r in rows])


def _gradients(crf: LinearChainCRF, e: Tensor, value: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(value, [e, *crf.parameters()]))


CASES = {
    "all_allowed": (None, 1.0),
    "far_apart": (None, 400.0),  # beyond what exponentials hold, even in float64
    "bio": (allowed_transitions(["O", "B-X", "I-X"], "bio"), 1.0),
    "bio_far_apart": (allowed_transitions(["O", "B-X", "I-X"], "bio"), 400.0),
}


@pytest.mark.usefixtures("_recursions")
@pytest.mark.parametrize("case", CASES)
def test_partition_and_gradients_equal_the_sum_over_all_paths(case: str) -> None:
    allowed, scale = CASES[case]
    crf, e = _crf(3, allowed, scale), _emissions(3, scale)
    sums, expected = crf.log_partition(e, LENGTHS), _sums(crf, e)
    torch.testing.assert_close(sums, expected)
    weights = torch.randn(len(LENGTHS)).double()
    found = _gradients(crf, e, (sums * weights).sum())
    for own, other in zip(found, _gradients(crf, e, (expected * weights).sum()), strict=True):
        torch.testing.assert_close(own, other.nan_to_num(0.0), atol=1e-10, rtol=1e-8)


@pytest.mark.usefixtures("_recursions")
@pytest.mark.parametrize("case", CASES)
def test_decoding_finds_the_best_path(case: str) -> None:
    allowed, scale = CASES[case]
    crf, e = _crf(3, allowed, scale), _emissions(3, scale)
    tags, scores = crf.decode(e, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        paths = _paths(crf, e, row)
        best = max(paths, key=lambda path: paths[path].item())
        assert tuple(tags[:length, row].tolist()) == best
        assert tags[length:, row].eq(0).all()
        torch.testing.assert_close(scores[row], paths[best])


@pytest.mark.usefixtures("_recursions")
def test_marginals_equal_those_of_all_paths() -> None:
    crf, e = _crf(3, CASES["bio"][0]), _emissions().detach()
    marginals = crf.marginals(e, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        paths = _paths(crf, e, row)
        p = torch.stack([*paths.values()]).detach().softmax(0)
        for t in range(4):
            chosen = [sum(q for q, y in zip(p, paths, strict=True) if y[t : t + 1] == (k,))
                      for k in range(3)]  # fmt: skip
            torch.testing.assert_close(marginals[t, row], torch.tensor(chosen).double())
        assert marginals[length:, row].eq(0).all()


@pytest.mark.usefixtures("_recursions")
def test_padding_and_order_of_rows_change_nothing() -> None:
    crf, e = _crf(), _emissions().detach()
    inside = (torch.arange(4).unsqueeze(1) < LENGTHS).unsqueeze(-1)
    spoilt = torch.where(inside, e, torch.nan)
    order = torch.randperm(len(LENGTHS))
    for method in (crf.log_partition, crf.marginals, lambda *a: crf.decode(*a)[0]):
        expected = method(e, LENGTHS)
        torch.testing.assert_close(method(spoilt, LENGTHS), expected, rtol=0, atol=0)
        axis = expected.dim() > 1
        moved = method(e[:, order], LENGTHS[order])
        torch.testing.assert_close(moved, expected.index_select(int(axis), order))


def test_likelihood_is_that_of_the_path_and_padding_is_not_scored() -> None:
    crf, e = _crf(), _emissions()
    tags = torch.randint(0, 3, (4, len(LENGTHS)))
    inside = torch.arange(4).unsqueeze(1) < LENGTHS
    found = crf.log_likelihood(e, tags.masked_fill(~inside, -100), LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        paths = _paths(crf, e, row)
        expected = paths[tuple(tags[:length, row].tolist())] - _sums(crf, e)[row]
        torch.testing.assert_close(found[row], expected)


def test_float32_and_its_gradient_are_near_float64() -> None:
    tags = all_tags(["A", "B", "C", "D"], "bioes")
    crf = _crf(len(tags), allowed_transitions(tags, "bioes"))
    e = torch.randn(60, 7, len(tags)).double().requires_grad_()
    lengths = torch.randint(0, 61, (7,))
    exact = crf.log_partition(e, lengths)
    (d_exact,) = torch.autograd.grad(exact.sum(), e)
    e32 = e.detach().float().requires_grad_()
    found = crf.float().log_partition(e32, lengths)
    (d_found,) = torch.autograd.grad(found.sum(), e32)
    torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(d_found.double(), d_exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scheme", ["bio", "bioes"])
def test_decoded_sequences_are_legal_whatever_the_scores(scheme: str) -> None:
    tags = all_tags(["A", "B"], scheme)
    allowed = allowed_transitions(tags, scheme)
    crf = _crf(len(tags), allowed, scale=50.0)
    best, _ = crf.decode(50 * torch.randn(9, 40, len(tags)).double())
    for path in best.t().tolist():
        assert all(allowed[a][b] for a, b in zip([-1, *path], [*path, -1], strict=True))


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ArgumentError, match="allowed has shape"):
        LinearChainCRF(3, [[True] * 3] * 3)
    crf = LinearChainCRF(3)
    with pytest.raises(ShapeError, match="expected \\(time, batch, 3\\)"):
        crf.decode(torch.zeros(2, 2, 4))
    with pytest.raises(ShapeError, match=r"must be in 0\.\.2"):
        crf.log_partition(torch.zeros(2, 1, 3), torch.tensor([3]))
