"""Recurrent tagger: a tag for each word, from the word, its characters and its neighbours.

    x_t = the word's vector (see `words.py`)      h_t = layers(x_1 … x_n)_t      e_t = V h_t + b

and either p(y_t) = softmax(e_t), each tag by itself, or a linear-chain CRF over all of them.
Sources: Huang et al. 2015; Lample et al. 2016; Plank et al. 2016.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recurra.cells import Cell, resolve_cell, shipped_name
from recurra.errors import ArgumentError
from recurra.layers import Recurrent, State
from recurra.layers.dropout import dropout
from recurra.models.crf import LinearChainCRF
from recurra.models.words import WordEmbedding

UNSEEN = -100  # a tag that is not learned from, as in `torch.nn.functional.cross_entropy`
Words = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class Answer(NamedTuple):
    """Tags of a batch: ids (time, batch), int64, 0 past each length, and their probabilities."""

    tags: Tensor
    confidence: Tensor


class RecurrentTagger(nn.Module):
    """A tag for each word of each sentence.

    Args:
        vocabulary_size: words; id 0 is the unknown one.
        num_characters: characters; id 0 is the unknown one.
        num_tags: tags.
        cell: a cell or the name of a shipped one.
        embedding_size, character_encoder, character_embedding_size, character_size, affix_size,
            unknown_dropout: what a word is read as; see `WordEmbedding`.
        hidden_size: units of each layer and direction.
        num_layers: recurrent layers.
        bidirectional: read from both ends; without it, `step` answers word by word.
        crf: tags depend on each other (see `recurra.models.crf`).
        allowed: which tag may follow which, as `LinearChainCRF` takes it; the CRF keeps to it.
        input_dropout: share of the words' features dropped; like all that drops, in training mode
            only.
        hidden_dropout: the same between recurrent layers.
        dropout: the same before the tags' scores.
        recurrent_dropout: share of h dropped before the recurrent product, one mask for all steps.
        weight_dropout: share of the recurrent weights dropped.
        zoneout: probability that a unit keeps its old state.
        residual: add each layer's input to its output where their sizes are equal.
        init: what the recurrent weights start as, and
        forget_bias: the bias of gate f; see `recurra.Recurrent`.
        backend: of the recurrent layers.

    Words are a tuple `(places, lengths, ids, characters, character_lengths)`, of which every
    distinct word of the batch is read once: places (time, batch) names the distinct word at each
    step, lengths (batch,), ids (distinct,), characters (characters, distinct), character_lengths
    (distinct,), all int64. Sentences may be empty; what stands past a length is never read.

    Raises:
        ArgumentError: a size under 1, a probability out of 0..1, an unknown name.

    Example:
        >>> model = RecurrentTagger(10, 9, 3, embedding_size=4, hidden_size=5, crf=True)
        >>> places, lengths = torch.tensor([[0, 0], [1, 0]]), torch.tensor([2, 0])
        >>> characters = torch.ones(6, 2, dtype=torch.long)
        >>> words = places, lengths, torch.tensor([4, 7]), characters, torch.tensor([6, 2])
        >>> model.emissions(words).shape, model.predict(words).tags.shape
        (torch.Size([2, 2, 3]), torch.Size([2, 2]))
    """

    def __init__(
        self,
        vocabulary_size: int,
        num_characters: int,
        num_tags: int,
        *,
        cell: str | Cell = "lstm",
        embedding_size: int = 100,
        hidden_size: int = 200,
        num_layers: int = 1,
        bidirectional: bool = True,
        character_encoder: str = "recurrent",
        character_embedding_size: int = 32,
        character_size: int = 64,
        affix_size: int = 0,
        crf: bool = False,
        allowed: Sequence[Sequence[bool]] | None = None,
        unknown_dropout: float = 0.25,
        input_dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: float = 0.0,
        residual: bool = False,
        init: str | None = None,
        forget_bias: float | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        arguments = dict(locals())
        self._options = {k: v for k, v in arguments.items() if k not in ("self", "__class__")}
        _check(self._options)
        self.cell = resolve_cell(cell)
        self.bidirectional, self.num_tags = bidirectional, num_tags
        self.input_dropout, self.dropout = input_dropout, dropout
        self.words = WordEmbedding(
            vocabulary_size,
            num_characters,
            cell=self.cell,
            embedding_size=embedding_size,
            character_encoder=character_encoder,
            character_embedding_size=character_embedding_size,
            character_size=character_size,
            affix_size=affix_size,
            unknown_dropout=unknown_dropout,
            backend=backend,
        )
        self.layers = Recurrent(
            self.cell,
            self.words.size,
            hidden_size,
            num_layers,
            dropout=hidden_dropout,
            bidirectional=bidirectional,
            recurrent_dropout=recurrent_dropout,
            weight_dropout=weight_dropout,
            zoneout=zoneout,
            residual=residual,
            init=init,
            forget_bias=forget_bias,
            backend=backend,
        )
        self.output = nn.Linear(hidden_size * self.layers.num_directions, num_tags)
        self.crf = LinearChainCRF(num_tags, allowed) if crf else None

    def options(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-able; `RecurrentTagger(**options)` is anew.

        Raises:
            ArgumentError: the cell is a user's own, which no name in a file can bring back.
        """
        return {**self._options, "cell": shipped_name(self.cell)}

    def emissions(self, words: Words) -> Tensor:
        """Scores of tags at each step, (time, batch, tags)."""
        places, lengths, ids, characters, character_lengths = words
        x = self.words(places, (ids, characters, character_lengths))
        return self.emissions_of(x, lengths)

    def emissions_of(self, x: Tensor, lengths: Tensor, rows: Tensor | None = None) -> Tensor:
        """The same from words' vectors: at their places, (time, batch, features); or of distinct
        words, (distinct, features), of which `rows` (time, batch) says which stand where."""
        if self.training:
            x = dropout(x, self.input_dropout)
        time = len(x if rows is None else rows)
        is_full = not x.is_cuda and bool((lengths == time).all())  # there is nothing to skip
        h, _ = self.layers(x, lengths=None if is_full else lengths, rows=rows)
        if self.training:
            h = dropout(h, self.dropout)
        result: Tensor = self.output(h)
        # sums over sentences need more digits than autocast's types have
        return result.float() if result.dtype in (torch.bfloat16, torch.float16) else result

    def loss(self, words: Words, tags: Tensor, tokens: int | None = None) -> Tensor:
        """Mean cross-entropy of the right tags in nats a word, scalar.

        Args:
            words: see the class.
            tags: (time, batch), int64, `UNSEEN` (-100) past each length.
            tokens: what the sum is divided by; `None`: the words of this batch, at least 1.
        """
        emissions, lengths = self.emissions(words), words[1]
        if self.crf is None:
            nats = nn.functional.cross_entropy(
                emissions.flatten(0, 1), tags.flatten(), ignore_index=UNSEEN, reduction="sum"
            )
        else:
            nats = -self.crf.log_likelihood(emissions, tags, lengths).sum()
        return nats / max(int(lengths.sum()) if tokens is None else tokens, 1)

    def predict(self, words: Words, *, confidence: bool = True) -> Answer:
        """The best tags of a batch; see `answer`."""
        with torch.no_grad():
            return self.answer(self.emissions(words), words[1], confidence=confidence)

    @torch.no_grad()
    def answer(self, emissions: Tensor, lengths: Tensor, *, confidence: bool = True) -> Answer:
        """The best tags, and the probability of each (of a CRF: its marginal).

        Args:
            emissions: (time, batch, tags).
            lengths: (batch,), int64.
            confidence: False leaves the probabilities 1, which saves a CRF half the time.
        """
        if self.crf is None:
            tags = emissions.argmax(-1)
            p = emissions.softmax(-1) if confidence else None
        else:
            tags, _ = self.crf.decode(emissions, lengths)
            p = self.crf.marginals(emissions, lengths) if confidence else None
        outside = torch.arange(len(tags), device=tags.device).unsqueeze(1) >= lengths
        tags = tags.masked_fill(outside, 0)
        if p is None:
            return Answer(tags, torch.ones_like(emissions[..., 0]))
        return Answer(tags, p.gather(2, tags.unsqueeze(2)).squeeze(2).masked_fill(outside, 0.0))

    @torch.no_grad()
    def step(
        self,
        ids: Tensor,
        characters: Tensor,
        character_lengths: Tensor,
        state: State | None = None,
    ) -> tuple[Tensor, State]:
        """log p of each tag for the next word of each stream: the numbers of the whole sentence.

        Args:
            ids: (batch,), int64; `characters` (characters, batch); `character_lengths` (batch,).
            state: what the last step returned; `None` starts.

        Returns:
            `(log_p, state)`: (batch, tags), and the State to pass on.

        Raises:
            ArgumentError: the tagger is bidirectional or has a CRF: there is no answer before the
                end of the sentence.
        """
        if self.bidirectional or self.crf is not None:
            raise ArgumentError(
                "a tagger answers word by word only with bidirectional=False and crf=False; this "
                f"one has bidirectional={self.bidirectional}, crf={self.crf is not None}"
            )
        places = torch.arange(len(ids), device=ids.device).unsqueeze(0)
        x = self.words(places, (ids, characters, character_lengths))
        h, state = self.layers.step(x.squeeze(0), state)
        return self.output(h).log_softmax(-1), state


def _check(options: dict[str, Any]) -> None:
    for name, value in options.items():
        if name == "affix_size" or name == "unknown_dropout":
            if value < 0:
                raise ArgumentError(f"{name}={value} must not be negative")
        elif name.endswith("size") or name.startswith("num_") or name == "vocabulary_size":
            if value < 1:
                raise ArgumentError(f"{name}={value} must be at least 1")
        elif name.endswith("dropout") and not 0 <= value <= 1:
            raise ArgumentError(f"{name}={value} is no probability; it must be in 0..1")
