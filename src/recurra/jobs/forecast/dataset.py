"""The data of a run: read, laid out, split by time, encoded, and recognised by its fingerprint."""

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recurra.data.forecast import weather
from recurra.data.forecast.frequency import Frequency
from recurra.data.forecast.partition import Partition, check_no_leakage, split_by_time
from recurra.data.forecast.schema import Columns, Schema, choose_columns
from recurra.data.forecast.series import SeriesSet, build_series, statistics_of, target_key
from recurra.data.forecast.tables import Table, read_tables, table_of
from recurra.data.forecast.windows import FlatSeries, encode_series, find_origins
from recurra.errors import DataError
from recurra.jobs.forecast.config import ForecastConfig, TableOptions
from recurra.tasks.forecast.measures import Yardstick, scales, truth_at

if TYPE_CHECKING:
    import polars

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Dataset:
    """All that training and measuring read.

    Attributes:
        series: all rows. schema: how they are encoded. partition: of the rows by time.
        flat: the same rows as tensors.
        origins: flat rows by split. truth: what happened after them, of valid and test.
        yardstick: what errors are measured against.
        simulated: the embedded weather, whose best forecast is known; None for other data.
    """

    series: SeriesSet
    schema: Schema
    partition: Partition
    flat: FlatSeries
    origins: dict[str, NDArray[np.int64]]
    truth: dict[str, NDArray[np.float64]]
    yardstick: Yardstick
    simulated: "polars.DataFrame | None" = None

    def facts(self) -> dict[str, Any]:
        """Counts for the report and `metrics.json`."""
        frequency, series = self.schema.frequency, self.series
        counts = {}
        for name in SPLITS:
            first, last = self.partition.bounds(series, name)
            counts[f"{name}_rows"] = int((last - first).sum())
        undefined = self.yardstick.undefined()
        constant = {"series with undefined MASE (constant)": undefined} if undefined else {}
        return {
            **({"source": "simulated weather, after Richardson 1981"} if self.is_simulated else {}),
            "series": len(series),
            "frequency": str(frequency),
            "season": self.schema.season,
            "first": frequency.text(int(frequency.times(series.positions[:1])[0])),
            **counts,
            "missing_share": float(np.isnan(series.targets).mean()),
            **constant,
            "fingerprint": fingerprint(series),
        }

    @property
    def is_simulated(self) -> bool:
        """Whether this is the embedded weather."""
        return self.simulated is not None


def read_dataset(config: ForecastConfig, at_hand: "polars.DataFrame | None" = None) -> Dataset:
    """Read and prepare the data of a run.

    Args:
        config: of the run.
        at_hand: a table in memory, in the place of files.

    Raises:
        DataError: see `data.forecast`; a horizon longer than the data; overlapping files.
        ConfigError: columns that do not fit the table.
    """
    options = config.table
    simulated = None
    if at_hand is not None:
        tables = {"train": table_of(at_hand)}
    elif options.data:
        tables = {"train": read_tables(options.data)}
        tables |= {
            name: read_tables(getattr(options, name))
            for name in ("valid", "test")
            if getattr(options, name)
        }
    else:
        if options.valid or options.test:
            raise DataError("--valid and --test need --data: the table to train on")
        simulated = weather.simulate()
        tables = {"train": table_of(simulated, "the simulated weather")}
    table = _joined(tables)
    columns = roles(table, config)
    parts = _read_parts(tables, columns, options) if len(tables) > 1 else {}
    frequency = parts["train"].frequency if parts else options.frequency
    series = _laid_out(table, columns, options, frequency)
    partition = _partition(series, parts, config)
    statistics = statistics_of(series, columns, partition.is_train(series))
    schema = Schema(
        columns,
        series.frequency,
        options.season or series.frequency.season(),
        statistics,
        options.calendar,
        options.timezone,
        options.time_format,
    )
    return _prepared(config, series, schema, partition, simulated)


def roles(table: Table, config: ForecastConfig) -> Columns:
    """The roles of a table's columns as a configuration names them."""
    options: TableOptions = config.table
    columns = choose_columns(
        table,
        options.time,
        options.id,
        options.target,
        past=options.past_covariates,
        future=options.future_covariates,
        static=options.static_covariates,
        categorical=options.categorical,
        is_wide=options.wide,
    )
    if config.head() != "negative_binomial":
        return columns
    counts = tuple(replace(t, kind="count") if t.kind == "real" else t for t in columns.targets)
    return replace(columns, targets=counts)


def other_origins(
    series: SeriesSet, schema: Schema, horizon: int, window: int
) -> NDArray[np.int64]:
    """Origins in rows that training did not see, each with a window of them before it."""
    first = series.offsets[:-1] + np.minimum(window, np.maximum(series.lengths - horizon, 1))
    return find_origins(series, first, series.offsets[1:], horizon, what="the data")


