"""The course of a run: what is logged, checked and saved after a step, and when it ends."""

import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from recurra.training.best_checks import BestChecks
from recurra.training.checkpoints import best_path, last_path, save_last
from recurra.training.csv_logger import CsvLog
from recurra.training.interruption import StopRequest
from recurra.training.module import TaskModule, check_finite
from recurra.training.optimizers import WeightAverage
from recurra.training.options import TrainingOptions
from recurra.training.progress import Bar
from recurra.training.weights import save_best

LOG_STEPS = 50
AVERAGING_PATIENCE = 5  # checks without improvement before NT-ASGD averages (Merity et al.: n = 5)
PLATEAU_DIVISOR = 4.0


class Clock:
    """Seconds spent training, over all the sessions of a run, against a limit or none."""

    def __init__(self, max_minutes: float | None) -> None:
        self.limit_s = math.inf if max_minutes is None else 60 * max_minutes
        self.before_s = 0.0
        self.started_s: float | None = None

    def start(self) -> None:
        """Let it run, if it does not yet."""
        self.started_s = self.started_s or time.monotonic()

    def elapsed_s(self) -> float:
        """Seconds so far."""
        now_s = 0.0 if self.started_s is None else time.monotonic() - self.started_s
        return self.before_s + now_s


class Course(Callback):
    """Follows a run step by step; all its decisions are taken at the end of a step.

    Order at the end of a step: log, check on valid (with the best weights kept), decide whether to
    stop, checkpoint. A checkpoint therefore always stands between two steps.

    Args:
        options: limits, patience, intervals.
        folder: of the run.
        bar: shows the progress.
        stop: tells of Ctrl-C.
        total_steps: steps of all epochs.

    Attributes:
        reason: why the run ended: "epochs", "minutes", "patience" or "interrupted".
        best: the best value of the primary metric on valid, `best_step` when.
        checks: the weights that may be averaged in the end, if any may.
    """

    def __init__(
        self, options: TrainingOptions, folder: Path, bar: Bar, stop: StopRequest, total_steps: int
    ) -> None:
        self.options = options
        self.folder = folder
        self.bar = bar
        self.stop = stop
        self.total_steps = total_steps
        self.clock = Clock(options.max_minutes)
        self.average: WeightAverage | None = None
        self.checks: BestChecks | None = None
        self.best: float | None = None
        self.best_step = 0
        self.checks_since_best = 0
        self.clipped_steps = 0.0
        self.units = 0
        self.training_s = 0.0
        self.reason = ""
        self.stop_signal = 0
        self.steps_done = 0
        self._logged_s = 0.0
        self._average_state: dict[str, Tensor | int] | None = None
        self._kept: list[list[float]] = []

    def progress(self) -> float:
        """Share of the run that is done, by its steps or by the clock, whichever is further."""
        by_clock = self.clock.elapsed_s() / self.clock.limit_s
        return min(1.0, max(self.steps_done / self.total_steps, by_clock))

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Take up a resumed run, which may have nothing left to do."""
        assert isinstance(module, TaskModule)
        self.steps_done = trainer.global_step
        self._logged_s = self.clock.elapsed_s()
        if self._average_state is not None:
            self.average = WeightAverage(module.model)
            self.average.load_state_dict(self._average_state)
        if self.options.average_checks > 1:
            kept = [(int(step), value) for step, value in self._kept]
            better = module.task.higher_is_better
            self.checks = BestChecks(self.folder, self.options.average_checks, better, kept)
        for logger in trainer.loggers:
            if isinstance(logger, CsvLog):
                logger.start(self.steps_done)
        self.bar.start(self.steps_done, self.total_steps)
        self._decide(trainer, self.steps_done, self.clock.elapsed_s(), 0)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log, check, decide, save."""
        assert isinstance(module, TaskModule)
        self.clock.start()  # after the first step: compiling kernels is not training
        step = self.steps_done = trainer.global_step
        if self.average is not None:
            self.average.update()
        elapsed_s, signal_number = self._agree(trainer)
        ends = step >= self.total_steps or elapsed_s >= self.clock.limit_s
        is_check = self._is_check(module, step)
        if step % LOG_STEPS == 0 or is_check or ends:
            self._log(trainer, module, step)
        self.bar.show(step, self.progress(), elapsed_s, self.clock.limit_s)
        if not signal_number and (is_check or ends):
            self._check(trainer, module, step)
        self._decide(trainer, step, elapsed_s, signal_number)
        if is_check or self.reason or step % self.options.checkpoint_steps == 0:
            check_finite("loss", outputs["loss"], step)
            save_last(trainer, last_path(self.folder))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of the course."""
        return {
            "elapsed_s": self.clock.elapsed_s(),
            "training_s": self.training_s,
            "best": self.best,
            "best_step": self.best_step,
            "checks_since_best": self.checks_since_best,
            "clipped_steps": self.clipped_steps,
            "units": self.units,
            "average": self.average.state_dict() if self.average else None,
            "checks": [list(check) for check in self.checks.kept] if self.checks else [],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the course of a run."""
        self.clock.before_s = state["elapsed_s"]
        for name in ("training_s", "best", "best_step", "checks_since_best", "clipped_steps"):
            setattr(self, name, state[name])
        self.units = state["units"]
        self._average_state = state["average"]
        self._kept = state["checks"]

    def _is_check(self, module: TaskModule, step: int) -> bool:
        epoch_steps, checks = module.task.batches_per_epoch(), self.options.checks_per_epoch
        index = (step - 1) % epoch_steps
        return (index + 1) * checks // epoch_steps > index * checks // epoch_steps

    def _agree(self, trainer: Trainer) -> tuple[float, int]:
        """The clock and the signal, the same on every rank: the largest of all."""
        seen = self.clock.elapsed_s(), self.stop.signal_number
        if trainer.world_size == 1:
            return seen
        both = torch.tensor(seen, dtype=torch.float64, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(both, torch.distributed.ReduceOp.MAX)
        return float(both[0]), int(both[1])

    def _log(self, trainer: Trainer, module: TaskModule, step: int) -> None:
        means, totals = module.totals.means(), module.totals
        if trainer.precision != "16-mixed":  # whose scaler skips steps with infinite gradients
            check_finite("gradient", torch.tensor(means["gradient_norm"]), step)
        elapsed_s = self.clock.elapsed_s()
        interval_s = elapsed_s - self._logged_s
        self._logged_s = elapsed_s
        self.training_s += interval_s
        self.clipped_steps += means.get("clipped_share", 0.0) * totals.steps
        self.units += totals.units
        rate = totals.units / interval_s if interval_s > 0 else None
        figures = {name: means[name] for name in module.task.figures if name in means}
        row = {
            "epoch": step / module.task.batches_per_epoch(),
            "seconds": elapsed_s,
            "learning_rate": module.learning_rate,
            "gradient_norm": means["gradient_norm"],
            "clipped_share": means["clipped_share"],
            **{f"train_{name}": value for name, value in figures.items()},
        }
        if rate is not None and step > 1:
            row[f"{module.task.unit}_per_s"] = rate
        for logger in trainer.loggers:
            logger.log_metrics(row, step)
        self.bar.figures(figures, rate)
        totals.clear()

    def _check(self, trainer: Trainer, module: TaskModule, step: int) -> None:
        module.eval()
        averaged = self.average.in_place() if self.average else nullcontext()
        with averaged, torch.no_grad(), trainer.precision_plugin.forward_context():
            metrics = module.task.evaluate("valid")
            value = metrics[module.task.primary_metric]
            self._judge(trainer, module, value, step)
        module.train()
        self._logged_s = self.clock.elapsed_s()
        for logger in trainer.loggers:
            row = {f"valid_{name}": metrics[name] for name in module.task.metrics}
            logger.log_metrics({"epoch": step / module.task.batches_per_epoch(), **row}, step)
        self.bar.checked(module.task.primary_metric, value, self.best_step == step)

    def _judge(self, trainer: Trainer, module: TaskModule, value: float, step: int) -> None:
        sign = -1 if module.task.higher_is_better else 1
        if self.checks is not None and trainer.is_global_zero:
            self.checks.offer(module.model, step, value)
        if self.best is None or sign * value < sign * self.best:
            self.best, self.best_step, self.checks_since_best = value, step, 0
            if trainer.is_global_zero:
                save_best(module.model, best_path(self.folder), step, value)
            return
        self.checks_since_best += 1
        if self.options.schedule == "plateau":
            module.plateau_factor /= PLATEAU_DIVISOR
        starts_averaging = self.checks_since_best >= AVERAGING_PATIENCE and self.average is None
        if self.options.optimizer == "nt-asgd" and starts_averaging:
            self.average = WeightAverage(module.model)
            self.checks_since_best = 0

    def _decide(self, trainer: Trainer, step: int, elapsed_s: float, signal_number: int) -> None:
        patience = self.options.patience
        if signal_number:
            self.reason, self.stop_signal = "interrupted", signal_number
        elif step >= self.total_steps:
            self.reason = "epochs"
        elif elapsed_s >= self.clock.limit_s:
            self.reason = "minutes"
        elif patience and self.checks_since_best >= patience:
            self.reason = "patience"
        if self.reason:
            trainer.should_stop = True
