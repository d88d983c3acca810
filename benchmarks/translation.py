"""Translators: how good and how fast on Multi30k and on the embedded dates; what extensions add.

    python benchmarks/translation.py PART… [--data FOLDER] [--runs FOLDER] [--seeds 1,2,3]
                                     [--pairs de-en,en-de]

PART is multi30k, decoding, dates or ablation; the speed of training has `translation_speed.py`.
FOLDER of the data holds `train.*`, `val.*` and `test_2016_flickr.*` (github.com/multi30k/dataset).

`multi30k`: `recurra train translate` by `quality/translate_multi30k.yaml`, a run for each pair of
languages and seed, into FOLDER of the runs; what is finished there is read, what was interrupted
goes on, results of other seeds stay. BLEU is cased sacreBLEU with beam 5, its signature beside it.
`decoding`: seconds for the 1,000 test sentences with beams of 5 and 1, by the de-en run.
`dates`: `recurra train translate` without data, one run a seed.
`ablation`: what `recurra compare translate` wrote into FOLDER/compare of the runs.

Each part says what the load of the machine was; `processor_s` does not depend on it.
"""

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine

HERE = Path(__file__).parent
RESULT = HERE / "results" / "translation.json"
CONFIG = HERE / "quality" / "translate_multi30k.yaml"
KEPT = ("description", "valid", "test", "greedy_test", "signatures", "parameters", "seconds")
KEPT += ("tokens_per_s", "translated_sentences_per_s", "training", "seed")


def train(folder: Path, *arguments: str) -> dict[str, Any]:
    """A run of `recurra train translate`, read if it is finished, gone on with if it was begun."""
    spent_s = time.perf_counter(), _processor_s()
    is_new = not folder.exists()
    if not (folder / "metrics.json").exists():
        command = [sys.executable, "-m", "recurra.cli.main", "train", "translate"]
        command += [*arguments, "--out", str(folder)] if is_new else ["--resume", str(folder)]
        subprocess.run(command, check=True)
    metrics = json.loads((folder / "metrics.json").read_text())
    found = {name: metrics[name] for name in KEPT}
    if is_new:  # only then is it the time of the whole command
        found["wall_s"] = round(time.perf_counter() - spent_s[0], 1)
        found["processor_s"] = round(_processor_s() - spent_s[1], 1)
    return found


def _processor_s() -> float:
    """Seconds of processor time that finished commands have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def here() -> dict[str, Any]:
    """The machine, and what else it was doing."""
    return {**machine.facts(), "load_average": round(os.getloadavg()[0], 1)}


def kept_results() -> dict[str, Any]:
    """What was measured before, by part."""
    return json.loads(RESULT.read_text()) if RESULT.exists() else {}  # type: ignore[no-any-return]


def multi30k(data: Path, runs: Path, pairs: list[str], seeds: list[int]) -> dict[str, Any]:
    """Runs by pair of languages and seed; those that were kept before, too."""
    parts = {"--data": "train", "--valid": "val", "--test": "test_2016_flickr"}
    found: dict[str, Any] = kept_results().get("multi30k", {})
    for pair, seed in itertools.product(pairs, seeds):
        arguments = ["--config", str(CONFIG), "--seed", str(seed)]
        for option, name in parts.items():
            for language in pair.split("-"):
                arguments += [option, str(data / f"{name}.{language}")]
        made = train(runs / f"{pair}-{seed}", *arguments)
        found.setdefault(pair, {})[f"seed {seed}"] = {**made, "machine": here()}
    return found


def decoding(data: Path, runs: Path) -> dict[str, Any]:
    """Seconds for 1,000 sentences."""
    import recurra

    translator = recurra.load(runs / "de-en-1")
    lines = (data / "test_2016_flickr.de").read_text(encoding="utf-8").split("\n")[:1000]
    translator.predict(lines[:20])
    found: dict[str, Any] = {"sentences": len(lines)}
    for beam in (5, 1):
        start_s, processor_s = time.perf_counter(), time.process_time()
        translator.predict(lines, beam_size=beam)
        found[f"beam_{beam}"] = {
            "seconds": round(time.perf_counter() - start_s, 2),
            "processor_s": round(time.process_time() - processor_s, 2),
        }
    return found


def dates(seeds: list[int]) -> dict[str, Any]:
    """The embedded data, one run a seed."""
    found = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as scratch:
            found.append(train(Path(scratch) / "run", "--seed", str(seed)))
    return {"runs": found}


def ablation(runs: Path) -> dict[str, Any]:
    """The content of `comparison.json`."""
    result: dict[str, Any] = json.loads((runs / "compare" / "comparison.json").read_text())
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parts = ("multi30k", "decoding", "dates", "ablation")
    parser.add_argument("parts", nargs="+", choices=parts)
    parser.add_argument("--data", type=Path, help="folder of Multi30k")
    parser.add_argument("--runs", type=Path, help="folder of the runs")
    parser.add_argument("--seeds", default="1,2,3", help="between commas")
    parser.add_argument("--pairs", default="de-en,en-de", help="of multi30k, between commas")
    given = parser.parse_args()
    pairs, seeds = given.pairs.split(","), [int(seed) for seed in given.seeds.split(",")]
    measure: dict[str, Callable[[], dict[str, Any]]] = {
        "multi30k": lambda: multi30k(given.data, given.runs, pairs, seeds),
        "decoding": lambda: decoding(given.data, given.runs),
        "dates": lambda: dates(seeds),
        "ablation": lambda: ablation(given.runs),
    }
    for part in given.parts:
        where = here()
        found = measure[part]()
        if part != "multi30k":  # whose runs have each its own
            found["machine"] = where
        result = {**kept_results(), part: found}
        RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
