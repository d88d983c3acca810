"""Text from a language model, drawn token by token and handed out as it comes."""

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from recurra.data.tokenizer import Tokenizer
from recurra.errors import ArgumentError
from recurra.models.softmax import IGNORED
from recurra.tasks.mode import evaluation_mode


def stream(
    model: nn.Module,
    tokenizer: Tokenizer,
    prompt: str = "",
    *,
    tokens: int = 50,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    stop: str | None = None,
) -> Iterator[str]:
    """Text that goes on from a prompt, piece by piece; the unknown token is never drawn.

    Args:
        model: with `initial_state`, `log_probabilities` and `next_log_probabilities`.
        tokenizer: of the model.
        prompt: what stands before, after the end of a line.
        tokens: how many to draw.
        temperature: see `generate`, as for `top_k`, `top_p` and `seed`.
        top_k: draw among the k likeliest.
        top_p: draw among the likeliest that make up this probability.
        seed: of the draws.
        stop: a token that ends the text and is not part of it; a line feed is the end of a line.

    Returns:
        Pieces that, joined after the prompt, are the text; each is one token with the space before
        it, if any. A character of several byte-pair tokens comes in one piece.

    Raises:
        ArgumentError: an argument out of range, or a `stop` that is no token.
    """
    ids = [tokenizer.eos_id] + [i for line in prompt.split("\n") for i in _line(tokenizer, line)]
    ids.pop()  # the prompt's last line has not ended
    drawn = generate(
        model,
        ids,
        tokens=tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        stop_id=None if stop is None else _token_id(tokenizer, stop),
        excluded=(tokenizer.unknown_id,),
    )
    return _pieces(tokenizer, ids[1:], drawn)


def generate(
    model: nn.Module,
    prompt: Sequence[int],
    *,
    tokens: int = 50,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    stop_id: int | None = None,
    excluded: Sequence[int] = (),
) -> Iterator[int]:
    """Draw token ids that go on from a prompt, one at a time.

    Args:
        model: with `initial_state`, `log_probabilities` and `next_log_probabilities`; it is used
            in evaluation mode.
        prompt: token ids, at least one; a text begins with the end-of-sentence token.
        tokens: how many to draw at most.
        temperature: the log-probabilities are divided by it: below 1 prefers likely tokens, 0
            takes the likeliest.
        top_k: draw among the k likeliest; None: among all.
        top_p: draw among the likeliest tokens, as few as make up this probability (Holtzman et
            al. 2020); None: among all. Taken after `top_k`.
        seed: of a generator of its own: equal seeds give equal text on the CPU; None: a fresh one.
        stop_id: ends the text when drawn, and is not handed out.
        excluded: never drawn.

    Raises:
        ArgumentError: an empty prompt or an argument out of range; at the call, not at the first
            token.
    """
    if not prompt:
        raise ArgumentError("the prompt is empty; begin with the end-of-sentence token")
    if tokens < 0:
        raise ArgumentError(f"tokens={tokens} must not be negative")
    _check(temperature, top_k, top_p)
    generator = torch.Generator()
    generator.manual_seed(torch.seed() if seed is None else seed)

    def drawn() -> Iterator[int]:
        log_p, state = _read(model, prompt)
        for _ in range(tokens):
            log_p[list(excluded)] = -math.inf
            p = truncated(log_p, temperature, top_k, top_p)
            token = int(torch.multinomial(p, 1, generator=generator))
            if token == stop_id:
                return
            yield token
            log_p, state = _step(model, token, state)

    return drawn()


def next_tokens(
    model: nn.Module, tokenizer: Tokenizer, prompt: str, count: int
) -> list[tuple[str, float]]:
    """The `count` likeliest tokens after a prompt, with their probabilities, likeliest first."""
    log_p, _ = _read(model, [tokenizer.eos_id, *tokenizer.encode(prompt)])
    best = log_p.exp().topk(min(count, len(log_p)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [(tokenizer.vocabulary[i], p) for i, p in pairs]


def truncated(
    log_p: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """The distribution that a token is drawn from, (vocabulary,), float64; arguments: `generate`.

    Example:
        >>> log_p = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
        >>> truncated(log_p, top_k=2)
        tensor([0.6250, 0.3750, 0.0000, 0.0000], dtype=torch.float64)
        >>> truncated(log_p, top_p=0.7)  # 0.5 is not enough, 0.5 + 0.3 is
        tensor([0.6250, 0.3750, 0.0000, 0.0000], dtype=torch.float64)
        >>> truncated(log_p, temperature=0)
        tensor([1., 0., 0., 0.], dtype=torch.float64)
    """
    _check(temperature, top_k, top_p)
    log_p = log_p.double()
    if temperature == 0:
        return torch.zeros_like(log_p).index_fill_(0, log_p.argmax(), 1.0)
    p, order = torch.softmax(log_p / temperature, 0).sort(descending=True, stable=True)
    if top_k is not None:
        p[top_k:] = 0.0
        p /= p.sum()
    if top_p is not None:
        before = p.cumsum(0) - p
        p[before >= top_p] = 0.0
    return torch.zeros_like(p).scatter_(0, order, p / p.sum())


def _check(temperature: float, top_k: int | None, top_p: float | None) -> None:
    if not 0 <= temperature < math.inf:
        raise ArgumentError(f"temperature={temperature} must be 0 or more, and finite")
    if top_k is not None and top_k < 1:
        raise ArgumentError(f"top_k={top_k} leaves no token to draw; use 1 or more")
    if top_p is not None and not 0 < top_p <= 1:
        raise ArgumentError(f"top_p={top_p} must be in 0..1 and above 0")


def _read(model: nn.Module, ids: Sequence[int]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Log-probabilities after a text, (vocabulary,) on the CPU, and the state there."""
    state = model.initial_state(1)  # type: ignore[operator]
    if len(ids) > 1:
        device = next(model.parameters()).device
        tokens = torch.tensor(ids[:-1], device=device).unsqueeze(1)
        nothing = torch.full_like(tokens, IGNORED)
        with evaluation_mode(model):
            _, state = model.log_probabilities(tokens, nothing, state)  # type: ignore[operator]
    return _step(model, ids[-1], state)


def _step(
    model: nn.Module, token: int, state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    device = next(model.parameters()).device
    with evaluation_mode(model):
        log_p, state = model.next_log_probabilities(  # type: ignore[operator]
            torch.tensor([token], device=device), state
        )
    return log_p[0].cpu(), state


def _line(tokenizer: Tokenizer, line: str) -> list[int]:
    return [*tokenizer.encode(line), tokenizer.eos_id]


def _token_id(tokenizer: Tokenizer, token: str) -> int:
    if token == "\n":
        return tokenizer.eos_id
    if token not in tokenizer.vocabulary:
        raise ArgumentError(f"stop={token!r} is not in the vocabulary, so it can never be drawn")
    return tokenizer.vocabulary.index(token)


def _pieces(tokenizer: Tokenizer, prompt: Sequence[int], drawn: Iterable[int]) -> Iterator[str]:
    """What each token adds to the text of its line."""
    line = list(prompt)
    if tokenizer.eos_id in line:
        line = line[len(line) - line[::-1].index(tokenizer.eos_id) :]
    shown = tokenizer.decode(line)
    for token in drawn:
        if token == tokenizer.eos_id:
            line, shown = [], ""
            yield "\n"
            continue
        line.append(token)
        text = tokenizer.decode(line)
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):  # else: half of a character
            yield text[len(shown) :]
            shown = text
