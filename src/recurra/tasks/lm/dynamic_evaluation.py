"""Dynamic evaluation: the model goes on learning from the text that it is measured on.

    before window k:   nats += -log p(window k | θ_k)
    after it:          θ_{k+1} = θ_k - η ∇(-log p(window k | θ_k)) + λ (θ_0 - θ_k)

Every token is predicted before it is learned from, so the measure is fair; it is that of another,
adaptive model, though, and must be reported as such. Source: Krause et al. 2018, "Dynamic
evaluation of neural sequence models", equations 4 and 6 in their SGD form (no RMS of gradients).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from recurra.errors import ArgumentError
from recurra.models.softmax import IGNORED

LEARNING_RATES = (0.03, 0.1, 0.3, 1.0)


def dynamic_nats_per_token(
    model: nn.Module,
    tokens: Tensor,
    eos_id: int,
    *,
    learning_rate: float,
    decay: float = 0.0,
    window_steps: int = 5,
    lanes: int = 1,
) -> float:
    """Mean cross-entropy of a text under a model that adapts to it as it reads.

    Args:
        model: with `initial_state` and `loss`. Dropout is off; its weights, gradients and mode are
            afterwards what they were.
        tokens: (tokens,), int64.
        eos_id: stands before the first token.
        learning_rate: η. Choose it on a valid split: `choose_learning_rate`.
        decay: λ, in 0..1: how much of the way back to the trained weights each step goes.
        window_steps: tokens of a lane between two steps; the paper has 5.
        lanes: parts of the text that are read side by side from fresh states: 1 is the paper's,
            more is faster and adapts less often.

    Raises:
        ArgumentError: an argument out of range, or fewer tokens than lanes.
    """
    if learning_rate < 0 or not 0 <= decay <= 1:
        raise ArgumentError(
            f"learning_rate={learning_rate} must be 0 or more, decay={decay} in 0..1"
        )
    if window_steps < 1 or not 1 <= lanes <= len(tokens):
        raise ArgumentError(
            f"window_steps={window_steps} must be at least 1, lanes={lanes} in 1..{len(tokens)}, "
            "the number of tokens"
        )
    inputs, targets = _lanes(tokens, eos_id, lanes)
    device = next(model.parameters()).device
    state = model.initial_state(lanes)  # type: ignore[operator]
    nats = 0.0
    with _restored(model) as (parameters, trained):
        for start in range(0, len(inputs), window_steps):
            x, y = (part[start : start + window_steps].to(device) for part in (inputs, targets))
            state = tuple(part.detach() for part in state)
            loss, mean, state = model.loss(x, y, state)  # type: ignore[operator]
            nats += float(mean) * int((y != IGNORED).sum())
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            with torch.no_grad():
                for p, g, start_value in zip(parameters, gradients, trained, strict=True):
                    if decay:
                        p.lerp_(start_value, decay)
                    if g is not None:
                        p.add_(g, alpha=-learning_rate)
    return nats / len(tokens)


def choose_learning_rate(
    model: nn.Module,
    tokens: Tensor,
    eos_id: int,
    *,
    candidates: Sequence[float] = LEARNING_RATES,
    decay: float = 0.0,
    window_steps: int = 5,
    lanes: int = 1,
) -> tuple[float, float]:
    """The candidate with the lowest cross-entropy on a valid split, and that cross-entropy.

    Returns:
        `(learning_rate, nats_per_token)`; rates that make the loss infinite or NaN are out.

    Raises:
        ArgumentError: no candidate gives a finite loss.
    """
    found = {}
    for rate in candidates:
        nats = dynamic_nats_per_token(
            model,
            tokens,
            eos_id,
            learning_rate=rate,
            decay=decay,
            window_steps=window_steps,
            lanes=lanes,
        )
        if nats < float("inf"):  # False for NaN too
            found[rate] = nats
    if not found:
        raise ArgumentError(f"no learning rate of {list(candidates)} gives a finite loss")
    best = min(found, key=lambda rate: found[rate])
    return best, found[best]


@contextmanager
def _restored(model: nn.Module) -> Iterator[tuple[list[nn.Parameter], list[Tensor]]]:
    """The trainable parameters and copies of them, which are put back in the end."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    trained = [p.detach().clone() for p in parameters]
    was_training = model.training
    model.eval()
    try:
        with torch.enable_grad():
            yield parameters, trained
    finally:
        model.train(was_training)
        with torch.no_grad():
            for p, value in zip(parameters, trained, strict=True):
                p.copy_(value)


def _lanes(tokens: Tensor, eos_id: int, lanes: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets, each (time, lanes); past the end the target is not counted."""
    time = -(-len(tokens) // lanes)
    missing = lanes * time - len(tokens)
    before = torch.cat(
        [tokens.new_tensor([eos_id]), tokens[:-1], tokens.new_full((missing,), eos_id)]
    )
    after = torch.cat([tokens, tokens.new_full((missing,), IGNORED)])
    return before.view(lanes, time).t(), after.view(lanes, time).t()
