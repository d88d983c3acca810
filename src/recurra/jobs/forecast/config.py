"""What a forecasting run is made of: table, splits, windows, network. Flat keys, all different."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from recurra.cells import find_cell
from recurra.jobs.run_config import DataOptions, RunConfig
from recurra.models.forecast.heads import HEADS
from recurra.models.forecast.inputs import LEVELS
from recurra.models.forecast.scaling import SCALINGS
from recurra.training.configuration import Options
from recurra.training.options import Positive

Names = tuple[str, ...]
Share = Annotated[float, Field(gt=0, lt=1)]


class TableOptions(DataOptions):
    """The table and its columns. No data means the embedded, simulated weather.

    Attributes:
        time: column of times; none takes one called time, date, timestamp, ds, ….
        id: column that tells series apart; none means one series.
        target: columns to forecast, or yes/no conditions on them ("rain>0"); none means the last.
        wide: every target column is a series of its own (no target: every column of numbers).
        past_covariates: columns known up to the present; none means all that are left.
        future_covariates: columns known ahead.
        static_covariates: columns with one value a series.
        categorical: columns of numbers that are names (a zone, a code).
        calendar: read the time of day, week and year as covariates.
        frequency: such as 1h, 15min, 1d, 1mo; none infers it.
        season: steps of a season, for baselines and MASE; none: a day of hours, a week of days, ….
        timezone: of the times, such as Europe/Berlin.
        time_format: strptime's, for times that are not ISO 8601.
    """

    time: str | None = None
    id: str | None = None
    target: Names = ()
    wide: bool = False
    past_covariates: Names | None = None
    future_covariates: Names = ()
    static_covariates: Names = ()
    categorical: Names = ()
    calendar: bool = True
    frequency: str | None = None
    season: Positive | None = None
    timezone: str | None = None
    time_format: str | None = None

    @field_validator(
        "target", "past_covariates", "future_covariates", "static_covariates", "categorical",
        mode="before",
    )  # fmt: skip
    @classmethod
    def _is_a_list(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("frequency", mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value


class SplitOptions(Options):
    """What is held out, always by time: the last part is test, the part before it valid.

    Attributes:
        valid_share, test_share: of the time from the first row to the last.
        valid_from, test_from: where they begin, instead.
        valid_steps, test_steps: rows at the end of each series, instead, for series that do not
            share a calendar.
    """

    valid_share: Share = 0.1
    test_share: Share = 0.1
    valid_from: str | None = None
    test_from: str | None = None
    valid_steps: Positive | None = None
    test_steps: Positive | None = None

    @field_validator("valid_from", "test_from", mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        return value if value is None else str(value)

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        if self.valid_share + self.test_share >= 1:
            raise ValueError("valid_share and test_share leave nothing to train on")
        return self


class WindowOptions(Options):
    """How series are cut into windows.

    Attributes:
        horizon: steps to forecast.
        window: steps to look back in training.
        stride: steps between the windows of an epoch; none: 1, or a quarter of the window where the
            network learns from every origin in it.
        batch_size: windows of a batch.
    """

    horizon: Positive = 7
    window: Positive = 56
    stride: Positive | None = None
    batch_size: Positive = 64


class NetworkOptions(Options):
    """The network.

    Attributes:
        cell: name of a recurrence; `recurra doctor` lists them.
        hidden_size: units of a layer.
        num_layers: layers, one on the other (not of the segment model).
        decoder_size: units of the direct model's decoder for each step.
        segment: steps of a segment of the segment model.
        highway: give the segment model a linear map beside its recurrence, from window to horizon.
        dropout: share dropped between layers and before the output.
        head: what is said of each target: quantiles, gaussian, student_t, negative_binomial, mse or
            mae; none: quantiles, or student_t for the autoregressive model.
        levels: of the quantiles that are measured and reported.
        paths: drawn for a forecast of the autoregressive model.
        scaling: of windows: standard, mean, robust, reversible, last or none; none given: standard
            for series of one level; mean, reversible or last for others.
        carries: the direct model learns from every step of a window and carries its memory on in
            use; else it reads each window from an empty memory and learns from the last step.
        backend: of the recurrent layers.
    """

    cell: str = "lstm"
    hidden_size: Positive = 64
    num_layers: Positive = 1
    decoder_size: Positive = 32
    segment: Positive = 24
    highway: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    head: str | None = None
    levels: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = LEVELS
    paths: Positive = 100
    scaling: str | None = None
    carries: bool = True
    backend: str = "auto"

    @field_validator("cell")
    @classmethod
    def _is_known(cls, cell: str) -> str:
        find_cell(cell)
        return cell

    @field_validator("head")
    @classmethod
    def _is_a_head(cls, head: str | None) -> str | None:
        if head is not None and head not in HEADS:
            raise ValueError(f"it must be one of {', '.join(HEADS)}")
        return head

    @field_validator("scaling")
    @classmethod
    def _is_a_scaling(cls, scaling: str | None) -> str | None:
        if scaling is not None and scaling not in SCALINGS:
            raise ValueError(f"it must be one of {', '.join(SCALINGS)}")
        return scaling

    @field_validator("levels")
    @classmethod
    def _rises(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if not levels or list(levels) != sorted(set(levels)):
            raise ValueError("levels must rise, between 0 and 1")
        return levels


class ForecastConfig(RunConfig):
    """A forecasting run.

    Attributes:
        task: "forecast".
        model: "direct", "autoregressive", "segment" or "dense".
        windows_compared: windows that `recurra compare forecast` grows through.
        autoets: measure statsforecast's AutoETS, too; needs the extra [baselines].
    """

    task: Literal["forecast"] = "forecast"
    model: Literal["direct", "autoregressive", "segment", "dense"] = "direct"
    windows_compared: tuple[Positive, ...] = (7, 14, 28, 56)
    autoets: bool = False
    table: TableOptions = TableOptions()
    splits: SplitOptions = SplitOptions()
    windows: WindowOptions = WindowOptions()
    network: NetworkOptions = NetworkOptions()

    def head(self) -> str:
        """The head of targets that are no yes/no."""
        default = "student_t" if self.model == "autoregressive" else "quantiles"
        return self.network.head or default

    def description(self) -> str:
        """The model in a few words.

        Example:
            >>> ForecastConfig().description()
            'direct LSTM, 1 layer of 64'
        """
        network = self.network
        if self.model == "segment":
            return f"segment-wise {network.cell.upper()} of {network.hidden_size}"
        layers = "1 layer" if network.num_layers == 1 else f"{network.num_layers} layers"
        cell = "" if self.model == "dense" else f" {network.cell.upper()}"
        return f"{self.model}{cell}, {layers} of {network.hidden_size}"
