"""How likely a model finds each line: ranking alternatives, n-best rescoring."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recurra.data.tokenizer import Tokenizer
from recurra.models.softmax import IGNORED
from recurra.tasks.mode import evaluation_mode

# Padded tokens of a batch of lines: enough to keep the products large.
BATCH_TOKENS = 4096


@dataclass(frozen=True)
class LineScore:
    """A line and how likely it is.

    Attributes:
        line: the text.
        log_probability: of the line and its end, after the end of another line; natural logarithm.
        tokens: what was predicted, the line's end included.
    """

    line: str
    log_probability: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """Per token."""
        return math.exp(min(-self.log_probability / self.tokens, 700.0))

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "perplexity": self.perplexity}


def score(model: nn.Module, tokenizer: Tokenizer, lines: Sequence[str]) -> list[LineScore]:
    """Every line with its log-probability, the most probable first.

    The total decides, not the mean per token, so a longer line needs likelier words: this is the
    probability that the model gives to the line among all lines. Equal ones keep their order.
    """
    encoded = [tokenizer.encode(line) for line in lines]
    found = line_log_probabilities(model, encoded, tokenizer.eos_id)
    scores = [
        LineScore(line, float(log_p.double().sum()), len(log_p))
        for line, log_p in zip(lines, found, strict=True)
    ]
    return sorted(scores, key=lambda one: -one.log_probability)


def line_log_probabilities(
    model: nn.Module,
    lines: Sequence[Sequence[int]],
    eos_id: int,
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> list[Tensor]:
    """Log-probability of each token of each line, each line by itself.

    Lines of similar length are computed together, padded to the longest; what is computed past a
    line's end touches nothing, as the state runs forward only, and is left out.

    Args:
        model: with `initial_state` and `log_probabilities`; used in evaluation mode.
        lines: token ids without the end; a line may be empty.
        eos_id: stands before each line, and is predicted at its end.
        batch_tokens: bound of the padded tokens of a batch; a longer line is a batch of its own.

    Returns:
        In the order of `lines`, float32 on the CPU: (len(line) + 1,), the end's being the last.
    """
    device = next(model.parameters()).device
    result: list[Tensor] = [torch.empty(0)] * len(lines)
    for batch in _batches([len(line) + 1 for line in lines], batch_tokens):
        tokens, targets = _padded([lines[i] for i in batch], eos_id)
        state = model.initial_state(len(batch))  # type: ignore[operator]
        with evaluation_mode(model):
            log_p, _ = model.log_probabilities(  # type: ignore[operator]
                tokens.to(device), targets.to(device), state
            )
        for column, i in enumerate(batch):
            result[i] = log_p[: len(lines[i]) + 1, column].float().cpu()
    return result


def _batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of lines of similar length, the longest first.

    Example:
        >>> list(_batches([2, 5, 3, 9, 3], batch_tokens=9))
        [[3], [1], [2, 4, 0]]
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _padded(lines: Sequence[Sequence[int]], eos_id: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets, each (time, lines), int64; padding is eos_id and not counted."""
    time = max(len(line) for line in lines) + 1
    tokens = torch.full((time, len(lines)), eos_id)
    targets = torch.full((time, len(lines)), IGNORED)
    for column, line in enumerate(lines):
        ids = torch.tensor([*line, eos_id])
        tokens[1 : len(ids), column] = ids[:-1]
        targets[: len(ids), column] = ids
    return tokens, targets
