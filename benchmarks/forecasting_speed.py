"""How fast forecasters train, load and sample, beside torch.nn's layers of the same size.

    python benchmarks/forecasting_speed.py [--steps 200] [--only direct,direct_in_bfloat16,gru,…]
    pip install -c constraints.txt neuralforecast
    python benchmarks/forecasting_speed.py --only neuralforecast_lstm,direct

Horizon 24, look-back 72, 200 series of 1,000 steps, two layers of 128, batches of 128 windows:
neuralforecast's defaults. `…_in_bfloat16` is `--precision bf16-mixed`, torch.nn's likewise. Seconds
depend on how busy the machine is, `ratio` does not: ours and
torch.nn's steps are timed in turn. `roof_gflops` is what a large product reached before and after.
`benchmarks/results/forecasting_speed.json` keeps the results of several runs side by side.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import machine
import numpy as np
import polars as pl
import torch
from torch import nn

from recurra.jobs.configurations import resolve
from recurra.jobs.forecast.dataset import read_dataset
from recurra.jobs.forecast.training import build_task
from recurra.jobs.speed import roof_gflops
from recurra.jobs.training import fit_network
from recurra.tasks.forecast.task import ForecastTask
from recurra.training.progress import Reporter

RESULT = Path(__file__).parent / "results" / "forecasting_speed.json"
SERIES, ROWS, WINDOW, HORIZON, HIDDEN, BATCH = 200, 1000, 72, 24, 128, 128
COMMON = (
    *("time=t", "id=id", "target=y", "calendar=false", "season=24"),
    *(f"horizon={HORIZON}", f"window={WINDOW}", f"batch_size={BATCH}"),
    *(f"hidden_size={HIDDEN}", "num_layers=2", "dropout=0"),
)
DIRECT = ("model=direct", "head=mae", "carries=false", "scaling=reversible")
MODELS: dict[str, tuple[str, ...]] = {
    "direct": (*DIRECT, "cell=lstm"),
    "direct_in_bfloat16": (*DIRECT, "cell=lstm", "precision=bf16-mixed"),
    "gru": (*DIRECT, "cell=gru"),
    "autoregressive": ("model=autoregressive", "cell=lstm", "head=student_t", "scaling=mean"),
}
PEERS = {f"neuralforecast_{name.lower()}": name for name in ("LSTM", "GRU", "DeepAR")}
CHECKED = 10  # windows of the check after training, which is not timed
Cast = Callable[[], AbstractContextManager[Any]]
IN_TURN = 5  # steps of one before the other's


def panel() -> pl.DataFrame:
    """A daily wave with noise, at another level in each series."""
    random, steps = np.random.default_rng(0), np.arange(ROWS)
    level = 10 + 5 * random.random((SERIES, 1))
    wave = 3 * np.sin(steps * 2 * np.pi / 24)
    values = level + wave + random.standard_normal((SERIES, ROWS))
    names = np.repeat([f"s{k}" for k in range(SERIES)], ROWS)
    return pl.DataFrame({"id": names, "t": np.tile(steps, SERIES), "y": values.ravel()})


def build(name: str, steps: int) -> tuple[Any, ForecastTask]:
    """The configuration and the task of a model, with an epoch of `steps` batches."""
    in_memory = {"data": ["a table in memory"]}  # so that no recipe for embedded data applies
    config = resolve("forecast", None, [*COMMON, *MODELS[name], "max_epochs=1"], in_memory)
    data = read_dataset(config, panel())
    task = build_task(config, data)
    task.stride = max(1, len(data.origins["train"]) // (BATCH * steps))
    task.origins = {**task.origins, "valid": task.origins["valid"][:CHECKED]}
    task.truth = {**task.truth, "valid": task.truth["valid"][:CHECKED]}
    return config, task


def measure(name: str, steps: int) -> dict[str, Any]:
    """Seconds of training steps by hand and by the trainer, of torch.nn's, and of what they do."""
    config, task = build(name, steps)
    cast = partial(
        torch.autocast, "cpu", torch.bfloat16, enabled=config.hardware.precision == "bf16-mixed"
    )
    ours, peer = (
        _training_step(task, cast),
        _peer_step("gru" if name == "gru" else "lstm", name, cast),
    )
    loading, network = _loading(task), _network(task, cast)
    times = _in_turn([ours, peer, loading, network], steps)
    step_s, peer_s, loading_s, network_s = (statistics.median(each) for each in times)
    with tempfile.TemporaryDirectory() as folder:
        outcome = fit_network(task, config, Path(folder), Reporter(), name)
    assert outcome is not None
    fit_s = BATCH * steps / outcome.units_per_s
    return {
        "steps": steps,
        "seconds": round(sum(times[0]), 2),
        "torch_nn_seconds": round(sum(times[1]), 2),
        "ratio": round(peer_s / step_s, 3),
        "trainer_seconds": round(fit_s, 2),
        "share_of_network": round(network_s / step_s, 3),
        "share_of_loading": round(loading_s / step_s, 4),
    }


