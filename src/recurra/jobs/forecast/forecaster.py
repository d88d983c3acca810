"""`recurra.Forecaster`: trained, measured, used and saved in one line each."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from recurra.data.forecast.schema import Schema
from recurra.data.forecast.series import SeriesSet, build_series
from recurra.data.forecast.tables import Table, read_tables, table_of
from recurra.data.forecast.windows import encode_series
from recurra.errors import DataError, RunFolderError
from recurra.jobs import run_folder
from recurra.jobs.configurations import from_run, to_yaml
from recurra.jobs.forecast.config import ForecastConfig
from recurra.jobs.forecast.continuation import Continuation, go_on, no_series
from recurra.jobs.forecast.dataset import (
    fingerprint,
    other_origins,
    read_dataset,
    yardstick_of,
)
from recurra.jobs.forecast.network import MODELS
from recurra.jobs.training import Paths, as_list, train_in_python
from recurra.tasks.forecast.backtest import forecast_at
from recurra.tasks.forecast.measures import Backtest, Yardstick, measure, scales, truth_at
from recurra.training.files import write_json
from recurra.training.progress import Reporter
from recurra.training.weights import load_network, save_network

if TYPE_CHECKING:
    import polars

SCHEMA, STATE = "schema.json", "state.safetensors"


@dataclass
class Forecaster:
    """A trained forecaster, with what it has read so far and its figures.

    Made by `train` or `recurra.load`.

    Attributes:
        network: the trained network.
        schema: how tables are read.
        state: the end of every series that was read; forecasts go on from there.
        config: what it was made from, resolved.
        metrics: the content of `metrics.json`.
        folder: its run folder, if it has one.

    Example:
        >>> import polars as pl, recurra
        >>> days = pl.date_range(pl.date(2020, 1, 1), pl.date(2020, 12, 31), eager=True)
        >>> sales = [float(100 + 10 * (day.weekday() < 5)) for day in days]
        >>> table = pl.DataFrame({"day": days, "sales": sales})
        >>> options = {"horizon": 2, "window": 7, "hidden_size": 8, "max_epochs": 30}
        >>> model = recurra.Forecaster.train(table, target="sales", learning_rate=0.03, **options)
        >>> model.metrics["test"]["mae"] < model.metrics["baselines"]["climatology"]["test"]["mae"]
        True
        >>> model.predict().select("day", "target").rows()
        [('2021-01-01', 'sales'), ('2021-01-02', 'sales')]
    """

    network: Any
    schema: Schema
    state: Continuation
    config: ForecastConfig
    metrics: dict[str, Any]
    log: list[dict[str, float]] = field(default_factory=list)
    folder: Path | None = None
    table: "polars.DataFrame | None" = None

    @classmethod
    def train(
        cls,
        data: "Paths | polars.DataFrame | None" = None,
        *,
        valid: Paths | None = None,
        test: Paths | None = None,
        out: str | Path | None = None,
        reporter: Reporter | None = None,
        **options: Any,
    ) -> "Forecaster":
        """Train a model, and measure the baselines beside it.

        Args:
            data: files, folders or globs; or a polars DataFrame; `None` is the embedded weather.
            valid: to choose the model by; `None` holds out the end of `data`.
            test: to report on; `None` holds out the end of `data`.
            out: run folder to write; `None` writes nothing (see `save`).
            reporter: shows the progress; `None` shows none.
            options: any key of the configuration: `target`, `time`, `id`, `horizon`, `window`,
                `model`, `cell`, … (`recurra validate` lists them).

        Raises:
            ConfigError: an unknown option, or a value that is not allowed.
            DataError: a table that cannot be read.
        """
        is_path = data is None or isinstance(data, str | Path | list | tuple)
        trained: Forecaster = train_in_python(
            "forecast",
            options,
            data=data if is_path else None,  # type: ignore[arg-type]
            valid=valid,
            test=test,
            at_hand=None if is_path else data,
            out=out,
            reporter=reporter,
        )
        return trained

    def evaluate(self, data: "Paths | polars.DataFrame | None" = None) -> dict[str, Any]:
        """Metrics of a back-test at every origin.

        Args:
            data: rows to measure on, read from the first without what the model has read before;
                the first window is not forecast. `None` is the test split that the model was made
                with.

        Raises:
            DataError: the data cannot be read, or is no longer what the model was made with.
        """
        levels = self.config.network.levels
        if data is not None:
            series = self._series(data)
            origins = other_origins(series, self.schema, self.network.horizon, self.network.window)
            ends = series.offsets[1:]
            yardstick = self._yardstick(series, scales(series, ends, self.schema.season))
            flat = encode_series(series, self.schema)
            truth = truth_at(series, origins, self.network.horizon)
        else:
            found = self._own_data()
            origins, truth = found.origins["test"], found.truth["test"]
            yardstick, flat = found.yardstick, found.flat
        mean, quantiles = forecast_at(self.network, flat, origins, levels)
        backtest = Backtest(origins, truth, mean.double().numpy(), quantiles.double().numpy())
        figures = measure(backtest, yardstick)
        if data is None:
            from recurra.jobs.forecast.training import overall_weighted_average

            average = overall_weighted_average(self.config, found, figures, "test")
            if average is not None:
                figures["owa"] = average
        return figures

    def predict(self, data: "Paths | polars.DataFrame | None" = None) -> "polars.DataFrame":
        """Forecasts from the last observation on.

        Args:
            data: rows that came after those that the model has read; rows that it has read are
                passed over. Rows after the last observation give future covariates, their targets
                empty. A series that is new begins with its first row. `None`: no new rows; all
                known series are forecast.

        Returns:
            A row for each series, time and target: time and id by the names of their columns,
            `target`, `mean` (of a yes/no target the probability of yes), and `q0.1` … for the
            configured levels. Equal to reading everything from the start.

        Raises:
            DataError: a future covariate that ends before the horizon; see `data.forecast`.
        """
        new = None if data is None else self._series(data)
        levels = self.config.network.levels
        forecast, ids, origins, _ = go_on(self.network, self.schema, self.state, new, levels)
        assert forecast is not None
        return self._rows(forecast.mean, forecast.quantiles, ids, origins)

    def update(self, data: "Paths | polars.DataFrame") -> None:
        """Read new rows, so that `predict` goes on from them; the weights stay as they are."""
        new = self._series(data)
        self.state = go_on(self.network, self.schema, self.state, new, ())[3]

    def save(self, path: str | Path) -> None:
        """Write a run folder that `recurra.load` reads; `metrics.json` comes last.

        Raises:
            RunFolderError: the folder has content, or cannot be written.
        """
        self.write(run_folder.new_folder(path, "forecast"))

    def write(self, folder: Path) -> None:
        """Write into a folder that is this model's own."""
        from recurra.insight.forecast_report import forecast_report

        save_network(self.network, self.config.model, folder / run_folder.WEIGHTS)
        write_json(folder / SCHEMA, self.schema.as_dict())
        self.state.save(folder / STATE)
        text = to_yaml(self.config)
        page = forecast_report(self.metrics, self.log, text)
        run_folder.write_run(folder, text, self.metrics, page, self.folder)
        self.folder = folder

    @classmethod
    def load(cls, folder: Path) -> "Forecaster":
        """Read a run folder; see `recurra.load`."""
        config = from_run(run_folder.read_config(folder), str(folder / run_folder.CONFIG))
        metrics = run_folder.read_metrics(folder)
        values = run_folder.read_json(folder / SCHEMA)
        try:
            schema = Schema.from_dict(values)
        except (KeyError, TypeError, AttributeError) as error:
            raise RunFolderError(f"{folder / SCHEMA} is damaged: {error}") from error
        network, _ = load_network(folder / run_folder.WEIGHTS, MODELS)
        layout = encode_series(no_series(schema), schema).layout
        state = Continuation.load(folder / STATE, layout)
        rows = run_folder.read_rows(folder)
        return cls(network, schema, state, config, metrics, rows, folder)

    def _series(self, data: "Paths | polars.DataFrame | Table") -> SeriesSet:
        if isinstance(data, Table):
            table = data
        elif isinstance(data, str | Path | list | tuple):
            table = read_tables(as_list(data))
        else:
            table = table_of(data)  # type: ignore[arg-type]
        schema = self.schema
        return build_series(
            table,
            schema.columns,
            frequency=schema.frequency,
            zone=schema.zone,
            time_format=schema.time_format,
            needs_targets=False,
        )

    def _yardstick(self, series: SeriesSet, scale: Any) -> Yardstick:
        yardstick = yardstick_of(self.schema, self.config.network.levels, scale, series)
        return replace(yardstick, has_intervals=self.config.head() not in ("mse", "mae"))

    def _own_data(self) -> Any:
        if self.metrics["data"]["in_memory"] and self.table is None:
            raise DataError(
                "the model was trained on a table in memory; pass the data to measure on"
            )
        found = read_dataset(self.config, self.table)
        if fingerprint(found.series) != self.metrics["data"]["fingerprint"]:
            source = ", ".join(self.config.table.data) or "the simulated weather"
            raise DataError(
                f"the data of the run has changed: {source} is not what the model was trained and "
                "tested on, so its splits cannot be found again; pass --data with rows to measure"
                " on"
            )
        return found

    def _rows(
        self, mean: torch.Tensor, quantiles: torch.Tensor, ids: Sequence[str], origins: Any
    ) -> "polars.DataFrame":
        import polars as pl

        columns, frequency = self.schema.columns, self.schema.frequency
        names = ["value"] if columns.is_wide else [target.name for target in columns.targets]
        series, horizon, targets = mean.shape
        ahead = frequency.times(origins[:, None] + np.arange(1, horizon + 1)).ravel()
        times = [frequency.text(int(time)) for time in ahead]
        count = targets
        found: dict[str, Any] = {}
        if columns.id is not None or columns.is_wide:
            found[columns.id or "series"] = [name for name in ids for _ in range(horizon * count)]
        found[columns.time] = [time for time in times for _ in range(count)]
        found["target"] = names * (series * horizon)
        found["mean"] = mean.reshape(-1).tolist()
        is_yesno = [target.kind == "yesno" for target in columns.targets[: len(names)]]
        hidden = is_yesno * (series * horizon)
        for k, level in enumerate(self.config.network.levels):
            values = quantiles[..., k].reshape(-1).tolist()
            pairs = zip(values, hidden, strict=True)
            found[f"q{level:g}"] = [None if is_hidden else value for value, is_hidden in pairs]
        return pl.DataFrame(found)
