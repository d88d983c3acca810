"""Counting n-grams by sorting, in memory or, under a bound, through files on disk.

An n-gram is known by a number at its order: its place among the sorted pairs (number of the n-gram
without its last word, last word). So one sort of 64-bit integers per order counts everything, and
no n-gram is ever spelled out.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recurra.errors import ArgumentError, DataError

Array = np.ndarray
# What one position of the text costs while its chunk is sorted: keys, order, inverse, counts.
_BYTES_PER_POSITION = 64


@dataclass(frozen=True)
class Counts:
    """All n-grams of a text up to an order.

    Lists have one entry for each order 1..n, arrays one for each n-gram of that order, sorted by
    (prefix, word). Order 1 has all words of the vocabulary and, last, the begin of a sentence.

    Attributes:
        words: last word of each n-gram, int32.
        prefixes: index, at the order below, of the n-gram without its last word, int64.
        suffixes: index, at the order below, of the n-gram without its first word, int64.
        counts: how often it occurs, int64.
        begins: whether its first word is the begin of a sentence.
    """

    words: list[Array]
    prefixes: list[Array]
    suffixes: list[Array]
    counts: list[Array]
    begins: list[Array]

    @property
    def order(self) -> int:
        return len(self.words)


def with_begins(tokens: Array, eos_id: int, begin_id: int) -> Array:
    """The token stream with `begin_id` before each line; lines end with `eos_id`.

    Example:
        >>> with_begins(np.array([5, 1, 1, 6, 1]), eos_id=1, begin_id=9).tolist()
        [9, 5, 1, 9, 1, 9, 6, 1]
    """
    ends = np.flatnonzero(tokens == eos_id)
    starts = np.concatenate(([0], ends + 1))
    if starts[-1] == len(tokens):
        starts = starts[:-1]
    return np.insert(tokens, starts, begin_id)


def count(
    tokens: Array,
    vocabulary_size: int,
    order: int,
    eos_id: int,
    memory_bytes: int | None = None,
) -> Counts:
    """Count all n-grams inside lines, each line after one begin of a sentence.

    Args:
        tokens: (tokens,) integer ids, each line closed by `eos_id`.
        vocabulary_size: ids are 0..vocabulary_size-1.
        order: longest n-gram, at least 1.
        eos_id: end of a line.
        memory_bytes: bound of the working memory besides text and result; sorted runs then go
            through files in a temporary folder. None: all in memory, which is faster.

    Raises:
        ArgumentError: an order under 1, or a bound too small to work in (1 MiB).
        DataError: an empty text or ids outside the vocabulary.
    """
    if order < 1:
        raise ArgumentError(f"order={order}; an n-gram has at least one word")
    if memory_bytes is not None and memory_bytes < 1 << 20:
        raise ArgumentError(f"memory_bytes={memory_bytes} is too small; use 1048576 (1 MiB) up")
    if len(tokens) == 0:
        raise DataError("the training text has no tokens")
    if int(tokens.min()) < 0 or int(tokens.max()) >= vocabulary_size:
        raise DataError(
            f"token ids go from {tokens.min()} to {tokens.max()}, outside the vocabulary of "
            f"{vocabulary_size}"
        )
    stream = with_begins(np.asarray(tokens, np.int32), eos_id, vocabulary_size)
    if memory_bytes is None:
        return _count(stream, vocabulary_size, order, len(stream), None)
    chunk = max(1, memory_bytes // _BYTES_PER_POSITION)
    with tempfile.TemporaryDirectory(prefix="recurra-ngrams-") as folder:
        return _count(stream, vocabulary_size, order, chunk, Path(folder))


def _count(stream: Array, begin_id: int, order: int, chunk: int, folder: Path | None) -> Counts:
    words = np.arange(begin_id + 1, dtype=np.int32)
    nothing = np.zeros(begin_id + 1, np.int64)
    result = Counts(
        [words],
        [nothing],
        [nothing],
        [np.bincount(stream, minlength=len(words))],
        [words == begin_id],
    )
    indices = _array(folder, "order-1", len(stream))
    indices[:] = stream
    for k in range(2, order + 1):
        keys, counts = _unique_keys(stream, indices, begin_id, chunk, folder)
        prefixes, last = np.divmod(keys, begin_id + 1)
        above = _array(folder, f"order-{k}", len(stream))
        suffixes = np.zeros(len(keys), np.int64)
        for positions, found in _keys(stream, indices, begin_id, chunk):
            span = slice(positions[0], positions[1])
            place = np.searchsorted(keys, np.maximum(found, 0))
            place = np.minimum(place, max(len(keys) - 1, 0))
            is_real = found >= 0
            above[span] = np.where(is_real, place, -1)
            suffixes[place[is_real]] = indices[span][is_real]
        result.words.append(last.astype(np.int32))
        result.prefixes.append(prefixes)
        result.suffixes.append(suffixes)
        result.counts.append(counts)
        result.begins.append(result.begins[-1][prefixes])
        indices = above
    return result


def _array(folder: Path | None, name: str, length: int) -> Array:
    if folder is None:
        return np.empty(length, np.int64)
    return np.memmap(folder / name, np.int64, "w+", shape=(length,))


def _keys(
    stream: Array, indices: Array, begin_id: int, chunk: int
) -> Iterator[tuple[tuple[int, int], Array]]:
    """Chunk by chunk: its span, and each position's (prefix, word) as one number, or -1.

    -1 stands where the n-gram would run across the begin of a line.
    """
    for start in range(0, len(stream), chunk):
        end = min(start + chunk, len(stream))
        prefix = np.full(end - start, -1, np.int64)
        prefix[(start == 0) :] = indices[max(start - 1, 0) : end - 1]
        word = stream[start:end].astype(np.int64)
        is_real = (prefix >= 0) & (word != begin_id)
        yield (start, end), np.where(is_real, prefix * (begin_id + 1) + word, -1)


def _unique_keys(
    stream: Array, indices: Array, begin_id: int, chunk: int, folder: Path | None
) -> tuple[Array, Array]:
    """The sorted distinct keys of an order and their counts."""
    runs: list[tuple[Array, Array]] = []
    for (start, _), keys in _keys(stream, indices, begin_id, chunk):
        found, counts = np.unique(keys[keys >= 0], return_counts=True)
        if folder is not None:
            for name, values in (("keys", found), ("counts", counts)):
                np.save(folder / f"{name}-{start}.npy", values)
            found = np.load(folder / f"keys-{start}.npy", mmap_mode="r")
            counts = np.load(folder / f"counts-{start}.npy", mmap_mode="r")
        runs.append((found, counts))
    return _merge(runs, chunk)


def _merge(runs: list[tuple[Array, Array]], chunk: int) -> tuple[Array, Array]:
    """Merge sorted runs into one, in slices of the range of keys that fit the bound.

    The result is in memory, also where the runs are files, which the next order writes over.
    """
    if len(runs) == 1:
        return np.array(runs[0][0]), np.array(runs[0][1])
    total = sum(len(keys) for keys, _ in runs)
    slices = max(1, -(-2 * total // chunk))
    samples = [keys[:: max(1, len(keys) // (4 * slices))] for keys, _ in runs]
    pivots = np.quantile(np.concatenate(samples), np.linspace(0, 1, slices + 1)[1:-1]).astype(int)
    bounds = [np.concatenate(([0], np.searchsorted(k, pivots), [len(k)])) for k, _ in runs]
    merged_keys, merged_counts = [], []
    for i in range(slices):
        spans = [slice(b[i], b[i + 1]) for b in bounds]
        keys = np.concatenate([k[s] for (k, _), s in zip(runs, spans, strict=True)])
        counts = np.concatenate([c[s] for (_, c), s in zip(runs, spans, strict=True)])
        found, inverse = np.unique(keys, return_inverse=True)
        merged_keys.append(found)
        merged_counts.append(np.bincount(inverse, counts, len(found)).astype(np.int64))
    return np.concatenate(merged_keys), np.concatenate(merged_counts)
