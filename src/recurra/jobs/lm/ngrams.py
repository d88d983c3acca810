"""N-gram models in a job: trained in seconds, as models of their own or as baselines."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recurra.data.tokenizer import Tokenizer
from recurra.errors import ArgumentError, DataError
from recurra.jobs.lm.config import LanguageModelConfig, NgramOptions
from recurra.jobs.lm.corpus import Corpus, measure
from recurra.jobs.lm.predictors import Predictor, Trained
from recurra.models.ngram import NGramModel, arpa
from recurra.tasks.interpolation import best_weight, interpolated
from recurra.tasks.lm.evaluation import EncodedText, encode, metrics_of
from recurra.tasks.lm.generation import next_tokens, stream
from recurra.tasks.lm.scoring import score
from recurra.training.files import write_atomically
from recurra.training.progress import Reporter

State = tuple[Tensor, ...]


class NGramNetwork(nn.Module):
    """An n-gram model with the protocol of the neural ones; its state is the last n-1 tokens.

    Args:
        ngram: the model.
    """

    def __init__(self, ngram: NGramModel) -> None:
        super().__init__()
        self.ngram = ngram
        self.nothing = nn.Parameter(torch.empty(0), requires_grad=False)

    def initial_state(self, batch: int) -> State:
        """A line's begin."""
        return (torch.full((1, batch, max(self.ngram.order - 1, 1)), self.ngram.eos_id),)

    def log_probabilities(
        self, tokens: Tensor, targets: Tensor, state: State
    ) -> tuple[Tensor, State]:
        """log p of each target, (time, batch); negative targets are ignored and get 0."""
        context = state[0][0].t()
        followed = torch.cat([context[1:], tokens, targets[-1:].clamp_min(self.ngram.eos_id)])
        found = torch.stack([self._scores(column)[-len(tokens) :] for column in followed.t()], 1)
        return found.where(targets >= 0, 0.0), self._after(tokens, state)

    def next_log_probabilities(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """log p of every token after `tokens` (batch,), as (batch, vocab)."""
        new = self._after(tokens.unsqueeze(0), state)
        rows = [self.ngram.next_log_probabilities(row.tolist()) for row in new[0][0]]
        return torch.from_numpy(np.stack(rows)), new

    def _scores(self, tokens: Tensor) -> Tensor:
        return torch.from_numpy(self.ngram.log_probabilities(tokens.numpy().astype(np.int32)))

    def _after(self, tokens: Tensor, state: State) -> State:
        kept = torch.cat([state[0][0].t(), tokens])[-state[0].shape[-1] :]
        return (kept.t().unsqueeze(0),)


@dataclass
class NGramPredictor:
    """An n-gram model with its tokenizer, ready to use."""

    model: NGramModel
    tokenizer: Tokenizer

    @cached_property
    def network(self) -> NGramNetwork:
        """The model as the neural ones are used."""
        return NGramNetwork(self.model).eval()

    def parameters(self) -> int:
        """Probabilities and back-off weights."""
        return len(self.model.words) + int(np.diff(self.model.first_children).astype(bool).sum())

    def evaluate(self, lines: Sequence[str], where: str) -> dict[str, float]:
        """Metrics of lines, each a sentence of its own."""
        text = encode(lines, self.tokenizer, where)
        return metrics_of(-float(self.log_probabilities(text).double().sum()), text)

    def evaluate_dynamically(
        self, lines: Sequence[str], where: str, valid: Sequence[str]
    ) -> dict[str, float]:
        """Not for n-gram models."""
        raise ArgumentError(
            "dynamic evaluation takes gradient steps, and an n-gram model has no gradient; use it "
            "with --model recurrent or nnlm"
        )

    def log_probabilities(self, text: EncodedText) -> Tensor:
        """Log-probability of each token, each line a sentence of its own."""
        return torch.from_numpy(self.model.log_probabilities(text.tokens.numpy().astype(np.int32)))

    def stream(self, prompt: str, **options: Any) -> Iterator[str]:
        """Text that goes on from a prompt, piece by piece."""
        return stream(self.network, self.tokenizer, prompt, **options)

    def score(self, lines: Sequence[str]) -> list[Any]:
        """Lines with their log-probability, best first."""
        return score(self.network, self.tokenizer, lines)

    def next_tokens(self, prompt: str, count: int) -> list[tuple[str, float]]:
        """The likeliest next tokens with their probabilities."""
        return next_tokens(self.network, self.tokenizer, prompt, count)

    def save(self, path: Path) -> None:
        """Write the model."""
        write_atomically(path, self.model.save)

    def write_arpa(self, path: Path) -> None:
        """Write the model in the text format that other tools read."""
        arpa.write(self.model, path)

    @classmethod
    def load(
        cls, config: LanguageModelConfig, tokenizer: Tokenizer, path: Path
    ) -> "NGramPredictor":
        """Read what `save` wrote."""
        return cls(NGramModel.load(path), tokenizer)


def train_ngram(config: LanguageModelConfig, corpus: Corpus, reporter: Reporter) -> Trained:
    """Train an n-gram model.

    Raises:
        ArgumentError: an unknown smoothing.
        DataError: too little text for it.
    """
    order, smoothing = config.ngram.order, config.ngram.smoothing
    with reporter.stage(f"counting up to {order} words in a row"):
        started_s = time.monotonic()
        model = estimate(corpus, order, smoothing, config.ngram)
        seconds = time.monotonic() - started_s
    tokens = len(corpus.encoded["train"].tokens)
    return Trained(
        NGramPredictor(model, corpus.tokenizer),
        config.description(),
        seconds,
        tokens / seconds,
        {"bytes": model.bytes},
        sparsity(model, corpus),
    )


def estimate(corpus: Corpus, order: int, smoothing: str, options: NgramOptions) -> NGramModel:
    """An n-gram model of the training text."""
    tokens = corpus.encoded["train"].tokens.numpy().astype(np.int32)
    tokenizer = corpus.tokenizer
    return NGramModel.train(
        tokens,
        tokenizer.vocabulary,
        order,
        smoothing,
        eos_id=tokenizer.eos_id,
        unknown_id=tokenizer.unknown_id,
        add_k=options.add_k,
        memory_bytes=None if options.memory_mib is None else options.memory_mib << 20,
    )


def sparsity(model: NGramModel, corpus: Corpus) -> list[dict[str, float]]:
    """N-grams stored and missing, by order, on the test text."""
    return model.sparsity(corpus.encoded["test"].tokens.numpy().astype(np.int32))


@dataclass(frozen=True)
class Baseline:
    """An n-gram model that a neural one has to beat, and its figures."""

    predictor: NGramPredictor
    figures: dict[str, Any]


def measure_baselines(
    config: LanguageModelConfig, corpus: Corpus, reporter: Reporter
) -> dict[str, Baseline]:
    """Train and measure the n-gram models that a neural model has to beat.

    Returns:
        By name, as `kneser_ney_5`; without those that the text is too small for.
    """
    baselines = {}
    for order in config.ngram.baselines:
        try:
            with reporter.stage(f"baseline: Kneser-Ney {order}-gram"):
                baselines[f"kneser_ney_{order}"] = _measure(order, corpus, config.ngram)
        except DataError as error:  # the neural model can do with less text
            reporter.note(f"no Kneser-Ney {order}-gram baseline: {error}")
    return baselines


def interpolate(
    predictor: Predictor, baselines: Mapping[str, Baseline], corpus: Corpus
) -> dict[str, Any]:
    """The model mixed with the baseline that is best on valid, by a weight chosen on valid.

    Returns:
        `{"with": name, "weight": of the model, "valid": metrics, "test": metrics}`.
    """
    name = min(baselines, key=lambda key: baselines[key].figures["valid"]["perplexity"])
    other = baselines[name].predictor
    texts = {split: corpus.encoded[split] for split in ("valid", "test")}
    own = {split: predictor.log_probabilities(text) for split, text in texts.items()}
    theirs = {split: other.log_probabilities(text) for split, text in texts.items()}
    weight = best_weight(own["valid"], theirs["valid"])
    metrics = {
        split: metrics_of(-float(interpolated(own[split], theirs[split], weight).sum()), text)
        for split, text in texts.items()
    }
    return {"with": name, "weight": round(weight, 4), **metrics}


def _measure(order: int, corpus: Corpus, options: NgramOptions) -> Baseline:
    started_s = time.monotonic()
    model = estimate(corpus, order, "kneser_ney", options)
    seconds = time.monotonic() - started_s
    predictor = NGramPredictor(model, corpus.tokenizer)
    figures = {
        **measure(predictor, corpus),
        "parameters": predictor.parameters(),
        "seconds": round(seconds, 3),
        "tokens_per_s": round(len(corpus.encoded["train"].tokens) / seconds, 1),
        "sparsity": sparsity(model, corpus),
    }
    return Baseline(predictor, figures)
