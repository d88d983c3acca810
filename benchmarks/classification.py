"""Quality of classifiers on public data: questions, names, vowels; three seeds, baselines beside.

    python benchmarks/classification.py --data FOLDER [--only trec,names,vowels] [--seeds 1,2,3]

FOLDER holds `trec/TREC.train` (questions in 6 classes; Li & Roth 2002), `names/*.txt` (surnames in
18 languages; the data of PyTorch's tutorial) and `japanese-vowels/*.ts` (9 speakers; Kudo et al.
1999, from timeseriesclassification.com). Of the first two a tenth is test and a tenth valid, of
each class, by unique text, the same for every seed; a pair of name and language counts once. The
vowels have their own test part, and a tenth of train is valid. Settings were chosen on valid, those
of TREC by four inner folds of train and valid, the last of them by two or four: affixes, the finer
classes, in the network and in the bag of n-grams, n-grams weighted by how rare they are, n-grams
mixed in, several members, and learning from valid, too, all help; R-drop, hashed n-grams of
characters, a linear part trained jointly and an average over the steps did not, nor in the bag
longer n-grams, pairs of words apart, n-grams of characters, endings, or log-count ratios. No
pretrained vectors. Writes `benchmarks/results/classification.json`.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import machine
import torch

import recurra
from recurra.data import Examples, ExampleSplits, read_labelled_texts, read_ts, split_examples

RESULTS = Path(__file__).parent / "results" / "classification.json"
GOALS = {"trec": 0.88, "names": 0.82, "vowels": 0.97}
OPTIONS: dict[str, dict[str, Any]] = {
    "trec": {
        "tokenizer": "word",
        "lowercase": True,
        "minimum_count": 2,
        "mix_ngrams": True,
        "members": 4,
        "share_valid": True,
        "cell": "lstm",
        "hidden_size": 128,
        "embedding_size": 100,
        "affix_size": 64,
        "pooling": "attention",
        "dropout": 0.5,
        "input_dropout": 0.6,
        "token_dropout": 0.3,
        "label_smoothing": 0.1,
        "weight_decay": 0.5,
        "learning_rate": 0.004,
        "warmup_steps": 50,
        "batch_size": 64,
        "max_epochs": 12,
        "average_checks": 3,
        "patience": 0,
    },
    "names": {
        "tokenizer": "char",
        "mix_ngrams": True,
        "hidden_size": 128,
        "embedding_size": 48,
        "pooling": "concat",
        "dropout": 0.4,
        "input_dropout": 0.15,
        "weight_decay": 0.05,
        "learning_rate": 0.008,
        "batch_size": 64,
        "max_epochs": 12,
    },
    "vowels": {
        "hidden_size": 64,
        "pooling": "max",
        "dropout": 0.5,
        "input_dropout": 0.2,
        "learning_rate": 0.005,
        "batch_size": 16,
        "max_epochs": 40,
        "choose_by": "log_loss",
    },
}
MEASURES = ("accuracy", "macro_f1", "log_loss", "calibration_error")


def read_trec(folder: Path) -> ExampleSplits:
    """Questions by the class before the colon, the finer class as leaf."""
    lines = (folder / "trec" / "TREC.train").read_bytes().decode("latin-1").split("\n")
    pairs = [line.partition(" ") for line in lines if line.strip()]
    labels = [(head.partition(":")[0],) for head, _, _ in pairs]
    heads = [head for head, _, _ in pairs]
    texts = [text.strip() for _, _, text in pairs]
    return split_examples(Examples(texts, labels, leaves=heads))


def read_names(folder: Path) -> ExampleSplits:
    """Names by language, each pair once."""
    found = read_labelled_texts([folder / "names"])
    pairs = dict.fromkeys(zip(found.inputs, found.labels, strict=True))
    return split_examples(Examples([name for name, _ in pairs], [label for _, label in pairs]))


def read_vowels(folder: Path) -> ExampleSplits:
    """The archive's own parts."""
    train, test = (
        read_ts(folder / "japanese-vowels" / f"JapaneseVowels_{part}.ts")
        for part in ("TRAIN", "TEST")
    )
    splits = split_examples(train, test=False)
    return ExampleSplits(splits.train, splits.valid, test)


READERS = {"trec": read_trec, "names": read_names, "vowels": read_vowels}


def measure(name: str, folder: Path, seeds: list[int], kept: dict[str, Any]) -> dict[str, Any]:
    """Test figures over the seeds, those of `kept` with the same options included; baselines anew.

    Args:
        name: of the data.
        folder: where it is.
        seeds: to train with now.
        kept: what an earlier call gave, or nothing.
    """
    splits = READERS[name](folder)
    kept = kept if kept.get("options") == OPTIONS[name] else {}
    runs = {run["seed"]: run for run in kept.get("runs", [])}
    baselines: dict[str, Any] = {}
    model = None
    for seed in seeds:
        load_before = os.getloadavg()[0]
        started_s, started_cpu_s = time.monotonic(), time.process_time()
        model = recurra.Classifier.train(
            splits, seed=seed, baselines=not baselines, **OPTIONS[name]
        )
        metrics = model.metrics
        baselines = baselines or metrics["baselines"]
        runs[seed] = {
            "seed": seed,
            "valid": metrics["valid"],
            "test": metrics["test"],
            **{key: metrics[key] for key in ("network_weight", "network_alone") if key in metrics},
            "train_seconds": metrics["seconds"],
            "total_seconds": round(time.monotonic() - started_s, 1),
            "cpu_seconds": round(time.process_time() - started_cpu_s, 1),
            "load_average_before_and_after": [round(load_before, 1), round(os.getloadavg()[0], 1)],
        }
        print(name, seed, {m: round(metrics["test"][m], 4) for m in MEASURES}, flush=True)
    assert model is not None
    values = {m: [run["test"][m] for run in runs.values()] for m in MEASURES}
    return {
        "goal_accuracy": GOALS[name],
        "mean": {m: statistics.mean(found) for m, found in values.items()},
        "spread": {m: statistics.pstdev(found) for m, found in values.items()},
        "spread_is": "standard deviation over the seeds",
        "model": model.metrics["description"],
        "parameters": model.parameters(),
        "options": OPTIONS[name],
        "data": model.metrics["data"],
        "runs": [runs[seed] for seed in sorted(runs)],
        "baselines": baselines,
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default=",".join(READERS))
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--note", default="", help="what else ran on the machine")
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    torch.set_num_threads(min(2, torch.get_num_threads()))
    for name in arguments.only.split(","):
        results: Path = arguments.results
        kept = json.loads(results.read_text())["tasks"] if results.exists() else {}
        found = measure(name, arguments.data, seeds, kept.get(name, {}))
        found = {**machine.facts(), "note": arguments.note, **found}
        machine.write(results, {"tasks": {**kept, name: found}})


if __name__ == "__main__":
    main()
