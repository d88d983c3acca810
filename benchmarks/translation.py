"""Translators on Multi30k: how good, how fast.

    python benchmarks/translation.py --data FOLDER [--pair de-en]... [--seeds 1] [--set KEY=VALUE]

FOLDER holds `train.*`, `val.*` and `test_2016_flickr.*`. Trains by
`quality/translate_multi30k.yaml` with `recurra train translate` as a user would; BLEU is cased
sacreBLEU with beam 5, its signature beside it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import machine

HERE = Path(__file__).parent
RESULT = HERE / "results" / "translation.json"
CONFIG = HERE / "quality" / "translate_multi30k.yaml"
KEPT = ("description", "valid", "test", "greedy_test", "signatures", "parameters", "seconds")
KEPT += ("tokens_per_s", "translated_sentences_per_s", "training", "command", "seed")


def train(folder: Path, pair: str, seed: int, settings: list[str]) -> dict[str, Any]:
    """One run of `recurra train translate`."""
    command = [sys.executable, "-m", "recurra.cli.main", "train", "translate"]
    command += ["--config", str(CONFIG), "--seed", str(seed)]
    parts = {"--data": "train", "--valid": "val", "--test": "test_2016_flickr"}
    for option, name in parts.items():
        for language in pair.split("-"):
            command += [option, str(folder / f"{name}.{language}")]
    command += [f"--set={setting}" for setting in settings]
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        subprocess.run([*command, "--out", str(run)], check=True)
        metrics = json.loads((run / "metrics.json").read_text())
    return {**{name: metrics[name] for name in KEPT}, "load_average": round(load, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of Multi30k")
    parser.add_argument("--pair", action="append", choices=("de-en", "en-de"))
    parser.add_argument("--seeds", default="1", help="seeds of the runs, between commas")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE for all runs")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    result = {
        pair: [train(options.data, pair, seed, options.set) for seed in seeds]
        for pair in options.pair or ("de-en", "en-de")
    }
    machine.write(RESULT, result)


if __name__ == "__main__":
    main()
