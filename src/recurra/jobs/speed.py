"""What `recurra bench` measures: layers and streaming steps beside their peers, n-gram models."""

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from recurra.cells import CELLS, find_cell
from recurra.layers import LSTM, Recurrent

Shape = tuple[int, int, int, int]
# (time, batch, input, hidden), design section 6.
SHAPES: tuple[Shape, ...] = (
    (24, 32, 8, 64),
    (35, 20, 200, 200),
    (35, 20, 650, 650),
    (100, 32, 256, 256),
    (70, 40, 400, 1150),
    (200, 16, 64, 128),
)
LOOP_SHAPES = ((24, 32, 8, 64), (200, 16, 64, 128))
STEP_SIZES = (128, 512, 1024)
STREAM_STEPS = 200
ROOF_SIZE = 2048
TORCH_LAYERS: dict[str, Callable[..., nn.Module]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
# The LSTM's options, by the name of their line.
LSTM_OPTIONS: dict[str, dict[str, Any]] = {
    "lstm, zoneout": {"zoneout": 0.1},
    "lstm, recurrent dropout": {"recurrent_dropout": 0.2},
    "lstm, weight dropout": {"weight_dropout": 0.2},
    "lstm, projection": {"proj_size": None},  # half of the hidden size
}

Timing = TypedDict(
    "Timing",
    {
        "cell": str,
        "backend": str,
        "shape": Shape,
        "pass": str,
        "ours_ms": float,
        "peer": str,
        "peer_ms": float,
        "ratio": float,
        "gflops": float,
        "roof_gflops": float,
    },
)
"""A line of a table: medians of ours and of a peer, measured in turn.

`shape` is (time, batch, input, hidden), `ratio` how many times as fast ours is, `gflops` the
products' operations a second of ours, `roof_gflops` those of a large product on this machine.
"""


def time_layers(
    cells: Sequence[str] = ("rnn", "gru", "lstm"),
    shapes: Sequence[Shape] = SHAPES,
    *,
    seconds: float = 1.0,
) -> list[Timing]:
    """Training steps and inference in float32, and training steps under autocast to bfloat16.

    The last where oneDNN multiplies bfloat16.

    The peer of a cell that torch.nn has is its layer, padded; with lengths uniform in
    time/5..time torch's packed sequences, and our own padded time; in bfloat16 torch's layer under
    the same autocast, and our own time in float32; at two shapes autograd through a Python loop.
    The peer of any other cell is our LSTM, its time scaled to as many gates.

    Args:
        cells: names of cells, or of `LSTM_OPTIONS`.
        shapes: (time, batch, input, hidden).
        seconds: spent on each line.
    """
    roof = roof_gflops()
    rows = []
    for cell in cells:
        for shape in shapes:
            if cell in TORCH_LAYERS:
                rows += _beside_torch(cell, shape, seconds, roof)
            else:
                rows.append(_beside_lstm(cell, shape, seconds, roof))
            if shape in LOOP_SHAPES and cell not in LSTM_OPTIONS:
                rows.append(_beside_loop(cell, shape, seconds, roof))
    return rows


def time_steps(
    cells: Sequence[str] = ("rnn", "gru", "lstm"),
    sizes: Sequence[int] = STEP_SIZES,
    *,
    seconds: float = 1.0,
) -> list[Timing]:
    """A stream of batch 1: single steps, and sequences of 200, without gradients."""
    roof = roof_gflops()
    return [row for cell in cells for size in sizes for row in _stream(cell, size, seconds, roof)]


def _stream(cell: str, size: int, seconds: float, roof: float) -> list[Timing]:
    ours, peer = _pair(cell, size, size)
    x, long = torch.randn(1, 1, size), torch.randn(STREAM_STEPS, 1, size)
    state, peer_state = ours.initial_state(1), peer(x)[1]
    with torch.no_grad():
        step = _medians(lambda: ours.step(x[0], state), lambda: peer(x, peer_state), seconds)
        stream = _medians(lambda: ours(long), lambda: peer(long), seconds)
    name = f"nn.{type(peer).__name__}"
    return [
        _timing(ours, cell, (1, 1, size, size), "step", step, name, roof),
        _timing(ours, cell, (STREAM_STEPS, 1, size, size), "sequence", stream, name, roof),
    ]


def roof_gflops() -> float:
    """What a large product reaches on this machine, with the threads that torch is set to."""
    a, b = torch.randn(ROOF_SIZE, ROOF_SIZE), torch.randn(ROOF_SIZE, ROOF_SIZE)
    times = [_seconds(lambda: a @ b) for _ in range(7)]
    return 2e-9 * ROOF_SIZE**3 / min(times)


def _beside_torch(cell: str, shape: Shape, seconds: float, roof: float) -> list[Timing]:
    steps, batch, inputs, hidden = shape
    ours, peer = _pair(cell, inputs, hidden)
    x, upstream = torch.randn(steps, batch, inputs), torch.randn(steps, batch, hidden)
    lengths = torch.randint(max(steps // 5, 1), steps + 1, (batch,))
    lengths[0] = steps
    # every batch has lengths of its own, so that no schedule is found again
    fresh = cycle([lengths[torch.randperm(batch)] for _ in range(100)])

    def padded() -> None:
        _train(ours, x, upstream)

    def ragged() -> None:
        ours(x.requires_grad_(), lengths=next(fresh))[0].backward(upstream)

    def packed() -> None:
        given = pack_padded_sequence(x.requires_grad_(), next(fresh), enforce_sorted=False)
        y, _ = pad_packed_sequence(peer(given)[0])
        torch.autograd.backward(y, upstream)

    name = f"nn.{type(peer).__name__}"
    training = _medians(padded, lambda: _train(peer, x, upstream), seconds)

    def in_bfloat16(layer: nn.Module) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            _train(layer, x, upstream)

    with torch.no_grad():
        inference = _medians(lambda: ours(x), lambda: peer(x), seconds)
    rows = [
        _timing(ours, cell, shape, what, pair, peer_name, roof)
        for what, pair, peer_name in (
            ("training", training, name),
            ("inference", inference, name),
            ("training, ragged", _medians(ragged, packed, seconds), f"{name}, packed"),
            ("training, ragged", _medians(ragged, padded, seconds), "ours, padded"),
        )
    ]
    if not (torch._C._has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return rows  # oneDNN's LSTM does not run in it
    both_in_bfloat16 = _medians(lambda: in_bfloat16(ours), lambda: in_bfloat16(peer), seconds)
    beside_float32 = _medians(lambda: in_bfloat16(ours), padded, seconds)
    what = "training, bfloat16"
    return [
        *rows,
        _timing(ours, cell, shape, what, both_in_bfloat16, f"{name}, bfloat16", roof),
        _timing(ours, cell, shape, what, beside_float32, "ours, float32", roof),
    ]


def _beside_lstm(cell: str, shape: Shape, seconds: float, roof: float) -> Timing:
    steps, batch, inputs, hidden = shape
    ours, lstm = _layer(cell, inputs, hidden), Recurrent(CELLS["lstm"], inputs, hidden)
    x = torch.randn(steps, batch, inputs)
    upstream, other = torch.randn(*ours(x)[0].shape), torch.randn(steps, batch, hidden)
    pair = _medians(lambda: _train(ours, x, upstream), lambda: _train(lstm, x, other), seconds)
    pair = (pair[0], pair[1] * len(ours.cell.gates) / len(lstm.cell.gates))
    return _timing(ours, cell, shape, "training", pair, "our LSTM, per gate", roof)


def _beside_loop(cell: str, shape: Shape, seconds: float, roof: float) -> Timing:
    steps, batch, inputs, hidden = shape
    ours = _layer(cell, inputs, hidden)
    loop = Recurrent(ours.cell, inputs, hidden, backend="reference")
    x, upstream = torch.randn(steps, batch, inputs), torch.randn(steps, batch, hidden)
    pair = _medians(lambda: _train(ours, x, upstream), lambda: _train(loop, x, upstream), seconds)
    return _timing(ours, cell, shape, "training", pair, "autograd, Python loop", roof)


def _timing(
    layer: Recurrent,
    cell: str,
    shape: Shape,
    what: str,
    pair: tuple[float, float],
    peer: str,
    roof: float,
) -> Timing:
    steps, batch, inputs, _ = shape
    weights = sum(p.numel() for p in layer.parameters() if p.dim() > 1)
    passes = 3 if what.startswith("training") else 1
    return {
        "cell": cell,
        "backend": layer.explain(torch.zeros(steps, batch, inputs)).chosen,
        "shape": shape,
        "pass": what,
        "ours_ms": pair[0],
        "peer": peer,
        "peer_ms": pair[1],
        "ratio": pair[1] / pair[0],
        "gflops": 2e-6 * passes * steps * batch * weights / pair[0],
        "roof_gflops": roof,
    }


def _layer(cell: str, inputs: int, hidden: int) -> Recurrent:
    if cell not in LSTM_OPTIONS:
        return Recurrent(find_cell(cell), inputs, hidden)
    options: dict[str, Any] = dict(LSTM_OPTIONS[cell])
    if "proj_size" in options:
        options["proj_size"] = hidden // 2
    return LSTM(inputs, hidden, **options)


def _pair(cell: str, inputs: int, hidden: int) -> tuple[Recurrent, nn.Module]:
    return Recurrent(CELLS[cell], inputs, hidden), TORCH_LAYERS[cell](inputs, hidden)


def _train(layer: nn.Module, x: Tensor, upstream: Tensor) -> None:
    y = layer(x.requires_grad_())[0]
    y.backward(upstream.to(y.dtype))


def _medians(
    ours: Callable[[], object], peer: Callable[[], object], seconds: float
) -> tuple[float, float]:
    """Median milliseconds of two calls, made in turn so that both see the same machine."""
    for call in (ours, peer, ours, peer):
        call()
    times: tuple[list[float], list[float]] = ([], [])
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s or len(times[1]) < 5:
        for call, taken in zip((ours, peer), times, strict=True):
            taken.append(1e3 * _seconds(call))
    return statistics.median(times[0]), statistics.median(times[1])


def _seconds(call: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    call()
    return time.perf_counter() - start_s


def time_ngrams(order: int = 5) -> list[dict[str, float | int | str]]:
    """Training and scoring an n-gram model of the embedded text."""
    from recurra.jobs.lm.config import NgramOptions, TextOptions
    from recurra.jobs.lm.corpus import read_corpus
    from recurra.jobs.lm.ngrams import estimate

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
