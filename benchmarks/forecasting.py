"""Forecasting: the default job and public data, by the command line's own code.

    python benchmarks/forecasting.py weather compare
    python benchmarks/forecasting.py ett m4 nyc --data FOLDER [--horizons 96,192]
    python benchmarks/forecasting.py autoets --data FOLDER       # with the extra [baselines]

FOLDER has `ett/ETTh1.csv` (https://github.com/zhouhaoyi/ETDataset), `m4-hourly/Hourly-train.csv`
and `-test.csv` (https://github.com/Mcompetitions/M4-methods), `nycflights13-weather/weather.csv`
(https://github.com/tidyverse/nycflights13). The configurations are in `benchmarks/quality/`; each
was chosen on the valid part. One seed; `results/forecasting.json` keeps the results of several runs
of this script side by side.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import machine
import numpy as np
import polars as pl
import torch

from recurra.jobs.configurations import resolve
from recurra.jobs.forecast.autoets import autoets_points
from recurra.jobs.forecast.dataset import Dataset, read_dataset
from recurra.jobs.forecast.forecaster import Forecaster
from recurra.jobs.forecast.training import history_of, measure_baselines, train
from recurra.tasks.forecast import metrics
from recurra.tasks.forecast.backtest import forecast_at
from recurra.tasks.forecast.baselines import naive2
from recurra.tasks.forecast.measures import Backtest, measure, scales
from recurra.training.progress import ConsoleReporter

HERE = Path(__file__).parent
RESULT = HERE / "results" / "forecasting.json"
IN_MEMORY = {"data": ["a table in memory"]}  # so that no recipe for embedded data applies
KEPT = ("test", "valid", "parameters", "seconds", "total_seconds", "training")


def run(name: str, table: pl.DataFrame, settings: tuple[str, ...] = ()) -> Forecaster:
    """Train by a configuration of `quality/` on a table in memory."""
    config = resolve("forecast", HERE / "quality" / f"{name}.yaml", settings, IN_MEMORY)
    with tempfile.TemporaryDirectory() as folder:
        model = train(config, Path(folder), ConsoleReporter(), table=table, keep=False)
    assert model is not None
    return model


def kept(model: Forecaster) -> dict[str, Any]:
    """What the result file keeps of a run."""
    figures = {name: model.metrics[name] for name in KEPT}
    baselines = model.metrics["baselines"]
    return {**figures, "baselines": {name: value["test"] for name, value in baselines.items()}}


def weather() -> dict[str, Any]:
    """`recurra train forecast`."""
    start_s = time.perf_counter()
    model = Forecaster.train(reporter=ConsoleReporter())
    figures = kept(model)
    figures["best_possible"] = model.metrics["best_possible"]["test"]
    names = {"model": model.metrics, **model.metrics["baselines"]}
    names["best_possible"] = model.metrics["best_possible"]
    tomorrow = {name: value["by_horizon"]["brier"]["rain>0"][0] for name, value in names.items()}
    return {"wall_s": time.perf_counter() - start_s, "brier_of_tomorrow": tomorrow, **figures}


def compare() -> dict[str, Any]:
    """`recurra compare forecast`: dense against recurrent as the window grows."""
    command = [sys.executable, "-m", "recurra.cli.main", "compare", "forecast", "--json", "--out"]
    with tempfile.TemporaryDirectory() as folder:
        shown = subprocess.run([*command, f"{folder}/run"], capture_output=True, check=True)
    models = json.loads(shown.stdout)["models"]
    names = ("parameters", "score", "seconds")
    return {name: {key: entry[key] for key in names} for name, entry in models.items()}


def ett(data: Path, horizons: list[int]) -> dict[str, Any]:
    """ETTh1, look-back 96, all seven columns, 8,640 / 2,880 / 2,880 rows, z-scored by train."""
    frame = pl.read_csv(data / "ett" / "ETTh1.csv").head(14_400)
    columns = frame.columns[1:]
    train_rows = frame.head(8640)
    frame = frame.with_columns(
        (pl.col(name) - train_rows[name].mean()) / train_rows[name].std(ddof=0) for name in columns
    )
    found = {}
    for horizon in horizons:
        start_s, processor_s = time.perf_counter(), time.process_time()
        model = run("ett_h1", frame, (f"horizon={horizon}",))
        found[str(horizon)] = {
            **kept(model),
            "wall_s": round(time.perf_counter() - start_s, 1),
            "processor_s": round(time.process_time() - processor_s, 1),
            "threads": torch.get_num_threads(),
        }
        print(horizon, model.metrics["test"]["mse"], model.metrics["test"]["mae"], flush=True)
    return found


def m4(data: Path) -> dict[str, Any]:
    """M4 hourly: one model for all 414 series; sMAPE, MASE and OWA as the competition has them."""
    model = run("m4_hourly", m4_table(data))
    return {**kept(model), "competition": _competition(model)}


def m4_table(data: Path) -> pl.DataFrame:
    """The rows of training and test one after the other."""
    train_rows = (data / "m4-hourly" / "Hourly-train.csv").read_text().splitlines()[1:]
    test_rows = (data / "m4-hourly" / "Hourly-test.csv").read_text().splitlines()[1:]
    ids, times, values = [], [], []
    for known, ahead in zip(train_rows, test_rows, strict=True):
        name, *cells = [cell.strip('"') for cell in known.split(",")]
        own = [float(cell) for cell in cells if cell not in ("", "NA")]
        own += [float(cell.strip('"')) for cell in ahead.split(",")[1:]]
        ids += [name] * len(own)
        times += range(len(own))
        values += own
    return pl.DataFrame({"id": ids, "t": times, "y": values})


def _all_before_test(data: Dataset) -> Dataset:
    """MASE's scale, Naive2's season and AutoETS from all rows before test, as M4 has it."""
    partition = replace(data.partition, valid=data.partition.test)
    yardstick = replace(data.yardstick, scale=scales(data.series, data.partition.test, 24))
    return replace(data, partition=partition, yardstick=yardstick)


def _competition(model: Forecaster) -> dict[str, float | None]:
    data = _all_before_test(read_dataset(model.config, model.table))
    origins, truth = data.origins["test"], data.truth["test"]
    levels = model.config.network.levels
    mean, quantiles = forecast_at(model.network, data.flat, origins, levels)
    own = Backtest(origins, truth, mean.double().numpy(), quantiles.double().numpy())
    point = naive2(history_of(model.config, data), origins)
    other = Backtest(origins, truth, point, np.repeat(point[..., None], len(levels), axis=-1))
    found, naive = measure(own, data.yardstick), measure(other, data.yardstick)
    return {
        "smape": found["smape"],
        "mase": found["mase"],
        "naive2_smape": naive["smape"],
        "naive2_mase": naive["mase"],
        "owa": metrics.owa(found["smape"], found["mase"], naive["smape"], naive["mase"]),
    }


def autoets(data: Path) -> dict[str, Any]:
    """The extra baseline: on the default weather's temperature, and on M4 hourly."""
    start_s = time.perf_counter()
    config = resolve("forecast", None, ["autoets=true"], {})
    by_day = measure_baselines(config, read_dataset(config))["autoets"]["test"]
    weather_s = time.perf_counter() - start_s
    start_s = time.perf_counter()
    config = resolve("forecast", HERE / "quality" / "m4_hourly.yaml", (), IN_MEMORY)
    hourly = _all_before_test(read_dataset(config, m4_table(data)))
    mean = autoets_points(history_of(config, hourly))(hourly.origins["test"])
    backtest = Backtest(hourly.origins["test"], hourly.truth["test"], mean, mean[..., None])
    found = measure(backtest, hourly.yardstick)
    m4_s = time.perf_counter() - start_s
    return {
        "statsforecast": version("statsforecast"),
        "weather": {"seconds": round(weather_s, 1), **by_day},
        "m4": {"seconds": round(m4_s, 1), "smape": found["smape"], "mase": found["mase"]},
    }


