"""How fast translators train, beside torch.nn's parts and Joey NMT.

    python benchmarks/translation_speed.py --data FOLDER [--only multi30k,reverse]
    pip install -c constraints.txt joeynmt importlib_metadata     # the peer of `reverse`

Training steps (gradients, clipping, optimiser) of LSTM-256 with a bidirectional encoder and dot
attention, 64 pairs a batch: in float32, in bfloat16 (under autocast), and with input feeding, side
by side with the same network written with torch.nn (packed encoder, nn.LSTM, all logits). All take
turns, so that other work on the machine slows all alike; the best of some rounds counts. As in
`recurra train`, gradients are scaled only where their norm is too large, and glibc keeps the memory
of a step for the next one; for all alike.

`multi30k`: FOLDER/train.de and train.en, joint byte pairs.
`reverse`: the toy task that Joey NMT ships, numbers below 50 to be written from the last to the
first, 1 to 25 of them; with Joey NMT itself (LSTM-256, Luong attention, input feeding, bridge).

`benchmarks/results/translation_speed.json` keeps the results. `cpu` are tokens a second of
processor time on one thread, which other work disturbs less.
"""

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import machine
import numpy as np
import torch
from torch import Tensor, nn

from recurra.jobs.configurations import resolve
from recurra.jobs.speed import roof_gflops
from recurra.jobs.translate.corpus import read_corpus
from recurra.models.softmax import IGNORED
from recurra.models.translator import RecurrentTranslator
from recurra.tasks.translate.encoding import EncodedPairs, PairBatch
from recurra.training.allocation import keep_freed_memory

HERE = Path(__file__).parent
RESULT = HERE / "results" / "translation_speed.json"
CONFIG = HERE / "quality" / "translate_multi30k.yaml"
BATCH, ROUNDS, STEPS, SIZE, LARGEST_NORM = 64, 4, 8, 256, 1.0
NUMBERS, LONGEST, END = 50, 25, 3  # of the toy task; its words are 4 more: unknown, pad, begin, end
Step = Callable[[PairBatch], None]


class PlainTranslator(nn.Module):
    """The network that is measured, of torch.nn's parts alone."""

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


