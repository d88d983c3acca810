"""The page of a forecasting run: forecasts, errors by horizon, calibration."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from recurra.insight.figures import Rows, gradients
from recurra.insight.forecast_figures import (
    calibration_plot,
    errors_by_horizon,
    forecasts,
    score_curve,
)
from recurra.insight.report import comparison_facts, facts_table, figure, making_table, page, table

BEST = "best possible (known)"
MOST_TARGETS = 3  # that have columns and figures of their own


def forecast_report(metrics: Mapping[str, Any], log: Rows, config: str) -> str:
    """The page of a forecasting run.

    Args:
        metrics: the content of `metrics.json`.
        log: the rows of `log.csv`.
        config: the content of `config.yaml`.
    """
    name = metrics["description"]
    parts = [
        f"<h1>{escape(name)}</h1>",
        f'<p class="lead">{escape(verdict(metrics))}</p>',
        _model_table(metrics),
        *_notes(metrics),
        "<h2>Forecasts</h2>",
        *_examples(metrics),
        "<h2>Error by horizon</h2>",
        *_horizons(metrics),
        "<h2>Calibration</h2>",
        *_calibration(metrics),
        "<h2>Learning</h2>",
        *_learning(metrics, log),
        "<h2>All measures on test</h2>",
        _all_measures(metrics),
        "<h2>The data</h2>",
        facts_table(metrics["data"]),
        "<h2>How this was made</h2>",
        making_table(metrics, "windows"),
        f"<pre>{escape(config)}</pre>",
    ]
    return page(f"recurra: {name}", parts)


def comparison_report(figures: Mapping[str, Any], drawn: Any) -> str:
    """The page of a comparison.

    Args:
        figures: the content of `comparison.json`.
        drawn: the figure of the comparison.
    """
    heads = ("model", "window", "parameters", "error on test", "seconds")
    rows = [
        (
            entry["description"],
            str(entry["window"]),
            f"{entry['parameters']:,}",
            f"{entry['score']:.4f}",
            f"{entry['seconds']:.1f}",
        )
        for entry in figures["models"].values()
    ]
    parts = [
        "<h1>Dense against recurrent, as the window grows</h1>",
        '<p class="lead">The same windows, equally often; forecasts from the same origins.</p>',
        table(heads, rows),
        figure(drawn, "The error is the mean of the Brier score and MASE, as far as they apply."),
        *comparison_facts(figures, "data"),
    ]
    return page("recurra: forecasters compared", parts)


def verdict(metrics: Mapping[str, Any]) -> str:
    """What the run shows, in a sentence for each of its first targets."""
    sentences = []
    for target, own in list(metrics["test"]["by_target"].items())[:MOST_TARGETS]:
        measure, step = ("brier", 0) if "brier" in own else ("mae", None)
        values = {name: _headline(m, target, measure, step) for name, m in _models(metrics).items()}
        mine = values.pop(metrics["description"])
        best = values.pop(BEST, None)
        rivals = {name: value for name, value in values.items() if value is not None}
        if mine is None or not rivals:
            continue
        title = f"{target}, Brier score one step ahead" if step == 0 else f"{target}, MAE"
        against = ", ".join(
            f"{_share(mine, value)} {name} ({value:.3f})" for name, value in rivals.items()
        )
        known = f"; the best possible is {best:.3f}" if best is not None else ""
        sentences.append(f"{title} {mine:.3f}: {against}{known}.")
    if not sentences:
        sentences = [f"{metrics['test']['forecasts']:,} forecasts of test."]
    return " ".join([*sentences, *_undefined(metrics)])


def _undefined(metrics: Mapping[str, Any]) -> list[str]:
    """What to say where MASE has no scale."""
    count = metrics["test"].get("mase_undefined")
    left_out = "constant in training; left out of it"
    return [f"MASE is not defined for {count} series ({left_out})."] if count else []


def headline_columns(metrics: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Titles of the table's columns, with what finds their figure: (target, measure, step)."""
    targets = metrics["test"]["by_target"]
    if len(targets) > MOST_TARGETS:
        names = [n for n in ("mae", "mse", "mse_scaled", "crps", "brier") if n in metrics["test"]]
        return [(f"{n} (mean of {len(targets)})", (None, n, None)) for n in names]
    columns: list[tuple[str, Any]] = []
    for target, own in targets.items():
        if "brier" in own:
            columns += [
                (f"{target}: Brier +1", (target, "brier", 0)),
                (f"Brier +1…{metrics['horizon']}", (target, "brier", None)),
                ("AUC", (target, "auc", None)),
            ]
        else:
            columns += [
                (f"{target}: MAE", (target, "mae", None)),
                ("MASE", (target, "mase", None)),
                ("CRPS", (target, "crps", None)),
            ]
    return columns


