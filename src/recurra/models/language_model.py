"""Recurrent language model: any cell, with the regularisers of AWD-LSTM as options.

    x_t = E[w_t]      h_t = layers(x_t, h_{t-1})      p(w_{t+1} | w_1 … w_t) = softmax(V h_t + b)

Sources: Mikolov et al. 2010; dropout after Zaremba et al. 2014 (`variational=False`) and Gal &
Ghahramani 2016 (`variational=True`); the rest after Merity et al. 2018 (AWD-LSTM).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from recurra.cells import Cell, resolve_cell, shipped_name
from recurra.errors import ArgumentError
from recurra.layers import Recurrent, State
from recurra.layers.dropout import dropout
from recurra.models.softmax import AdaptiveSoftmax, FullSoftmax

Tensors = tuple[Tensor, ...]


class RecurrentLanguageModel(nn.Module):
    """p(next token | all tokens so far) by an embedding, recurrent layers and a softmax.

    Args:
        vocabulary_size: tokens.
        cell: a cell or the name of a shipped one.
        embedding_size: size of a token's vector.
        hidden_size: units of each recurrent layer; with tied weights the last layer has
            `embedding_size` units instead (Merity et al. 2018).
        num_layers: recurrent layers.
        tie_weights: input and output embedding are one (Press & Wolf 2017; Inan et al. 2017).
        dropout: share of the output's features dropped, before the softmax; like all that drops
            or penalises, in training mode only.
        hidden_dropout: the same between recurrent layers.
        input_dropout: the same for the embedded tokens.
        embedding_dropout: share of the vocabulary's rows dropped as a whole, scaled up in turn
            (Gal & Ghahramani 2016; Merity et al. 2018, section 4.3).
        weight_dropout: share of the recurrent weights dropped (DropConnect).
        recurrent_dropout: share of h dropped before the recurrent product.
        zoneout: probability that a unit keeps its old state.
        variational: the first three draw one mask for all steps of a window, not one a step.
        activation_penalty: α of α·mean(h²), h the dropped output (AR; Merity et al. 2017).
        slowness_penalty: β of β·mean((h_t - h_{t-1})²) of the raw output (TAR, the same).
        residual: add each layer's input to its output where their sizes are equal.
        cutoffs: bounds of the clusters of an adaptive softmax; empty: the full softmax, exact and
            computed in chunks.
        init: what the recurrent weights start as, and
        forget_bias: the bias of gate f; see `recurra.Recurrent`. Embedding and softmax start
            uniform in ±0.1, the softmax's biases at zero.
        backend: of the recurrent layers.

    Protocol of all neural language models: `initial_state(batch)`, `loss`, `log_probabilities`,
    `next_log_probabilities`, `options()`. A state is a tuple of tensors, batch on axis 1.

    Raises:
        ArgumentError: a size under 1, a probability out of 0..1, an unknown cell, options that
            exclude each other.

    Example:
        >>> model = RecurrentLanguageModel(10, cell="gru", embedding_size=4, hidden_size=4)
        >>> tokens = torch.zeros(6, 2, dtype=torch.long)
        >>> loss, nats, state = model.loss(tokens, tokens, model.initial_state(2))
        >>> loss.shape, [s.shape for s in state]
        (torch.Size([]), [torch.Size([1, 2, 4]), torch.Size([1, 2, 4])])
    """

    def __init__(
        self,
        vocabulary_size: int,
        *,
        cell: str | Cell = "lstm",
        embedding_size: int = 200,
        hidden_size: int = 200,
        num_layers: int = 2,
        tie_weights: bool = True,
        dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        input_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        variational: bool = True,
        activation_penalty: float = 0.0,
        slowness_penalty: float = 0.0,
        residual: bool = False,
        cutoffs: Sequence[int] = (),
        init: str | None = None,
        forget_bias: float | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        arguments = dict(locals())
        self._options = {k: v for k, v in arguments.items() if k not in ("self", "__class__")}
        _check(self._options)
        self.cell = resolve_cell(cell)
        sizes = [embedding_size] + [hidden_size] * num_layers
        if tie_weights:
            sizes[-1] = embedding_size
        self.dropout, self.hidden_dropout = dropout, hidden_dropout
        self.input_dropout, self.embedding_dropout = input_dropout, embedding_dropout
        self.variational = variational
        self.activation_penalty, self.slowness_penalty = activation_penalty, slowness_penalty
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.layers = nn.ModuleList(
            Recurrent(
                self.cell,
                inputs,
                units,
                weight_dropout=weight_dropout,
                recurrent_dropout=recurrent_dropout,
                zoneout=zoneout,
                residual=residual and inputs == units,
                init=init,
                forget_bias=forget_bias,
                backend=backend,
            )
            for inputs, units in pairwise(sizes)
        )
        self.softmax: AdaptiveSoftmax | FullSoftmax
        if cutoffs:
            self.softmax = AdaptiveSoftmax(sizes[-1], vocabulary_size, cutoffs)
        else:
            tied = self.embedding if tie_weights else None
            self.softmax = FullSoftmax(sizes[-1], vocabulary_size, tied)

    def options(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-able; `RecurrentLanguageModel(**options)` is anew.

        Raises:
            ArgumentError: the cell is a user's own, which no name in a file can bring back.
        """
        return {
            **self._options,
            "cell": shipped_name(self.cell),
            "cutoffs": list(self._options["cutoffs"]),
        }

    def initial_state(self, batch: int) -> Tensors:
        """The state before a text, zeros: for each layer its states, each (1, batch, size)."""
        return self._flat([layer.initial_state(batch) for layer in self._recurrent()])

    def _recurrent(self) -> list[Recurrent]:
        return list(self.layers)  # type: ignore[arg-type]

    def _flat(self, states: list[State]) -> Tensors:
        return tuple(s.unsqueeze(0) for state in states for s in state.layers[0])

    def features(self, tokens: Tensor, state: Tensors) -> tuple[Tensor, Tensor, Tensors]:
        """What the softmax reads.

        Args:
            tokens: (time, batch), int64.
            state: see `initial_state`.

        Returns:
            `(dropped, raw, state)`: the last layer's output with and without dropout, (time,
            batch, size), and the state after the last step.
        """
        x = self._drop(self._embed(tokens), self.input_dropout)
        states = []
        layers = self._recurrent()
        count = len(state) // len(layers)
        for k, layer in enumerate(layers):
            if k:
                x = self._drop(x, self.hidden_dropout)
            own = tuple(s.squeeze(0) for s in state[k * count : (k + 1) * count])
            x, new = layer(x, State((own,)))
            states.append(new)
        return self._drop(x, self.dropout), x, self._flat(states)

    def _embed(self, tokens: Tensor) -> Tensor:
        embedded: Tensor = self.embedding(tokens)
        if self.training and self.embedding_dropout:
            rows = self.embedding.weight.new_ones(self.embedding.num_embeddings, 1)
            rows = dropout(rows, self.embedding_dropout)
            embedded = embedded * rows[tokens]
        return embedded

    def _drop(self, x: Tensor, p: float) -> Tensor:
        if not self.training or not p:
            return x
        if not self.variational:
            return dropout(x, p)
        return x * dropout(x.new_ones(1, *x.shape[1:]), p)

    def loss(
        self, tokens: Tensor, targets: Tensor, state: Tensors
    ) -> tuple[Tensor, Tensor, Tensors]:
        """The training loss of a window.

        Args:
            tokens: (time, batch), int64.
            targets: the tokens that follow, the same shape; `IGNORED` (-100) is not counted.
            state: what the last window returned; detach it to cut back-propagation there.

        Returns:
            `(loss, nats, state)`: the scalar to differentiate, penalties included; the mean
            cross-entropy alone, detached, in nats per token; the state after the window.
        """
        dropped, raw, state = self.features(tokens, state)
        nats = self.softmax.loss(dropped.flatten(0, 1), targets.flatten())
        loss = nats
        if self.training and self.activation_penalty:
            loss = loss + self.activation_penalty * dropped.square().mean()
        if self.training and self.slowness_penalty and len(raw) > 1:
            loss = loss + self.slowness_penalty * (raw[1:] - raw[:-1]).square().mean()
        return loss, nats.detach(), state

    def log_probabilities(
        self, tokens: Tensor, targets: Tensor, state: Tensors
    ) -> tuple[Tensor, Tensors]:
        """log p of each target, (time, batch), in nats, without gradients; and the state after."""
        with torch.no_grad():
            features, _, state = self.features(tokens, state)
        log_p = self.softmax.target_log_probabilities(features.flatten(0, 1), targets.flatten())
        return log_p.view(targets.shape), state

    def next_log_probabilities(self, tokens: Tensor, state: Tensors) -> tuple[Tensor, Tensors]:
        """log p of every token after `tokens` (batch,), as (batch, vocab), and the state after."""
        features, _, state = self.features(tokens.unsqueeze(0), state)
        return self.softmax.log_probabilities(features.squeeze(0)), state


def _check(options: dict[str, Any]) -> None:
    for name in ("vocabulary_size", "embedding_size", "hidden_size", "num_layers"):
        if options[name] < 1:
            raise ArgumentError(f"{name}={options[name]} must be at least 1")
    for name, value in options.items():
        if name.endswith("dropout") and not 0 <= value <= 1:
            raise ArgumentError(f"{name}={value} is no probability; it must be in 0..1")
        if name.endswith("penalty") and value < 0:
            raise ArgumentError(f"{name}={value} must not be negative")
    if options["tie_weights"] and options["cutoffs"]:
        raise ArgumentError(
            "tie_weights and cutoffs exclude each other: the clusters of an adaptive softmax have "
            "projected weights of their own sizes; give up one of them"
        )
