"""Recurrent encoder and decoder of any cell, with every classic extension as an option.

    m_1 … m_S = encoder(E_s[x_1] … E_s[x_S])                    last states → decoder's first states
    h_t = decoder([E_t[y_{t-1}]; m_last if source_at_every_step; r_{t-1} if input_feeding], h_{t-1})
    r_t = tanh(W_r [context_t; h_t]) with attention, else h_t          p(y_t) = softmax(V r_t + b)

Sources: Cho et al. 2014 (the encoder's last state at every step); Sutskever et al. 2014 (own
weights, several layers, reversed source); Bahdanau et al. 2015 (bidirectional encoder, attention);
Luong et al. 2015 (dot and general scores, input feeding); Press & Wolf 2017 (tied embeddings);
Szegedy et al. 2016 (label smoothing); Bengio et al. 2015 (scheduled sampling).
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from recurra.cells import Cell, resolve_cell, shipped_name
from recurra.layers import State
from recurra.layers.dropout import dropout
from recurra.models.attention import Attention, coverage_loss
from recurra.models.embeddings import distinct, make_embedding
from recurra.models.memory import DecoderState, Memory
from recurra.models.recurrent_stack import RecurrentStack, backwards, chosen, drop
from recurra.models.softmax import IGNORED, FullSoftmax
from recurra.models.translator_options import check_options

PREDICTED_ROWS = 2048  # rows whose log-probabilities of all words exist at once
Ends = list[list[tuple[Tensor, ...]]]  # states of each layer's directions


class RecurrentTranslator(nn.Module):
    """p(translation | sentence), word by word.

    Args:
        source_vocabulary: tokens of the source; id 1 ends a sentence.
        target_vocabulary: tokens of the target; id 1 ends a sentence, and stands before its start.
        cell: a cell or the name of a shipped one.
        embedding_size: size of a token's vector.
        hidden_size: units of each layer and direction.
        num_layers: of encoder and of decoder.
        separate_weights: encoder and decoder have weights of their own. False: one shared
            recurrence reads and writes, in both directions if there are two; what only the decoder
            reads is zero while it encodes.
        source_at_every_step: the decoder reads the encoder's last state with every word.
        bidirectional: the encoder reads from both ends; a linear map makes the decoder's first
            state of the two last ones.
        reverse_source: the encoder reads the source from its end.
        attention: "none", "dot", "general" or "additive".
        input_feeding: the decoder reads its last r_t with the next word. It can then not run over
            the whole target in one call, but step by step; see docs/translation.md for the cost.
        coverage: attention knows where it looked before.
        coverage_loss: weight of Σ min(attention, coverage) per token in the loss.
        tie_embeddings: "target": the softmax's weights are the target embedding; "all": and the
            source's, for one joint vocabulary; "none".
        label_smoothing: share of the target's probability spread over all words, in training.
        dropout: share of r_t dropped before the softmax; like all that drops, in training only.
        input_dropout: the same for embedded words.
        hidden_dropout: the same between recurrent layers.
        variational: these three draw one mask for all steps of a sentence, not one a step.
        recurrent_dropout: share of h dropped before the recurrent product, one mask for all steps.
        weight_dropout: share of the recurrent weights dropped.
        zoneout: probability that a unit keeps its old state.
        residual: add a layer's input to its output where their sizes are equal.
        init: what recurrent weights start as, and
        forget_bias: the bias of gate f; see `recurra.Recurrent`.
        backend: of the recurrent layers.

    Words are int64 (time, batch). The target's `inputs` begin with the end token (1), `targets` end
    with it, `IGNORED` (-100) past it. Embeddings start as standard normal numbers, not in ±0.1 as
    our language models' do: attention must tell words apart to begin to learn. Tied to the softmax
    they start in ±0.1.

    Raises:
        ArgumentError: a size under 1, a probability out of 0..1, options that exclude each other.

    Example:
        >>> model = RecurrentTranslator(10, 12, embedding_size=4, hidden_size=5, attention="dot")
        >>> memory = model.encode(torch.tensor([[4, 2], [1, 1]]), torch.tensor([2, 2]))
        >>> features, weights, state = model.decode(torch.ones(3, 2).long(), memory)
        >>> features.shape, weights.shape
        (torch.Size([3, 2, 5]), torch.Size([2, 3, 2]))
    """

    def __init__(
        self,
        source_vocabulary: int,
        target_vocabulary: int,
        *,
        cell: str | Cell = "lstm",
        embedding_size: int = 256,
        hidden_size: int = 256,
        num_layers: int = 1,
        separate_weights: bool = True,
        source_at_every_step: bool = False,
        bidirectional: bool = False,
        reverse_source: bool = False,
        attention: str = "none",
        input_feeding: bool = False,
        coverage: bool = False,
        coverage_loss: float = 0.0,
        tie_embeddings: str = "none",
        label_smoothing: float = 0.0,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        variational: bool = True,
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
        check_options(self._options)
        self.cell = resolve_cell(cell)
        self.hidden_size, self.embedding_size = hidden_size, embedding_size
        self.separate_weights, self.bidirectional = separate_weights, bidirectional
        self.source_at_every_step, self.reverse_source = source_at_every_step, reverse_source
        self.input_feeding, self.coverage_loss = input_feeding, coverage_loss
        self.label_smoothing, self.variational = label_smoothing, variational
        self.dropout, self.input_dropout = dropout, input_dropout
        self.memory_size = (2 if bidirectional else 1) * hidden_size
        self.readout_size = hidden_size if tie_embeddings == "none" else embedding_size
        is_tied = tie_embeddings != "none"
        self.target_embedding = make_embedding(target_vocabulary, embedding_size, is_tied=is_tied)
        self.source_embedding = None
        if tie_embeddings != "all":
            self.source_embedding = make_embedding(source_vocabulary, embedding_size)
        decoder_inputs = embedding_size + source_at_every_step * self.memory_size
        decoder_inputs += input_feeding * self.readout_size
        options: dict[str, Any] = {
            "hidden_dropout": hidden_dropout,
            "variational": variational,
            "residual": residual,
            "recurrent_dropout": recurrent_dropout,
            "weight_dropout": weight_dropout,
            "zoneout": zoneout,
            "init": init,
            "forget_bias": forget_bias,
            "backend": backend,
        }
        sizes = hidden_size, num_layers
        self.decoder = RecurrentStack(self.cell, decoder_inputs, *sizes, **options)
        self.encoder = None
        if separate_weights:
            options["bidirectional"] = bidirectional
            self.encoder = RecurrentStack(self.cell, embedding_size, *sizes, **options)
        self.bridges = nn.ModuleList()
        if bidirectional:
            count = num_layers * len(self.cell.states)
            self.bridges.extend(nn.Linear(2 * hidden_size, hidden_size) for _ in range(count))
        self.attention = None
        self.readout: nn.Linear | None = None
        if attention != "none":
            self.attention = Attention(attention, hidden_size, self.memory_size, coverage=coverage)
            self.readout = nn.Linear(self.memory_size + hidden_size, self.readout_size)
        elif self.readout_size != hidden_size:
            self.readout = nn.Linear(hidden_size, self.readout_size)
        tied = None if tie_embeddings == "none" else self.target_embedding
        self.softmax = FullSoftmax(self.readout_size, target_vocabulary, tied)

    def options(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-able; `RecurrentTranslator(**options)` is anew.

        Raises:
            ArgumentError: the cell is a user's own, which no name in a file can bring back.
        """
        return {**self._options, "cell": shipped_name(self.cell)}

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """Read source sentences.

        Args:
            source: (places, batch), int64; what stands past a length is never read.
            lengths: (batch,), int64, at least 1.
        """
        embedding = self.source_embedding or self.target_embedding
        read = backwards(source, lengths) if self.reverse_source else source
        y, state = self._read(*self._vectors(embedding, read), lengths)
        y = backwards(y, lengths) if self.reverse_source else y
        places = torch.arange(len(source), device=source.device)
        values = y.transpose(0, 1)
        keys = None if self.attention is None else self.attention.keys(values)
        last = torch.cat([tensors[0] for tensors in state[-1]], -1)
        return Memory(values, keys, places < lengths.unsqueeze(1), last, self._bridge(state))

    def _vectors(self, embedding: nn.Embedding, words: Tensor) -> tuple[Tensor, Tensor | None]:
        """What a recurrence reads of words (time, batch), and its `rows`."""
        if len(words) == 1 or (self.training and self.input_dropout):
            return self._drop(embedding(words), self.input_dropout), None
        return distinct(embedding, words)

    def _read(self, x: Tensor, rows: Tensor | None, lengths: Tensor) -> tuple[Tensor, Ends]:
        """Outputs (places, batch, size), and for each layer the last states of each direction."""
        directions = 2 if self.bidirectional else 1
        if self.encoder is not None:
            y, state = self.encoder(x, lengths=lengths, rows=rows)
            found = list(state.layers)
            return y, [found[k : k + directions] for k in range(0, len(found), directions)]
        x = nn.functional.pad(x, (0, self.decoder.input_size - x.shape[-1]))
        runs = [self.decoder(x, lengths=lengths, rows=rows)]
        if self.bidirectional:
            if rows is None:
                x = backwards(x, lengths)
            else:
                rows = backwards(rows, lengths)
            y, state = self.decoder(x, lengths=lengths, rows=rows)
            runs.append((backwards(y, lengths), state))
        states = [list(layers) for layers in zip(*(s.layers for _, s in runs), strict=True)]
        return torch.cat([y for y, _ in runs], -1), states

    def _bridge(self, states: Ends) -> State:
        """The decoder's first state, of the encoder's last ones."""
        if not self.bidirectional:
            return State(tuple(directions[0] for directions in states))
        bridges = iter(self.bridges)
        both = [[torch.cat(pair, -1) for pair in zip(*layer, strict=True)] for layer in states]
        return State(tuple(tuple(next(bridges)(ends) for ends in layer) for layer in both))

    def start(self, memory: Memory) -> DecoderState:
        """The state before a translation's first word."""
        coverage = None
        batch, places = memory.mask.shape
        fed = memory.values.new_zeros(batch, self.readout_size) if self.input_feeding else None
        if self.attention is not None and self.attention.coverage_weight is not None:
            coverage = memory.values.new_zeros(batch, places)
        return DecoderState(memory.state, fed, coverage)

    def decode(
        self,
        inputs: Tensor,
        memory: Memory,
        state: DecoderState | None = None,
        *,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, DecoderState]:
        """What the softmax reads, for given previous words.

        Args:
            inputs: (time, batch), int64, the word before each step.
            memory: what `encode` gave.
            state: what the last call returned; `None` starts.
            lengths: (batch,), int64, words of each row, so that nothing is computed past them (with
                input feeding all is); `None`: all. What stands past them then means nothing.

        Returns:
            `(features, weights, state)`: (time, batch, readout_size); attention (batch, time,
            places) or `None`; the state after the last step.
        """
        state = self.start(memory) if state is None else state
        x, rows = self._read_target(inputs, memory)
        if not self.input_feeding:
            h, layers = self.decoder(x, state.layers, lengths=lengths, rows=rows)
            context, looked, state = self._look(h, memory, replace(state, layers=layers))
            return self._features(h, context), looked, state
        features, weights = [], []
        for x_t in x.unbind(0):
            assert state.fed is not None
            x_t = torch.cat([x_t, state.fed], -1).unsqueeze(0)
            h, layers = self.decoder(x_t, state.layers)
            context, looked, state = self._look(h, memory, replace(state, layers=layers))
            features.append(self._features(h, context))
            state = replace(state, fed=features[-1].squeeze(0))
            weights.append(looked)
        return torch.cat(features), torch.cat([a for a in weights if a is not None], 1), state

    def _read_target(self, inputs: Tensor, memory: Memory) -> tuple[Tensor, Tensor | None]:
        """What the decoder reads, but for what is fed back, and its `rows`."""
        if not (self.source_at_every_step or self.input_feeding):
            return self._vectors(self.target_embedding, inputs)
        x = self._drop(self.target_embedding(inputs), self.input_dropout)
        if self.source_at_every_step:
            x = torch.cat([x, memory.last.expand(len(x), -1, -1)], -1)
        return x, None

    def _look(
        self, h: Tensor, memory: Memory, state: DecoderState
    ) -> tuple[Tensor | None, Tensor | None, DecoderState]:
        """The context (time, batch, memory_size), and the attention; `None` without attention."""
        if self.attention is None or memory.keys is None:
            return None, None, state
        context, weights, covered = self.attention(
            h.transpose(0, 1), memory.keys, memory.values, memory.mask, state.coverage
        )
        return context.transpose(0, 1), weights, replace(state, coverage=covered)

    def _features(self, h: Tensor, context: Tensor | None) -> Tensor:
        """r of decoder outputs (…, hidden) and contexts (…, memory_size)."""
        read = h if context is None else torch.cat([context, h], -1)
        r: Tensor = read if self.readout is None else self.readout(read)
        return r if context is None else r.tanh()

    def _counted_features(
        self, inputs: Tensor, memory: Memory, counted: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """`decode`'s features at counted words alone, (words, readout_size), and the attention."""
        lengths = counted.sum(0)
        if self.input_feeding:
            features, weights, _ = self.decode(inputs, memory, lengths=lengths)
            return features[counted], weights
        x, rows = self._read_target(inputs, memory)
        h, _ = self.decoder(x, memory.state, lengths=lengths, rows=rows)
        context, weights, _ = self._look(h, memory, self.start(memory))
        time, batch = counted.nonzero(as_tuple=True)
        if context is not None:
            context = chosen(context.transpose(0, 1), batch, time)
        return self._features(chosen(h, time, batch), context), weights

    def loss(
        self,
        source: Tensor,
        lengths: Tensor,
        inputs: Tensor,
        targets: Tensor,
        *,
        sampled: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """The training loss of a batch of pairs.

        Args:
            source: (places, batch), and
            lengths: (batch,); see `encode`.
            inputs: (time, batch), the word before each target.
            targets: (time, batch), `IGNORED` past each end.
            sampled: share of previous words that are the model's own guess, not the reference
                (scheduled sampling). The guesses come from a first pass over the reference, all at
                once, as Mihaylova & Martins 2019 do, so that the layers still run in one call.

        Returns:
            `(loss, nats)`: the scalar to differentiate, smoothing and coverage included; the mean
            cross-entropy alone, detached, in nats per token.
        """
        memory = self.encode(source, lengths)
        if sampled:
            inputs = self._with_guesses(inputs, memory, sampled)
        counted = targets != IGNORED
        rows, weights = self._counted_features(inputs, memory, counted)
        rows = self._drop_rows(rows, counted)
        nats = self.softmax.loss(rows, targets[counted])
        loss = nats
        if self.training and self.label_smoothing:
            loss = loss + self.label_smoothing * self.softmax.smoothing(rows, targets[counted])
        if self.coverage_loss and weights is not None:
            repeated = coverage_loss(weights, counted.t().to(weights.dtype))
            loss = loss + self.coverage_loss * repeated / counted.sum().clamp_min(1)
        return loss, nats.detach()

    @torch.no_grad()
    def _with_guesses(self, inputs: Tensor, memory: Memory, share: float) -> Tensor:
        features, _, _ = self.decode(inputs, memory)
        rows = features[:-1].flatten(0, 1)
        guesses = [
            self.softmax.log_probabilities(rows[start : start + PREDICTED_ROWS]).argmax(-1)
            for start in range(0, len(rows), PREDICTED_ROWS)
        ]
        if not guesses:
            return inputs
        guessed = torch.cat(guesses).view_as(inputs[1:])
        is_guess = torch.rand(guessed.shape, device=guessed.device) < share
        return torch.cat([inputs[:1], torch.where(is_guess, guessed, inputs[1:])])

    @torch.no_grad()
    def log_probabilities(
        self, source: Tensor, lengths: Tensor, inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """log p of each target word, (time, batch), in nats, 0 where ignored; and the attention."""
        counted = targets != IGNORED
        memory = self.encode(source, lengths)
        rows, weights = self._counted_features(inputs, memory, counted)
        found = self.softmax.target_log_probabilities(rows, targets[counted])
        return found.new_zeros(targets.shape).masked_scatter_(counted, found), weights

    @torch.no_grad()
    def next_log_probabilities(
        self, words: Tensor, memory: Memory, state: DecoderState
    ) -> tuple[Tensor, Tensor | None, DecoderState]:
        """log p of every word after `words` (batch,), one step.

        Returns:
            `(log_p, weights, state)`: (batch, vocabulary); (batch, places) or `None`; the state to
            pass on.
        """
        features, weights, state = self.decode(words.unsqueeze(0), memory, state)
        weights = None if weights is None else weights.squeeze(1)
        return self.softmax.log_probabilities(features.squeeze(0)), weights, state

    def _drop(self, x: Tensor, p: float) -> Tensor:
        return drop(x, p, self.training, variational=self.variational)

    def _drop_rows(self, rows: Tensor, counted: Tensor) -> Tensor:
        """Dropout of the features of counted words: one mask a sentence if variational."""
        if not (self.training and self.dropout and self.variational):
            return self._drop(rows, self.dropout)
        mask = dropout(rows.new_ones(counted.shape[1], rows.shape[1]), self.dropout)
        return rows * mask.index_select(0, counted.nonzero()[:, 1])
