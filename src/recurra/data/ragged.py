"""Sequences of unequal length in one tensor, and batches of them by length."""

import random
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from recurra.errors import ArgumentError, ShapeError

MOST_POOL_BATCHES, FEWEST_POOLS = 20, 10


class Ragged:
    """Sequences of token ids or of vectors, laid end to end.

    Args:
        values: (steps of all sequences, …), integers or floats.
        lengths: (sequences,), int64; 0 is allowed. They add up to the steps.

    Raises:
        ShapeError: they do not.

    Example:
        >>> ragged = Ragged(torch.tensor([5, 6, 7]), torch.tensor([2, 0, 1]))
        >>> padded, lengths = ragged.batch([2, 0])
        >>> padded.tolist(), lengths.tolist()
        ([[7, 5], [0, 6]], [1, 2])
    """

    def __init__(self, values: Tensor, lengths: Tensor) -> None:
        if lengths.dim() != 1 or int(lengths.sum()) != len(values):
            raise ShapeError(
                f"lengths {tuple(lengths.shape)} add up to {int(lengths.sum())} steps, values have "
                f"{len(values)}"
            )
        self.values = values
        self.lengths = lengths.long()
        self.starts = self.lengths.cumsum(0) - self.lengths

    @classmethod
    def of(cls, sequences: Sequence[Tensor]) -> "Ragged":
        """From one tensor for each sequence, (steps, …) each."""
        lengths = torch.tensor([len(sequence) for sequence in sequences], dtype=torch.long)
        return cls(torch.cat(list(sequences)) if sequences else torch.zeros(0), lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Tensor:
        start = int(self.starts[index])
        return self.values[start : start + int(self.lengths[index])]

    def batch(self, indices: Sequence[int], longest: int | None = None) -> tuple[Tensor, Tensor]:
        """Some sequences side by side.

        Args:
            indices: of the sequences.
            longest: sequences are cut after so many steps.

        Returns:
            `(padded, lengths)`: (time, batch, …), zero past each end, time at least 1; (batch,).
        """
        chosen = torch.as_tensor(indices, dtype=torch.long)
        lengths = self.lengths[chosen]
        if longest is not None:
            lengths = lengths.clamp_max(longest)
        time = max(1, int(lengths.max()) if len(lengths) else 1)
        padded = self.values.new_zeros(time, len(chosen), *self.values.shape[1:])
        steps = torch.arange(time).unsqueeze(1)
        is_real = steps < lengths
        padded[is_real] = self.values[(steps + self.starts[chosen])[is_real]]
        return padded, lengths


class Buckets:
    """Training batches of sequences of similar length, in another order each epoch.

    The order is a function of (seed, epoch) alone. Sequences are shuffled, sorted by length within
    pools, cut into batches, and the batches shuffled: little padding, and yet no batch is the same
    in two epochs. A pool is a tenth of the data, at most 20 batches: sorting all of it would make
    batches of one class where classes differ in length.

    Args:
        lengths: (sequences,), integers.
        batch_size: sequences of a batch; the last batch of an epoch may be smaller.
        seed: of the order.

    Example:
        >>> buckets = Buckets(torch.tensor([3, 1, 3, 1]), batch_size=2)
        >>> len(buckets), sorted(buckets.batch(0, 0) + buckets.batch(0, 1))
        (2, [0, 1, 2, 3])
    """

    def __init__(self, lengths: Tensor, batch_size: int, *, seed: int = 0) -> None:
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


def by_length(lengths: Tensor, *, rows: int, steps: int) -> Iterator[list[int]]:
    """Batches that read every sequence once, the longest first, with little padding.

    Args:
        lengths: (sequences,), integers.
        rows: most sequences of a batch.
        steps: most steps of a batch, padding counted; a longer sequence stands alone.

    Example:
        >>> list(by_length(torch.tensor([2, 9, 3, 0]), rows=2, steps=8))
        [[1], [2, 0], [3]]
    """
    order = torch.argsort(lengths, descending=True, stable=True).tolist()
    while order:
        longest = max(1, int(lengths[order[0]]))
        count = max(1, min(rows, steps // longest))
        yield order[:count]
        order = order[count:]
