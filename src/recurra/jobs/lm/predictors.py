"""One face for every kind of language model: evaluate, stream, score, save."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from recurra.data.tokenizer import Tokenizer
from recurra.errors import DataError, RunFolderError
from recurra.jobs import run_folder
from recurra.jobs.lm.config import LanguageModelConfig
from recurra.tasks.lm.evaluation import EncodedText


class Predictor(Protocol):
    """A model with its tokenizer, ready to use.

    Attributes:
        tokenizer: of the training text.
    """

    tokenizer: Tokenizer

    def parameters(self) -> int:
        """How many numbers the model holds."""

    def evaluate(self, lines: Sequence[str], where: str) -> dict[str, float]:
        """Perplexity per word, bits per byte, nats per token, tokens."""

    def evaluate_dynamically(
        self, lines: Sequence[str], where: str, valid: Sequence[str]
    ) -> dict[str, float]:
        """The same metrics while the model goes on learning, and its learning rate."""

    def log_probabilities(self, text: EncodedText) -> Tensor:
        """Log-probability of each token, (tokens,)."""

    def stream(self, prompt: str, **options: Any) -> Iterator[str]:
        """Text that goes on from a prompt, piece by piece."""

    def score(self, lines: Sequence[str]) -> list[Any]:
        """Lines with their log-probability, best first."""

    def next_tokens(self, prompt: str, count: int) -> list[tuple[str, float]]:
        """The likeliest next tokens with their probabilities."""

    def save(self, path: Path) -> None:
        """Write the weights."""


@dataclass(frozen=True)
class Trained:
    """A model that has just been trained.

    Attributes:
        predictor: ready to use.
        description: for people: "LSTM 1 × 256, tied".
        seconds: of training.
        tokens_per_s: of training.
        facts: how the training went: steps, epochs, clipped share, why it ended.
        sparsity: of an n-gram model: rows by order.
    """

    predictor: Predictor
    description: str
    seconds: float
    tokens_per_s: float
    facts: dict[str, Any] = field(default_factory=dict)
    sparsity: list[dict[str, float]] = field(default_factory=list)


def load_predictor(config: LanguageModelConfig, folder: Path) -> Predictor:
    """The model of a finished run.

    Raises:
        RunFolderError: the tokenizer or the weights are missing or damaged.
    """
    from recurra.jobs.lm.neural import NeuralPredictor
    from recurra.jobs.lm.ngrams import NGramPredictor

    try:
        tokenizer = Tokenizer.load(folder / run_folder.TOKENIZER)
    except DataError as error:
        raise RunFolderError(f"the run folder {folder} is damaged: {error}") from error
    kind = NGramPredictor if config.model == "ngram" else NeuralPredictor
    return kind.load(config, tokenizer, folder / run_folder.WEIGHTS)
