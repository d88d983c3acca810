"""`recurra inspect clipping`: the cliff that clipping is for, and the norms of a run."""

from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from recurra.errors import ArgumentError, RunFolderError
from recurra.insight.clipping_figures import cliff_face, norms, surface
from recurra.insight.error_surface import Descent, OneUnit, descend, norm_statistics
from recurra.insight.report import table
from recurra.jobs import run_folder
from recurra.jobs.inspection.folder import Inspection, new_folder, write
from recurra.training.log import read_log

START = (5.0, -2.0)


def inspect_clipping(
    *,
    threshold: float = 0.05,
    rate: float = 0.3,
    steps: int = 100,
    out: Path | None = None,
) -> Inspection:
    """The error surface of a one-unit recurrence, and descent over it with and without clipping.

    Args:
        threshold: the longest gradient of the clipped path.
        rate: what gradients are multiplied by.
        steps: of descent.
        out: folder; None makes a new one under `runs/`.

    Raises:
        ArgumentError: one of them not above 0.
    """
    unit = OneUnit()
    free = descend(unit, START, rate=rate, steps=steps)
    clipped = descend(unit, START, rate=rate, steps=steps, threshold=threshold)
    paths = {"free": _entry(free), "clipped": _entry(clipped)}
    return write(
        new_folder(out, "clipping"),
        {"unit": asdict(unit), "rate": rate, "threshold": threshold, "paths": paths},
        [surface(unit, free, clipped, threshold), cliff_face(unit, START[1])],
        title="Exploding gradients and clipping",
        lead=(
            f"The same descent of {steps} steps from w = {START[0]:g}, b = {START[1]:g}: free it "
            f"ends at an error of {float(free.errors[-1]):.4f}, with gradients clipped to a norm "
            f"of {threshold:g} at {float(clipped.errors[-1]):.4f}. After Pascanu, Mikolov & Bengio "
            "2013, figure 6."
        ),
        tables=[table(COLUMNS, rows({"paths": paths}))],
    )


def inspect_run_clipping(run: Path, *, out: Path | None = None) -> Inspection:
    """The gradient norms that a run logged, its threshold, and a suggested one.

    Args:
        run: the folder of a run, finished or not.
        out: as for `inspect_clipping`.

    Raises:
        RunFolderError: no run, or its log is damaged.
        ArgumentError: a run that logged no gradients.
    """
    config = run_folder.read_config(run)
    log = run / run_folder.LOG
    try:
        logged = read_log(log) if log.exists() else []
    except (ValueError, KeyError, OSError) as error:
        raise RunFolderError(f"{log} is damaged: {error!r}") from error
    found = [row for row in logged if "gradient_norm" in row]
    if not found:
        raise ArgumentError(
            f"{run} has no gradient norms in its {run_folder.LOG}: an n-gram model has no "
            "gradient, and a run of few steps may have logged none"
        )
    values, places = ([row[key] for row in found] for key in ("gradient_norm", "step"))
    statistics = norm_statistics(values, _threshold(config), _clipped_share(found))
    entry = asdict(statistics)
    return write(
        new_folder(out, "clipping"),
        {"run": str(run), "norms": entry},
        [norms(values, places, statistics)],
        title="Gradient norms of a run",
        lead=(
            f"{run}: median norm {statistics.median:.3g}, 95 % of the logged means below "
            f"{statistics.percentile_95:.3g}. Pascanu et al. 2013 propose a threshold of half to "
            f"ten times the mean, here {statistics.mean / 2:.2g} to {10 * statistics.mean:.2g}."
        ),
        tables=[table(("norms", ""), rows({"norms": entry}))],
    )


COLUMNS = ("path", "last error", "longest gradient", "longest step", "clipped")


def rows(figures: dict[str, Any]) -> list[list[str]]:
    """The cells of a table, as text: of paths, or of a run's norms."""
    if "norms" in figures:
        return [
            [name.replace("_", " "), f"{value:.4g}"] for name, value in figures["norms"].items()
        ]
    return [
        [
            name,
            f"{e['errors'][-1]:.4f}",
            f"{e['largest_norm']:.3f}",
            f"{e['longest_step']:.3f}",
            f"{e['clipped']} of {len(e['norms'])}",
        ]
        for name, e in figures["paths"].items()
    ]


def _entry(path: Descent) -> dict[str, Any]:
    return {
        "errors": path.errors.tolist(),
        "points": path.points.tolist(),
        "norms": path.norms.tolist(),
        "largest_norm": float(path.norms.max()),
        "longest_step": path.longest_step,
        "clipped": path.clipped,
    }


def _threshold(config: dict[str, Any]) -> float:
    """The run's `gradient_clip`; 0 for none."""
    return float((config.get("training") or {}).get("gradient_clip") or 0.0)


def _clipped_share(found: list[dict[str, float]]) -> float:
    """The mean over rows, each counted by its steps."""
    steps = [0.0, *(row["step"] for row in found)]
    weights = [after - before for before, after in pairwise(steps)]
    shares = [row.get("clipped_share", 0.0) for row in found]
    total = sum(weights)
    return sum(w * s for w, s in zip(weights, shares, strict=True)) / total if total else 0.0
