"""Forecasting by the command line, from a table to forecasts; and issue 6's bad inputs."""

import json
import math
import sys
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from commands import recurra, refused

import recurra as package
from recurra.errors import DataError

DAYS = 120
SMALL = [
    *("--set", "time=day", "--set", "id=shop", "--set", "target=[sales,rain>0]"),
    *("--set", "future_covariates=open", "--set", "static_covariates=size"),
    *("--set", "horizon=3", "--set", "window=14", "--set", "hidden_size=8"),
    *("--set", "learning_rate=0.01", "--set", "max_epochs=3", "--set", "season=7"),
]


def shops(days=DAYS, first=0, names=("north", "south")) -> pl.DataFrame:
    """Two shops with a weekly rhythm, rain, a known calendar of opening, gaps and a kind of day."""
    rows = []
    for s, name in enumerate(names):
        for k in range(first, first + days):
            if k % 17 == 5 or k < 9 * s:
                continue  # a day that is not in the table, or before a shop opened
            weekday = k % 7
            rows.append(
                {
                    "shop": name,
                    "day": (date(2023, 1, 2) + timedelta(days=k)).isoformat(),
                    "sales": None if k % 23 == 7 else 100.0 + 50 * s + 10 * math.sin(weekday),
                    "rain": float((k * k + s) % 3 == 0),
                    "open": float(weekday < 6),
                    "size": 1.0 + s,
                    "kind": ["sun", "cloud", "storm"][k % 3],
                }
            )
    return pl.DataFrame(rows)


def write(folder: Path, frame: pl.DataFrame, name: str = "shops.csv") -> Path:
    folder.mkdir(exist_ok=True)
    frame.write_csv(folder / name)
    return folder / name


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("table"), shops())


@pytest.fixture(scope="module")
def trained(tmp_path_factory, table) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("runs") / "direct"
    result = recurra("train", "forecast", "--data", table, "--out", folder, *SMALL, "--json")
    assert result.exit_code == 0, result.output
    return folder, json.loads(result.stdout)


@pytest.fixture(scope="module")
def run(trained) -> Path:
    return trained[0]


@pytest.fixture(scope="module")
def windowed(tmp_path_factory, table) -> Path:
    """A run whose windows have a scale each, so that no memory is carried."""
    folder = tmp_path_factory.mktemp("runs") / "windowed"
    options = ("--data", table, "--out", folder, *SMALL, "--set", "scaling=reversible")
    assert recurra("train", "forecast", *options).exit_code == 0
    return folder


