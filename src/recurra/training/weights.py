"""A model's weights in a safetensors file: written whole, read without running anything."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from recurra.errors import RunFolderError
from recurra.training.files import read_about, write_tensors


def save_best(model: nn.Module, path: Path, step: int, value: float) -> None:
    """The weights alone, with the step and the metric they reached."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, unshared(model), {"step": step, "value": value})


def load_weights(model: nn.Module, path: Path) -> None:
    """Read weights into a model of the same shape.

    Raises:
        RunFolderError: missing, damaged, or of another model; names the first difference.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunFolderError(f"weights {path} cannot be read: {error}") from error
    expected = unshared(model)
    _check_weights(path, expected, tensors)
    model.load_state_dict(tensors, strict=False)


def save_network(model: Any, kind: str, path: Path) -> None:
    """Write the weights, with what rebuilds the model around them: its kind and `options()`."""
    write_tensors(path, unshared(model), {"kind": kind, "options": model.options()})


def load_network(path: Path, models: Mapping[str, Callable[..., nn.Module]]) -> tuple[Any, str]:
    """Read what `save_network` wrote.

    Args:
        path: of the weights.
        models: what makes a model from its options, by kind.

    Returns:
        The model in evaluation mode, and its kind.

    Raises:
        RunFolderError: missing, damaged or foreign.
    """
    about = read_about(path)
    try:
        kind = about["kind"]
        model = models[kind](**about["options"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"{path} describes no model of ours: {error!r}") from error
    load_weights(model, path)
    return model.eval(), kind


def unshared(model: nn.Module) -> dict[str, Tensor]:
    """The state dict with every tensor once: a tied weight under its first name only."""
    seen: set[int] = set()
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor
    return tensors


def _check_weights(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    names = sorted(expected.keys() ^ found.keys())
    if names:
        where = "missing from" if names[0] in expected else "foreign in"
        raise RunFolderError(f"weights {path}: tensor {names[0]!r} is {where} the file")
    for name, tensor in expected.items():
        if tensor.shape != found[name].shape:
            raise RunFolderError(
                f"weights {path}: tensor {name!r} has shape {tuple(found[name].shape)}, the "
                f"configuration makes it {tuple(tensor.shape)}"
            )
