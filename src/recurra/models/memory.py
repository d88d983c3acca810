"""What a decoder knows of the source, and where it stands in its translation."""

from dataclasses import dataclass

from torch import Tensor

from recurra.layers import State


@dataclass(frozen=True)
class Memory:
    """What a decoder knows of source sentences; rows may be chosen and repeated.

    Attributes:
        values: (batch, places, size), the encoder's outputs in the order of the source.
        keys: what attention compares with; `None` without attention.
        mask: bool (batch, places), True at real places.
        last: (batch, size), the encoder's last output(s).
        state: what the decoder starts from.
    """

    values: Tensor
    keys: Tensor | None
    mask: Tensor
    last: Tensor
    state: State

    def select(self, rows: Tensor) -> "Memory":
        """The rows `rows` (int64), in that order; they may repeat."""
        return Memory(
            self.values[rows],
            None if self.keys is None else self.keys[rows],
            self.mask[rows],
            self.last[rows],
            self.state.select(rows),
        )


@dataclass(frozen=True)
class DecoderState:
    """Where a decoder stands in its sentences.

    Attributes:
        layers: the recurrent layers' state.
        fed: (batch, size), the last r_t; `None` without input feeding.
        coverage: (batch, places); `None` without coverage.
    """

    layers: State
    fed: Tensor | None = None
    coverage: Tensor | None = None

    def select(self, rows: Tensor) -> "DecoderState":
        """The rows `rows` (int64), in that order; rows may repeat, as beam search needs."""
        fed, coverage = (None if t is None else t[rows] for t in (self.fed, self.coverage))
        return DecoderState(self.layers.select(rows), fed, coverage)
