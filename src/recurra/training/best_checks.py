"""Checkpoint averaging: the mean of the weights that were the best on valid."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from recurra.training.weights import save_best

Check = tuple[int, float]  # step, and the metric on valid


class BestChecks:
    """Keeps the weights of the checks with the best metric as files of the run.

    Weights that one training went through lie near each other, so that their mean is a model too,
    and errors that differ between them cancel (Vaswani et al. 2017, section 6.1, take the last 5).

    Args:
        folder: of the run; the files are `checkpoints/check-STEP.safetensors`.
        count: how many checks.
        higher_is_better: of the metric.
        kept: the checks whose files are there, the best first.
    """

    def __init__(
        self, folder: Path, count: int, higher_is_better: bool, kept: Sequence[Check] = ()
    ) -> None:
        self.folder, self.count, self.higher_is_better = (
            folder / "checkpoints",
            count,
            higher_is_better,
        )
        self.kept = list(kept)

    def offer(self, model: nn.Module, step: int, value: float) -> None:
        """Keep a check if it is among the best; of equal ones the earlier is better."""
        others = [check for check in self.kept if check[0] != step]  # a resumed run checks again
        sign = -1 if self.higher_is_better else 1
        ranked = sorted([*others, (step, value)], key=lambda check: (sign * check[1], check[0]))
        self.kept = ranked[: self.count]
        if (step, value) in self.kept:
            save_best(model, self._path(step), step, value)
        for dropped, _ in ranked[self.count :]:
            self._path(dropped).unlink(missing_ok=True)

    def mean(self) -> dict[str, Tensor]:
        """The mean of the kept weights, by name; summed in float64.

        Raises:
            OSError: a file is gone.
        """
        found = [load_file(self._path(step)) for step, _ in self.kept]
        return {
            name: torch.stack([one[name].double() for one in found]).mean(0).to(tensor.dtype)
            for name, tensor in found[0].items()
        }

    def _path(self, step: int) -> Path:
        return self.folder / f"check-{step}.safetensors"
