"""Neural language models in a job: used and saved."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from recurra.data.tokenizer import Tokenizer
from recurra.jobs.lm.config import LanguageModelConfig
from recurra.models.language_model import RecurrentLanguageModel
from recurra.models.nnlm import NNLM
from recurra.tasks.lm.dynamic_evaluation import choose_learning_rate, dynamic_nats_per_token
from recurra.tasks.lm.evaluation import (
    EncodedText,
    encode,
    evaluate,
    metrics_of,
    text_log_probabilities,
)
from recurra.tasks.lm.generation import next_tokens, stream
from recurra.tasks.lm.scoring import score
from recurra.training.weights import load_network, save_network

# Enough of a valid split to tell learning rates apart by.
TRIAL_TOKENS = 10_000
MODELS: dict[str, type[nn.Module]] = {"recurrent": RecurrentLanguageModel, "nnlm": NNLM}


@dataclass
class NeuralPredictor:
    """A neural model with its tokenizer, ready to use."""

    model: Any  # an nn.Module with the protocol of neural language models
    tokenizer: Tokenizer
    kind: str

    def parameters(self) -> int:
        """How many numbers were trained; a tied weight counts once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def evaluate(self, lines: Sequence[str], where: str) -> dict[str, float]:
        """Metrics of lines, with the state carried from line to line."""
        text = encode(lines, self.tokenizer, where)
        return evaluate(self.model, text, self.tokenizer.eos_id)

    def evaluate_dynamically(
        self, lines: Sequence[str], where: str, valid: Sequence[str]
    ) -> dict[str, float]:
        """Metrics while the model goes on learning; its learning rate is chosen on `valid`."""
        text, eos_id = encode(lines, self.tokenizer, where), self.tokenizer.eos_id
        trial = encode(valid, self.tokenizer, "the valid text").tokens[:TRIAL_TOKENS]
        rate, _ = choose_learning_rate(self.model, trial, eos_id)
        nats = dynamic_nats_per_token(self.model, text.tokens, eos_id, learning_rate=rate)
        return {**metrics_of(nats * len(text.tokens), text), "learning_rate": rate}

    def log_probabilities(self, text: EncodedText) -> Tensor:
        """Log-probability of each token, with the state carried along."""
        return text_log_probabilities(self.model, text.tokens, self.tokenizer.eos_id)

    def stream(self, prompt: str, **options: Any) -> Iterator[str]:
        """Text that goes on from a prompt, piece by piece."""
        return stream(self.model, self.tokenizer, prompt, **options)

    def score(self, lines: Sequence[str]) -> list[Any]:
        """Lines with their log-probability, best first."""
        return score(self.model, self.tokenizer, lines)

    def next_tokens(self, prompt: str, count: int) -> list[tuple[str, float]]:
        """The likeliest next tokens with their probabilities."""
        return next_tokens(self.model, self.tokenizer, prompt, count)

    def save(self, path: Path) -> None:
        """Write the weights, with what rebuilds the model around them."""
        save_network(self.model, self.kind, path)

    @classmethod
    def load(
        cls, config: LanguageModelConfig, tokenizer: Tokenizer, path: Path
    ) -> "NeuralPredictor":
        """Read what `save` wrote.

        Raises:
            RunFolderError: missing, damaged or foreign.
        """
        model, kind = load_network(path, MODELS)
        return cls(model, tokenizer, kind)
