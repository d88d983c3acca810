"""Dense against recurrent as the window grows: parameters, error and time on the same data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recurra.insight.forecast_figures import window_comparison
from recurra.insight.forecast_report import comparison_report
from recurra.jobs import run_folder
from recurra.jobs.comparison import write_comparison
from recurra.jobs.configurations import to_yaml
from recurra.jobs.forecast.config import ForecastConfig
from recurra.jobs.forecast.dataset import read_dataset
from recurra.jobs.forecast.forecaster import Forecaster
from recurra.jobs.forecast.network import build_network
from recurra.jobs.forecast.training import measure_baselines, train
from recurra.jobs.job import Contest
from recurra.jobs.machine import origin
from recurra.tasks.forecast.measures import HIGHER_IS_BETTER
from recurra.training.files import write_text
from recurra.training.progress import Reporter


def compare_forecasters(
    base: ForecastConfig, cells: Sequence[str], folder: Path, reporter: Reporter
) -> dict[str, Any]:
    """Train the dense network and a direct model of each cell at every window; measure and draw.

    All learn from the last step of the same windows, equally often, and forecast test from the same
    origins with the window before each; early stopping is off. Each is kept as a run of its own.

    Returns:
        The content of `comparison.json`.
    """
    entries: dict[str, dict[str, Any]] = {}
    facts: dict[str, Any] = {}
    baselines: dict[str, Any] = {}
    for window in base.windows_compared:
        for name in ("dense", *cells):
            config = _member(base, name, window)
            own = folder / f"{name}-{window}"
            own.mkdir()
            write_text(own / run_folder.CONFIG, to_yaml(config))
            data = read_dataset(config)
            model = train(config, own, reporter, data=data)
            if model is None:
                continue
            facts, baselines = model.metrics["data"], model.metrics["baselines"]
            entries[own.name] = {
                "name": name,
                "window": window,
                "description": f"{name} {config.network.hidden_size}",
                **{key: model.metrics[key] for key in ("valid", "test", "parameters", "seconds")},
                "score": error_of(model.metrics["test"]),
            }
    figures = {
        "task": "forecast",
        "models": entries,
        "baselines": {
            name: error_of(value["test"]) for name, value in of_all_targets(baselines).items()
        },
        "data": facts,
        **origin(base.seed),
    }
    drawn = window_comparison(figures)
    write_comparison(folder, figures, comparison_report(figures, drawn), drawn)
    return figures


def error_of(test: Mapping[str, Any]) -> float:
    """One error: the mean of Brier score and MASE (or MAE), as far as there are such targets."""
    found = [test[name] for name in ("brier", "mase") if test.get(name) is not None]
    if not found:
        found = [value for name, value in test.items() if name == "mae" and value is not None]
    assert not HIGHER_IS_BETTER & {"brier", "mase", "mae"}
    return float(sum(found) / len(found))


def of_all_targets(baselines: Mapping[str, Any]) -> dict[str, Any]:
    """Those that forecast every target: an error over some of the targets compares with no other.

    Example:
        >>> figures = {"climatology": {"rain": {}, "wind": {}}, "markov_chain": {"rain": {}}}
        >>> list(of_all_targets({name: {"test": {"by_target": t}} for name, t in figures.items()}))
        ['climatology']
    """
    targets = {name: len(found["test"]["by_target"]) for name, found in baselines.items()}
    most = max(targets.values(), default=0)
    return {name: found for name, found in baselines.items() if targets[name] == most}


def _member(base: ForecastConfig, name: str, window: int) -> ForecastConfig:
    training = base.training.model_copy(update={"patience": 0, "max_minutes": None})
    windows = base.windows.model_copy(update={"window": window})
    network = base.network if name == "dense" else base.network.model_copy(update={"cell": name})
    return base.model_copy(
        update={
            "model": "dense" if name == "dense" else "direct",
            "training": training,
            "windows": windows,
            "network": network,
        }
    )


def contest_of(config: ForecastConfig, reporter: Reporter) -> Contest:
    """See `recurra.jobs.job.Job.contest`."""
    data = read_dataset(config)
    baselines = of_all_targets(measure_baselines(config, data))
    baselines.pop("best_possible", None)
    best = min(baselines, key=lambda name: error_of(baselines[name]["valid"]))

    def fit(member: ForecastConfig, folder: Path, shown: Reporter) -> Forecaster | None:
        return train(member, folder, shown, data=data, keep=False)

    return Contest(
        metric="error (mean of Brier score and MASE)",
        higher_is_better=False,
        score=error_of,
        baseline=best.replace("_", " "),
        baseline_figures={"parameters": 0, "seconds": 0.0, **baselines[best]},
        build=lambda member: build_network(member, data),
        train=fit,
    )