def test_training_writes_the_whole_run_folder(trained):
    folder, printed = trained
    files = {path.name for path in folder.iterdir()}
    assert files >= {
        *("model.safetensors", "config.yaml", "metrics.json", "schema.json", "state.safetensors"),
        *("log.csv", "report.html", "checkpoints"),
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {"run": str(folder), **metrics} == printed
    assert metrics.keys() >= {
        *("task", "model", "valid", "test", "baselines", "parameters", "seconds"),
        *("peak_memory_bytes", "seed", "command", "versions", "machine"),
    }
    assert metrics["test"].keys() >= {"mae", "mse", "mase", "smape", "crps", "brier", "auc"}
    assert metrics["baselines"].keys() == {
        *("last_value", "seasonal_naive", "climatology", "markov_chain")
    }
    assert metrics["test"]["by_target"].keys() == {"sales", "rain>0"}
    page = (folder / "report.html").read_text()
    for heading in ("Forecasts", "Error by horizon", "Calibration", "All measures on test"):
        assert f"<h2>{heading}</h2>" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_evaluate_finds_the_test_split_again_and_measures_other_rows(run, trained, tmp_path):
    found = json.loads(recurra("evaluate", run, "--json").stdout)
    assert found["mae"] == pytest.approx(trained[1]["test"]["mae"], rel=1e-5)
    assert found["forecasts"] == trained[1]["test"]["forecasts"]
    other = write(tmp_path, shops(60, first=DAYS))
    metrics = json.loads(recurra("evaluate", run, "--data", other, "--json").stdout)
    assert metrics["forecasts"] > 50
    assert metrics["mae"] < 60


@pytest.mark.parametrize("which", ["run", "windowed"])
def test_predict_goes_on_from_new_rows_as_if_it_had_read_everything(
    which, request, table, tmp_path
):
    folder = request.getfixturevalue(which)
    model = package.load(folder)
    new = shops(23, first=DAYS)
    known = shops(3, first=DAYS + 23).with_columns(
        sales=pl.lit(None, dtype=pl.Float64),
        rain=pl.lit(None, dtype=pl.Float64),
        kind=pl.lit(None, dtype=pl.String),
    )
    rows = pl.concat([new, known])
    path = write(tmp_path, rows)
    answers = json.loads(recurra("predict", folder, "--file", path, "--json").stdout)
    assert len(answers) == 2 * 3 * 2  # shops, steps, targets
    assert {answer["day"] for answer in answers} == {f"2023-05-{d}" for d in (25, 26, 27)}
    whole = model.predict(pl.concat([shops(DAYS), rows]))  # what was read is passed over
    in_two = package.load(folder)
    in_two.update(new.filter(pl.col("day") < "2023-05-10"))
    rest = in_two.predict(rows.filter(pl.col("day") >= "2023-05-10"))
    fresh = _read_everything(model, pl.concat([shops(DAYS), rows]))
    for found in (whole, rest, fresh):
        for one, other in zip(found.to_dicts(), answers, strict=True):
            assert (one["shop"], one["day"], one["target"]) == (
                *(other["shop"], other["day"], other["target"]),
            )
            assert one["mean"] == pytest.approx(other["mean"], rel=1e-4)


def _read_everything(model, frame: pl.DataFrame) -> pl.DataFrame:
    """The forecast of a model that has read nothing yet."""
    import numpy as np

    from recurra.data.forecast.windows import encode_series
    from recurra.jobs.forecast.continuation import Continuation, no_series

    flat = encode_series(no_series(model.schema), model.schema)
    memory = None if model.state.memory is None else model.state.memory[:0]
    empty = Continuation((), np.zeros(0, dtype=np.int64), flat, memory)
    again = package.Forecaster(model.network, model.schema, empty, model.config, model.metrics)
    return again.predict(frame)


def test_predict_takes_new_series_and_categories_never_seen(run, tmp_path):
    new = shops(30, names=("west",)).with_columns(
        kind=pl.when(pl.col("day") > "2023-01-20").then(pl.lit("hail")).otherwise("kind")
    )
    known = shops(4, first=30, names=("west",)).with_columns(
        sales=pl.lit(None, dtype=pl.Float64),
        rain=pl.lit(None, dtype=pl.Float64),
        kind=pl.lit(None, dtype=pl.String),
    )
    path = write(tmp_path, pl.concat([new, known]), "west.csv")
    answers = json.loads(recurra("predict", run, path, "--json").stdout)  # a path as argument
    assert {answer["shop"] for answer in answers} == {"west"}
    assert all(math.isfinite(answer["mean"]) for answer in answers)
    chance = [a["mean"] for a in answers if a["target"] == "rain>0"]
    assert all(0 < p < 1 for p in chance)
    assert "day" in recurra("predict", run, path).stdout


def test_a_future_covariate_that_ends_too_early_is_refused(run, tmp_path):
    path = write(tmp_path, shops(10, first=DAYS))
    message = refused("predict", run, "--file", path)
    assert "future covariate 'open' of series 'north' has no value at 2023-05-12" in message
    assert "a forecast of 3 steps needs it up to 2023-05-14" in message
    assert "future covariate 'open'" in refused("predict", run)  # nothing beyond training is known


def test_rows_off_the_grid_and_other_options_are_refused(run, tmp_path):
    bad = shops(10, first=DAYS).with_columns(day=pl.col("day") + "T05:00")
    path = write(tmp_path, bad)
    message = refused("predict", run, "--file", path)
    assert f"{path}, row 2: time 2023-05-02 05:00:00 is not on the grid of the model" in message
    piped = refused("predict", run, "-", stdin=path.read_text())
    assert "the rows, row 2: time 2023-05-02 05:00:00" in piped
    assert "nosuch.csv: does not exist" in refused("predict", run, "nosuch.csv")
    assert "--count is not for a forecaster" in refused("predict", run, "--count", 3)
    missing = write(tmp_path, shops(10, first=DAYS).drop("open"), "missing.csv")
    assert "there is no column 'open'" in refused("predict", run, "--file", missing)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("autoregressive", ["head=student_t", "paths=8", "target=sales"]),
        ("autoregressive", ["head=negative_binomial", "paths=8", "target=rain"]),
        ("segment", ["segment=7", "target=sales", "cell=gru"]),
        ("dense", ["head=gaussian"]),
        ("direct", ["head=mse", "target=sales", "scaling=robust"]),
    ],
)
def test_every_model_trains_saves_and_predicts(tmp_path, table, model, options):
    run = tmp_path / "run"
    settings = [part for option in options for part in ("--set", option)]
    common = ("--data", table, "--out", run, "--model", model, *SMALL, "--max-epochs", 1)
    result = recurra("train", "forecast", *common, "--set", "future_covariates=[]", *settings)
    assert result.exit_code == 0, result.output
    answers = json.loads(recurra("predict", run, "--json").stdout)
    assert len(answers) >= 6
    assert all(math.isfinite(answer["mean"]) for answer in answers)


