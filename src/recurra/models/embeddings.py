"""Vectors of words: what they start as, and each distinct one of a batch once."""

import torch
from torch import Tensor, nn


def make_embedding(words: int, size: int, *, is_tied: bool = False) -> nn.Embedding:
    """Standard normal numbers; uniform in ±0.1 if they are the softmax's weights as well."""
    embedding = nn.Embedding(words, size)
    if is_tied:
        nn.init.uniform_(embedding.weight, -0.1, 0.1)
    return embedding


def distinct(embedding: nn.Embedding, words: Tensor) -> tuple[Tensor, Tensor]:
    """Each word's vector once, and where it stands: what `recurra.Recurrent` takes as `rows`.

    Args:
        embedding: of the vocabulary.
        words: int64, of any shape.

    Returns:
        `(vectors, rows)`: (distinct, size); of the shape of `words`.

    Example:
        >>> vectors, rows = distinct(nn.Embedding(9, 4), torch.tensor([[7, 7], [2, 7]]))
        >>> vectors.shape, rows.tolist()
        (torch.Size([2, 4]), [[1, 1], [0, 1]])
    """
    found, rows = torch.unique(words, return_inverse=True)
    return embedding(found), rows
