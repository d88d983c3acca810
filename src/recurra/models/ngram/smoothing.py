"""From counts to probabilities: six ways to treat what was never seen.

Each function gives, for every n-gram c·w (context c, word w) of every order, p(w|c), and for every
context its weight b(c), so that for an unseen c·w

    p(w|c) = b(c) · p(w|c')            c' is c without its first word

which is the form of an ARPA file. NaN stands for "no probability at this order: look below".
Symbols: N(c·w) count, N(c) = Σ_w N(c·w), T(c) distinct words after c, V words of the vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recurra.models.ngram.counting import Array, Counts

KATZ_CUTOFF = 5
STUPID_WEIGHT = 0.4
FALLBACK_DISCOUNTS = (0.0, 0.5, 1.0, 1.5)


@dataclass(frozen=True)
class Estimates:
    """p(w|c) and b(c) by order, one entry for each n-gram."""

    probabilities: list[Array]
    weights: list[Array]


def _contexts(counts: Counts, level: int) -> tuple[Array, int]:
    """Each n-gram's context and how many contexts there are, at `level` = order - 1."""
    return counts.prefixes[level], 1 if level == 0 else len(counts.words[level - 1])


def _occurrences(counts: Counts, level: int) -> Array:
    """Counts as floats; the begin of a sentence is no word and counts nothing at order 1."""
    values = counts.counts[level].astype(np.float64)
    if level == 0:
        values[-1] = 0.0
    return values


def _divide(a: Array, b: Array, otherwise: float) -> Array:
    result: Array = np.divide(a, b, out=np.full(np.broadcast(a, b).shape, otherwise), where=b > 0)
    return result


def _lower(counts: Counts, level: int, probabilities: list[Array]) -> Array:
    """p(w|c') of each n-gram: of its suffix, or uniform below order 1."""
    if level == 0:
        words = len(counts.words[0]) - 1
        return np.full(words + 1, 1.0 / words)
    lower: Array = probabilities[level - 1][counts.suffixes[level]]
    return lower


def modified_kneser_ney(counts: Counts, add_k: float) -> Estimates:
    """Interpolated modified Kneser-Ney (Chen & Goodman 1999, section 3 and equation 26).

        p(w|c) = (a(c·w) - D(a(c·w))) / a(c) + γ(c) p(w|c')
        γ(c) = (D1 T1(c) + D2 T2(c) + D3 T3+(c)) / a(c)

    a is the count at the highest order and for n-grams at the begin of a sentence, and else the
    number of distinct words before c·w; D1, D2, D3+ are closed-form per order from the numbers of
    n-grams with a = 1 … 4; at order 1 p(w|c') is 1/V. As KenLM's lmplz without pruning, but that V
    has no place for a second unknown word. An order that lacks n-grams with a = 1 … 4 (a vocabulary
    of characters, a tiny text), where the closed form is not defined, takes D = 0.5, 1, 1.5, the
    values of lmplz's `--discount_fallback`, which there has to be asked for.
    """
    probabilities: list[Array] = []
    weights: list[Array] = []
    for level in range(counts.order):
        a = _adjusted(counts, level)
        discounts = _discounts(a)[np.minimum(a, 3).astype(np.int64)]
        contexts, number = _contexts(counts, level)
        total = np.bincount(contexts, a, number)
        gamma = _divide(np.bincount(contexts, discounts, number), total, 1.0)
        own = _divide(a - discounts, total[contexts], 0.0)
        probabilities.append(own + gamma[contexts] * _lower(counts, level, probabilities))
        weights.append(gamma)
    return Estimates(probabilities, weights[1:])


def _adjusted(counts: Counts, level: int) -> Array:
    own = _occurrences(counts, level)
    if level == counts.order - 1:
        return own
    distinct = np.bincount(counts.suffixes[level + 1], minlength=len(own)).astype(np.float64)
    return np.where(counts.begins[level], own, distinct)


def _discounts(a: Array) -> Array:
    """0, D1, D2, D3+ of one order (Chen & Goodman 1999, equation 26), or the fallback."""
    n = [int(np.count_nonzero(a == r)) for r in (1, 2, 3, 4)]
    if min(n) == 0:
        return np.array(FALLBACK_DISCOUNTS)
    y = n[0] / (n[0] + 2 * n[1])
    closed = np.array([0.0, *(r - (r + 1) * y * n[r] / n[r - 1] for r in (1, 2, 3))])
    is_valid = np.all((closed >= 0) & (closed <= [0, 1, 2, 3]))
    return closed if is_valid else np.array(FALLBACK_DISCOUNTS)


def witten_bell(counts: Counts, add_k: float) -> Estimates:
    """Witten-Bell, interpolated (Chen & Goodman 1999, section 2.6).

    p(w|c) = (N(c·w) + T(c) p(w|c')) / (N(c) + T(c)); 1/V below order 1.
    """
    probabilities: list[Array] = []
    weights: list[Array] = []
    for level in range(counts.order):
        n = _occurrences(counts, level)
        contexts, number = _contexts(counts, level)
        total = np.bincount(contexts, n, number)
        distinct = np.bincount(contexts, n > 0, number)
        weight = _divide(distinct, total + distinct, 1.0)
        own = _divide(n, (total + distinct)[contexts], 0.0)
        probabilities.append(own + weight[contexts] * _lower(counts, level, probabilities))
        weights.append(weight)
    return Estimates(probabilities, weights[1:])


