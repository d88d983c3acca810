"""What the command line knows of a task: a job, and where to find it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from recurra.errors import ConfigError
from recurra.jobs.run_config import RunConfig
from recurra.training.progress import Reporter

TASKS = ("lm", "tag", "classify", "translate", "forecast")


class Model(Protocol):
    """A trained model of any task, with its figures and, once it is saved, its folder.

    Attributes:
        metrics: the content of `metrics.json`.
        log: the rows of `log.csv`.
        folder: of the run.
    """

    metrics: dict[str, Any]
    log: list[dict[str, float]]
    folder: Path | None

    def evaluate(self, data: Any = None) -> dict[str, Any]:
        """Metrics on data, or on the test split that the model was made with."""

    def save(self, path: str | Path) -> None:
        """Write a run folder."""


@dataclass(frozen=True)
class Table:
    """Figures side by side: a column of names, then columns of numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Summary:
    """What `recurra train` prints of a model.

    Attributes:
        table: the model above its baselines.
        verdict: what the run shows, in a sentence.
        samples: a few of the model's own answers, below the title `samples_title`.
        next_commands: what to try with it.
    """

    table: Table
    verdict: str
    next_commands: Sequence[str]
    samples_title: str = ""
    samples: Sequence[str] = ()


@dataclass(frozen=True)
class Answer:
    """What `recurra predict` prints.

    Attributes:
        records: one plain value for each input, for `--json`.
        text: lines for people or, where the task has a format of its own, in that format.
        tables: the same as tables; printed after the text.
    """

    records: Sequence[Any]
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Comparison:
    """What `recurra compare` found.

    Attributes:
        folder: holds `comparison.json`, `comparison.png`, `report.html`, and a run folder for each
            model.
        figures: the content of `comparison.json`.
        table: the models side by side, the best on top.
    """

    folder: Path
    figures: dict[str, Any] = field(repr=False)
    table: Table


@dataclass(frozen=True)
class Contest:
    """A task on its embedded data, read already: what `recurra compare all` asks of it.

    Attributes:
        metric: what networks are ranked by, in words.
        higher_is_better: its direction.
        score: it, from a model's figures on test.
        baseline: name of the task's plain model, and
        baseline_figures: its `test`, `parameters` and `seconds`.
        build: the untrained network of a configuration.
        train: it trained and measured in a folder, of which nothing is kept.
    """

    metric: str
    higher_is_better: bool
    score: Callable[[Mapping[str, Any]], float]
    baseline: str
    baseline_figures: Mapping[str, Any] = field(repr=False)
    build: Callable[[Any], Any] = field(repr=False)
    train: Callable[[Any, Path, Reporter], Any] = field(repr=False)


class Job(Protocol):
    """The module `recurra.jobs.<task>.job`: a task from files to a model in use.

    Attributes:
        Config: the configuration of a run.
        CELLS: what `compare` puts side by side.
        READS_TABLES: whether `predict` reads tables by their paths, or none, and not lines.
        LINE_BY_LINE: whether `predict` answers each line of stdin as it comes.
    """

    Config: type[RunConfig]
    CELLS: tuple[str, ...]
    READS_TABLES: bool
    LINE_BY_LINE: bool

    def recipe(self, given: Mapping[str, Any]) -> str:
        """The name of the shipped recipe for the embedded data, from the keys that are set."""

    def train(
        self,
        config: Any,
        folder: Path,
        reporter: Reporter,
        *,
        at_hand: Any = None,
        keep: bool = True,
    ) -> Any:
        """Train, measure and, if `keep`, write a model into its folder.

        `at_hand` is data that is in memory, in the place of files. Returns the model; `None` on all
        processes but the first.
        """

    def load(self, folder: Path) -> Any:
        """The model of a finished run."""

    def summary(self, model: Any) -> Summary:
        """What to print after training."""

    def predict(self, model: Any, inputs: Sequence[str], options: Mapping[str, Any]) -> Answer:
        """What the model says of each input; refuses options that are not the task's."""

    def compare(
        self, config: Any, cells: Sequence[str], folder: Path, reporter: Reporter
    ) -> Comparison:
        """Train and measure the task's models side by side, and draw them."""

    def contest(self, config: Any, reporter: Reporter) -> Contest:
        """Read the data of a configuration, measure the plain baseline, be ready to train."""


def find_job(task: str) -> Job:
    """The job of a task.

    Raises:
        ConfigError: no such task.

    Example:
        >>> find_job("lm").Config().task
        'lm'
    """
    if task in TASKS:
        return cast(Job, import_module(f"recurra.jobs.{task}.job"))
    raise ConfigError(f"there is no task {task!r}; recurra has {', '.join(TASKS)}")
