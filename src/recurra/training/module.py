"""A task as Lightning sees it: batches by position, one loss, one optimiser."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from recurra.errors import TrainingError
from recurra.tasks.task import Task
from recurra.training.optimizers import build_optimizer
from recurra.training.options import TrainingOptions
from recurra.training.schedules import learning_rate_factor


class Batches:
    """The endless sequence of batches, from wherever the run stands when it is iterated.

    Epochs are counted here and not by Lightning, whose loop sees one long epoch: the position in
    the data is then a function of the number of steps, which is all that a checkpoint needs.
    """

    def __init__(self, task: Task, steps_done: Callable[[], int]) -> None:
        self.task = task
        self.steps_done = steps_done

    def __iter__(self) -> Iterator[Any]:
        position = self.steps_done()
        while True:
            yield self.task.batch(*divmod(position, self.task.batches_per_epoch()))
            position += 1


class Totals:
    """Figures of the steps since the last row of the log, summed without waiting for a device."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Start again from nothing."""
        self.steps = self.units = 0
        self.sums: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor) -> None:
        """Add one step's value."""
        self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()

    def means(self) -> dict[str, float]:
        """Mean of every figure over the steps."""
        return {name: float(value) / max(self.steps, 1) for name, value in self.sums.items()}


class TaskModule(LightningModule):
    """Runs a task's steps under Lightning.

    The random numbers of a step are seeded by (seed, rank, step). No generator's state has to be
    saved: a run that resumes draws the same dropout masks as one that was never stopped.

    Args:
        task: what to train.
        options: how.
        seed: of the run.
        progress: share of the training done, in [0, 1]; for the schedule.
    """

    def __init__(
        self, task: Task, options: TrainingOptions, seed: int, progress: Callable[[], float]
    ) -> None:
        super().__init__()
        self.task = task
        self.model: nn.Module = task.model
        self.options = options
        self.seed = seed
        self.progress = progress
        self.carry: Any = None
        self.plateau_factor = 1.0
        self.totals = Totals()
        self.learning_rate = options.learning_rate

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser; its learning rate is set before every step."""
        return build_optimizer(self.options, self.model)

    def train_dataloader(self) -> Batches:
        """Batches from the present step on."""
        return Batches(self.task, lambda: self.trainer.global_step)

    def on_train_start(self) -> None:
        """Move what was read from a checkpoint to where the model is."""
        self.carry = _to_device(self.carry, self.device)
        sums = self.totals.sums
        self.totals.sums = {name: value.to(self.device) for name, value in sums.items()}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the step, set its learning rate, and at the start of an epoch a fresh carry."""
        step = self.trainer.global_step
        torch.manual_seed(step_seed(self.seed, self.global_rank, step))
        if step % self.task.batches_per_epoch() == 0:
            self.carry = _to_device(self.task.initial_carry(), self.device)
        options = self.options
        factor = learning_rate_factor(
            options.schedule,
            step,
            self.progress(),
            warmup_steps=options.warmup_steps,
            final_share=options.final_learning_rate_share,
        )
        self.learning_rate = options.learning_rate * factor * self.plateau_factor
        scaled = self.learning_rate * self.task.learning_rate_scale(batch)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = scaled

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of one batch; keeps the carry and the figures."""
        step = self.task.training_step(batch, self.carry)
        self.carry = step.carry
        self.totals.steps += 1
        self.totals.units += self.task.count(batch)
        for name, figure in step.figures.items():
            self.totals.add(name, figure)
        if self.device.type == "cpu":  # elsewhere reading the value would wait for the device
            check_finite("loss", step.loss, self.trainer.global_step + 1)
        return step.loss

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the global norm, and count the steps on which that changed something."""
        limit = self.options.gradient_clip or float("inf")
        parameters = list(self.model.parameters())
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.device.type == "cpu":
            check_finite("gradient", norm, self.trainer.global_step + 1)
            if norm > limit:  # a pass over all gradients that most steps can do without
                nn.utils.clip_grads_with_norm_(parameters, limit, norm)
        else:  # to look at the norm would be to wait for the device
            nn.utils.clip_grads_with_norm_(parameters, limit, norm)
        self.totals.add("gradient_norm", norm)
        self.totals.add("clipped_share", (norm > limit).float())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the carry of every rank, the figures not yet logged, the plateau's factor."""
        sums = {name: value.cpu() for name, value in self.totals.sums.items()}
        checkpoint["recurra"] = {
            "carry": _gather(self.carry, self.trainer.world_size),
            "plateau_factor": self.plateau_factor,
            "totals": {"steps": self.totals.steps, "units": self.totals.units, "sums": sums},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up this rank's carry."""
        state = checkpoint["recurra"]
        if len(state["carry"]) != self.trainer.world_size:
            raise TrainingError(
                f"the run was saved by {len(state['carry'])} processes and is resumed by "
                f"{self.trainer.world_size}: resume it with the same --devices and --num-nodes"
            )
        self.carry = state["carry"][self.global_rank]
        self.plateau_factor = state["plateau_factor"]
        for name, value in state["totals"].items():
            setattr(self.totals, name, value)


def step_seed(seed: int, rank: int, step: int) -> int:
    """A seed for one step of one rank, well spread (splitmix64; Steele et al. 2014).

    Example:
        >>> step_seed(1, 0, 0) != step_seed(1, 0, 1) != step_seed(1, 1, 1)
        True
    """
    mask = (1 << 64) - 1
    z = (seed * 0x9E3779B97F4A7C15 + rank * 0xD1B54A32D192ED03 + step * 0x8CB92BA72F3D8DD7) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) >> 1


def check_finite(what: str, value: Tensor, step: int) -> None:
    """Stop before a number that is none reaches the weights, or a checkpoint.

    Raises:
        TrainingError: it is NaN or infinite.
    """
    if not torch.isfinite(value):
        raise TrainingError(
            f"the {what} of step {step} is {float(value.detach())}, so training cannot go on; try "
            "a lower learning_rate, a smaller gradient_clip or more warmup_steps"
        )


def _to_device(carry: Any, device: torch.device) -> Any:
    if isinstance(carry, Tensor):
        return carry.to(device)
    if isinstance(carry, tuple | list):
        return type(carry)(_to_device(item, device) for item in carry)
    return carry


def _gather(carry: Any, ranks: int) -> list[Any]:
    carry = _to_device(carry, torch.device("cpu"))
    if ranks == 1:
        return [carry]
    carries: list[Any] = [None] * ranks
    torch.distributed.all_gather_object(carries, carry)
    return carries
