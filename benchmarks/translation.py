"""Translators: how good and how fast on Multi30k and on the embedded dates; what extensions add.

    python benchmarks/translation.py PART… [--data FOLDER] [--runs FOLDER] [--seeds 1,2,3]

PART is speed, multi30k, decoding, dates or ablation. FOLDER of the data holds `train.*`, `val.*`
and `test_2016_flickr.*` (github.com/multi30k/dataset).

`speed`: training steps (batches of 64 pairs, gradients, clipping, optimiser) of LSTM-256 with a
bidirectional encoder and dot attention, side by side with the same network written with torch.nn
(packed encoder, nn.LSTM, all logits), and with input feeding; in turn, so that other work on the
machine slows all alike.
`multi30k`: `recurra train translate` by `quality/translate_multi30k.yaml`, both directions, into
FOLDER of the runs; what is finished there is read, what was interrupted goes on. BLEU is cased
sacreBLEU with beam 5, its signature beside it.
`decoding`: seconds for the 1,000 test sentences with beams of 5 and 1, by the de-en run.
`dates`: `recurra train translate` without data, one run a seed.
`ablation`: what `recurra compare translate` wrote into FOLDER/compare of the runs.

Each part says what the load of the machine was; `processor_s` does not depend on it.
"""

import argparse
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
import numpy as np
import torch
from torch import Tensor, nn

HERE = Path(__file__).parent
RESULT = HERE / "results" / "translation.json"
CONFIG = HERE / "quality" / "translate_multi30k.yaml"
KEPT = ("description", "valid", "test", "greedy_test", "signatures", "parameters", "seconds")
KEPT += ("tokens_per_s", "translated_sentences_per_s", "training", "seed")
PAIRS = ("de-en", "en-de")
BATCH, ROUNDS, STEPS = 64, 4, 8


class PlainTranslator(nn.Module):
    """The network that `speed` measures, of torch.nn's parts alone."""

    def __init__(self, words: int, size: int) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(words, size), nn.Embedding(words, size)
        self.encoder, self.decoder = nn.LSTM(size, size, bidirectional=True), nn.LSTM(size, size)
        self.bridges = nn.ModuleList(nn.Linear(2 * size, size) for _ in range(2))
        self.readout, self.logits = nn.Linear(3 * size, size), nn.Linear(size, words)

    def loss(self, source: Tensor, lengths: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            self.source(source), lengths, enforce_sorted=False
        )
        y, last = self.encoder(packed)
        memory = nn.utils.rnn.pad_packed_sequence(y)[0].transpose(0, 1)
        state = tuple(
            bridge(torch.cat([*s], -1)).unsqueeze(0)
            for bridge, s in zip(self.bridges, last, strict=True)
        )
        h = self.decoder(self.target(inputs), state)[0].transpose(0, 1)
        keys = memory[..., : h.shape[-1]] + memory[..., h.shape[-1] :]
        past = torch.arange(len(source)) >= lengths.unsqueeze(1)
        scores = (h @ keys.transpose(1, 2)).masked_fill(past.unsqueeze(1), float("-inf"))
        r = self.readout(torch.cat([scores.softmax(-1) @ memory, h], -1)).tanh()
        logits = self.logits(r.transpose(0, 1)).flatten(0, 1)
        return nn.functional.cross_entropy(logits, targets.flatten())


