"""Our own binary file of an n-gram model: safetensors arrays and JSON metadata, no pickle."""

import json
from pathlib import Path

import numpy as np

from recurra.errors import DataError
from recurra.models.ngram.model import NGramModel

_FORMAT = "recurra-ngram-1"
_ARRAYS = ("words", "first_children", "log_probabilities_", "log_weights")


def save(model: NGramModel, path: str | Path) -> None:
    """Write a model; the file is about as large as the model in memory."""
    from safetensors.numpy import save_file

    facts = {
        "vocabulary": model.vocabulary,
        "order": model.order,
        "smoothing": model.smoothing,
        "eos_id": model.eos_id,
        "unknown_id": model.unknown_id,
        "sizes": model.sizes,
    }
    # One entry, since safetensors writes several in no certain order: equal models, equal bytes.
    metadata = {_FORMAT: json.dumps(facts, ensure_ascii=False)}
    save_file({name: getattr(model, name) for name in _ARRAYS}, path, metadata)


def load(path: str | Path) -> NGramModel:
    """Read what `save` wrote.

    Raises:
        DataError: the file is missing, damaged, or no n-gram model of ours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            if _FORMAT not in metadata:
                raise DataError(f"{path}: is not an n-gram model of recurra ({_FORMAT})")
            arrays = {name: np.ascontiguousarray(file.get_tensor(name)) for name in _ARRAYS}
        return NGramModel(**{**json.loads(metadata[_FORMAT]), **arrays})
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot be read as an n-gram model: {error}") from error