def _training_step(task: ForecastTask, cast: Cast) -> Callable[[int], None]:
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=1e-3, fused=True)

    def step(index: int) -> None:
        with cast():
            loss = task.training_step(task.batch(0, index % task.batches_per_epoch()), None).loss
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _peer_step(cell: str, name: str, cast: Cast) -> Callable[[int], None]:
    """torch.nn's layers and one output, on numbers that are there: no windows, no scaling."""
    time_steps = WINDOW + HORIZON - 1 if name == "autoregressive" else WINDOW
    layers = {"gru": nn.GRU, "lstm": nn.LSTM}[cell](1, HIDDEN, 2)
    output = nn.Linear(HIDDEN, HORIZON)
    optimizer = torch.optim.AdamW([*layers.parameters(), *output.parameters()], lr=1e-3, fused=True)
    x, y = torch.randn(time_steps, BATCH, 1), torch.randn(BATCH, HORIZON)

    def step(index: int) -> None:
        with cast():
            h = layers(x)[0]
            h = h if name == "autoregressive" else h[-1]
            loss = (output(h) - y).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _loading(task: ForecastTask) -> Callable[[int], None]:
    def gather(index: int) -> None:
        rows = task.batch(0, index % task.batches_per_epoch())
        task.flat.gather(rows, WINDOW, HORIZON)

    return gather


def _network(task: ForecastTask, cast: Cast) -> Callable[[int], None]:
    """Forward and backward of the recurrent layers alone."""
    model: Any = task.model
    layers = model.encoder.layers
    time_steps = WINDOW if hasattr(model, "carries") else WINDOW + HORIZON - 1
    x = torch.randn(time_steps, BATCH, layers.input_size)
    upstream = torch.randn(time_steps, BATCH, HIDDEN)

    def step(index: int) -> None:
        with cast():
            y = layers(x)[0]
        y.backward(upstream)

    return step


def _in_turn(steps: list[Callable[[int], None]], count: int) -> list[list[float]]:
    """Seconds of each call of each, a few of one before the next."""
    times: list[list[float]] = [[] for _ in steps]
    for step in steps:
        step(0)
    for first in range(0, count, IN_TURN):
        for step, own in zip(steps, times, strict=True):
            for index in range(first, min(first + IN_TURN, count)):
                start_s = time.perf_counter()
                step(index)
                own.append(time.perf_counter() - start_s)
    return times


def sampling() -> dict[str, float]:
    """Seconds of 100 paths of 24 steps after the last window of each series."""
    _, task = build("autoregressive", 1)
    model: Any = task.model.eval()
    ends = task.flat.offsets[1:] - 1 - HORIZON
    windows = task.flat.gather(ends, WINDOW, HORIZON)
    levels, seconds = torch.tensor([0.1, 0.5, 0.9]), []
    with torch.no_grad():
        for _ in range(4):
            start_s = time.perf_counter()
            model.forecast(windows, levels)
            seconds.append(time.perf_counter() - start_s)
    return {"paths": 100, "series": SERIES, "seconds": round(statistics.median(seconds[1:]), 2)}


def neuralforecast(model: str, steps: int) -> dict[str, Any]:
    """Seconds of neuralforecast's `fit` on the same panel, and of the training steps within it.

    Sizes are this script's, where its own defaults differ (a GRU of 200, DeepAR by 1,024 windows).
    As with ours, `trainer_seconds` leave out what prepares the table.
    """
    import neuralforecast as peer
    import pandas as pd
    from pytorch_lightning.callbacks import Timer

    columns = panel()
    rows = {"unique_id": columns["id"], "ds": columns["t"], "y": columns["y"]}
    frame = pd.DataFrame({name: column.to_numpy() for name, column in rows.items()})
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    size = "lstm_hidden_size" if model == "DeepAR" else "encoder_hidden_size"
    network = getattr(peer.models, model)(
        h=HORIZON,
        input_size=WINDOW,
        max_steps=steps,
        windows_batch_size=BATCH,
        callbacks=[Timer()],
        **{size: HIDDEN},
        **quiet,
    )
    start_s = time.perf_counter()
    forecaster = peer.NeuralForecast([network], freq=1)
    forecaster.fit(frame)
    fit_s = time.perf_counter() - start_s
    timer = forecaster.models[0].trainer_kwargs["callbacks"][0]  # it trains a copy
    return {
        "neuralforecast": peer.__version__,
        "steps": steps,
        "fit_seconds": round(fit_s, 2),
        "trainer_seconds": round(timer.time_elapsed("train"), 2),
        "parameters": sum(p.numel() for p in network.parameters()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--only", default=",".join((*MODELS, "sampling")))
    given = parser.parse_args()
    found = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for name in given.only.split(","):
        before = roof_gflops()
        if name in PEERS:
            own = neuralforecast(PEERS[name], given.steps)
        else:
            own = sampling() if name == "sampling" else measure(name, given.steps)
        roofs = [round(before), round(roof_gflops())]
        found[name] = {**own, "roof_gflops": roofs, "machine": machine.facts()}
        print(name, own, roofs, flush=True)
        RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