def speed(data: Path) -> dict[str, Any]:
    """Target tokens a second, by the clock and by processor time; the best of some rounds."""
    from recurra.jobs.configurations import resolve
    from recurra.jobs.translate.corpus import read_corpus
    from recurra.models.translator import RecurrentTranslator
    from recurra.tasks.translate.encoding import EncodedPairs

    flags = {"data": [str(data / "train.de"), str(data / "train.en")]}
    text = resolve("translate", CONFIG, flags=flags).text
    corpus = read_corpus(text)
    pairs = EncodedPairs(corpus.splits.train, corpus.tokenizers, keep_empty=False)
    random = np.random.default_rng(0)
    order = np.argsort(pairs.steps * random.uniform(0.85, 1.15, len(pairs)))
    starts = random.choice(len(pairs) // BATCH, STEPS, replace=False) * BATCH
    batches = [pairs.batch(order[start : start + BATCH]) for start in starts]
    words = len(corpus.tokenizers.target.vocabulary)
    sizes = {"embedding_size": 256, "hidden_size": 256, "bidirectional": True, "attention": "dot"}
    ours = RecurrentTranslator(words, words, **sizes)
    fed = RecurrentTranslator(words, words, **sizes, input_feeding=True)
    plain = PlainTranslator(words, 256)
    works = {
        "recurra": stepper(ours, lambda batch: ours.loss(*batch)[0]),
        "torch_nn": stepper(plain, lambda batch: plain.loss(*batch)),
        "recurra_with_input_feeding": stepper(fed, lambda batch: fed.loss(*batch)[0]),
    }
    tokens = sum(int((batch.targets != -100).sum()) for batch in batches)
    result: dict[str, Any] = {
        "vocabulary": words,
        "pairs": BATCH,
        "tokens_per_batch": tokens / STEPS,
    }
    threads = torch.get_num_threads()
    result["by_the_clock"] = rates(works, batches, tokens, time.perf_counter)
    torch.set_num_threads(1)
    result["by_processor_time_on_one_thread"] = rates(works, batches, tokens, time.process_time)
    torch.set_num_threads(threads)
    return result


def stepper(model: nn.Module, loss: Callable[[Any], Tensor]) -> Callable[[Any], None]:
    """A training step of a model."""
    optimizer = torch.optim.AdamW(model.parameters(), 0.001, fused=True)

    def step(batch: Any) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def rates(
    works: dict[str, Callable[[Any], None]],
    batches: list[Any],
    tokens: int,
    clock: Callable[[], float],
) -> dict[str, int]:
    """Tokens a second of each; all take turns, and each one's best round counts."""
    best = dict.fromkeys(works, 0.0)
    for step in works.values():
        step(batches[0])
    for _ in range(ROUNDS):
        for name, step in works.items():
            start_s = clock()
            for batch in batches:
                step(batch)
            best[name] = max(best[name], tokens / (clock() - start_s))
    return {f"{name}_tokens_per_s": round(rate) for name, rate in best.items()}


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


def multi30k(data: Path, runs: Path) -> dict[str, Any]:
    """Both directions."""
    parts = {"--data": "train", "--valid": "val", "--test": "test_2016_flickr"}
    found = {}
    for pair in PAIRS:
        arguments = ["--config", str(CONFIG), "--seed", "1"]
        for option, name in parts.items():
            for language in pair.split("-"):
                arguments += [option, str(data / f"{name}.{language}")]
        found[pair] = train(runs / pair, *arguments)
    return found


def decoding(data: Path, runs: Path) -> dict[str, Any]:
    """Seconds for 1,000 sentences."""
    import recurra

    translator = recurra.load(runs / PAIRS[0])
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
    parts = ("speed", "multi30k", "decoding", "dates", "ablation")
    parser.add_argument("parts", nargs="+", choices=parts)
    parser.add_argument("--data", type=Path, help="folder of Multi30k")
    parser.add_argument("--runs", type=Path, help="folder of the runs")
    parser.add_argument("--seeds", default="1,2,3", help="of dates, between commas")
    given = parser.parse_args()
    seeds = [int(seed) for seed in given.seeds.split(",")]
    measure: dict[str, Callable[[], dict[str, Any]]] = {
        "speed": lambda: speed(given.data),
        "multi30k": lambda: multi30k(given.data, given.runs),
        "decoding": lambda: decoding(given.data, given.runs),
        "dates": lambda: dates(seeds),
        "ablation": lambda: ablation(given.runs),
    }
    for part in given.parts:
        load = round(os.getloadavg()[0], 1)
        found = {**measure[part](), "machine": {**machine.facts(), "load_average": load}}
        result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
        RESULT.write_text(json.dumps({**result, part: found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