def nyc(data: Path) -> dict[str, Any]:
    """Rain in the next 24 hours, and the temperature 24 hours ahead, at three airports."""
    frame = pl.read_csv(
        data / "nycflights13-weather" / "weather.csv", null_values=["NA"], infer_schema_length=None
    )
    frame = frame.sort("origin", "time_hour").unique(["origin", "time_hour"], keep="first")
    frame = frame.sort("origin", "time_hour").with_columns(
        pl.col("time_hour")
        .str.to_datetime("%Y-%m-%dT%H:%M:%SZ")
        .dt.replace_time_zone("UTC")
        .alias("hour_of")
    )
    wet = frame.rolling("hour_of", period="24h", group_by="origin").agg(
        pl.col("precip").max().alias("rain_24h")
    )
    frame = frame.join(wet, on=["origin", "hour_of"])
    kept_columns = ["origin", "hour_of", "rain_24h", "temp", "dewp", "humid", "wind_speed"]
    frame = frame.select(*kept_columns, "pressure", "visib", "precip")
    model = run("nyc_weather", frame)
    figures = kept(model)
    models = {"model": model.metrics, **model.metrics["baselines"]}
    for measure_name, target in (("brier", "rain_24h>0"), ("mae", "temp")):
        figures[f"{target}_{measure_name}_24_hours_ahead"] = {
            name: value["by_horizon"][measure_name][target][23]
            for name, value in models.items()
            if target in value["by_horizon"].get(measure_name, {})
        }
    return figures


ON_DATA = {"m4": m4, "nyc": nyc, "autoets": autoets}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="+", choices=[*ON_DATA, "weather", "compare", "ett"])
    parser.add_argument("--data", type=Path, help="folder of the public data")
    parser.add_argument("--horizons", default="96,192,336,720", help="of ETTh1")
    given = parser.parse_args()
    for part in given.parts:
        if part in ("weather", "compare"):
            found = weather() if part == "weather" else compare()
        elif part == "ett":
            horizons = [int(horizon) for horizon in given.horizons.split(",")]
            found = ett(given.data, horizons)
        else:
            found = ON_DATA[part](given.data)
        load = round(os.getloadavg()[0], 1)
        found["machine"] = {**machine.facts(), "load_average": load}
        result = json.loads(RESULT.read_text()) if RESULT.exists() else {}  # runs may overlap
        result[part] = {**(result.get(part, {}) if part == "ett" else {}), **found}
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(part, "written", flush=True)


if __name__ == "__main__":
    main()
