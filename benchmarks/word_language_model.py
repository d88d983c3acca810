"""PyTorch's `word_language_model` example beside the same model in recurra: speed, then quality.

    python benchmarks/word_language_model.py --data FOLDER [--seeds 1111 1 2] [--torch-seeds 1 2]

FOLDER holds WikiText-2's train.txt and valid.txt (https://huggingface.co/datasets/Salesforce/wikitext).

The model is the example's default: embedding, dropout 0.2, LSTM of 2 layers of 200 on 200, dropout,
a full softmax over the vocabulary, exact cross-entropy, SGD with learning rate 20 and the gradient
clipped to 0.25, batches of 20 lanes by 35 steps. `TorchModel` is that in plain torch.nn; recurra's
is `RecurrentLanguageModel`. Both train on the same windows of WikiText-2, in float32 and under
autocast to bfloat16, in turn, so that they share the machine's moods.

`--seeds` trains recurra's for one epoch with each seed, too, and measures valid perplexity as the
example does (which reaches 250.3 with seed 1111; the same seed draws other numbers here, so only
the spread over seeds compares); `--torch-seeds` the other's. Without them the results keep those of
an earlier call.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import machine
import torch
from torch import Tensor, nn

from recurra.data.lanes import Lanes
from recurra.data.text import read_lines
from recurra.data.tokenizer import Tokenizer
from recurra.models.language_model import RecurrentLanguageModel
from recurra.tasks.mode import evaluation_mode

UNITS, LAYERS, DROPOUT = 200, 2, 0.2
BATCH, STEPS, VALID_BATCH = 20, 35, 10
LEARNING_RATE, CLIP = 20.0, 0.25
PAIRS = 12
RESULT = Path(__file__).parent / "results" / "word_language_model.json"


class TorchModel(nn.Module):
    """The example's model, from torch.nn's own parts."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.drop = nn.Dropout(DROPOUT)
        self.encoder = nn.Embedding(words, UNITS)
        self.rnn = nn.LSTM(UNITS, UNITS, LAYERS, dropout=DROPOUT)
        self.decoder = nn.Linear(UNITS, words)
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)
        self.criterion = nn.NLLLoss()

    def initial_state(self, batch: int) -> tuple[Tensor, ...]:
        return (torch.zeros(LAYERS, batch, UNITS), torch.zeros(LAYERS, batch, UNITS))

    def loss(
        self, tokens: Tensor, targets: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        output, state = self.rnn(self.drop(self.encoder(tokens)), state)
        logits = self.decoder(self.drop(output)).flatten(0, 1)
        loss = self.criterion(nn.functional.log_softmax(logits, dim=1), targets.flatten())
        return loss, loss.detach(), state


def build(words: int) -> RecurrentLanguageModel:
    return RecurrentLanguageModel(
        words,
        embedding_size=UNITS,
        hidden_size=UNITS,
        num_layers=LAYERS,
        tie_weights=False,
        dropout=DROPOUT,
        hidden_dropout=DROPOUT,
        input_dropout=DROPOUT,
        variational=False,
    )


class Training:
    """A model in training, one window a call; `in_bfloat16` under autocast."""

    def __init__(self, model: nn.Module, lanes: Lanes, update: Callable[[], None]) -> None:
        self.model, self.lanes, self.update = model, lanes, update
        self.in_bfloat16 = False
        self.state = model.initial_state(BATCH)
        self.index = 0

    def step(self) -> float:
        tokens, targets = self.lanes.window(0, self.index)
        self.index = (self.index + 1) % len(self.lanes)
        self.model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.in_bfloat16):
            loss, nats, state = self.model.loss(tokens, targets, self.state)
        self.state = tuple(s.detach() for s in state)
        loss.backward()
        self.update()
        return float(nats)


def torch_training(words: int, lanes: Lanes) -> Training:
    model = TorchModel(words)

    def update() -> None:  # as the example has it
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(p.grad, alpha=-LEARNING_RATE)

    return Training(model, lanes, update)


