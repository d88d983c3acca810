"""Neural language models in a job: built, trained, used and saved."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from recurra.data.lanes import Lanes
from recurra.data.tokenizer import Tokenizer
from recurra.errors import RunFolderError
from recurra.jobs.corpus import Corpus
from recurra.jobs.language_model_config import LanguageModelConfig
from recurra.jobs.predictors import Trained
from recurra.models.language_model import RecurrentLanguageModel
from recurra.models.nnlm import NNLM
from recurra.tasks.lm.evaluation import encode, evaluate
from recurra.tasks.lm.generation import next_tokens, stream
from recurra.tasks.lm.scoring import score
from recurra.tasks.lm.task import LanguageModelTask
from recurra.training.checkpoints import load_weights, unshared
from recurra.training.files import write_tensors
from recurra.training.interruption import Interrupted
from recurra.training.progress import Reporter
from recurra.training.trainer import Outcome, fit

MODELS: dict[str, type[nn.Module]] = {"recurrent": RecurrentLanguageModel, "nnlm": NNLM}


@dataclass
class NeuralPredictor:
    """A neural model with its tokenizer, ready to use."""

    model: nn.Module
    tokenizer: Tokenizer
    kind: str

    def parameters(self) -> int:
        """How many numbers were trained; a tied weight counts once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def evaluate(self, lines: Sequence[str], where: str) -> dict[str, float]:
        """Metrics of lines, with the state carried from line to line."""
        text = encode(lines, self.tokenizer, where)
        return evaluate(self.model, text, self.tokenizer.eos_id)

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
        options = json.dumps(self.model.options())
        write_tensors(path, unshared(self.model), {"kind": self.kind, "options": options})

    @classmethod
    def load(
        cls, config: LanguageModelConfig, tokenizer: Tokenizer, path: Path
    ) -> "NeuralPredictor":
        """Read what `save` wrote.

        Raises:
            RunFolderError: missing, damaged or foreign.
        """
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
            kind = metadata["kind"]
            model = MODELS[kind](**json.loads(metadata["options"]))
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise RunFolderError(f"{path} is missing, damaged or not ours: {error}") from error
        load_weights(model, path)
        return cls(model.eval(), tokenizer, kind)


def build_network(config: LanguageModelConfig, vocabulary_size: int) -> nn.Module:
    """The untrained model of a configuration, its weights drawn from the run's seed."""
    torch.manual_seed(config.seed)
    if config.model == "nnlm":
        return NNLM(vocabulary_size, **config.nnlm_arguments())
    return RecurrentLanguageModel(vocabulary_size, **config.network_arguments())


def train_neural(
    config: LanguageModelConfig, corpus: Corpus, folder: Path, reporter: Reporter
) -> Trained | None:
    """Train a neural model in a run folder.

    Returns:
        The trained model; `None` on all processes but the first.

    Raises:
        Interrupted: by a signal; the folder's checkpoint goes on from there.
    """
    tokenizer, batching = corpus.tokenizer, config.batches
    lanes = Lanes(
        corpus.encoded["train"].tokens,
        batching.batch_size,
        batching.bptt_steps,
        seed=config.seed,
        jitter=batching.bptt_jitter,
    )
    model = build_network(config, len(tokenizer.vocabulary))
    task = LanguageModelTask(model, lanes, corpus.encoded, tokenizer.eos_id)
    name = config.description()
    outcome = fit(
        task,
        config.training,
        config.hardware,
        folder,
        seed=config.seed,
        reporter=reporter,
        title=name,
    )
    if outcome.reason == "interrupted":
        raise Interrupted(outcome.stop_signal, folder, "lm")
    if not outcome.is_main_process:
        return None
    predictor = NeuralPredictor(task.model, tokenizer, config.model)
    return Trained(predictor, name, outcome.seconds, outcome.units_per_s, _facts(config, outcome))


def _facts(config: LanguageModelConfig, outcome: Outcome) -> dict[str, Any]:
    left_out = ("is_main_process", "stop_signal", "seconds", "units_per_s", "best")
    facts = {name: value for name, value in asdict(outcome).items() if name not in left_out}
    return {**facts, "gradient_clip": config.training.gradient_clip}
