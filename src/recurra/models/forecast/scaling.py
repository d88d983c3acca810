"""The scale that a window is read on, so that one network serves series of any size."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recurra.errors import ArgumentError

SCALINGS = ("standard", "mean", "robust", "reversible", "last", "none")
NORMAL_QUARTILES = 1.349  # between the quartiles of a normal distribution of deviation 1


class WindowScaling(nn.Module):
    """Location and scale of each window, from its observed values alone.

        standard    mean and deviation of the training rows, the same for every window
        mean        0 and mean |x| (Salinas et al. 2020, section 3.3)
        robust      median, and distance of the quartiles over 1.349
        reversible  mean and deviation (Kim et al. 2022; without their learned affine map: a loss in
                    units of the scale falls when the scale grows, whatever the forecast)
        last        the last value, and the deviation of the training rows (Lin et al. 2023, 3.2)
        none        0 and 1

    A yes/no target is left as it is; a count keeps location 0. A window without a value takes the
    training rows' mean and deviation.

    Args:
        kind: one of the above.
        targets: their kinds: "real", "count" or "yesno".
        mean, std: (targets,) of the training rows; kept with the weights.
    """

    is_real: Tensor
    is_count: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self, kind: str, targets: Sequence[str], mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        if kind not in SCALINGS:
            raise ArgumentError(
                f"scaling={kind!r} is unknown; expected one of {', '.join(SCALINGS)}"
            )
        self.kind = kind
        real = torch.tensor([target == "real" for target in targets], dtype=torch.float32)
        count = torch.tensor([target == "count" for target in targets], dtype=torch.float32)
        self.register_buffer("is_real", real, persistent=False)
        self.register_buffer("is_count", count, persistent=False)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    @property
    def is_constant(self) -> bool:
        """Whether every window has the same scale, so that a state may be carried on."""
        return self.kind in ("standard", "none")

    def forward(self, target: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale, (batch, 1, targets) each, of windows (batch, window, targets)."""
        seen = observed.sum(1, keepdim=True)
        size = (target.abs() * observed).sum(1, keepdim=True) / seen.clamp_min(1.0)
        loc, scale = self._moments(target, observed, seen, size)
        is_empty = seen == 0
        loc = torch.where(is_empty, self.mean, loc)
        scale = torch.where(is_empty, self.std, scale)
        if self.kind == "none":
            return torch.zeros_like(loc), torch.ones_like(scale)
        own = size if self.kind != "standard" else self.mean.abs()
        counts = torch.where(is_empty, self.mean.abs(), own).clamp_min(0.1)
        loc = loc * self.is_real
        scale = torch.where(self.is_real > 0, scale, torch.where(self.is_count > 0, counts, 1.0))
        return loc, scale

    def _moments(
        self, target: Tensor, observed: Tensor, seen: Tensor, size: Tensor
    ) -> tuple[Tensor, Tensor]:
        smallest = 1e-3 * size + 1e-6
        if self.kind in ("standard", "none"):
            return self.mean.expand_as(size), self.std.expand_as(size)
        if self.kind == "mean":
            return torch.zeros_like(size), size.clamp_min(1e-6)
        if self.kind == "last":
            steps = torch.arange(1, target.shape[1] + 1, device=target.device).view(1, -1, 1)
            last = (steps * observed).argmax(1, keepdim=True)
            return target.gather(1, last), self.std.expand_as(size)
        if self.kind == "robust":
            values = torch.where(observed > 0, target, torch.nan)
            quarters = torch.tensor([0.25, 0.5, 0.75], device=target.device)
            low, loc, high = values.nanquantile(quarters, dim=1, keepdim=True).nan_to_num()
            return loc, ((high - low) / NORMAL_QUARTILES).clamp_min(0) + smallest
        loc = (target * observed).sum(1, keepdim=True) / seen.clamp_min(1.0)
        variance = ((target - loc).square() * observed).sum(1, keepdim=True) / seen.clamp_min(1.0)
        return loc, (variance + smallest.square()).sqrt()
