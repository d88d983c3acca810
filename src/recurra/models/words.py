"""A word's vector: its own, beside what its characters and its ends say.

    x = [E[w]; C(characters of w); A(affixes of w)]

Rare words, and those that training did not show, are read by their characters.
Sources: Lample et al. 2016; Plank et al. 2016; `characters.py` for C and A.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recurra.cells import Cell
from recurra.errors import ShapeError
from recurra.models.characters import Affixes, build_characters

UNKNOWN_ID = 0
Spelled = tuple[Tensor, Tensor, Tensor]  # ids, characters and their number of distinct words


class WordEmbedding(nn.Module):
    """Vectors of words; every distinct word of a batch is spelled once.

    Args:
        vocabulary_size: words; id 0 is the unknown one.
        num_characters: characters; id 0 is the unknown one.
        embedding_size: size of a word's own vector.
        character_encoder: "recurrent", "convolutional" or "none".
        character_embedding_size: size of a character's vector.
        character_size: size of a word's vector from its characters.
        affix_size: size of a word's vector from its first and last characters; 0: none.
        unknown_dropout: α of α / (α + n), the probability with which a word seen n times in
            training is read as the unknown one (Kiperwasser & Goldberg 2016), in training mode
            only. Counts come by `count_words`; without them nothing is dropped.
        cell: of the recurrent encoder.
        backend: of the recurrent encoder.

    Attributes:
        size: of a vector.

    Raises:
        ArgumentError: an unknown encoder.

    Example:
        >>> from recurra.cells import LSTM_CELL
        >>> words = WordEmbedding(10, 9, embedding_size=4, affix_size=3, cell=LSTM_CELL)
        >>> spelled = torch.tensor([4, 7]), torch.ones(6, 2, dtype=torch.long), torch.tensor([6, 2])
        >>> words(torch.tensor([[0, 0, 1]]), spelled).shape, words.distinct(spelled).shape
        (torch.Size([1, 3, 7]), torch.Size([2, 7]))
    """

    def __init__(
        self,
        vocabulary_size: int,
        num_characters: int,
        *,
        cell: Cell,
        embedding_size: int,
        character_encoder: str = "none",
        character_embedding_size: int = 32,
        character_size: int = 64,
        affix_size: int = 0,
        unknown_dropout: float = 0.0,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.unknown_dropout = unknown_dropout
        self.own = nn.Embedding(vocabulary_size, embedding_size)
        nn.init.uniform_(self.own.weight, -0.1, 0.1)
        self.characters = build_characters(
            character_encoder,
            num_characters,
            character_embedding_size,
            character_size,
            cell,
            backend,
        )
        self.affixes = Affixes(affix_size) if affix_size else None
        self.size = embedding_size + affix_size
        self.size += character_size if self.characters is not None else 0
        self.register_buffer("unknown_probability", torch.zeros(0), persistent=False)
        self.unknown_probability: Tensor

    def count_words(self, counts: Sequence[int]) -> None:
        """Tell how often each word stands in the training text, for `unknown_dropout`."""
        n = torch.tensor(counts, dtype=torch.float32)
        alpha = self.unknown_dropout
        self.unknown_probability = alpha / (alpha + n) if alpha else torch.zeros(0)

    def drop_words(self, share: float) -> None:
        """Read that share of all words as the unknown one in training, however often they stand."""
        self.unknown_probability = torch.full((self.own.num_embeddings,), share)

    @torch.no_grad()
    def set_vectors(self, ids: Tensor, vectors: Tensor, *, trained: bool = True) -> None:
        """Start words from pretrained vectors.

        Args:
            ids: (words,), int64.
            vectors: (words, embedding_size); scaled by one factor to a mean square of 0.01, that
                of uniform numbers in ±0.17.
            trained: False keeps all words' vectors as they are from here on, and gives the unknown
                word the mean of these.

        Raises:
            ShapeError: vectors of another size.
        """
        if vectors.shape != (len(ids), self.own.embedding_dim):
            raise ShapeError(
                f"vectors have shape {tuple(vectors.shape)}; expected ({len(ids)}, "
                f"{self.own.embedding_dim}): ids and embedding_size"
            )
        scale = 0.1 / vectors.square().mean().sqrt().clamp(min=1e-12)
        self.own.weight[ids] = vectors * scale
        self.own.weight[UNKNOWN_ID] = vectors.mean(0) * scale
        self.own.weight.requires_grad_(trained)

    def forward(self, places: Tensor, spelled: Spelled | None = None) -> Tensor:
        """Vectors of words at their places.

        Args:
            places: (time, batch), int64: which of the distinct words; without `spelled`, which of
                the vocabulary.
            spelled: the distinct words: ids (distinct,), int64; characters (characters, distinct),
                int64, not read past a word's end; their number (distinct,), int64. An embedding
                of no characters and no affixes needs none.

        Returns:
            (time, batch, size).
        """
        if spelled is None:
            vectors: Tensor = self.own(self._with_unknown(places))
            return vectors
        ids, *characters = spelled
        own = self.own(self._with_unknown(ids[places]))
        return torch.cat([own, *(v[places] for v in self._spelled(*characters))], -1)

    def distinct(self, spelled: Spelled) -> Tensor:
        """Vectors of the distinct words, (distinct, size), for use: no word is dropped."""
        ids, *characters = spelled
        return torch.cat([self.own(ids), *self._spelled(*characters)], -1)

    def _spelled(self, characters: Tensor, character_lengths: Tensor) -> list[Tensor]:
        encoders = (self.characters, self.affixes)
        return [encode(characters, character_lengths) for encode in encoders if encode is not None]

    def _with_unknown(self, ids: Tensor) -> Tensor:
        if not self.training or not len(self.unknown_probability):
            return ids
        p = self.unknown_probability[ids]
        return ids.masked_fill(torch.rand_like(p) < p, UNKNOWN_ID)
