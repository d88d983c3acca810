"""The compiled loop that walks a text through the trie."""

import numpy as np
from numba import njit, prange

Array = np.ndarray
_BLOCKS = 64


def score(
    tokens: Array,
    order: int,
    eos_id: int,
    begin_id: int,
    words: Array,
    first_children: Array,
    log_probabilities: Array,
    log_weights: Array,
) -> tuple[Array, Array]:
    """log p and matched order of each token; arguments as in `NGramModel`."""
    log_p = np.empty(len(tokens), np.float32)
    matched = np.empty(len(tokens), np.int8)
    ends = np.flatnonzero(tokens == eos_id) + 1
    near = np.linspace(0, len(tokens), _BLOCKS + 1).astype(np.int64)[1:-1]
    places = np.searchsorted(ends, near)
    bounds = np.unique(np.concatenate(([0], ends[places[places < len(ends)]], [len(tokens)])))
    _score(
        tokens,
        bounds,
        order,
        eos_id,
        begin_id,
        words,
        first_children,
        log_probabilities,
        log_weights,
        log_p,
        matched,
    )
    return log_p, matched


@njit(cache=True, parallel=True)
def _score(  # type: ignore[no-untyped-def]
    tokens, bounds, order, eos_id, begin_id, words, children, log_p, log_w, out, matched
):
    """Blocks of whole lines side by side; each line starts from the begin of a sentence."""
    for block in prange(len(bounds) - 1):
        nodes = np.full(order, -1, np.int64)  # nodes[j]: the n-gram of the last j words
        for i in range(bounds[block], bounds[block + 1]):
            if i == bounds[block] or tokens[i - 1] == eos_id:
                nodes[:] = -1
                if order > 1:
                    nodes[1] = begin_id
            word = tokens[i]
            total, found = np.float64(0.0), 0
            for j in range(order - 1, 0, -1):
                node = nodes[j]
                child = np.int64(-1)
                if node >= 0:
                    low, high = children[node], children[node + 1]
                    while low < high:
                        middle = (low + high) >> 1
                        if words[middle] < word:
                            low = middle + 1
                        else:
                            high = middle
                    if low < children[node + 1] and words[low] == word:
                        child = low
                    if found == 0:
                        if child >= 0 and not np.isnan(log_p[child]):
                            total += log_p[child]
                            found = j + 1
                        else:
                            total += log_w[node]
                if j + 1 < order:
                    nodes[j + 1] = child
            if found == 0:
                total += log_p[word]
                found = 1
            if order > 1:
                nodes[1] = word
            out[i] = total
            matched[i] = found


def context_lengths(tokens: Array, eos_id: int) -> Array:
    """Words, the begin of the sentence counted, that stand before each token in its line.

    Example:
        >>> context_lengths(np.array([5, 6, 1, 7, 1]), eos_id=1).tolist()
        [1, 2, 3, 1, 2]
    """
    positions = np.arange(len(tokens))
    starts = np.zeros(len(tokens), np.int64)
    ends = np.flatnonzero(tokens == eos_id)
    ends = ends[ends + 1 < len(tokens)]
    starts[ends + 1] = ends + 1
    return positions - np.maximum.accumulate(starts) + 1
