"""What happens along a run: schedules, clipping, limits, the log."""

import math

import pytest
import torch
from torch import nn
from wave_task import Network, WaveTask

from recurra.errors import RunFolderError
from recurra.training.files import write_atomically, write_text
from recurra.training.log import read_log
from recurra.training.module import step_seed
from recurra.training.optimizers import WeightAverage, build_optimizer
from recurra.training.options import HardwareOptions, TrainingOptions
from recurra.training.schedules import learning_rate_factor
from recurra.training.trainer import fit

CPU = HardwareOptions(accelerator="cpu")


def options(**changes) -> TrainingOptions:
    return TrainingOptions(**{"max_epochs": 2, "patience": 0, **changes})


def test_training_learns_the_wave(tmp_path):
    chosen = options(max_epochs=30, learning_rate=0.02, warmup_steps=5)
    outcome = fit(WaveTask(), chosen, CPU, tmp_path, seed=1)
    assert outcome.reason == "epochs"
    assert outcome.best < 0.05


def test_a_small_limit_clips_every_step_and_the_share_says_so(tmp_path):
    always = fit(WaveTask(), options(gradient_clip=1e-6), CPU, tmp_path / "a", seed=1)
    never = fit(WaveTask(), options(gradient_clip=0), CPU, tmp_path / "b", seed=1)
    assert (always.clipped_share, never.clipped_share) == (1.0, 0.0)
    norms = [r["gradient_norm"] for r in read_log(tmp_path / "b" / "log.csv") if len(r) > 4]
    assert all(norm > 0 for norm in norms)


def test_the_clock_ends_a_run_and_the_schedule_with_it(tmp_path):
    chosen = options(max_epochs=10**6, max_minutes=0.02, schedule="linear", warmup_steps=0)
    outcome = fit(WaveTask(), chosen, CPU, tmp_path, seed=1)
    assert outcome.reason == "minutes"
    assert outcome.seconds < 30
    rates = [r["learning_rate"] for r in read_log(tmp_path / "log.csv") if "learning_rate" in r]
    assert rates[-1] < 0.3 * chosen.learning_rate


def test_the_best_weights_are_kept_and_not_the_last(tmp_path):
    task = WaveTask()
    chosen = options(max_epochs=12, optimizer="sgd", learning_rate=1.9, schedule="constant")
    outcome = fit(task, chosen, CPU, tmp_path, seed=1)
    values = {
        int(row["step"]): row["valid_mse"]
        for row in read_log(tmp_path / "log.csv")
        if "valid_mse" in row
    }
    assert outcome.best_step == min(values, key=values.__getitem__)
    assert outcome.best_step != max(values)
    assert task.evaluate("valid")["mse"] == pytest.approx(outcome.best)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.25, 1.0, 1.0, 1.0]),
        ("linear", [0.25, 1.0, 0.55, 0.1]),
        ("cosine", [0.25, 1.0, 0.55, 0.1]),
        ("inverse_sqrt", [0.25, 1.0, math.sqrt(4 / 50), 0.2]),
        ("plateau", [0.25, 1.0, 1.0, 1.0]),
    ],
)
def test_schedules_by_hand(schedule, expected):
    points = [(0, 0.0), (3, 0.0), (49, 0.5), (99, 1.0)]
    factors = [
        learning_rate_factor(schedule, step, progress, warmup_steps=4, final_share=0.1)
        for step, progress in points
    ]
    assert factors == pytest.approx(expected)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "nt-asgd"])
def test_weight_decay_spares_vectors(name):
    optimizer = build_optimizer(options(optimizer=name, weight_decay=0.5), nn.Linear(3, 2))
    decays = {group["params"][0].dim(): group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {2: 0.5, 1: 0.0}


def test_the_average_is_the_mean_of_the_weights_it_saw():
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model)
    for value in (1.0, 2.0, 6.0):
        nn.init.constant_(model.weight, value)
        average.update()
    with average.in_place():
        assert model.weight.item() == pytest.approx(3.0)
    assert model.weight.item() == 6.0
    assert average.means["weight"].item() == pytest.approx(3.0)


def test_a_write_that_fails_keeps_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def full_disk(beside):
        beside.write_text("ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunFolderError, match=r"file\.txt: No space left on device; .* is kept"):
        write_atomically(path, full_disk)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_steps_and_ranks_draw_different_numbers():
    seeds = {step_seed(seed, rank, step) for seed in (0, 1) for rank in (0, 1) for step in range(9)}
    assert len(seeds) == 36
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_dropout_differs_from_step_to_step():
    network = Network()
    masks = []
    for step in (0, 1):
        torch.manual_seed(step_seed(1, 0, step))
        masks.append(network.dropout(torch.ones(100)))
    assert not torch.equal(*masks)
