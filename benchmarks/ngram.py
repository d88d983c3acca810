"""N-gram models on WikiText-2: perplexity, training time, scoring speed beside KenLM's module.

    python benchmarks/ngram.py --data FOLDER          FOLDER holds train.txt and valid.txt

WikiText-2 (raw tokens with <unk>) is at https://huggingface.co/datasets/Salesforce/wikitext.
KenLM's Python module is measured beside ours if it is installed (`pip install kenlm`); it reads the
ARPA file that ours wrote, so both score with the same model.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import machine
import numpy as np

from recurra.data import Tokenizer, read_lines
from recurra.models.ngram import NGramModel, arpa

RUNS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/ngram.json")
    arguments = parser.parse_args()
    train, valid = (read_lines(arguments.data / f"{part}.txt") for part in ("train", "valid"))
    tokenizer = Tokenizer.train(train, "word")
    tokens, held_out = tokenizer.encode_lines(train), tokenizer.encode_lines(valid)
    rows = [measure(order, tokenizer, tokens, held_out, valid) for order in (3, 5)]
    for row in rows:
        print(row)
    result = {
        "what": "modified Kneser-Ney, WikiText-2, <unk> an ordinary word, each line a sentence",
        "train_tokens": len(tokens),
        "valid_tokens": len(held_out),
        "rows": rows,
    }
    machine.write(arguments.out, result)


def measure(
    order: int,
    tokenizer: Tokenizer,
    tokens: np.ndarray,
    held_out: np.ndarray,
    lines: Sequence[str],
) -> dict[str, Any]:
    """One order: training, perplexity, bytes, scoring."""
    model = NGramModel.train(tokens, tokenizer.vocabulary, order)
    train_s = _median_s(lambda: NGramModel.train(tokens, tokenizer.vocabulary, order), 3)
    model.log_probabilities(held_out)
    score_s = _median_s(lambda: model.log_probabilities(held_out))
    bounded_s = _median_s(
        lambda: NGramModel.train(tokens, tokenizer.vocabulary, order, memory_bytes=32 << 20), 1
    )
    return {
        "order": order,
        "perplexity": round(model.perplexity(held_out), 4),
        "train_s": round(train_s, 2),
        "train_tokens_per_s": round(len(tokens) / train_s),
        "train_s_with_32_MiB_of_working_memory": round(bounded_s, 2),
        "score_tokens_per_s": round(len(held_out) / score_s),
        "megabytes": round(model.bytes / 1e6, 1),
        **_kenlm(model, lines, len(held_out)),
    }


def _kenlm(model: NGramModel, lines: Sequence[str], count: int) -> dict[str, Any]:
    """KenLM's module on the ARPA file that ours wrote."""
    try:
        import kenlm
    except ImportError:
        return {"kenlm": "not installed"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.arpa"
        start_s = time.perf_counter()
        arpa.write(model, path)
        write_s = time.perf_counter() - start_s
        theirs = kenlm.Model(str(path))
    log10 = sum(theirs.score(line) for line in lines)
    seconds = _median_s(lambda: [theirs.score(line) for line in lines])
    return {
        "arpa_write_s": round(write_s, 2),
        "kenlm_perplexity": round(10 ** (-log10 / count), 4),
        "kenlm_score_tokens_per_s": round(count / seconds),
    }


def _median_s(call: Callable[[], object], runs: int = RUNS) -> float:
    seconds = []
    for _ in range(runs):
        start_s = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start_s)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
