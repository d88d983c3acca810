"""A word's vector from its characters, recurrent or convolutional."""

import torch
from torch import Tensor, nn

from recurra.cells import Cell
from recurra.errors import ArgumentError
from recurra.layers import Recurrent

ENCODERS = ("recurrent", "convolutional", "none")
WIDTH = 3  # characters that a filter of a convolution reads
BUCKETS = 8192  # vectors that affixes share


class RecurrentCharacters(nn.Module):
    """The states of a bidirectional layer at the ends of each word.

    Source: Ling et al. 2015; Lample et al. 2016, section 4.1.

    Args:
        num_characters: characters with a vector.
        embedding_size: size of a character's vector.
        size: of the word's vector, even: half of it for each direction.
        cell: the recurrence.
        backend: of the recurrent layer.

    Raises:
        ArgumentError: an odd size.

    Example:
        >>> from recurra.cells import LSTM_CELL
        >>> encoder = RecurrentCharacters(9, 4, 6, cell=LSTM_CELL)
        >>> encoder(torch.ones(5, 2, dtype=torch.long), torch.tensor([5, 3])).shape
        torch.Size([2, 6])
    """

    def __init__(
        self,
        num_characters: int,
        embedding_size: int,
        size: int,
        *,
        cell: Cell,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if size % 2:
            raise ArgumentError(f"character_size={size} must be even: half for each direction")
        self.embedding = nn.Embedding(num_characters, embedding_size)
        self.layer = Recurrent(cell, embedding_size, size // 2, bidirectional=True, backend=backend)

    def forward(self, characters: Tensor, lengths: Tensor) -> Tensor:
        """Vectors of words.

        Args:
            characters: (characters, words), int64; what stands past a word's end is not read.
            lengths: (words,), int64.

        Returns:
            (words, size).
        """
        state = self.layer.initial_state(characters.shape[1])
        _, ends = self.layer(self.embedding.weight, state, lengths=lengths, rows=characters)
        return torch.cat([states[0] for states in ends.layers], 1)


class ConvolutionalCharacters(nn.Module):
    """The largest answer of each filter anywhere in a word.

    Source: dos Santos & Zadrozny 2014; Ma & Hovy 2016, section 2.1. Filters read 3 characters;
    beyond a word's ends they read zeros.

    Args:
        num_characters: characters with a vector.
        embedding_size: size of a character's vector.
        size: of the word's vector: filters.

    Example:
        >>> encoder = ConvolutionalCharacters(9, 4, 6)
        >>> encoder(torch.ones(5, 2, dtype=torch.long), torch.tensor([5, 3])).shape
        torch.Size([2, 6])
    """

    def __init__(self, num_characters: int, embedding_size: int, size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_characters, embedding_size)
        self.filters = nn.Linear(WIDTH * embedding_size, size)

    def forward(self, characters: Tensor, lengths: Tensor) -> Tensor:
        """Vectors of words; see `RecurrentCharacters.forward`."""
        steps = torch.arange(len(characters), device=characters.device)
        outside = (steps.unsqueeze(1) >= lengths).unsqueeze(-1)
        embedded = self.embedding(characters).masked_fill(outside, 0.0)
        padded = nn.functional.pad(embedded, (0, 0, 0, 0, WIDTH // 2, WIDTH // 2))
        windows = torch.cat([padded[k : k + len(characters)] for k in range(WIDTH)], -1)
        answers = self.filters(windows).masked_fill(outside, -torch.inf)
        result: Tensor = answers.amax(0).clamp(min=0)  # rectified; 0 for a word of no length
        return result


class Affixes(nn.Module):
    """The sum of vectors of a word's first 1 to 3 and last 1 to 4 characters.

    What endings and beginnings say is learned at once, where an encoder must first learn to read.
    Affixes share `BUCKETS` vectors by a checksum of their characters; a word shorter than an affix
    has none of that length. Source: features of Ratnaparkhi 1996; shared as by Bojanowski et al.
    2017, section 3.2.

    Args:
        size: of the word's vector.

    Example:
        >>> Affixes(6)(torch.ones(5, 2, dtype=torch.long), torch.tensor([5, 3])).shape
        torch.Size([2, 6])
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(BUCKETS, size, padding_idx=0)
        nn.init.uniform_(self.embedding.weight[1:], -0.1, 0.1)

    def forward(self, characters: Tensor, lengths: Tensor) -> Tensor:
        """Vectors of words; see `RecurrentCharacters.forward`."""
        words = torch.arange(len(lengths), device=lengths.device)
        buckets = []
        for longest, is_end in ((3, False), (4, True)):
            key = torch.full_like(lengths, 1 + is_end)
            for k in range(longest):
                at = (lengths - 1 - k if is_end else torch.full_like(lengths, k)).clamp(min=0)
                key = key * 31_337 + characters[at.clamp(max=len(characters) - 1), words] + 1
                key = key % 2_147_483_647
                buckets.append((key % (BUCKETS - 1) + 1).masked_fill(lengths <= k, 0))
        result: Tensor = self.embedding(torch.stack(buckets)).sum(0)
        return result


def build_characters(
    kind: str, num_characters: int, embedding_size: int, size: int, cell: Cell, backend: str
) -> RecurrentCharacters | ConvolutionalCharacters | None:
    """The encoder of a name, `None` for "none".

    Raises:
        ArgumentError: an unknown name.
    """
    if kind == "recurrent":
        return RecurrentCharacters(num_characters, embedding_size, size, cell=cell, backend=backend)
    if kind == "convolutional":
        return ConvolutionalCharacters(num_characters, embedding_size, size)
    if kind == "none":
        return None
    raise ArgumentError(f"character_encoder={kind!r} is unknown; use one of {', '.join(ENCODERS)}")
