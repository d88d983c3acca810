"""Checkpoints: `last.ckpt` to go on from, `best.safetensors` to use; whole or not there."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import Trainer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from recurra.errors import RunFolderError
from recurra.training.files import write_atomically, write_tensors


def last_path(folder: Path) -> Path:
    """Where a run goes on from."""
    return folder / "checkpoints" / "last.ckpt"


def best_path(folder: Path) -> Path:
    """The weights with the best valid metric so far."""
    return folder / "checkpoints" / "best.safetensors"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written beside and renamed, read as plain tensors only."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; a kill at any moment leaves the one before."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(path), lambda beside: torch.save(checkpoint, beside))

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint without running anything that is in it.

        Raises:
            RunFolderError: it is damaged.
        """
        try:
            checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
            raise RunFolderError(
                f"checkpoint {path} is damaged ({error}); delete it and resume to start again, or "
                "use the best weights beside it"
            ) from error
        return checkpoint


def save_last(trainer: Trainer, path: Path) -> None:
    """Everything needed to go on to the same bits; called on every rank."""
    trainer.save_checkpoint(path, weights_only=False)


def save_best(model: nn.Module, path: Path, step: int, value: float) -> None:
    """The weights alone, with the step and the metric they reached."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, unshared(model), {"step": str(step), "value": repr(value)})


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
