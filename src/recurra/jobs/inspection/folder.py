"""What every inspection leaves: `inspection.json`, a PNG for each picture, and `report.html`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from recurra.insight.canvas import Picture
from recurra.insight.figures import png
from recurra.insight.report import facts_table, figure, page
from recurra.jobs import run_folder
from recurra.jobs.machine import command_line, machine, versions
from recurra.training.files import write_atomically, write_json, write_text

FIGURES = "inspection.json"


@dataclass(frozen=True)
class Inspection:
    """What an instrument found.

    Attributes:
        folder: holds `inspection.json`, `report.html` and the PNGs.
        figures: the content of `inspection.json`.
        pictures: the names of the PNGs.
    """

    folder: Path
    figures: dict[str, Any]
    pictures: tuple[str, ...]


def new_folder(out: Path | None, name: str) -> Path:
    """Make the folder of an inspection; see `run_folder.new_folder`."""
    return run_folder.new_folder(out, f"inspect-{name}")


def write(
    folder: Path,
    figures: Mapping[str, Any],
    pictures: Sequence[Picture],
    *,
    title: str,
    lead: str,
    tables: Sequence[str] = (),
    seed: int | None = None,
) -> Inspection:
    """Write a folder; the figures come last.

    Args:
        folder: an empty one.
        figures: numbers that JSON can hold.
        pictures: each becomes a PNG, and a part of the page.
        title: of the page.
        lead: what was measured, and what it shows; a sentence or two.
        tables: HTML that stands after the pictures.
        seed: of the random numbers.
    """
    parts = [f"<h1>{escape(title)}</h1>", f'<p class="lead">{escape(lead)}</p>']
    for picture in pictures:
        _write_image(folder / f"{picture.name}.png", picture)
        parts.append(figure(picture.figure, picture.caption))
    made = {"command": command_line(), "seed": seed, "versions": versions(), "machine": machine()}
    parts += [*tables, "<h2>How this was made</h2>", facts_table(made)]
    write_text(folder / run_folder.REPORT, page(f"recurra: {title}", parts))
    content = {**figures, **made}
    write_json(folder / FIGURES, content)
    return Inspection(folder, content, tuple(f"{p.name}.png" for p in pictures))


def _write_image(path: Path, picture: Picture) -> None:
    image = png(picture.figure)
    write_atomically(path, lambda beside: beside.write_bytes(image))
