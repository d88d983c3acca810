"""Small work on one thread, and the command as a function."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from recurra.cli.main import app


@pytest.fixture(autouse=True, scope="module")
def _small(one_thread: None) -> None:
    """All of this folder's work is small."""


@pytest.fixture
def inspect(tmp_path) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """Runs `recurra inspect … --json`, checks what every inspection leaves, gives its figures."""

    def run(*arguments: object) -> tuple[Path, dict[str, Any]]:
        folder = tmp_path / "inspected"
        words = ["inspect", *arguments, "--out", folder, "--json"]
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        printed = json.loads(result.stdout)
        assert printed.pop("folder") == str(folder)
        assert json.loads((folder / "inspection.json").read_text()) == printed
        page = (folder / "report.html").read_text()
        assert "http" not in page.replace("http://www.w3.org", "")
        pictures = list(folder.glob("*.png"))
        assert pictures
        assert page.count("<figure>") == len(pictures)
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
        assert not list(folder.glob(".*.part"))
        return folder, printed

    return run


@pytest.fixture
def refused() -> Callable[..., str]:
    """Runs a command that must fail with 2; gives what it says, on one line."""

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(app, ["inspect", *(str(word) for word in arguments)])
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        return " ".join(result.stderr.split())

    return run


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> Path:
    """Lines with numbers, quotes and brackets."""
    lines = [
        f'the cat {n % 7} said "go on {n % 5}" to the dog ( or bird {n % 3} ) .' for n in range(400)
    ]
    path = tmp_path_factory.mktemp("text") / "toy.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _trained(folder: Path, text: Path, *options: str) -> Path:
    settings = ("hidden_size=12", "batch_size=4", "bptt_steps=12", "baselines=[]", *options)
    words = ["train", "lm", "--data", str(text), "--out", str(folder), "--max-epochs", "1"]
    for setting in (*settings, "minimum_count=1"):
        words += ["--set", setting]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="session")
def lstm_run(tmp_path_factory, text) -> Path:
    return _trained(tmp_path_factory.mktemp("runs") / "lstm", text, "num_layers=1")


@pytest.fixture(scope="session")
def ngram_run(tmp_path_factory, text) -> Path:
    return _trained(tmp_path_factory.mktemp("runs") / "ngram", text, "model=ngram", "order=2")
