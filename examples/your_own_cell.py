"""A cell of your own: checked, timed against the Python loop, trained on real text.

    python examples/your_own_cell.py            about a minute on two cores

The cell below is a gated unit with a second, slower memory. Nothing but its step is written: the
layer, its gradients and its CPU kernel follow from it.
"""

import math
import time

import torch

import recurra
from recurra.data import Lanes, Tokenizer, python_documentation
from recurra.models.language_model import RecurrentLanguageModel
from recurra.tasks.lm.evaluation import encode, evaluate
from recurra.testing import check_cell

HIDDEN, BATCH, STEPS, EPOCHS = 128, 20, 35, 2


def step(from_input, from_hidden, state):  # W x + b_ih and R h + b_hh, gate by gate; the states
    _, c, m = state
    i, g, o = (x + r for x, r in zip(from_input, from_hidden, strict=True))
    c = (1 - i.sigmoid()) * c + i.sigmoid() * g.tanh()
    m = 0.9 * m + 0.1 * c  # a second, slower memory
    return o.sigmoid() * torch.tanh(c + m), c, m


TWO_MEMORIES = recurra.Cell(
    name="two_memories", gates=("i", "g", "o"), states=("h", "c", "m"), step=step
)


def milliseconds(layer: recurra.Recurrent, x: torch.Tensor) -> float:
    """Median time of a training step."""
    times = []
    for _ in range(8):
        start_s = time.perf_counter()
        layer(x)[0].sum().backward()
        times.append(1e3 * (time.perf_counter() - start_s))
    return sorted(times)[len(times) // 2]


def main() -> None:
    check_cell(TWO_MEMORIES)
    print("every gradient is right, and the cell keeps the contract of the shipped ones")

    x = torch.randn(STEPS, BATCH, HIDDEN)
    layers = {
        name: recurra.Recurrent(TWO_MEMORIES, HIDDEN, HIDDEN, backend=name)
        for name in ("auto", "reference")
    }
    print(layers["auto"].explain(x))
    kernel_ms, loop_ms = (milliseconds(layer, x) for layer in layers.values())
    print(
        f"a training step takes {kernel_ms:.1f} ms, by autograd through a Python loop "
        f"{loop_ms:.1f} ms: {loop_ms / kernel_ms:.0f} times as long"
    )

    texts = python_documentation.load()
    tokenizer = Tokenizer.train(
        texts.train, minimum_count=3, lowercase=True, split_punctuation=True
    )
    train, valid = (encode(lines, tokenizer, "text") for lines in (texts.train, texts.valid))
    lanes = Lanes(train.tokens, BATCH, STEPS)
    torch.manual_seed(1)
    model = RecurrentLanguageModel(
        len(tokenizer.vocabulary),
        cell=TWO_MEMORIES,
        embedding_size=HIDDEN,
        hidden_size=HIDDEN,
        num_layers=1,
        dropout=0.2,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for epoch in range(EPOCHS):
        start_s, nats = time.perf_counter(), 0.0
        state = model.initial_state(BATCH)
        for index in range(len(lanes)):
            tokens, targets = lanes.window(epoch, index)
            optimizer.zero_grad()
            loss, mean, state = model.loss(tokens, targets, state)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            state = tuple(part.detach() for part in state)
            nats += float(mean) / len(lanes)
        seconds = time.perf_counter() - start_s
        perplexity = evaluate(model, valid, tokenizer.eos_id)["perplexity"]
        print(
            f"epoch {epoch + 1}: {len(train.tokens) / seconds:,.0f} tokens/s, perplexity "
            f"{math.exp(nats):.0f} on train, {perplexity:.0f} on valid"
        )


if __name__ == "__main__":
    main()
