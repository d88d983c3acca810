"""Feed-forward neural language model of a fixed window (Bengio et al. 2003).

    y = b + W x + U tanh(d + H x)        p(next) = softmax(y)

Symbols: x the window's n-1 embedded words one after the other, (n-1)·m; H (h, (n-1)·m), d (h,) the
tanh layer; U (vocab, h) and b (vocab,) the output; W (vocab, (n-1)·m) the direct connections,
absent unless asked for. Source: Bengio, Ducharme, Vincent & Jauvin 2003, "A neural probabilistic
language model", section 2, equation 1. Differs: the window runs across ends of sentences, which
are tokens of the stream, as for the recurrent model beside it.
"""

from typing import Any

import torch
from torch import Tensor, nn

from recurra.errors import ArgumentError
from recurra.layers.dropout import dropout
from recurra.models.softmax import FullSoftmax

Tensors = tuple[Tensor, ...]


class NNLM(nn.Module):
    """The model above, with the protocol of `RecurrentLanguageModel`.

    Its state is the window: the last n-2 tokens, (1, batch, n-2) int64, which with the current
    token make n-1.

    Args:
        vocabulary_size: tokens.
        order: n; n-1 words are read.
        embedding_size: m, size of a word's vector.
        hidden_size: h, units of the tanh layer.
        direct: with the direct connections W.
        dropout: share of the window's features and of the tanh layer dropped; the paper has none.
        eos_id: token that fills the window before a text.

    Raises:
        ArgumentError: a size under 1, order under 2, dropout out of 0..1, eos_id no token.

    Example:
        >>> model = NNLM(10, order=4, embedding_size=3, hidden_size=5)
        >>> tokens = torch.zeros(6, 2, dtype=torch.long)
        >>> log_p, state = model.log_probabilities(tokens, tokens, model.initial_state(2))
        >>> log_p.shape, state[0].shape
        (torch.Size([6, 2]), torch.Size([1, 2, 2]))
    """

    def __init__(
        self,
        vocabulary_size: int,
        *,
        order: int = 5,
        embedding_size: int = 60,
        hidden_size: int = 100,
        direct: bool = False,
        dropout: float = 0.0,
        eos_id: int = 1,
    ) -> None:
        super().__init__()
        arguments = dict(locals())
        self._options = {k: v for k, v in arguments.items() if k not in ("self", "__class__")}
        _check(self._options)
        self.order, self.dropout, self.eos_id, self.direct = order, dropout, eos_id, direct
        window = (order - 1) * embedding_size
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.hidden = nn.Linear(window, hidden_size)
        # One product gives U tanh(…) and W x: the features are both, side by side.
        self.softmax = FullSoftmax(hidden_size + window * direct, vocabulary_size)

    def options(self) -> dict[str, Any]:
        """The constructor's arguments; `NNLM(**options)` is this model anew."""
        return dict(self._options)

    def initial_state(self, batch: int) -> Tensors:
        """The window before a text: ends of sentences."""
        device = self.embedding.weight.device
        return (torch.full((1, batch, self.order - 2), self.eos_id, device=device),)

    def features(self, tokens: Tensor, state: Tensors) -> tuple[Tensor, Tensors]:
        """What the softmax reads, (time, batch, size), and the window after the last token."""
        stream = torch.cat((state[0][0].t(), tokens))
        time, reach = len(tokens), self.order - 1
        embedded = self.embedding(stream)
        x = torch.cat([embedded[k : k + time] for k in range(reach)], -1)
        dropped = self.dropout if self.training else 0.0
        x = dropout(x, dropped)
        hidden = dropout(torch.tanh(self.hidden(x)), dropped)
        features = torch.cat((hidden, x), -1) if self.direct else hidden
        kept = stream[len(stream) - (self.order - 2) :]
        return features, (kept.t().unsqueeze(0),)

    def loss(
        self, tokens: Tensor, targets: Tensor, state: Tensors
    ) -> tuple[Tensor, Tensor, Tensors]:
        """`(loss, nats, state)` of a window; see `RecurrentLanguageModel.loss`."""
        features, state = self.features(tokens, state)
        nats = self.softmax.loss(features.flatten(0, 1), targets.flatten())
        return nats, nats.detach(), state

    def log_probabilities(
        self, tokens: Tensor, targets: Tensor, state: Tensors
    ) -> tuple[Tensor, Tensors]:
        """log p of each target, (time, batch), without gradients, and the window after."""
        with torch.no_grad():
            features, state = self.features(tokens, state)
        log_p = self.softmax.target_log_probabilities(features.flatten(0, 1), targets.flatten())
        return log_p.view(targets.shape), state

    def next_log_probabilities(self, tokens: Tensor, state: Tensors) -> tuple[Tensor, Tensors]:
        """log p of every token after `tokens` (batch,), as (batch, vocab), and the window after."""
        features, state = self.features(tokens.unsqueeze(0), state)
        return self.softmax.log_probabilities(features.squeeze(0)), state


def _check(options: dict[str, Any]) -> None:
    for name in ("vocabulary_size", "embedding_size", "hidden_size"):
        if options[name] < 1:
            raise ArgumentError(f"{name}={options[name]} must be at least 1")
    if options["order"] < 2:
        raise ArgumentError(f"order={options['order']} leaves no word to predict from; use 2 up")
    if not 0 <= options["dropout"] <= 1:
        raise ArgumentError(f"dropout={options['dropout']} is no probability; it must be in 0..1")
    if not 0 <= options["eos_id"] < options["vocabulary_size"]:
        raise ArgumentError(
            f"eos_id={options['eos_id']} is no token; ids are 0..{options['vocabulary_size'] - 1}"
        )
