"""Models side by side on the same data, for any task; what `recurra compare` does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recurra.cells import find_cell
from recurra.errors import ArgumentError
from recurra.insight.figures import png
from recurra.jobs import run_folder
from recurra.jobs.configurations import resolve
from recurra.jobs.job import Comparison, find_job
from recurra.training.files import write_atomically, write_json, write_text
from recurra.training.progress import Reporter


def compare_task(
    task: str,
    cells: Sequence[str] | None = None,
    *,
    settings: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    config: Path | None = None,
    out: Path | None = None,
    reporter: Reporter | None = None,
) -> Comparison:
    """Train the task's models, one for each cell, with equal data and equal training; draw them.

    Args:
        task: its name.
        cells: names of recurrences; `None` takes the task's own choice.
        settings: `KEY=VALUE`, for all models.
        flags: values by key, `None` for not given.
        config: a YAML file.
        out: folder; `None` makes a new one under `runs/`.
        reporter: shows the progress.

    Raises:
        ArgumentError: no cell, an unknown one, or one named twice.
        ConfigError, DataError: as for training.
    """
    job = find_job(task)
    cells = job.CELLS if cells is None else cells
    if not cells or len(set(cells)) < len(cells):
        raise ArgumentError(f"--cells {','.join(cells)}: name one cell or more, each once")
    for cell in cells:
        find_cell(cell)
    base = resolve(task, config, settings, flags, recipe="compare")
    folder = run_folder.new_folder(out, f"compare-{task}")
    with run_folder.removed_on_failure(folder):
        return job.compare(base, cells, folder, reporter or Reporter())


def write_comparison(folder: Path, figures: Mapping[str, Any], page: str, drawn: Any) -> None:
    """Write `comparison.png`, `report.html` and, last, `comparison.json`.

    Args:
        folder: of the comparison.
        figures: the content of `comparison.json`.
        page: the content of `report.html`.
        drawn: the figure.
    """
    image = png(drawn)
    write_atomically(folder / "comparison.png", lambda beside: beside.write_bytes(image))
    write_text(folder / run_folder.REPORT, page)
    write_json(folder / "comparison.json", dict(figures))
