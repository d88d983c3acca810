"""Taggers on public text: how good, how fast.

    python benchmarks/tagging.py --data FOLDER [--only ewt|wnut17|speed]... [--seeds 1,2,3]

FOLDER holds `ud-english-ewt/` (universaldependencies.org) and `wnut17/`
(github.com/leondz/emerging_entities_17). `ewt` and `wnut17` train by the configurations in
`benchmarks/quality/` and measure on dev, with `recurra train tag` as a user would; the latter
with the CRF and without it. `speed` is of a BiLSTM(200)-CRF with recurrent characters on EWT's
words: training (batches, gradients and optimiser included), tagging in batches, one sentence of 20
words. Runs of other seeds in the result file stay there: delete them with a new configuration.
`load_average` says what else the machine was doing; where it is busy, threads wait for each
other, so the same is also measured on one thread by the processor time that it took.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine
import torch

HERE = Path(__file__).parent
RESULT = HERE / "results" / "tagging.json"
EWT = ("ud-english-ewt/en_ewt-ud-train.conllu", "ud-english-ewt/en_ewt-ud-dev.conllu")
WNUT = ("wnut17/wnut17train.conll", "wnut17/emerging.dev.conll")
KEPT = ("description", "valid", "baselines", "parameters", "seconds", "tokens_per_s")


def train(config: str, files: tuple[Path, Path], seed: int, *settings: str) -> dict[str, Any]:
    """One run of `recurra train tag`; dev is both its valid and its test."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        command = [sys.executable, "-m", "recurra.cli.main", "train", "tag"]
        command += ["--config", str(HERE / "quality" / config), "--seed", str(seed)]
        command += ["--data", str(files[0]), "--valid", str(files[1]), "--test", str(files[1])]
        command += ["--out", str(folder), *(f"--set={setting}" for setting in settings)]
        load = os.getloadavg()[0]
        subprocess.run(command, check=True)
        metrics = json.loads((folder / "metrics.json").read_text())
    found = {name: metrics[name] for name in KEPT}
    found |= {"seed": seed, "commit": machine.facts()["commit"], "settings": list(settings)}
    found |= {"steps": metrics["training"], "total_s": metrics["total_seconds"]}
    return {**found, "load_average": [round(load, 1), round(os.getloadavg()[0], 1)]}


def over_seeds(
    runs: list[dict[str, Any]], metric: str, former: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Mean and spread of a metric on dev, and every run; `former` runs of other seeds stay."""
    by_seed = {run["seed"]: run for run in [*(former or {}).get("runs", []), *runs]}
    runs = [by_seed[seed] for seed in sorted(by_seed)]
    values = [100 * run["valid"][metric] for run in runs]
    return {
        f"{metric}_percent": round(statistics.mean(values), 2),
        "spread": round(statistics.stdev(values), 2) if len(values) > 1 else None,
        "runs": runs,
    }


def measure_speed(files: tuple[Path, Path]) -> dict[str, Any]:
    """Words a second of a BiLSTM(200)-CRF; the best of several, as other work only slows it."""
    from recurra.data.columns import read_tagged
    from recurra.data.lexicon import Lexicon
    from recurra.models.tagger import RecurrentTagger
    from recurra.tasks.tag.prediction import tag_sentences
    from recurra.tasks.tag.task import TaggingTask

    text, dev = read_tagged([files[0]]), read_tagged([files[1]])
    lexicon = Lexicon.train(text)
    sizes = len(lexicon.words), len(lexicon.alphabet), len(lexicon.tags)
    model = RecurrentTagger(*sizes, hidden_size=200, crf=True)
    task = TaggingTask(model, lexicon, {"train": text}, batch_tokens=1500)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def steps(first: int, count: int = 12) -> int:
        words = 0
        for index in range(first, first + count):
            batch = task.batch(0, index)
            optimizer.zero_grad()
            task.training_step(batch, None).loss.backward()
            optimizer.step()
            words += task.count(batch)
        return words

    def tag(sentences: list[list[str]], *, confidence: bool) -> int:
        found = tag_sentences(model, lexicon, sentences, confidence=confidence)
        return sum(len(sentence.tags) for sentence in found)

    one = [(dev.words[0] * 20)[:20]]
    works = {
        "training": (lambda: steps(20), 5),
        "tagging": (lambda: tag(dev.words, confidence=False), 5),
        "tagging_with_confidence": (lambda: tag(dev.words, confidence=True), 5),
        "one_sentence": (lambda: tag(one, confidence=True), 100),
    }
    load, threads = os.getloadavg()[0], torch.get_num_threads()
    result: dict[str, Any] = {
        "model": "BiLSTM(200)-CRF, words 100, recurrent characters 64, 17 tags",
        "threads": threads,
        "by_the_clock": rates(works, time.perf_counter),
    }
    torch.set_num_threads(1)
    result["by_processor_time_on_one_thread"] = rates(works, time.process_time)
    torch.set_num_threads(threads)
    return {**result, "load_average": [round(load, 1), round(os.getloadavg()[0], 1)]}


def rates(works: dict[str, Any], clock: Any) -> dict[str, float]:
    """Words a second of each work, and milliseconds for the sentence of 20 words."""
    found = {name: best_rate(work, repeats, clock) for name, (work, repeats) in works.items()}
    sentence = found.pop("one_sentence")
    result: dict[str, float] = {f"{name}_tokens_per_s": round(n) for name, n in found.items()}
    return {**result, "sentence_of_20_ms": round(20e3 / sentence, 2)}


def best_rate(work: Any, repeats: int, clock: Any) -> float:
    """Most words a second over some calls, after one to warm up."""
    work()
    found = []
    for _ in range(repeats):
        start_s = clock()
        words = work()
        found.append(words / (clock() - start_s))
    return max(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--only", action="append", choices=("ewt", "wnut17", "speed"))
    parser.add_argument("--seeds", default="1", help="seeds of the runs, between commas")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE for all runs")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    wanted = options.only or ["speed", "ewt", "wnut17"]
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    ewt, wnut = (tuple(options.data / name for name in names) for names in (EWT, WNUT))
    if "speed" in wanted:
        result["speed"] = measure_speed(ewt)
    if "ewt" in wanted:
        runs = [train("tag_ewt.yaml", ewt, seed, *options.set) for seed in seeds]
        result["ewt_dev_upos"] = over_seeds(runs, "accuracy", result.get("ewt_dev_upos"))
    if "wnut17" in wanted:
        result["wnut17_dev"] = {
            name: over_seeds(
                [train("tag_wnut17.yaml", wnut, seed, setting, *options.set) for seed in seeds],
                "f1",
                result.get("wnut17_dev", {}).get(name),
            )
            for name, setting in (("crf", "crf=true"), ("softmax", "crf=false"))
        }
    machine.write(RESULT, {**result, **machine.facts()})


if __name__ == "__main__":
    main()