def test_a_run_that_goes_on_ends_with_the_same_bits(tmp_path, table):
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    common = ("--data", table, *SMALL, "--set", "schedule=constant")
    for folder, epochs in ((whole, 2), (parted, 1)):
        result = recurra("train", "forecast", *common, "--out", folder, "--max-epochs", epochs)
        assert result.exit_code == 0, result.output
    (parted / "metrics.json").unlink()
    assert recurra("train", "forecast", "--resume", parted, "--max-epochs", 2).exit_code == 0
    assert (whole / "model.safetensors").read_bytes() == (parted / "model.safetensors").read_bytes()


def test_compare_grows_the_window_of_dense_and_recurrent_networks(tmp_path, table):
    folder = tmp_path / "compared"
    options = ("--data", table, "--out", folder, *SMALL, "--cells", "rnn", "--max-epochs", 1)
    settings = ("--set", "windows_compared=[3,9]", "--set", "carries=false")
    result = recurra("compare", "forecast", *options, *settings, "--json")
    assert result.exit_code == 0, result.output
    models = json.loads(result.stdout)["models"]
    assert list(models) == ["dense-3", "rnn-3", "dense-9", "rnn-9"]
    assert models["dense-9"]["parameters"] > models["dense-3"]["parameters"]
    assert models["rnn-9"]["parameters"] == models["rnn-3"]["parameters"]
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert "as the window grows" in (folder / "report.html").read_text()


def test_the_embedded_weather_has_its_best_possible_score_beside_it(tmp_path):
    out = tmp_path / "weather"
    options = ("--out", out, "--max-epochs", 1, "--set", "hidden_size=8", "--json")
    result = recurra("train", "forecast", *options)
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)
    assert metrics["data"]["source"].startswith("simulated")
    best = metrics["best_possible"]["test"]["by_target"]
    for name, measure in (("rain>0", "brier"), ("temperature", "crps")):
        others = [metrics, *metrics["baselines"].values()]
        values = [m["test"]["by_target"].get(name, {}).get(measure) for m in others]
        assert best[name][measure] < min(value for value in values if value is not None)
    assert "the best possible is" in (out / "report.html").read_text()


# Bad input: a message, exit code 2, nothing lost.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["horizon=200"], "horizon=200 is longer than the data, whose longest series has"),
        (["horizon=60"], "leaves no forecast of 60 steps"),
        (["target=price"], "there is no column 'price' (target)"),
        (["target=rain > much"], "no column 'rain > much' (target; a condition is a column, one"),
        (["target=rain>1.2.3"], "there is no column 'rain>1.2.3' (target; a condition is"),
        (["head=negative_binomial", "target=sales"], "is no count"),
        (["model=segment"], "must all be of one kind"),
        (["model=autoregressive", "head=mae"], "draws paths"),
        (["scaling=max"], "network.scaling = 'max': it must be one of standard, mean"),
        (["head=normal"], "network.head = 'normal': it must be one of quantiles"),
        (["levels=[0.9,0.1]"], "levels must rise"),
        (["timezone=Mars/Base"], "timezone='Mars/Base' is unknown"),
        (["test_from=soon"], "'soon' is no time"),
        (["valid_share=0.6", "test_share=0.5"], "leave nothing to train on"),
        (["time=[1]"], "table.time"),
        (["targets=sales"], "unknown key 'targets'; did you mean 'target'?"),
    ],
)
def test_wrong_options_are_named(tmp_path, table, options, message):
    settings = [part for option in options for part in ("--set", option)]
    printed = refused(
        "train", "forecast", "--data", table, "--out", tmp_path / "run", *SMALL, *settings
    )
    assert message in printed
    assert not (tmp_path / "run").exists()