def headline_rows(figures: Mapping[str, Any], columns: Sequence[tuple[str, Any]]) -> list[str]:
    """One model's figures for `headline_columns`."""
    found = [_headline(figures, *where) for _, where in columns]
    return ["" if value is None else f"{value:.4g}" for value in found]


def model_name(key: str) -> str:
    """A baseline's key in words.

    Example:
        >>> model_name("last_value")
        'last value'
    """
    return "AutoETS" if key == "autoets" else key.replace("_", " ")


def _models(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    models = {metrics["description"]: metrics}
    models |= {model_name(name): value for name, value in metrics["baselines"].items()}
    if "best_possible" in metrics:
        models[BEST] = metrics["best_possible"]
    return models


def _headline(
    figures: Mapping[str, Any], target: str | None, measure: str, step: int | None
) -> float | None:
    if target is None:
        value: float | None = figures["test"].get(measure)
        return value
    if step is not None:
        values = figures["by_horizon"].get(measure, {}).get(target)
        return None if values is None else values[step]
    found: float | None = figures["test"]["by_target"].get(target, {}).get(measure)
    return found


def _share(own: float, other: float) -> str:
    if not other:
        return "against"
    return f"{abs(1 - own / other):.0%} {'below' if own <= other else 'above'}"


def _model_table(metrics: Mapping[str, Any]) -> str:
    columns = headline_columns(metrics)
    heads = ["model", *(title for title, _ in columns)]
    rows = [[name, *headline_rows(figures, columns)] for name, figures in _models(metrics).items()]
    return table(heads, rows, metrics["description"])


def _notes(metrics: Mapping[str, Any]) -> list[str]:
    if "source" not in metrics["data"]:
        return []
    return [
        '<p class="note">The weather is simulated, so the best possible forecast is known: it is '
        "the generator's own, and no model can be better but by luck.</p>"
    ]


def _examples(metrics: Mapping[str, Any]) -> list[str]:
    examples = metrics["examples"]
    parts = []
    for target in list(metrics["test"]["by_target"])[:MOST_TARGETS]:
        has_intervals = "coverage_80" in metrics["test"]["by_target"][target]
        caption = f"Three forecasts of test, evenly spread. Grey: {target} before the origin."
        parts.append(figure(forecasts(examples, target, has_intervals), caption))
    return parts


def _horizons(metrics: Mapping[str, Any]) -> list[str]:
    parts = []
    for target, own in list(metrics["test"]["by_target"].items())[:MOST_TARGETS]:
        measure = "brier" if "brier" in own else "mae"
        lines = {
            name: figures["by_horizon"][measure][target]
            for name, figures in _models(metrics).items()
            if target in figures.get("by_horizon", {}).get(measure, {})
        }
        label = f"Brier score of {target}" if measure == "brier" else f"MAE of {target}"
        drawn = errors_by_horizon(lines, metrics["description"], label)
        parts.append(figure(drawn, f"{label} at each step ahead, on the same origins."))
    return parts


def _calibration(metrics: Mapping[str, Any]) -> list[str]:
    parts = []
    for target, rows in list(metrics["calibration"].items())[:MOST_TARGETS]:
        is_yesno = "reliability" in rows
        drawn = calibration_plot(rows["reliability" if is_yesno else "quantiles"], target, is_yesno)
        caption = (
            "One step ahead; the bars show how often each probability was given."
            if is_yesno
            else "All steps of the horizon. Below the diagonal the quantile lies too low."
        )
        parts.append(figure(drawn, caption))
    return parts or ["<p>This model gives points, without intervals.</p>"]


def _learning(metrics: Mapping[str, Any], log: Rows) -> list[str]:
    if not log:
        return []
    clipped = metrics["training"]["clipped_share"]
    drawn = gradients(log, metrics["training"]["gradient_clip"])
    caption = (
        "The score is the mean over the targets of CRPS in units of MASE's scale, or log loss."
    )
    return [
        figure(score_curve(log), caption),
        figure(drawn, f"The gradient was clipped on {clipped:.0%} of the steps."),
    ]


def _all_measures(metrics: Mapping[str, Any]) -> str:
    targets = metrics["test"]["by_target"]
    names = list(dict.fromkeys(name for own in targets.values() for name in own))
    rows = []
    for name in names:
        values = [own.get(name) for own in targets.values()]
        cells = ["" if value is None else f"{value:.5g}" for value in values]
        rows.append([name.replace("_", " "), *cells])
    return table(["", *targets], rows)
