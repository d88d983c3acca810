"""Perplexity and bits per byte of a text, every token counted once, state carried along."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recurra.data.tokenizer import Tokenizer
from recurra.errors import DataError
from recurra.tasks.mode import evaluation_mode

LANES = 16
STEPS = 64
METRICS = ("perplexity", "bits_per_byte", "nats_per_token", "tokens")


@dataclass(frozen=True)
class EncodedText:
    """A text as token ids, with what its metrics are counted against.

    Attributes:
        tokens: (tokens,), int64; one end-of-sentence token after each line.
        words: words with one end a line: what perplexity is per, whatever the tokens are.
        text_bytes: UTF-8 bytes of the text, with one line feed a line.
        unknown: how many tokens are the unknown token.
    """

    tokens: Tensor
    words: int
    text_bytes: int
    unknown: int


def encode(lines: Sequence[str], tokenizer: Tokenizer, where: str) -> EncodedText:
    """Token ids of lines.

    For a word tokenizer, words are its tokens; for others, what stands between white space.

    Raises:
        DataError: nothing to predict but line ends.
    """
    tokens = torch.from_numpy(tokenizer.encode_lines(lines)).long()
    if len(tokens) == len(lines):
        raise DataError(f"{where}: {len(lines)} lines, all of them empty; expected some text")
    is_word = tokenizer.kind == "word"
    return EncodedText(
        tokens=tokens,
        words=len(tokens) if is_word else sum(len(line.split()) + 1 for line in lines),
        text_bytes=sum(len(line.encode()) + 1 for line in lines),
        unknown=int((tokens == tokenizer.unknown_id).sum()),
    )


def metrics_of(nats: float, text: EncodedText) -> dict[str, float]:
    """The metrics of a text whose tokens cost `nats` in all.

    Example:
        >>> text = EncodedText(torch.arange(4), words=4, text_bytes=16, unknown=0)
        >>> metrics_of(4 * math.log(8), text)["perplexity"]
        8.0
        >>> metrics_of(4 * math.log(8), text)["bits_per_byte"]
        0.75
    """
    return {
        "perplexity": _rounded(math.exp(min(nats / text.words, 700.0))),
        "bits_per_byte": _rounded(nats / math.log(2) / text.text_bytes),
        "nats_per_token": _rounded(nats / len(text.tokens)),
        "tokens": len(text.tokens),
    }


def evaluate(model: Any, text: EncodedText, eos_id: int) -> dict[str, float]:
    """Metrics of a neural model on a text; see `text_log_probabilities`."""
    log_p = text_log_probabilities(model, text.tokens, eos_id)
    return metrics_of(-float(log_p.double().sum()), text)


def text_log_probabilities(model: Any, tokens: Tensor, eos_id: int) -> Tensor:
    """Log-probability of each token of a text.

    The text is cut into up to 16 lanes of equal length, read side by side from a fresh state each;
    the state is carried along a lane. The first token is predicted from an end of sentence.

    Args:
        model: with `initial_state` and `log_probabilities`; used in evaluation mode.
        tokens: (tokens,), int64.
        eos_id: the id that stands before the first token.

    Returns:
        (tokens,), on the CPU.
    """
    inputs, targets = _lanes(tokens, eos_id)
    device = next(model.parameters()).device
    state = model.initial_state(inputs.shape[1])
    parts = []
    with evaluation_mode(model):
        for start in range(0, len(inputs), STEPS):
            x, y = (part[start : start + STEPS].to(device) for part in (inputs, targets))
            log_p, state = model.log_probabilities(x, y, state)
            parts.append(log_p.cpu())
    return torch.cat(parts).t().reshape(-1)[: len(tokens)]


def _lanes(tokens: Tensor, eos_id: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets, each (time, lanes); past the end of the text stands `eos_id`."""
    lanes = max(1, min(LANES, len(tokens) // STEPS))
    time = math.ceil(len(tokens) / lanes)
    targets = torch.cat([tokens, tokens.new_full((lanes * time - len(tokens),), eos_id)])
    inputs = torch.cat([tokens.new_tensor([eos_id]), targets[:-1]])
    return inputs.view(lanes, time).t(), targets.view(lanes, time).t()


def _rounded(value: float) -> float:
    return float(f"{value:.9g}")
