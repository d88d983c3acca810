"""Checkpoint averaging: what is averaged, and that it never makes the model worse on valid."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from wave_task import WaveTask

from recurra.training.best_checks import BestChecks
from recurra.training.log import read_log
from recurra.training.options import HardwareOptions, TrainingOptions
from recurra.training.trainer import Outcome, fit

CPU = HardwareOptions(accelerator="cpu")


def swing(
    folder: Path, rate: float, *, epochs: int = 12, **changes: int
) -> tuple[Outcome, WaveTask]:
    """SGD at a rate at which the weights swing around the best ones."""
    fixed = {"optimizer": "sgd", "schedule": "constant", "patience": 0}
    options = TrainingOptions(max_epochs=epochs, learning_rate=rate, **fixed, **changes)
    task = WaveTask()
    return fit(task, options, CPU, folder, seed=1), task


def test_the_mean_is_that_of_the_best_checks_and_is_kept_where_it_is_better(tmp_path):
    outcome, task = swing(tmp_path, 1.0, average_checks=3)
    values = {
        row["valid_mse"]: int(row["step"])
        for row in read_log(tmp_path / "log.csv")
        if "valid_mse" in row
    }
    best = sorted(values)[:3]
    files = [tmp_path / "checkpoints" / f"check-{values[value]}.safetensors" for value in best]
    assert set((tmp_path / "checkpoints").glob("check-*")) == set(files)
    assert outcome.averaged == 3
    assert outcome.best_step == values[best[0]]
    assert outcome.best < best[0]
    assert task.evaluate("valid")["mse"] == pytest.approx(outcome.best)
    assert_mean(dict(task.model.state_dict()), files)
    assert_mean(load_file(tmp_path / "checkpoints" / "best.safetensors"), files)


def assert_mean(found: dict[str, Tensor], files: list[Path]) -> None:
    checks = [load_file(path) for path in files]
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, sum(check[name] for check in checks) / len(checks))


def test_a_mean_that_is_worse_than_the_best_check_is_not_kept(tmp_path):
    alone, _ = swing(tmp_path / "alone", 1.9)
    outcome, task = swing(tmp_path / "averaged", 1.9, average_checks=3)
    assert (outcome.averaged, outcome.best, outcome.best_step) == (0, alone.best, alone.best_step)
    assert task.evaluate("valid")["mse"] == pytest.approx(alone.best)


def test_a_resumed_run_averages_the_checks_of_both_sessions(tmp_path):
    whole, task = swing(tmp_path / "whole", 1.0, average_checks=4)
    swing(tmp_path / "parts", 1.0, epochs=9, average_checks=4)
    parts, other = swing(tmp_path / "parts", 1.0, average_checks=4)
    assert parts.best == whole.best
    for a, b in zip(task.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("higher_is_better", "expected"), [(True, 2.5), (False, 1.5)])
def test_which_checks_are_the_best(tmp_path, higher_is_better, expected):
    model, checks = nn.Linear(1, 1), BestChecks(tmp_path, 2, higher_is_better)
    for step in (1, 2, 3):
        nn.init.constant_(model.weight, step)
        checks.offer(model, step, float(step))
    assert checks.mean()["weight"].item() == expected
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_a_check_that_is_repeated_after_a_kill_counts_once(tmp_path):
    model, checks = nn.Linear(1, 1), BestChecks(tmp_path, 2, True)
    for step, value in ((1, 0.5), (2, 0.7), (2, 0.7)):
        checks.offer(model, step, value)
    assert [step for step, _ in checks.kept] == [2, 1]