def test_a_baseline_without_its_library_stops_before_training_and_leaves_nothing(
    tmp_path, table, monkeypatch
):
    monkeypatch.setitem(sys.modules, "statsforecast", None)
    monkeypatch.setitem(sys.modules, "statsforecast.models", None)
    options = ("--out", tmp_path / "run", *SMALL, "--set", "autoets=true")
    assert "autoets=true needs statsforecast: pip install" in refused(
        "train", "forecast", "--data", table, *options
    )
    assert not (tmp_path / "run").exists()


def test_an_empty_column_is_named(tmp_path):
    path = write(tmp_path, shops().with_columns(rain=pl.lit("")))
    options = ("--out", tmp_path / "run", *SMALL)
    assert "column 'rain' (target) has no value" in refused(
        "train", "forecast", "--data", path, *options
    )
    path = write(tmp_path, shops().with_columns(kind=pl.lit("")))
    assert "column 'kind' has no value in the rows to train on" in refused(
        "train", "forecast", "--data", path, "--out", tmp_path / "run2", *SMALL
    )


def test_a_constant_series_has_no_mase_and_the_report_says_so(tmp_path):
    frame = shops().with_columns(sales=pl.lit(5.0))
    path, run = write(tmp_path, frame), tmp_path / "run"
    options = ("--out", run, *SMALL, "--set", "target=sales", "--max-epochs", 1)
    result = recurra("train", "forecast", "--data", path, *options)
    assert result.exit_code == 0, result.output
    assert json.loads((run / "metrics.json").read_text())["test"]["mase"] is None
    for said in (" ".join(result.stdout.split()), (run / "report.html").read_text()):
        assert "MASE is not defined for 2 series" in said


def test_test_rows_inside_training_are_leakage(tmp_path, table):
    options = ("--data", table, "--test", table, "--out", tmp_path / "run", *SMALL)
    message = refused("train", "forecast", *options)
    assert "a model may not be measured on times that it was trained on" in message


def test_files_of_valid_and_test_follow_training(tmp_path, table):
    valid = write(tmp_path, shops(20, first=DAYS), "valid.csv")
    test = write(tmp_path, shops(20, first=DAYS + 20), "test.csv")
    files = ("--data", table, "--valid", valid, "--test", test, "--out", tmp_path / "run")
    result = recurra("train", "forecast", *files, *SMALL, "--max-epochs", 1, "--json")
    assert result.exit_code == 0, result.output
    counts = json.loads(result.stdout)["data"]
    assert (counts["valid_rows"], counts["test_rows"]) == (40, 40)


def test_changed_data_and_damaged_folders_are_noticed(tmp_path, run, table):
    import shutil

    for name in ("schema.json", "state.safetensors", "model.safetensors"):
        copy = tmp_path / name.split(".")[0]
        shutil.copytree(run, copy)
        (copy / name).write_text("{}")
        assert name in refused("predict", copy)
    other = write(tmp_path, shops(DAYS - 1))
    copy = tmp_path / "changed"
    result = recurra("train", "forecast", "--data", other, "--out", copy, *SMALL, "--max-epochs", 1)
    assert result.exit_code == 0
    write(tmp_path, shops(DAYS))
    assert "has changed" in refused("evaluate", copy)


def test_a_table_in_memory_trains_and_its_run_asks_for_rows(tmp_path):
    model = package.Forecaster.train(
        shops(60), time="day", id="shop", target="sales", horizon=2, window=7, hidden_size=4,
        max_epochs=1,
    )  # fmt: skip
    assert model.evaluate()["forecasts"] == model.metrics["test"]["forecasts"]
    model.save(tmp_path / "run")
    loaded = package.load(tmp_path / "run")
    assert loaded.predict().equals(model.predict())
    with pytest.raises(DataError, match="trained on a table in memory"):
        loaded.evaluate()
