"""Whole jobs by the command line, as a user runs them: the default one, and one on WikiText-2.

    python benchmarks/language_models.py [--data FOLDER]

Without `--data`: `recurra train lm`, nothing else (two to three minutes). With it, FOLDER holds
WikiText-2's train.txt and valid.txt (https://huggingface.co/datasets/Salesforce/wikitext): an LSTM
is trained on it with the settings below (about fifteen minutes), and `recurra score` must rank the
pairs of `PAIRS`, of which the first is English. Perplexity there is on WikiText-2's valid; nothing
was tuned.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine

RESULT = Path(__file__).parent / "results" / "language_models.json"
PAIRS = [
    ("the cat is small", "small is the cat"),
    ("walking home after school", "walking house after school"),
]
SETTINGS = """
tokenizer: word
minimum_count: 1
split_punctuation: false
hidden_size: 256
dropout: 0.4
input_dropout: 0.2
variational: true
batch_size: 20
bptt_steps: 35
bptt_jitter: true
learning_rate: 0.004
weight_decay: 0.05
max_epochs: 2
"""


def recurra(*arguments: str | Path) -> None:
    """Run a verb, its output as it comes."""
    subprocess.run([sys.executable, "-m", "recurra.cli.main", *map(str, arguments)], check=True)


def train(folder: Path, *arguments: str | Path) -> dict[str, Any]:
    """`recurra train lm`: its command, wall time and metrics."""
    start_s = time.perf_counter()
    recurra("train", "lm", *arguments, "--out", folder)
    seconds = time.perf_counter() - start_s
    metrics = json.loads((folder / "metrics.json").read_text())
    return {"wall_s": round(seconds, 1), "metrics": metrics}


def scored(folder: Path, pair: tuple[str, str]) -> dict[str, Any]:
    """Both lines' log-probabilities, and whether the first is the more probable."""
    import recurra

    ranked = recurra.load(folder).score(list(pair))
    nats = {found.line: round(found.log_probability, 3) for found in ranked}
    return {"nats": nats, "first": ranked[0].line, "is_right": ranked[0].line == pair[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of WikiText-2")
    data = parser.parse_args().data
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        if data is None:
            own = {**machine.facts(), "command": "recurra train lm"}
            result["default"] = {**own, **train(folder)}
        else:
            config = Path(scratch) / "settings.yaml"
            config.write_text("task: lm\nmodel: recurrent\n" + SETTINGS.lstrip())
            files = ("--data", data / "train.txt", "--valid", data / "valid.txt")
            result["wikitext_2"] = {
                **machine.facts(),
                "settings": SETTINGS.strip().splitlines(),
                **train(folder, "--config", config, *files),
                "pairs": [scored(folder, pair) for pair in PAIRS],
            }
    machine.write(RESULT, {**result, **machine.facts()})


if __name__ == "__main__":
    main()
