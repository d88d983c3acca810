"""Batches of sequences of about equal length, of about equal numbers of steps."""

from itertools import pairwise

import numpy as np

from recurra.errors import ArgumentError

JITTER = 0.15  # share by which a length may be misjudged when sequences are put in order


class LengthBatches:
    """Which sequences stand in which batch, anew in each epoch.

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


def by_length(lengths: np.ndarray, batch_steps: int) -> list[np.ndarray]:
    """All sequences in batches, the shortest first, without chance: for evaluation.

    Example:
        >>> [batch.tolist() for batch in by_length(np.array([5, 1, 1, 4]), batch_steps=10)]
        [[1, 2], [3, 0]]
    """
    order = np.argsort(lengths, kind="stable")
    bounds = _bounds(lengths[order], batch_steps)
    return [order[a:b] for a, b in pairwise(bounds)]


def _bounds(ordered: np.ndarray, batch_steps: int) -> np.ndarray:
    """Where batches begin among sequences in order of length, and where the last ends."""
    bounds, start = [0], 0
    for end, length in enumerate(ordered):
        if end > start and (end + 1 - start) * length > batch_steps:
            bounds.append(end)
            start = end
    if len(ordered):
        bounds.append(len(ordered))
    return np.array(bounds)