def yardstick_of(
    schema: Schema, levels: tuple[float, ...], scale: NDArray[np.float64], series: SeriesSet
) -> Yardstick:
    """What errors of a schema's targets are measured against."""
    targets = schema.columns.targets
    if schema.columns.is_wide:
        targets = targets[:1]
    std = [schema.statistics.std[target_key(k)] for k in range(len(targets))]
    names = tuple("value" if schema.columns.is_wide else target.name for target in targets)
    kinds = tuple(target.kind for target in targets)
    return Yardstick(names, kinds, levels, schema.season, scale, np.array(std), series.owner)


def fingerprint(series: SeriesSet) -> str:
    """A short name of exactly these rows."""
    digest = sha256()
    for name in series.ids:
        digest.update(name.encode() + b"\0")
    for part in (series.offsets, series.start, series.targets, *series.numbers.values()):
        digest.update(np.ascontiguousarray(part).tobytes())
    for column in series.categories.values():
        digest.update(repr(column.tolist()).encode())
    return digest.hexdigest()[:16]


def _joined(tables: dict[str, Table]) -> Table:
    """The rows of train, valid and test, one below the other."""
    import polars as pl

    if len(tables) == 1:
        return tables["train"]
    first = tables["train"]
    for name, table in tables.items():
        if table.frame.columns != first.frame.columns:
            raise DataError(
                f"{table.where} ({name}): columns {', '.join(table.frame.columns)} differ from "
                f"those of {first.where}: {', '.join(first.frame.columns)}"
            )
    where = ", ".join(table.where for table in tables.values())
    frames = [table.frame.cast(pl.String) for table in tables.values()]
    return Table(pl.concat(frames), f"{where}, one after the other", first.first_row)


def _laid_out(
    table: Table, columns: Columns, options: TableOptions, frequency: str | Frequency | None
) -> SeriesSet:
    return build_series(
        table,
        columns,
        frequency=frequency,
        zone=options.timezone,
        time_format=options.time_format,
        needs_targets=not isinstance(frequency, Frequency),
    )


def _read_parts(
    tables: dict[str, Table], columns: Columns, options: TableOptions
) -> dict[str, SeriesSet]:
    """The series of each file by itself; those to measure on come after the others.

    Raises:
        DataError: they do not.
    """
    parts = {"train": _laid_out(tables["train"], columns, options, options.frequency)}
    for name, table in list(tables.items())[1:]:
        own = _laid_out(table, columns, options, parts["train"].frequency)
        for earlier in parts.values():
            check_no_leakage(earlier, own, name)
        parts[name] = own
    return parts


def _partition(series: SeriesSet, parts: dict[str, SeriesSet], config: ForecastConfig) -> Partition:
    """By the files, if there are several, or by time."""
    splits = config.splits.model_dump()
    if not parts:
        return split_by_time(series, **splits)
    ends, starts = series.offsets[1:], series.offsets[:-1]
    begins = {}
    for name in list(parts)[1:]:
        own = dict(zip(parts[name].ids, parts[name].start, strict=True))
        places = zip(series.ids, starts, series.start, ends, strict=True)
        begins[name] = np.array(
            [
                offset + own[owner] - first if owner in own else end
                for owner, offset, first, end in places
            ]
        )
    if len(begins) == 2:
        return Partition(np.minimum(begins["valid"], begins["test"]), begins["test"], ends)
    (known,) = begins.values()
    if "test" in begins:  # the end of the training file is valid
        held_out = np.round(splits["valid_share"] * (known - starts)).astype(np.int64)
        return Partition(known - held_out, known, ends)
    return Partition(known, known + (ends - known) // 2, ends)  # valid's second half is test


def _prepared(
    config: ForecastConfig,
    series: SeriesSet,
    schema: Schema,
    partition: Partition,
    simulated: "polars.DataFrame | None",
) -> Dataset:
    horizon, window = config.windows.horizon, config.windows.window
    longest = int(series.lengths.max())
    if horizon >= longest:
        raise DataError(
            f"{series.where}: horizon={horizon} is longer than the data, whose longest series has "
            f"{longest} rows; choose a shorter horizon"
        )
    origins = {
        name: find_origins(
            series,
            *partition.bounds(series, name),
            horizon,
            window=window if name == "train" else 1,
            what=f"the part for {name}",
        )
        for name in SPLITS
    }
    truth = {name: truth_at(series, origins[name], horizon) for name in ("valid", "test")}
    scale = scales(series, partition.valid, schema.season)
    yardstick = yardstick_of(schema, config.network.levels, scale, series)
    if config.head() in ("mse", "mae"):
        yardstick = replace(yardstick, has_intervals=False)
    flat = encode_series(series, schema)
    return Dataset(series, schema, partition, flat, origins, truth, yardstick, simulated)
