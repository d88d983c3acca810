"""Recurrent sequence models: any cell at kernel speed, whole jobs by one command."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Where each public name lives. Names are imported when first used, so that `import recurra` and
# `recurra --help` do not wait for torch.
_HOME = {
    "CELLS": "recurra.cells",
    "Cell": "recurra.cells",
    "Classifier": "recurra.jobs.classify.classifier",
    "Forecaster": "recurra.jobs.forecast.forecaster",
    "GRU": "recurra.layers",
    "IRNN": "recurra.layers",
    "Jordan": "recurra.layers",
    "LSTM": "recurra.layers",
    "LanguageModel": "recurra.jobs.lm.language_model",
    "RNN": "recurra.layers",
    "RecurraError": "recurra.errors",
    "Recurrent": "recurra.layers",
    "State": "recurra.layers",
    "Tagger": "recurra.jobs.tag.tagger",
    "Translator": "recurra.jobs.translate.translator",
    "find_cell": "recurra.cells",
    "load": "recurra.jobs.loading",
}

__all__ = [*sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'recurra' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
