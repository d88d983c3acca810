"""Optimisers by name, and the average of weights that NT-ASGD evaluates."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from recurra.training.options import TrainingOptions


def build_optimizer(options: TrainingOptions, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a model's trainable parameters.

    Weight decay is applied to matrices and not to vectors (biases, gains), whose size does not
    measure a model's complexity. The fused implementations are used: one pass over the memory.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    fused = all(p.is_floating_point() for p in parameters)
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=options.learning_rate, fused=fused)
    if options.optimizer == "adam":
        return torch.optim.Adam(groups, lr=options.learning_rate, fused=fused)
    momentum = options.momentum if options.optimizer == "sgd" else 0.0
    return torch.optim.SGD(groups, lr=options.learning_rate, momentum=momentum, fused=fused)


class WeightAverage:
    """Running mean of a model's parameters, from the step at which it was started.

    Source: Polyak & Juditsky 1992; started when the valid metric stops improving by Merity et al.
    2018 (NT-ASGD). Costs one copy of the parameters.

    Args:
        model: whose parameters to average, from now on.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.steps = 0
        self.means = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters of now into the mean."""
        self.steps += 1
        for name, parameter in self.model.named_parameters():
            self.means[name].lerp_(parameter, 1 / self.steps)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model with its averaged parameters, for the time of the `with` block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Tensor | int]:
        """The means and their number of steps."""
        return {"steps": self.steps, **self.means}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Go on from a saved state."""
        for name, mean in self.means.items():
            mean.copy_(torch.as_tensor(state[name]))
        self.steps = int(state["steps"])

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self.model.named_parameters():
            kept = parameter.detach().clone()
            parameter.copy_(self.means[name])
            self.means[name].copy_(kept)
