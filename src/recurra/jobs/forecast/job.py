"""Forecasting as the command line knows it; see `recurra.jobs.job.Job`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recurra.data.forecast.tables import parse_csv, read_tables
from recurra.errors import ArgumentError
from recurra.insight.forecast_report import headline_columns, headline_rows, model_name, verdict
from recurra.jobs.forecast.config import ForecastConfig
from recurra.jobs.forecast.forecaster import Forecaster
from recurra.jobs.job import Answer, Comparison, Contest, Summary, Table
from recurra.training.progress import Reporter

if TYPE_CHECKING:
    import polars

Config = ForecastConfig
CELLS = ("rnn", "gru", "lstm")
READS_TABLES = True  # without one, the forecast goes on from the saved state
LINE_BY_LINE = False
MOST_SHOWN = 60  # rows of a forecast, for people


def recipe(given: Mapping[str, Any]) -> str:
    """One for all models."""
    return "weather"


def train(
    config: ForecastConfig,
    folder: Path,
    reporter: Reporter,
    *,
    at_hand: "polars.DataFrame | None" = None,
    keep: bool = True,
) -> Forecaster | None:
    """Train, measure and describe a forecaster in its folder; `at_hand` is a table in memory."""
    from recurra.jobs.forecast import training

    return training.train(config, folder, reporter, table=at_hand, keep=keep)


def load(folder: Path) -> Forecaster:
    """The forecaster of a finished run."""
    return Forecaster.load(folder)


def summary(model: Forecaster) -> Summary:
    """The model above its baselines and, if it is known, below the best that can be."""
    folder = model.folder
    return Summary(
        table(model.metrics),
        verdict(model.metrics),
        (
            f"recurra predict {folder}",
            f"recurra predict {folder} --file NEW_ROWS.csv",
            f"recurra evaluate {folder} --data OTHER.csv",
            "recurra compare forecast",
        ),
    )


def predict(model: Forecaster, inputs: Sequence[str], options: Mapping[str, Any]) -> Answer:
    """Forecasts after new rows: paths of tables, the lines of a CSV file, or nothing.

    Raises:
        ArgumentError: an option of another task.
    """
    if options:
        raise ArgumentError(f"--{sorted(options)[0]} is not for a forecaster")
    if not inputs:
        found = model.predict()
    elif len(inputs) == 1 or all(Path(path).is_file() for path in inputs):
        found = model.predict(read_tables(inputs))  # type: ignore[arg-type]
    else:
        content = "\n".join(inputs).encode()
        found = model.predict(parse_csv(content, "the rows"))  # type: ignore[arg-type]
    shown = [name for name in ("q0.1", "q0.5", "q0.9") if name in found.columns]
    names = [name for name in found.columns if not name.startswith("q") or name in shown]
    rows = [
        tuple(_shown(cell) for cell in row) for row in found.select(names).head(MOST_SHOWN).rows()
    ]
    more = len(found) - len(rows)
    text = [f"{more:,} more rows; --json has all"] if more else []
    return Answer(found.to_dicts(), text=text, tables=[Table(names, rows)])


def compare(
    config: ForecastConfig, cells: Sequence[str], folder: Path, reporter: Reporter
) -> Comparison:
    """The dense network on the flattened window against each cell, as the window grows."""
    from recurra.jobs.forecast.comparison import compare_forecasters

    figures = compare_forecasters(config, cells, folder, reporter)
    columns = ("model", "window", "parameters", "test error", "time")
    ordered = sorted(figures["models"].values(), key=lambda entry: entry["score"])
    rows = [
        (
            str(entry["description"]),
            str(entry["window"]),
            f"{entry['parameters']:,}",
            f"{entry['score']:.4f}",
            f"{entry['seconds']:.1f} s",
        )
        for entry in ordered
    ]
    return Comparison(folder, figures, Table(columns, rows))


def contest(config: ForecastConfig, reporter: Reporter) -> Contest:
    """Networks by their error, beside the baseline that is best on valid."""
    from recurra.jobs.forecast.comparison import contest_of

    return contest_of(config, reporter)


def table(metrics: Mapping[str, Any]) -> Table:
    """The model, its baselines and the best possible, side by side."""
    models = {metrics["description"]: metrics}
    models |= {model_name(key): value for key, value in metrics["baselines"].items()}
    if "best_possible" in metrics:
        models["best possible (known)"] = metrics["best_possible"]
    columns = headline_columns(metrics)
    return Table(
        ("model", *(title for title, _ in columns)),
        [(name, *headline_rows(figures, columns)) for name, figures in models.items()],
    )


def _shown(cell: Any) -> str:
    if cell is None:
        return ""
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
