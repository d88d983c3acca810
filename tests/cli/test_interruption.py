"""Runs of the command that end early: nothing is lost, and the end is the same to the bit."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_text import write_text

import recurra
from recurra.training.log import read_log

SMALL = [
    *("--set", "hidden_size=24", "--set", "batch_size=4", "--set", "bptt_steps=12"),
    *("--set", "baselines=[2]", "--set", "minimum_count=1", "--set", "checkpoint_steps=20"),
    *("--set", "patience=0", "--max-epochs", "8"),
]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(*arguments: object, limit_bytes: int | None = None) -> subprocess.Popen[str]:
    def limit() -> None:
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    return subprocess.Popen(
        [sys.executable, "-m", "recurra.cli.main", *(str(argument) for argument in arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        preexec_fn=limit,
    )


def steps_saved(run: Path) -> int:
    log = run / "log.csv"
    is_started = log.exists() and (run / "checkpoints" / "last.ckpt").exists()
    return int(max((row["step"] for row in read_log(log)), default=0)) if is_started else 0


def wait_for_steps(process: subprocess.Popen[str], run: Path, steps: int) -> None:
    end_s = time.monotonic() + 120
    while steps_saved(run) < steps:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end_s
        time.sleep(0.02)


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    return write_text(tmp_path_factory.mktemp("text") / "toy.txt", 1500)


@pytest.mark.slow
def test_kill_and_ctrl_c_end_in_the_same_bits_as_a_run_left_alone(tmp_path, text):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    with start("train", "lm", "--data", text, "--out", whole, *SMALL) as process:
        assert process.wait() == 0

    with start("train", "lm", "--data", text, "--out", cut, *SMALL) as process:
        wait_for_steps(process, cut, 100)
        process.kill()
    with start("evaluate", cut) as process:
        _, printed = process.communicate()
    assert process.returncode == 2
    assert "is not finished" in printed
    assert f"--resume {cut}" in printed

    with start("train", "lm", "--resume", cut) as process:
        wait_for_steps(process, cut, steps_saved(cut) + 100)
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate()
    assert process.returncode == 130, printed
    assert f"recurra train lm --resume {cut}" in " ".join(printed.split())

    with start("train", "lm", "--resume", cut, "--json") as process:
        printed, errors = process.communicate()
    assert process.returncode == 0, errors
    first = (whole / "model.safetensors").read_bytes()
    assert (cut / "model.safetensors").read_bytes() == first
    metrics = json.loads((whole / "metrics.json").read_text())
    assert json.loads(printed)["test"] == metrics["test"]
    assert not list(cut.rglob("*.part"))


@pytest.mark.slow
def test_a_full_disk_is_named_and_leaves_no_half_file(tmp_path, text):
    run = tmp_path / "run"
    options = ("train", "lm", "--data", text, "--out", run, *SMALL)
    with start(*options, limit_bytes=20_000) as process:
        _, printed = process.communicate()
    assert process.returncode == 2, printed
    assert f"error: cannot write {run}" in " ".join(printed.split())
    assert "Traceback" not in printed
    assert not list(run.rglob("*.part"))


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path, text):
    figures = []
    for devices in (1, 2):
        run = tmp_path / str(devices)
        chosen = ("--devices", devices, "--max-epochs", 1, "--set", "dropout=0")
        options = ("train", "lm", "--data", text, "--out", run, *SMALL, *chosen)
        with start(*options, "--set", "input_dropout=0", "--json") as process:
            printed, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors
        figures.append(json.loads(printed)["test"]["perplexity"])
    assert figures[0] == pytest.approx(figures[1], rel=1e-4)


def test_resume_changes_limits_only(tmp_path, text):
    run = tmp_path / "run"
    options = {"model": "ngram", "order": 2, "minimum_count": 1}
    recurra.LanguageModel.train(text, out=run, **options)
    with start("train", "lm", "--resume", run, "--cell", "gru") as process:
        _, printed = process.communicate()
    assert process.returncode == 2
    assert "network.cell cannot change in the middle of a run" in " ".join(printed.split())
