"""Checkpoints: `last.ckpt` to go on from, `best.safetensors` to use; whole or not there."""

import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import Trainer

from recurra.errors import RunFolderError
from recurra.training.files import write_atomically


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
