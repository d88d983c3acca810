"""What `recurra bench` measures: layers and streaming steps beside torch.nn, n-gram models."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recurra.cells import CELLS
from recurra.layers import Recurrent

# (time, batch, input, hidden), design section 6.
SHAPES = (
    (24, 32, 8, 64),
    (35, 20, 200, 200),
    (35, 20, 650, 650),
    (100, 32, 256, 256),
    (70, 40, 400, 1150),
    (200, 16, 64, 128),
)
TORCH_LAYERS: dict[str, Callable[..., nn.Module]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


@dataclass(frozen=True)
class Timing:
    """A cell at a shape, beside torch.nn's layer or, where it has none, its LSTM.

    Attributes:
        cell: its name.
        shape: (time, batch, input, hidden).
        backend: what ran it.
        ours_ms: median time of ours.
        torch_ms: median time of `rival`, measured in turn with ours.
        rival: "nn.GRU" or the like.
    """

    cell: str
    shape: tuple[int, ...]
    backend: str
    ours_ms: float
    torch_ms: float
    rival: str

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.torch_ms / self.ours_ms


def time_layers(
    cells: Sequence[str] = ("rnn", "gru", "lstm"),
    shapes: Sequence[tuple[int, int, int, int]] = SHAPES,
    *,
    seconds: float = 1.5,
) -> list[Timing]:
    """Training steps (forward and backward) in float32, ours and torch.nn's in turn.

    Args:
        cells: names.
        shapes: (time, batch, input, hidden).
        seconds: spent on each cell and shape.
    """
    return [_time_layer(cell, shape, seconds) for cell in cells for shape in shapes]


def time_steps(
    cells: Sequence[str] = ("rnn", "gru", "lstm"), *, hidden: int = 256, seconds: float = 1.5
) -> list[Timing]:
    """One streaming step of batch 1, ours and torch.nn's in turn."""
    return [_time_step(name, hidden, seconds) for name in cells]


def _time_step(name: str, hidden: int, seconds: float) -> Timing:
    ours, rival, rival_name = _pair(name, hidden, hidden)
    x = torch.randn(1, hidden)
    state = ours.initial_state(1)
    with torch.no_grad():
        pair = _medians(lambda: ours.step(x, state), lambda: rival(x.unsqueeze(0)), seconds)
    backend = ours.explain(x.unsqueeze(0)).chosen
    return Timing(name, (1, 1, hidden, hidden), backend, *pair, rival_name)


def _time_layer(name: str, shape: tuple[int, int, int, int], seconds: float) -> Timing:
    steps, batch, inputs, hidden = shape
    ours, rival, rival_name = _pair(name, inputs, hidden)
    x = torch.randn(steps, batch, inputs)
    upstream = torch.randn(steps, batch, hidden)
    pair = _medians(
        lambda: _training_step(ours, x, upstream),
        lambda: _training_step(rival, x, upstream),
        seconds,
    )
    return Timing(name, shape, ours.explain(x).chosen, *pair, rival_name)


def _pair(name: str, inputs: int, hidden: int) -> tuple[Recurrent, nn.Module, str]:
    rival = TORCH_LAYERS.get(name, nn.LSTM)
    return Recurrent(CELLS[name], inputs, hidden), rival(inputs, hidden), f"nn.{rival.__name__}"


def _training_step(layer: nn.Module, x: Tensor, upstream: Tensor) -> None:
    y = layer(x.requires_grad_())[0]
    y.backward(upstream)


def _medians(
    ours: Callable[[], object], rival: Callable[[], object], seconds: float
) -> tuple[float, float]:
    """Median milliseconds of two calls, made in turn so that both see the same machine."""
    for call in (ours, rival, ours, rival):
        call()
    times: tuple[list[float], list[float]] = ([], [])
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s or len(times[1]) < 5:
        for call, taken in zip((ours, rival), times, strict=True):
            start_s = time.perf_counter()
            call()
            taken.append(1e3 * (time.perf_counter() - start_s))
    return statistics.median(times[0]), statistics.median(times[1])


def time_ngrams(order: int = 5) -> list[dict[str, float | int | str]]:
    """Training and scoring an n-gram model of the embedded text."""
    from recurra.jobs.corpus import read_corpus
    from recurra.jobs.language_model_config import NgramOptions, TextOptions
    from recurra.jobs.ngrams import estimate

    corpus = read_corpus(TextOptions())
    tokens = corpus.encoded["train"].tokens.numpy().astype("int32")
    rows: list[dict[str, float | int | str]] = []
    model = estimate(corpus, order, "kneser_ney", NgramOptions())
    model.log_probabilities(tokens)  # compiles
    for what, call in (
        ("train", lambda: estimate(corpus, order, "kneser_ney", NgramOptions())),
        ("score", lambda: model.log_probabilities(tokens)),
    ):
        start_s = time.perf_counter()
        call()
        seconds = time.perf_counter() - start_s
        rows.append(
            {
                "what": what,
                "order": order,
                "tokens": len(tokens),
                "seconds": seconds,
                "tokens_per_s": len(tokens) / seconds,
            }
        )
    return rows
