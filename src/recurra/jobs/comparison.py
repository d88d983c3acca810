"""Models side by side on the same text, with the same number of training tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recurra.cells import find_cell
from recurra.errors import ArgumentError
from recurra.insight.figures import comparison, png
from recurra.insight.report import comparison_report, model_name
from recurra.jobs import run_folder
from recurra.jobs.configurations import read_recipe, resolve, to_yaml
from recurra.jobs.corpus import absolute, read_corpus
from recurra.jobs.language_model import LanguageModel
from recurra.jobs.language_model_config import LanguageModelConfig
from recurra.jobs.machine import machine, versions
from recurra.jobs.training import command_line, train_language_model
from recurra.training.files import write_atomically, write_json, write_text
from recurra.training.progress import Reporter

CELLS = ("rnn", "irnn", "gru", "lstm")


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        folder: holds `comparison.json`, `comparison.png`, `report.html`, and a run folder for each
            model.
        figures: the content of `comparison.json`.
    """

    folder: Path
    figures: dict[str, Any]


def compare_language_models(
    cells: Sequence[str] = CELLS,
    *,
    settings: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    config: Path | None = None,
    out: Path | None = None,
    reporter: Reporter | None = None,
) -> Comparison:
    """Train n-gram models, the NNLM and a recurrent model of each cell; measure and draw.

    All neural models read the same tokens in the same order, equally often, and have the same
    hidden size; early stopping is off. Each is kept as a run of its own.

    Args:
        cells: names of recurrences.
        settings: `KEY=VALUE`, for all models.
        flags: values by key, `None` for not given.
        config: a YAML file.
        out: folder; `None` makes a new one under `runs/`.
        reporter: shows the progress.

    Raises:
        ArgumentError: no cell, an unknown one, or one named twice.
        ConfigError, DataError: as for training.
    """
    reporter = reporter or Reporter()
    if not cells or len(set(cells)) < len(cells):
        raise ArgumentError(f"--cells {','.join(cells)}: name one cell or more, each once")
    for cell in cells:
        find_cell(cell)
    recipe = read_recipe("lm", "compare")
    base = resolve("lm", config, settings, flags, recipe)
    base = base.model_copy(update={"text": absolute(base.text)})
    folder = run_folder.new_folder(out, "compare-lm")
    with reporter.stage("reading and tokenising the text"):
        corpus = read_corpus(base.text)
    models = {}
    for name, model_config in _members(base, cells).items():
        own = folder / name
        own.mkdir()
        write_text(own / run_folder.CONFIG, to_yaml(model_config))
        model = train_language_model(model_config, own, reporter, corpus=corpus)
        if model is not None:
            models[name] = model
    figures = _figures(models, base)
    _write(folder, figures, models)
    return Comparison(folder, figures)


def _members(base: LanguageModelConfig, cells: Sequence[str]) -> dict[str, LanguageModelConfig]:
    """A configuration for each model. The n-gram models come first, as the NNLM's baselines."""
    training = base.training.model_copy(update={"patience": 0, "max_minutes": None})
    without = base.ngram.model_copy(update={"baselines": ()})
    base = base.model_copy(update={"training": training})
    members = {"nnlm": base.model_copy(update={"model": "nnlm"})}
    for cell in cells:
        network = base.network.model_copy(update={"cell": cell})
        changes = {"model": "recurrent", "network": network, "ngram": without}
        members[cell] = base.model_copy(update=changes)
    return members


def _figures(models: Mapping[str, LanguageModel], base: LanguageModelConfig) -> dict[str, Any]:
    kept = ("description", "valid", "test", "parameters", "seconds", "tokens_per_s")
    entries: dict[str, Any] = dict(models["nnlm"].metrics["baselines"])
    for name, model in models.items():
        entries[name] = {key: model.metrics[key] for key in kept}
    steps = models["nnlm"].metrics["training"]["steps"]
    return {
        "task": "lm",
        "models": entries,
        "training_tokens": steps * base.batches.batch_size * base.batches.bptt_steps,
        "data": models["nnlm"].metrics["data"],
        "seed": base.seed,
        "command": command_line(),
        "versions": versions(),
        "machine": machine(),
    }


def _write(folder: Path, figures: dict[str, Any], models: Mapping[str, LanguageModel]) -> None:
    entries = figures["models"]
    named = {name: entry.get("description", model_name(name)) for name, entry in entries.items()}
    drawn = comparison(
        {named[name]: entry["test"]["perplexity"] for name, entry in entries.items()},
        {named[name]: model.log for name, model in models.items()},
        {
            named[name]: entry["valid"]["perplexity"]
            for name, entry in entries.items()
            if name not in models
        },
    )
    image = png(drawn)
    write_atomically(folder / "comparison.png", lambda beside: beside.write_bytes(image))
    write_text(folder / run_folder.REPORT, comparison_report(figures, drawn))
    write_json(folder / "comparison.json", figures)
