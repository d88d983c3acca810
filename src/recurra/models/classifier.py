"""Recurrent classifier and encoder of sequences: any cell, tokens or numbers, pooled, linear.

    x_t = the token's vector (see `words.py`), or the numbers of step t, standardised
    y = layers(x)      v = pool(y)      p(class | sequence) = softmax(V v + b)

v is the sentence vector that `encode` gives. With `multi_label` each class has a probability of its
own, σ(V v + b). Sources: Graves & Schmidhuber 2005 (framewise, bidirectional); `pooling.py` for the
poolings; label smoothing after Szegedy et al. 2016, section 7.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recurra.cells import Cell, resolve_cell, shipped_name
from recurra.errors import ArgumentError, ShapeError
from recurra.layers import Recurrent, State
from recurra.layers.dropout import dropout
from recurra.models.hierarchy import log_p_of_classes
from recurra.models.pooling import Pooling
from recurra.models.words import Spelled, WordEmbedding

CHUNK_STEPS = 4096


class RecurrentClassifier(nn.Module):
    """p(class | sequence) by an embedding, recurrent layers, a pooling and a linear layer.

    Sequences are ragged: padded to (time, batch) with `lengths`; what stands past a length is never
    read. A sequence without steps has the vector zero, so its answer is the bias alone.

    Beyond `CHUNK_STEPS` (4,096) steps, sequences are read in chunks outside of training, so memory
    does not grow with their length. Without the reverse direction the state is carried over and the
    numbers are the same. With it, the forward states are carried over and the reverse run begins
    anew at the end of each chunk: it sees at most 4,096 steps ahead.

    Args:
        classes: how many.
        vocabulary_size: tokens, of which 0 is the unknown one; 0: the input is numeric.
        num_characters: that words are spelled in, 0 being the unknown one; 0: tokens have no
            spelling.
        channels: numbers of each step of numeric input.
        cell: a cell or the name of a shipped one.
        embedding_size: size of a token's own vector, and of words
        character_encoder, character_embedding_size, character_size, affix_size: what their
            characters add to it; see `WordEmbedding`. Inputs then are places in `spelled`.
        hidden_size: units of each layer and direction.
        num_layers: recurrent layers.
        bidirectional: add a run from each end to the start; no streaming then.
        pooling: "last", "mean", "max", "attention" or "concat"; see `models/pooling.py`.
        dropout: share of the vector's features dropped before the linear layer; like all that
            drops, in training mode only.
        hidden_dropout: the same between recurrent layers.
        input_dropout: the same for what the first layer reads.
        token_dropout: share of the tokens replaced by the unknown one, so that it is trained.
        recurrent_dropout: share of h dropped before the recurrent product.
        weight_dropout: share of the recurrent weights dropped (DropConnect).
        zoneout: probability that a unit keeps its old state.
        label_smoothing: share of the target given evenly to all classes.
        class_weights: factor on the loss of each class's examples; none: 1. The loss is the mean
            over the batch of what they are multiplied with, so they hold in batches of one class.
        multi_label: any number of classes may hold at once.
        class_of_leaf: of finer classes, the leaves of a hierarchy, the class that each is in. The
            last layer then answers with a leaf, and a class has the sum of its leaves'
            probabilities; `loss` is given leaves, and is the mean of theirs and of the classes'.
            Empty: there are none.
        init: what the recurrent weights start as, and
        forget_bias: the bias of gate f; see `recurra.Recurrent`.
        backend: of the recurrent layers.

    Raises:
        ArgumentError: a size under 1, a probability out of 0..1, an unknown cell or pooling,
            neither or both of tokens and channels, weights or leaves that do not fit the classes.

    Example:
        >>> model = RecurrentClassifier(3, vocabulary_size=10, cell="gru", hidden_size=4)
        >>> tokens, lengths = torch.ones(6, 2, dtype=torch.long), torch.tensor([6, 0])
        >>> model.log_probabilities(tokens, lengths).exp().sum(1).allclose(torch.ones(2))
        True
        >>> model.encode(tokens, lengths).shape
        torch.Size([2, 8])
    """

    input_mean: Tensor
    input_scale: Tensor
    class_weights: Tensor
    class_of_leaf: Tensor

    def __init__(
        self,
        classes: int,
        *,
        vocabulary_size: int = 0,
        num_characters: int = 0,
        channels: int = 0,
        cell: str | Cell = "gru",
        embedding_size: int = 64,
        character_encoder: str = "none",
        character_embedding_size: int = 32,
        character_size: int = 64,
        affix_size: int = 0,
        hidden_size: int = 128,
        num_layers: int = 1,
        bidirectional: bool = True,
        pooling: str = "max",
        dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        input_dropout: float = 0.0,
        token_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout: float = 0.0,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] = (),
        multi_label: bool = False,
        class_of_leaf: Sequence[int] = (),
        init: str | None = None,
        forget_bias: float | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        arguments = dict(locals())
        self._options = {k: v for k, v in arguments.items() if k not in ("self", "__class__")}
        _check(self._options)
        self.cell = resolve_cell(cell)
        self.classes, self.multi_label, self.bidirectional = classes, multi_label, bidirectional
        self.vocabulary_size, self.channels = vocabulary_size, channels
        self.dropout, self.input_dropout = dropout, input_dropout
        self.label_smoothing = label_smoothing
        if vocabulary_size:
            self.words = WordEmbedding(
                vocabulary_size,
                num_characters,
                cell=self.cell,
                embedding_size=embedding_size,
                character_encoder=character_encoder,
                character_embedding_size=character_embedding_size,
                character_size=character_size,
                affix_size=affix_size,
                backend=backend,
            )
            nn.init.normal_(self.words.own.weight, std=embedding_size**-0.5)
            if token_dropout:
                self.words.drop_words(token_dropout)
        else:
            self.register_buffer("input_mean", torch.zeros(channels))
            self.register_buffer("input_scale", torch.ones(channels))
        self.layers = Recurrent(
            self.cell,
            self.words.size if vocabulary_size else channels,
            hidden_size,
            num_layers,
            dropout=hidden_dropout,
            bidirectional=bidirectional,
            recurrent_dropout=recurrent_dropout,
            weight_dropout=weight_dropout,
            zoneout=zoneout,
            init=init,
            forget_bias=forget_bias,
            backend=backend,
        )
        size = self.layers.num_directions * self.layers.output_sizes[-1]
        self.pooling = Pooling(pooling, size, bidirectional=bidirectional)
        self.linear = nn.Linear(self.pooling.output_size, len(class_of_leaf) or classes)
        weights = torch.tensor(list(class_weights) or [1.0] * classes)
        self.register_buffer("class_weights", weights, persistent=False)
        leaves = torch.tensor(list(class_of_leaf), dtype=torch.long)
        self.register_buffer("class_of_leaf", leaves, persistent=False)

    def options(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-able; `RecurrentClassifier(**options)` is anew.

        Raises:
            ArgumentError: the cell is a user's own, which no name in a file can bring back.
        """
        weights = [float(weight) for weight in self._options["class_weights"]]
        leaves = [int(parent) for parent in self._options["class_of_leaf"]]
        own = {"class_weights": weights, "class_of_leaf": leaves}
        return {**self._options, "cell": shipped_name(self.cell), **own}

    @property
    def vector_size(self) -> int:
        """Size of the sentence vector."""
        return self.pooling.output_size

    def set_scale(self, mean: Tensor, scale: Tensor) -> None:
        """Numeric input x is read as (x - mean) / scale, each (channels,); kept in the weights."""
        self.input_mean.copy_(mean)
        self.input_scale.copy_(scale)

    def initial_state(self, batch: int) -> State:
        """The state before the first step: the layers', and last what the pooling keeps."""
        layers = self.layers.initial_state(batch).layers
        return State((*layers, self.pooling.start(batch, self.linear.weight)))

    def read(
        self,
        inputs: Tensor,
        state: State,
        lengths: Tensor | None = None,
        spelled: Spelled | None = None,
    ) -> State:
        """Go on reading.

        Args:
            inputs: token ids (time, batch), int64, or numbers (time, batch, channels), float.
            state: of the steps before.
            lengths: (batch,), int64, 0 ≤ n ≤ time: real steps of each row; None: all.
            spelled: the distinct words, of which `inputs` then says which; see `WordEmbedding`.

        Returns:
            The state after each row's last step. With two directions, the reverse run begins anew
            at the end of these steps; see the class.

        Raises:
            ShapeError: the inputs are not what the model reads.
        """
        x = self._embed(inputs, spelled)
        *layers, kept = state.layers
        y, new = self.layers(x, self._restarted(State(tuple(layers))), lengths=lengths)
        assert isinstance(new, State)
        return State((*new.layers, self.pooling.update(kept, y, lengths)))

    def _restarted(self, state: State) -> State:
        """The same state with the reverse directions before their first step."""
        if not self.bidirectional:
            return state
        fresh = self.layers.initial_state(state.batch_size)
        return State(
            tuple(fresh.layers[k] if k % 2 else state.layers[k] for k in range(len(fresh.layers)))
        )

    def vector(self, state: State) -> Tensor:
        """The sentence vector of what a state has read, (batch, vector_size)."""
        return self.pooling.answer(state.layers[-1])

    def answer(self, state: State) -> Tensor:
        """log p of each class after what a state has read, (batch, classes), in nats."""
        return self._log_p(self.linear(self.vector(state)))

    def step(
        self, inputs_t: Tensor, state: State | None = None, spelled: Spelled | None = None
    ) -> tuple[Tensor, State]:
        """One step of each sequence, and the answer so far: that of the batch on the prefix.

        Args:
            inputs_t: token ids (batch,), or numbers (batch, channels).
            state: what the last step returned; None starts.
            spelled: see `read`.

        Returns:
            `(log_p, state)`: (batch, classes) and the State to pass on.

        Raises:
            ArgumentError: the model is bidirectional, so there is no answer before the end.
        """
        if self.bidirectional:
            raise ArgumentError(
                "step needs bidirectional=False: the reverse run starts at the end of a sequence"
            )
        state = self.initial_state(len(inputs_t)) if state is None else state
        state = self.read(inputs_t.unsqueeze(0), state, spelled=spelled)
        return self.answer(state), state

    def encode(
        self, inputs: Tensor, lengths: Tensor | None = None, spelled: Spelled | None = None
    ) -> Tensor:
        """The sentence vectors, (batch, vector_size); see `read` for the arguments."""
        state = self.initial_state(inputs.shape[1])
        if self.training or len(inputs) <= CHUNK_STEPS:
            return self.vector(self.read(inputs, state, lengths, spelled))
        if lengths is None:
            lengths = torch.full((inputs.shape[1],), len(inputs), device=inputs.device)
        for start in range(0, len(inputs), CHUNK_STEPS):
            chunk, own = inputs[start : start + CHUNK_STEPS], spelled
            if spelled is not None:  # words of other chunks are not spelled here
                distinct, chunk = torch.unique(chunk, return_inverse=True)
                ids, characters, character_lengths = spelled
                own = ids[distinct], characters[:, distinct], character_lengths[distinct]
            state = self.read(chunk, state, (lengths - start).clamp(0, len(chunk)), own)
        return self.vector(state)

    def forward(
        self, inputs: Tensor, lengths: Tensor | None = None, spelled: Spelled | None = None
    ) -> Tensor:
        """V v + b, (batch, classes or leaves); see `read` for the arguments."""
        vectors = self.encode(inputs, lengths, spelled)
        if self.training and self.dropout:
            vectors = dropout(vectors, self.dropout)
        logits: Tensor = self.linear(vectors)
        return logits

    def log_probabilities(
        self, inputs: Tensor, lengths: Tensor | None = None, spelled: Spelled | None = None
    ) -> Tensor:
        """log p of each class, (batch, classes), in nats; of each by itself with multi_label."""
        return self._log_p(self(inputs, lengths, spelled))

    def _log_p(self, logits: Tensor) -> Tensor:
        if self.multi_label:
            return functional.logsigmoid(logits)
        log_p = logits.log_softmax(1)
        if not len(self.class_of_leaf):
            return log_p
        return log_p_of_classes(log_p, self.class_of_leaf, self.classes)

    def loss(
        self,
        inputs: Tensor,
        lengths: Tensor | None,
        targets: Tensor,
        spelled: Spelled | None = None,
        counts: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The training loss of a batch.

        Args:
            inputs, lengths, spelled: see `read`.
            targets: (batch,), int64, the classes, or the leaves if the model has some; with
                multi_label (batch, classes), 0 or 1.
            counts: (batch,), bool: whether an example counts; None: all do.

        Returns:
            `(loss, nats)`: the scalar to differentiate, with class weights and label smoothing, a
            sum over the examples that count divided by the size of the batch, so that a batch where
            none counts teaches nothing; the mean cross-entropy of all, detached, in nats per
            example.
        """
        logits, smoothing = self(inputs, lengths, spelled), self.label_smoothing
        if self.multi_label:
            targets = targets.to(logits.dtype)
            entropies = functional.binary_cross_entropy_with_logits
            plain = entropies(logits, targets, reduction="none").sum(1)
            smooth = targets * (1 - smoothing) + 0.5 * smoothing
            weights = self.class_weights.to(logits.dtype)
            each = (entropies(logits, smooth, reduction="none") * weights).sum(1)
        else:
            weights, scores, truth = self.class_weights.to(logits.dtype), logits, targets
            if len(self.class_of_leaf):
                scores, truth = self._log_p(logits), self.class_of_leaf[targets]
            plain = functional.cross_entropy(scores, truth, reduction="none")
            options: dict[str, Any] = {"label_smoothing": smoothing, "reduction": "none"}
            each = functional.cross_entropy(scores, truth, weights, **options)
            if len(self.class_of_leaf):
                weights = weights[self.class_of_leaf]
                each = (each + functional.cross_entropy(logits, targets, weights, **options)) / 2
        if counts is not None:
            each = each * counts
        return each.mean(), plain.detach().mean()

    def _embed(self, inputs: Tensor, spelled: Spelled | None) -> Tensor:
        is_text = bool(self.vocabulary_size)
        if inputs.dim() != (2 if is_text else 3) or inputs.is_floating_point() == is_text:
            expected = "integers (time, batch)" if is_text else f"(time, batch, {self.channels})"
            raise ShapeError(
                f"inputs are {inputs.dtype} {tuple(inputs.shape)}; expected {expected}"
            )
        if is_text:
            x = self.words(inputs, spelled)
        else:
            x = (inputs - self.input_mean) / self.input_scale
        return dropout(x, self.input_dropout) if self.training and self.input_dropout else x


def _check(options: dict[str, Any]) -> None:
    for name in ("classes", "embedding_size", "hidden_size", "num_layers"):
        if options[name] < 1:
            raise ArgumentError(f"{name}={options[name]} must be at least 1")
    for name, value in options.items():
        if (name.endswith("dropout") or name == "label_smoothing") and not 0 <= value <= 1:
            raise ArgumentError(f"{name}={value} is no share; it must be in 0..1")
    if bool(options["vocabulary_size"]) == bool(options["channels"]):
        raise ArgumentError(
            f"vocabulary_size={options['vocabulary_size']} and channels={options['channels']}: "
            "give one, the input is either tokens or numbers"
        )
    leaves = options["class_of_leaf"]
    if leaves and (options["multi_label"] or {*leaves} != {*range(options["classes"])}):
        raise ArgumentError(
            f"class_of_leaf names the classes {sorted({*leaves})}; expected a class of "
            f"0..{options['classes'] - 1} for each leaf, all of them, and not with multi_label"
        )
    weights = options["class_weights"]
    if len(weights) not in (0, options["classes"]) or any(weight <= 0 for weight in weights):
        raise ArgumentError(
            f"class_weights are {list(weights)}; expected one above 0 for each of "
            f"{options['classes']} classes"
        )