def multi30k(data: Path) -> tuple[int, list[PairBatch]]:
    """The size of the vocabulary, and batches of pairs of nearly equal length."""
    flags = {"data": [str(data / "train.de"), str(data / "train.en")]}
    corpus = read_corpus(resolve("translate", CONFIG, flags=flags).text)
    pairs = EncodedPairs(corpus.splits.train, corpus.tokenizers, keep_empty=False)
    random = np.random.default_rng(0)
    order = np.argsort(pairs.steps * random.uniform(0.85, 1.15, len(pairs)))
    starts = random.choice(len(pairs) // BATCH, STEPS, replace=False) * BATCH
    batches = [pairs.batch(order[start : start + BATCH]) for start in starts]
    return len(corpus.tokenizers.target.vocabulary), batches


def reverse() -> tuple[int, list[PairBatch]]:
    """The same of the toy task."""
    torch.manual_seed(0)
    return NUMBERS + 4, [_reversed(torch.randint(1, LONGEST + 1, (BATCH,))) for _ in range(STEPS)]


def _reversed(counts: Tensor) -> PairBatch:
    longest = int(counts.max()) + 1
    place = torch.arange(longest).unsqueeze(1)
    numbers = torch.randint(4, 4 + NUMBERS, (longest, BATCH))
    source = numbers.where(place < counts, torch.where(place == counts, END, 0))
    back = source.gather(0, (counts - 1 - place).clamp_min(0))
    targets = back.where(place < counts, torch.where(place == counts, END, IGNORED))
    first = torch.full((1, BATCH), END)
    return PairBatch(source, counts + 1, torch.cat([first, targets[:-1].clamp_min(0)]), targets)


def steps_of(words: int) -> dict[str, Step]:
    """A training step of each network."""
    sizes: dict[str, Any] = {"embedding_size": SIZE, "hidden_size": SIZE}
    sizes |= {"bidirectional": True, "attention": "dot"}
    found: dict[str, Step] = {}
    for name, fed, in_bfloat16 in (
        ("recurra", False, False),
        ("recurra_in_bfloat16", False, True),
        ("recurra_with_input_feeding", True, False),
    ):
        found[name] = _ours(
            RecurrentTranslator(words, words, **sizes, input_feeding=fed), in_bfloat16
        )
    plain = PlainTranslator(words, SIZE)
    for name, in_bfloat16 in (("torch_nn", False), ("torch_nn_in_bfloat16", True)):
        found[name] = _step(plain, lambda batch: plain.loss(*batch), in_bfloat16)
    return found


def _ours(model: RecurrentTranslator, in_bfloat16: bool) -> Step:
    return _step(model, lambda batch: model.loss(*batch)[0], in_bfloat16)


def _step(model: nn.Module, loss: Callable[[PairBatch], Tensor], in_bfloat16: bool) -> Step:
    optimizer = torch.optim.AdamW(model.parameters(), 0.001, fused=True)

    def step(batch: PairBatch) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
            nats = loss(batch)
        nats.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        if norm > LARGEST_NORM:
            nn.utils.clip_grads_with_norm_(model.parameters(), LARGEST_NORM, norm)
        optimizer.step()

    return step


def joey_step() -> Step:
    """A training step of Joey NMT's network for the toy task."""
    from joeynmt.batch import Batch  # type: ignore[import-not-found]
    from joeynmt.model import build_model  # type: ignore[import-not-found]
    from joeynmt.vocabulary import Vocabulary  # type: ignore[import-not-found]

    symbols = {"unk": 0, "pad": 1, "bos": 2, "eos": END}
    named = {f"{name}_token": f"<{name}>" for name in symbols}
    ids = {f"{name}_id": number for name, number in symbols.items()}
    special = SimpleNamespace(**named, **ids, sep_token=None, sep_id=None, lang_tags=[])
    words = Vocabulary([str(number) for number in range(NUMBERS)], special)
    common = {"type": "recurrent", "rnn_type": "lstm", "hidden_size": SIZE, "num_layers": 1}
    common |= {"embeddings": {"embedding_dim": SIZE, "scale": False}, "dropout": 0.0}
    decoder = {"attention": "luong", "input_feeding": True, "init_hidden": "bridge"}
    model = build_model(
        {
            "encoder": {**common, "bidirectional": True},
            "decoder": {**common, **decoder, "hidden_dropout": 0.0},
        },
        words,
        words,
    )
    model.loss_function = ("crossentropy", 0.0)

    def loss(pairs: PairBatch) -> Tensor:
        source = torch.where(pairs.source == 0, symbols["pad"], pairs.source).t()
        target = torch.where(pairs.targets == IGNORED, symbols["pad"], pairs.targets).t()
        target = torch.cat([torch.full((BATCH, 1), symbols["bos"]), target], 1)
        batch = Batch(
            *(source, pairs.lengths, None, target, None, torch.arange(BATCH)),
            *(torch.device("cpu"), symbols["pad"], symbols["eos"]),
        )
        batch.sort_by_src_length()
        total: Tensor = model(return_type="loss", **vars(batch))[0] / batch.ntokens
        return total

    return _step(model, loss, False)


def measure(words: int, batches: list[PairBatch], steps: dict[str, Step]) -> dict[str, Any]:
    """Target tokens a second of each, by the clock, and by processor time on one thread."""
    tokens = sum(int((batch.targets != IGNORED).sum()) for batch in batches)
    threads = torch.get_num_threads()
    found: dict[str, Any] = {"words": words, "tokens_per_batch": tokens / len(batches)}
    found["roof_gflops"] = round(roof_gflops())
    found["tokens_per_s"] = _rates(steps, batches, tokens, time.perf_counter)
    torch.set_num_threads(1)
    found["tokens_per_cpu_s"] = _rates(steps, batches, tokens, time.process_time)
    torch.set_num_threads(threads)
    return found


def _rates(
    steps: dict[str, Step], batches: list[PairBatch], tokens: int, clock: Callable[[], float]
) -> dict[str, int]:
    best = dict.fromkeys(steps, 0.0)
    for step in steps.values():
        step(batches[0])
    for _ in range(ROUNDS):
        for name, step in steps.items():
            start_s = clock()
            for batch in batches:
                step(batch)
            best[name] = max(best[name], tokens / (clock() - start_s))
    return {name: round(rate) for name, rate in best.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of Multi30k")
    parser.add_argument("--only", default="multi30k,reverse")
    given = parser.parse_args()
    keep_freed_memory()
    for part in given.only.split(","):
        words, batches = multi30k(given.data) if part == "multi30k" else reverse()
        steps = steps_of(words)
        if part == "reverse" and importlib.util.find_spec("joeynmt"):
            steps["joey_nmt_with_input_feeding"] = joey_step()
        found = {**measure(words, batches, steps), "machine": machine.facts()}
        kept = json.loads(RESULT.read_text()) if RESULT.exists() else {}
        RESULT.write_text(json.dumps({**kept, part: found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
