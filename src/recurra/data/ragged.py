"""Sequences of unequal length in one tensor."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from recurra.errors import ShapeError


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

    def batch(
        self, indices: Sequence[int] | np.ndarray, longest: int | None = None
    ) -> tuple[Tensor, Tensor]:
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
