"""Neural language models in a job: built and trained."""

from pathlib import Path

import torch
from torch import nn

from recurra.data.lanes import Lanes
from recurra.jobs.lm.config import LanguageModelConfig
from recurra.jobs.lm.corpus import Corpus
from recurra.jobs.lm.neural import NeuralPredictor
from recurra.jobs.lm.predictors import Trained
from recurra.jobs.training import fit_network
from recurra.models.language_model import RecurrentLanguageModel
from recurra.models.nnlm import NNLM
from recurra.tasks.lm.task import LanguageModelTask
from recurra.training.progress import Reporter


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
    outcome = fit_network(task, config, folder, reporter, name)
    if outcome is None:
        return None
    predictor = NeuralPredictor(task.model, tokenizer, config.model)
    return Trained(predictor, name, outcome.seconds, outcome.units_per_s, outcome.facts())