def our_training(words: int, lanes: Lanes) -> Training:
    model = build(words)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, fused=True)

    def update() -> None:  # as recurra's trainer has it
        parameters = list(model.parameters())
        norm = nn.utils.get_total_norm([p.grad for p in parameters])
        if norm > CLIP:
            nn.utils.clip_grads_with_norm_(parameters, CLIP, norm)
        optimizer.step()

    return Training(model, lanes, update)


def timed(call: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start_s)


def measure_speed(words: int, lanes: Lanes, *, in_bfloat16: bool) -> dict[str, float]:
    """Medians over pairs of steps, made in turn."""
    ours, plain = our_training(words, lanes), torch_training(words, lanes)
    ours.in_bfloat16 = plain.in_bfloat16 = in_bfloat16
    for _ in range(3):
        ours.step(), plain.step()
    pairs = [(timed(ours.step), timed(plain.step)) for _ in range(PAIRS)]
    ours_ms, torch_ms = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(p / o for o, p in pairs)
    tokens = BATCH * STEPS
    return {
        "ours_ms": ours_ms,
        "torch_ms": torch_ms,
        "ratio": ratio,
        "ours_tokens_per_s": 1e3 * tokens / ours_ms,
        "torch_tokens_per_s": 1e3 * tokens / torch_ms,
    }


def profile(words: int, lanes: Lanes) -> list[dict[str, float | str]]:
    """Where ours spends its time: the ten dearest operations of five steps."""
    training = our_training(words, lanes)
    training.step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(5):
            training.step()
    events = sorted(profiler.key_averages(), key=lambda e: -e.self_cpu_time_total)[:10]
    return [{"operation": e.key, "ms_a_step": e.self_cpu_time_total / 5e3} for e in events]


def one_epoch(
    start: Callable[[int, Lanes], Training], words: int, lanes: Lanes, valid: Tensor, seed: int
) -> dict[str, float]:
    """Train for an epoch; perplexity of valid as the example measures it."""
    torch.manual_seed(seed)
    training = start(words, lanes)
    start_s = time.perf_counter()
    for _ in range(len(lanes)):
        training.step()
    seconds = time.perf_counter() - start_s
    windows = Lanes(valid, VALID_BATCH, STEPS)
    model, nats, count = training.model, 0.0, 0
    state = model.initial_state(VALID_BATCH)
    with evaluation_mode(model):
        for index in range(len(windows)):
            tokens, targets = windows.window(0, index)
            _, mean, state = model.loss(tokens, targets, state)
            nats, count = nats + float(mean) * targets.numel(), count + targets.numel()
    return {
        "seed": seed,
        "valid_perplexity": math.exp(nats / count),
        "seconds": seconds,
        "tokens_per_s": len(lanes) * BATCH * STEPS / seconds,
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True, help="folder of WikiText-2")
    arguments.add_argument("--seeds", type=int, nargs="*", default=[], help="one epoch with each")
    arguments.add_argument("--torch-seeds", type=int, nargs="*", default=[], help="torch.nn's")
    arguments.add_argument("--out", type=Path, default=RESULT)
    given = arguments.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(1)
    lines = read_lines(given.data / "train.txt")
    tokenizer = Tokenizer.train(lines, "word")
    words = len(tokenizer.vocabulary)
    lanes = Lanes(torch.from_numpy(tokenizer.encode_lines(lines)).long(), BATCH, STEPS)
    result: dict[str, object] = {"vocabulary": words}
    result["speed"] = measure_speed(words, lanes, in_bfloat16=False)
    result["speed_in_bfloat16"] = measure_speed(words, lanes, in_bfloat16=True)
    result["profile"] = profile(words, lanes)
    kept = json.loads(given.out.read_text()) if given.out.exists() else {}
    valid = torch.from_numpy(tokenizer.encode_lines(read_lines(given.data / "valid.txt"))).long()
    for name, start, seeds in (
        ("one_epoch", our_training, given.seeds),
        ("one_epoch_torch", torch_training, given.torch_seeds),
    ):
        found = [one_epoch(start, words, lanes, valid, seed) for seed in seeds]
        result[name] = found or kept.get(name, [])
    result["example_valid_perplexity"] = 250.3
    print(json.dumps(result, indent=2))
    machine.write(given.out, result)


if __name__ == "__main__":
    main()
