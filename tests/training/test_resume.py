"""A run that was stopped, by whatever, goes on to the same bits."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from wave_task import WaveTask

from recurra.errors import RunFolderError, TrainingError
from recurra.tasks.task import Step
from recurra.training.checkpoints import best_path, last_path
from recurra.training.log import read_log
from recurra.training.options import HardwareOptions, TrainingOptions
from recurra.training.trainer import Outcome, fit

OPTIONS = TrainingOptions(
    max_epochs=3, checkpoint_steps=2, learning_rate=0.02, patience=0, warmup_steps=5
)
CPU = HardwareOptions(accelerator="cpu")


class Killed(BaseException):
    """Stands for a process that ends without a word."""


class DyingTask(WaveTask):
    """Ends at a step, in the middle of it."""

    def __init__(self, last_step: int) -> None:
        super().__init__()
        self.steps_left = last_step

    def training_step(self, batch, carry) -> Step:
        self.steps_left -= 1
        if self.steps_left < 0:
            raise Killed
        return super().training_step(batch, carry)


def train(folder: Path, task: WaveTask, options: TrainingOptions = OPTIONS) -> Outcome:
    return fit(task, options, CPU, folder, seed=7)


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(last_path(folder), weights_only=True)
    moments = checkpoint["optimizer_states"][0]["state"]
    tensors = {f"{i}.{k}": v for i, state in moments.items() for k, v in state.items()}
    return tensors | checkpoint["state_dict"] | load_file(best_path(folder))


def assert_same_end(one: Path, other: Path) -> None:
    first, second = state_of(one), state_of(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    columns = ("step", "train_mse", "valid_mse", "learning_rate", "gradient_norm")
    logs = [
        [[row.get(name) for name in columns] for row in read_log(folder / "log.csv")]
        for folder in (one, other)
    ]
    assert logs[0] == logs[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train(folder, WaveTask())
    return folder


@pytest.mark.parametrize("last_step", [1, 2, 3, 6, 7, 8, 14, 20])
def test_a_run_that_dies_at_any_step_resumes_to_the_same_bits(tmp_path, whole, last_step):
    with pytest.raises(Killed):
        train(tmp_path, DyingTask(last_step))
    outcome = train(tmp_path, WaveTask())
    assert outcome.steps == 21
    assert_same_end(whole, tmp_path)


def test_a_run_that_dies_twice_resumes_to_the_same_bits(tmp_path, whole):
    for last_step in (5, 7):
        with pytest.raises(Killed):
            train(tmp_path, DyingTask(last_step))
    train(tmp_path, WaveTask())
    assert_same_end(whole, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd", "momentum": 0.9, "schedule": "plateau"},
        {"optimizer": "nt-asgd", "learning_rate": 3.0, "checks_per_epoch": 7, "max_epochs": 4},
        {"optimizer": "adam", "weight_decay": 0.1, "schedule": "inverse_sqrt"},
    ],
)
def test_every_optimizer_and_schedule_resumes_to_the_same_bits(tmp_path, changes):
    options = OPTIONS.model_copy(update=changes)
    train(tmp_path / "whole", WaveTask(), options)
    with pytest.raises(Killed):
        train(tmp_path / "cut", DyingTask(19), options)
    train(tmp_path / "cut", WaveTask(), options)
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


def test_a_finished_run_stays_as_it_is(tmp_path, whole):
    before = last_path(whole).read_bytes()
    outcome = train(whole, WaveTask())
    assert outcome.reason == "epochs"
    assert outcome.steps == 21
    assert last_path(whole).read_bytes() == before


def test_patience_that_ran_out_is_not_forgotten(tmp_path):
    options = OPTIONS.model_copy(update={"patience": 2, "learning_rate": 1e-9, "max_epochs": 50})
    first = train(tmp_path, WaveTask(), options)
    assert first.reason == "patience"
    again = train(tmp_path, WaveTask(), options)
    assert (again.steps, again.reason) == (first.steps, "patience")


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    with pytest.raises(TrainingError, match=r"loss of step 11 is nan.*lower learning_rate"):
        train(tmp_path, WaveTask(bad_step=10))
    checkpoint = torch.load(last_path(tmp_path), weights_only=True)
    assert checkpoint["global_step"] == 10
    assert all(torch.isfinite(t).all() for t in checkpoint["state_dict"].values())


def test_a_damaged_checkpoint_is_named(tmp_path, whole):
    damaged = last_path(tmp_path)
    damaged.parent.mkdir()
    damaged.write_bytes(last_path(whole).read_bytes()[:500])
    with pytest.raises(RunFolderError, match=r"last\.ckpt is damaged"):
        train(tmp_path, WaveTask())


SCRIPT = """
import sys, time
from pathlib import Path
from test_resume import OPTIONS, WaveTask, train

class SlowTask(WaveTask):
    def training_step(self, batch, carry):
        print("step", flush=True)
        time.sleep(0.05)
        return super().training_step(batch, carry)

outcome = train(Path(sys.argv[1]), SlowTask())
print(outcome.reason, outcome.stop_signal, outcome.steps, flush=True)
"""


def start(folder: Path) -> subprocess.Popen[str]:
    here = Path(__file__).parent
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder)],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(here)},
        stdout=subprocess.PIPE,
        text=True,
    )


def after_steps(process: subprocess.Popen[str], steps: int) -> None:
    assert process.stdout is not None
    for _ in range(steps):
        assert process.stdout.readline() == "step\n"


@pytest.mark.slow
def test_kill_minus_nine_and_ctrl_c_lose_nothing(tmp_path, whole):
    with start(tmp_path) as process:
        after_steps(process, 10)
        process.kill()
    assert process.returncode == -signal.SIGKILL

    with start(tmp_path) as process:
        after_steps(process, 3)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    reason, number, steps = output.splitlines()[-1].split()
    assert (reason, int(number)) == ("interrupted", signal.SIGINT)
    assert torch.load(last_path(tmp_path), weights_only=True)["global_step"] == int(steps) < 21

    train(tmp_path, WaveTask())
    assert_same_end(whole, tmp_path)
