"""Parallel text as token ids, in tensors that batches are cut from."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recurra.data.parallel import ParallelText
from recurra.data.ragged import Ragged
from recurra.data.tokenizer import Tokenizer
from recurra.models.softmax import IGNORED


class Tokenizers(NamedTuple):
    """Of source and target; one and the same for a joint vocabulary."""

    source: Tokenizer
    target: Tokenizer


class PairBatch(NamedTuple):
    """Pairs side by side.

    Attributes:
        source: (places, batch), int64, each row ended by the end token, 0 past it.
        lengths: (batch,), of the source, the end token counted.
        inputs: (time, batch), the word before each target; begins with the end token.
        targets: (time, batch), ended by the end token, `IGNORED` past it.
    """

    source: Tensor
    lengths: Tensor
    inputs: Tensor
    targets: Tensor


class EncodedPairs:
    """Pairs of sentences ready to be batched.

    Args:
        text: the pairs.
        tokenizers: of both sides.
        longest: pairs with a longer side, in tokens, are left out; `None` keeps all.
        keep_empty: False leaves out pairs with an empty side: nothing can be learned from them.

    Attributes:
        kept: (pairs,): which pairs of the text.
        too_long, empty: how many were left out.

    Example:
        >>> text = ParallelText(["ein Hund", ""], ["a dog", "?"])
        >>> tokenizers = Tokenizers(Tokenizer.train(text.source), Tokenizer.train(text.target))
        >>> pairs = EncodedPairs(text, tokenizers, keep_empty=False)
        >>> pairs.kept.tolist(), pairs.batch(np.array([0])).targets.squeeze(1).tolist()
        ([0], [3, 4, 1])
    """

    def __init__(
        self,
        text: ParallelText,
        tokenizers: Tokenizers,
        *,
        longest: int | None = None,
        keep_empty: bool = True,
    ) -> None:
        sides = [
            _encode(lines, tokenizer)
            for lines, tokenizer in zip((text.source, text.target), tokenizers, strict=True)
        ]
        lengths = np.array([[len(ids) for ids in side] for side in sides], np.int64)
        is_empty = np.array([not (s.strip() and t.strip()) for s, t in text.pairs()], bool)
        is_long = np.zeros(len(text), bool)
        if longest is not None and len(text):
            is_long = lengths.max(0) - 1 > longest
        is_left_out = is_long if keep_empty else is_long | is_empty
        self.kept = np.flatnonzero(~is_left_out)
        self.too_long, self.empty = int(is_long.sum()), int(is_empty.sum())
        self.source, self.target = (Ragged.of([side[i] for i in self.kept]) for side in sides)

    def __len__(self) -> int:
        return len(self.kept)

    @property
    def steps(self) -> np.ndarray:
        """The longer side of each pair in tokens, end counted, (pairs,)."""
        longer: np.ndarray = torch.maximum(self.source.lengths, self.target.lengths).numpy()
        return longer

    def batch(self, rows: np.ndarray) -> PairBatch:
        """Some pairs side by side, in their order."""
        source, lengths = self.source.batch(rows.tolist())
        targets, target_lengths = self.target.batch(rows.tolist())
        source, targets = source.long(), targets.long()
        inputs = torch.cat([torch.full_like(targets[:1], Tokenizer.eos_id), targets[:-1]])
        past = torch.arange(len(targets)).unsqueeze(1) >= target_lengths
        return PairBatch(source, lengths, inputs, targets.masked_fill(past, IGNORED))


def encode_sources(lines: Sequence[str], tokenizer: Tokenizer) -> Ragged:
    """Lines ready to be translated, each with the end token."""
    return Ragged.of(_encode(lines, tokenizer))


def _encode(lines: Sequence[str], tokenizer: Tokenizer) -> list[Tensor]:
    return [
        torch.tensor([*tokenizer.encode(line), tokenizer.eos_id], dtype=torch.int32)
        for line in lines
    ]
