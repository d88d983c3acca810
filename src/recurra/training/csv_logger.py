"""`log.csv`: one row every so many steps and one for every check on valid."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from recurra.training.files import append_text, write_text
from recurra.training.log import read_log


def log_columns(figures: Sequence[str], metrics: Sequence[str], unit: str) -> tuple[str, ...]:
    """The columns of a task's log, in their order."""
    return (
        *("step", "epoch", "seconds", "learning_rate", "gradient_norm", "clipped_share"),
        f"{unit}_per_s",
        *(f"train_{name}" for name in figures),
        *(f"valid_{name}" for name in metrics),
    )


class CsvLog(Logger):
    """Rows of figures, appended to a file and flushed at once; the first rank alone writes.

    Args:
        path: the file.
        columns: in their order; a row may leave some empty.
    """

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        super().__init__()
        self.path = path
        self.columns = columns

    @rank_zero_only
    def start(self, step: int) -> None:
        """Write the header; a run that resumes at a step drops the rows after it."""
        kept = read_log(self.path) if self.path.exists() else []
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, self.columns, restval="", lineterminator="\n")
        writer.writeheader()
        for row in kept:
            if row["step"] <= step:
                writer.writerow({name: _cell(value) for name, value in row.items()})
        write_text(self.path, buffer.getvalue())

    @property
    def name(self) -> str:
        """Lightning's name of a logger."""
        return "csv"

    @property
    def version(self) -> str:
        """One log a run folder."""
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: `config.yaml` has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row."""
        row = {"step": step, **metrics}
        line = io.StringIO()
        writer = csv.DictWriter(
            line, self.columns, restval="", extrasaction="ignore", lineterminator="\n"
        )
        writer.writerow({name: _cell(value) for name, value in row.items()})
        append_text(self.path, line.getvalue())


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    if float(value).is_integer() and math.fabs(value) < 1e15:
        return str(int(value))
    return f"{value:.6g}"
