"""Training a task in a run folder: Lightning's loop, our course."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from recurra.tasks.task import Task
from recurra.training.allocation import keep_freed_memory
from recurra.training.checkpoints import AtomicCheckpointIO, best_path, last_path
from recurra.training.course import Course
from recurra.training.csv_logger import CsvLog, log_columns
from recurra.training.interruption import StopRequest
from recurra.training.module import TaskModule
from recurra.training.options import HardwareOptions, TrainingOptions
from recurra.training.progress import Reporter
from recurra.training.weights import load_weights, save_best


@dataclass(frozen=True)
class Outcome:
    """How a training run ended.

    Attributes:
        steps: optimiser steps, over all sessions.
        epochs: passes over the data, with fractions.
        seconds: of training, checks on valid included.
        units_per_s: tokens (or what the task counts) a second of training, checks excluded.
        best: the primary metric on valid of the weights that were kept; `best_step` their step.
        averaged: how many checks these are the mean of; 0 if of none (then `best_step` is theirs).
        clipped_share: share of the steps whose gradient was clipped, to the norm `gradient_clip`.
        reason: "epochs", "minutes", "patience" or "interrupted".
        stop_signal: the signal that interrupted it, or 0.
        is_main_process: False on all ranks but the first.
    """

    steps: int
    epochs: float
    seconds: float
    units_per_s: float
    best: float
    best_step: int
    averaged: int
    clipped_share: float
    gradient_clip: float
    reason: str
    stop_signal: int
    is_main_process: bool

    def facts(self) -> dict[str, Any]:
        """What a report says of the training: steps, epochs, clipped share, why it ended."""
        names = ("steps", "epochs", "best_step", "averaged", "clipped_share", "gradient_clip")
        return {name: getattr(self, name) for name in (*names, "reason")}


def fit(
    task: Task,
    options: TrainingOptions,
    hardware: HardwareOptions,
    folder: Path,
    *,
    seed: int,
    reporter: Reporter | None = None,
    title: str = "training",
) -> Outcome:
    """Train a task; goes on from the folder's last checkpoint if it has one.

    Makes the folder if need be and writes `log.csv` and `checkpoints/`; leaves the model with its
    best weights (by the primary metric on valid) on the first rank, on the CPU and in evaluation
    mode. Equal arguments give equal bits on a CPU, with or without kills and resumes in between;
    with `max_minutes` only while the clock is never ahead of the steps, since the learning rate
    follows the further of the two.

    Raises:
        TrainingError: the loss is not finite; the last checkpoint is from before that.
        RunFolderError: a damaged checkpoint, or a disk that is full.
    """
    reporter = reporter or Reporter()
    folder.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    total_steps = options.max_epochs * task.batches_per_epoch()
    with StopRequest() as stop, reporter.bar(title, task.unit) as bar, _quiet_lightning():
        course = Course(options, folder, bar, stop, total_steps)
        module = TaskModule(task, options, seed, course.progress)
        checkpoint = last_path(folder) if last_path(folder).exists() else None
        trainer = _build_trainer(task, hardware, folder, course, total_steps)
        task.shard(trainer.global_rank, trainer.world_size)
        module.train()
        trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
    module.to("cpu").eval()
    averaged = 0
    if course.reason != "interrupted" and trainer.is_global_zero:
        load_weights(module.model, best_path(folder))
        averaged = _average(course, task)
    return _outcome(course, trainer, task, averaged)


def _average(course: Course, task: Task) -> int:
    """Put the mean of the best checks in the place of the best one, if it is better on valid.

    Returns:
        How many checks the kept weights are the mean of; 0 if it was not better.
    """
    checks, best = course.checks, course.best
    if checks is None or best is None or len(checks.kept) < 2:
        return 0
    sign = -1 if task.higher_is_better else 1
    task.model.load_state_dict(checks.mean(), strict=False)
    with torch.no_grad():
        value = task.evaluate("valid")[task.primary_metric]
    if sign * value >= sign * best:
        load_weights(task.model, best_path(course.folder))
        return 0
    course.best = value
    save_best(task.model, best_path(course.folder), course.best_step, value)
    return len(checks.kept)


def _build_trainer(
    task: Task,
    hardware: HardwareOptions,
    folder: Path,
    course: Course,
    total_steps: int,
) -> Trainer:
    return Trainer(
        accelerator=hardware.accelerator,
        devices=hardware.devices,
        num_nodes=hardware.num_nodes,
        precision=hardware.precision,
        max_steps=total_steps,
        max_epochs=-1,
        logger=_loggers(task, folder),
        callbacks=[course],
        plugins=[AtomicCheckpointIO()],
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


def _loggers(task: Task, folder: Path) -> list[Logger]:
    columns = log_columns(task.figures, task.metrics, task.unit)
    loggers: list[Logger] = [CsvLog(folder / "log.csv", columns)]
    if find_spec("tensorboard"):
        loggers.append(TensorBoardLogger(folder, name="tensorboard", version=""))
    return loggers


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's banners and tips, which speak of options that are not ours."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _outcome(course: Course, trainer: Trainer, task: Task, averaged: int) -> Outcome:
    steps = trainer.global_step
    return Outcome(
        steps=steps,
        epochs=steps / task.batches_per_epoch(),
        seconds=course.clock.elapsed_s(),
        units_per_s=course.units / course.training_s if course.training_s else 0.0,
        best=float("nan") if course.best is None else course.best,
        best_step=course.best_step,
        averaged=averaged,
        clipped_share=course.clipped_steps / max(steps, 1),
        gradient_clip=course.options.gradient_clip,
        reason=course.reason or "epochs",
        stop_signal=course.stop_signal,
        is_main_process=trainer.is_global_zero,
    )
