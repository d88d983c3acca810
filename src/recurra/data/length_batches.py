"""Batches of sequences of about equal length: of about as many steps, or of as many sequences."""

import random
from itertools import pairwise

import numpy as np
from torch import Tensor

from recurra.errors import ArgumentError

MOST_POOL_BATCHES, FEWEST_POOLS = 20, 10
JITTER = 0.15  # share by which a length may be misjudged when sequences are put in order


class LengthBatches:
    """Training batches of about as many steps each, anew in each epoch.

    Sequences are ordered by length, which is first multiplied by a random factor within
    `1 ± JITTER`, and cut into batches at places that are the same in every epoch; the batches come
    in random order. Batch `index` of an epoch is a pure function of the seed and the two.

    Args:
        lengths: (sequences,), steps of each.
        batch_steps: a batch ends before its padded size, sequences × longest, exceeds this; a
            longer sequence is a batch by itself.
        seed: of the order.

    Raises:
        ArgumentError: no sequence, or a size under 1.

    Example:
        >>> batches = LengthBatches(np.array([5, 1, 1, 4]), batch_steps=10)
        >>> len(batches)
        2
        >>> sorted(sorted(batches.pieces(0, i).tolist()) for i in range(2))
        [[0, 3], [1, 2]]
    """

    def __init__(self, lengths: np.ndarray, batch_steps: int, *, seed: int = 0) -> None:
        if batch_steps < 1:
            raise ArgumentError(f"batch_steps={batch_steps} must be at least 1")
        if not len(lengths):
            raise ArgumentError("there is no sequence to batch")
        self.lengths, self.seed = lengths, seed
        self.bounds = _bounds(np.sort(lengths), batch_steps)
        self._epoch = -1
        self._order, self._batches = np.arange(0), np.arange(0)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.bounds) - 1

    def pieces(self, epoch: int, index: int) -> np.ndarray:
        """Which sequences a batch holds, (batch,), the longest last."""
        if not 0 <= index < len(self):
            raise ArgumentError(f"batch {index} of {len(self)} does not exist")
        if epoch != self._epoch:
            self._shuffle(epoch)
        number = self._batches[index]
        return self._order[self.bounds[number] : self.bounds[number + 1]]

    def _shuffle(self, epoch: int) -> None:
        random = np.random.default_rng((self.seed, epoch))
        factors = random.uniform(1 - JITTER, 1 + JITTER, len(self.lengths))
        self._order = np.argsort(self.lengths * factors, kind="stable")
        self._batches = random.permutation(len(self))
        self._epoch = epoch


class Buckets:
    """Training batches of as many sequences each, of similar length, in another order each epoch.

    The order is a function of (seed, epoch) alone. Sequences are shuffled, sorted by length within
    pools, cut into batches, and the batches shuffled: little padding, and yet no batch is the same
    in two epochs. A pool is a tenth of the data, at most 20 batches: sorting all of it would make
    batches of one class where classes differ in length.

    Args:
        lengths: (sequences,), integers.
        batch_size: sequences of a batch; the last batch of an epoch may be smaller.
        seed: of the order.

    Example:
        >>> buckets = Buckets(np.array([3, 1, 3, 1]), batch_size=2)
        >>> len(buckets), sorted(buckets.batch(0, 0) + buckets.batch(0, 1))
        (2, [0, 1, 2, 3])
    """

    def __init__(self, lengths: np.ndarray | Tensor, batch_size: int, *, seed: int = 0) -> None:
        if batch_size < 1 or not len(lengths):
            raise ArgumentError(
                f"batch_size={batch_size} and {len(lengths)} sequences; both must be at least 1"
            )
        self.lengths = lengths.tolist()
        self.batch_size, self.seed = batch_size, seed
        self._epoch = -1
        self._batches: list[list[int]] = []

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def batch(self, epoch: int, index: int) -> list[int]:
        """Which sequences make up batch `index` of an epoch."""
        if epoch != self._epoch:
            self._batches, self._epoch = self._order(epoch), epoch
        return self._batches[index]

    def _order(self, epoch: int) -> list[list[int]]:
        source = random.Random(f"{self.seed} {epoch}")
        order = list(range(len(self.lengths)))
        source.shuffle(order)
        pool_batches = max(1, min(MOST_POOL_BATCHES, len(self) // FEWEST_POOLS))
        pool = pool_batches * self.batch_size
        for start in range(0, len(order), pool):
            part = sorted(order[start : start + pool], key=self.lengths.__getitem__)
            order[start : start + pool] = part
        batches = [
            order[start : start + self.batch_size]
            for start in range(0, len(order), self.batch_size)
        ]
        source.shuffle(batches)
        return batches


def by_length(
    lengths: np.ndarray, batch_steps: int, *, rows: int | None = None
) -> list[np.ndarray]:
    """All sequences in batches, the shortest first, without chance: for evaluation.

    Args:
        lengths: (sequences,), steps of each.
        batch_steps: most steps of a batch, padding counted; a longer sequence stands alone.
        rows: most sequences of a batch; `None`: any number.

    Example:
        >>> [batch.tolist() for batch in by_length(np.array([5, 1, 1, 4]), batch_steps=10)]
        [[1, 2], [3, 0]]
        >>> [batch.tolist() for batch in by_length(np.array([0, 0, 0]), 10, rows=2)]
        [[0, 1], [2]]
    """
    order = np.argsort(lengths, kind="stable")
    bounds = _bounds(lengths[order], batch_steps, rows)
    return [order[a:b] for a, b in pairwise(bounds)]


def _bounds(ordered: np.ndarray, batch_steps: int, rows: int | None = None) -> np.ndarray:
    """Where batches begin among sequences in order of length, and where the last ends."""
    bounds, start = [0], 0
    most = len(ordered) if rows is None else rows
    for end, length in enumerate(ordered.tolist()):
        count = end + 1 - start
        if count > 1 and (count * length > batch_steps or count > most):
            bounds.append(end)
            start = end
    if len(ordered):
        bounds.append(len(ordered))
    return np.array(bounds)