def katz(counts: Counts, add_k: float) -> Estimates:
    """Back-off with Good-Turing discounts (Katz 1987) of counts up to 5.

        p(w|c) = d(N(c·w)) N(c·w) / N(c)        seen
        b(c) = (1 - Σ_seen p(w|c)) / (1 - Σ_seen p(w|c'))

    Where an order's counts of counts give a discount outside 0..1, that order discounts by Ney's
    absolute D = n1 / (n1 + 2 n2) instead. A context all of whose counts are too large to be
    discounted gets one more count in its denominator, so that unseen words keep some mass; words
    never seen share what order 1 leaves over evenly.
    """
    probabilities: list[Array] = []
    weights: list[Array] = []
    for level in range(counts.order):
        n = _occurrences(counts, level)
        contexts, number = _contexts(counts, level)
        total = np.bincount(contexts, n, number)
        p = _divide(n * _good_turing(n), total[contexts], 0.0)
        if level == 0:
            probabilities.append(_spread_over_unseen(p, n))
            continue
        left = 1.0 - np.bincount(contexts, p, number)
        is_full = (left < 1e-9) & (total > 0)
        p = p * np.where(is_full, total / (total + 1), 1.0)[contexts]
        left = 1.0 - np.bincount(contexts, p, number)
        lower = _lower(counts, level, probabilities)
        unseen = 1.0 - np.bincount(contexts, lower, number)
        covers_all = (unseen < 1e-9) & (total > 0)
        p = p / np.where(covers_all, 1.0 - left, 1.0)[contexts]
        weight = _divide(left, np.where(covers_all, 0.0, unseen), 0.0)
        probabilities.append(p)
        weights.append(np.where(total > 0, weight, 1.0))
    return Estimates(probabilities, weights)


def _good_turing(n: Array) -> Array:
    """Each n-gram's discount d(N), by its count."""
    k = KATZ_CUTOFF
    of = np.array([np.count_nonzero(n == r) for r in range(k + 2)], np.float64)
    table = np.ones(k + 2)
    if of[1:].min() > 0:
        r = np.arange(1, k + 1)
        common = (k + 1) * of[k + 1] / of[1]
        table[1 : k + 1] = ((r + 1) * of[2:] / of[1:-1] / r - common) / (1 - common)
    if of[1:].min() == 0 or not np.all((table > 0) & (table <= 1)):
        d = of[1] / (of[1] + 2 * of[2]) if of[1] else 0.5
        return np.where(n > 0, np.maximum(n - d, 0.0) / np.maximum(n, 1), 0.0)
    return np.asarray(table[np.minimum(n, k + 1).astype(np.int64)])


def _spread_over_unseen(p: Array, n: Array) -> Array:
    is_unseen = n[:-1] == 0
    left = 1.0 - p.sum()
    if not is_unseen.any():
        return np.asarray(p / p.sum())
    spread = p.copy()
    spread[:-1][is_unseen] = left / is_unseen.sum()
    return spread


def stupid_backoff(counts: Counts, add_k: float) -> Estimates:
    """Scores, not probabilities: they do not sum to one (Brants et al. 2007, equation 5).

    S(w|c) = N(c·w) / N(c) if seen, else 0.4 · S(w|c').
    """
    probabilities = []
    for level in range(counts.order):
        n = _occurrences(counts, level)
        contexts, number = _contexts(counts, level)
        probabilities.append(_divide(n, np.bincount(contexts, n, number)[contexts], 0.0))
    sizes = [len(words) for words in counts.words[:-1]]
    return Estimates(probabilities, [np.full(size, STUPID_WEIGHT) for size in sizes])


def additive(counts: Counts, add_k: float) -> Estimates:
    """p(w|c) = (N(c·w) + k) / (N(c) + k V) at the full order alone; k = 1 is Laplace's.

    The context is the last n-1 words, or all since the begin of the sentence. k = 0 is maximum
    likelihood, where anything unseen has probability 0.
    """
    words = len(counts.words[0]) - 1
    probabilities, weights = [], []
    for level in range(counts.order):
        n = _occurrences(counts, level)
        contexts, number = _contexts(counts, level)
        total = np.bincount(contexts, n, number)
        p = _divide(n + add_k, (total + add_k * words)[contexts], 0.0)
        is_full = counts.begins[level] | (level == counts.order - 1)
        probabilities.append(np.where(is_full, p, np.nan))
        if level > 0:
            is_full_context = counts.begins[level - 1] | (level == counts.order - 1)
            weight = _divide(np.full(number, add_k * words), total + add_k * words, 1.0)
            weights.append(np.where(is_full_context, weight, 1.0))
    uniform = np.full(words + 1, 1.0 / words if add_k else 0.0)
    if counts.order > 1:
        probabilities[0] = uniform
    return Estimates(probabilities, weights)


def maximum_likelihood(counts: Counts, add_k: float) -> Estimates:
    """`additive` with k = 0: relative frequencies; the unseen is impossible."""
    return additive(counts, 0.0)


SMOOTHINGS: dict[str, Callable[[Counts, float], Estimates]] = {
    "kneser_ney": modified_kneser_ney,
    "witten_bell": witten_bell,
    "katz": katz,
    "stupid_backoff": stupid_backoff,
    "add_k": additive,
    "maximum_likelihood": maximum_likelihood,
}
