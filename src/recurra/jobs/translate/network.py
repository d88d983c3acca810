"""The translator of a configuration: built and trained."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from recurra.data.parallel import ParallelText
from recurra.errors import ConfigError
from recurra.jobs.training import fit_network
from recurra.jobs.translate.config import TranslatorConfig
from recurra.jobs.translate.corpus import Corpus
from recurra.models.translator import RecurrentTranslator
from recurra.tasks.translate.encoding import Tokenizers
from recurra.tasks.translate.task import TranslationTask
from recurra.training.progress import Reporter

if TYPE_CHECKING:
    from recurra.training.trainer import Outcome  # Lightning takes seconds to import


def build_network(config: TranslatorConfig, tokenizers: Tokenizers) -> RecurrentTranslator:
    """The untrained model of a configuration, its weights drawn from the run's seed.

    Raises:
        ConfigError: all embeddings are to be tied, and the vocabularies are separate.
        ArgumentError: options that exclude each other.
    """
    if config.network.tie_embeddings == "all" and config.text.vocabulary != "joint":
        raise ConfigError("tie_embeddings=all needs vocabulary=joint; or tie_embeddings=target")
    torch.manual_seed(config.seed)
    sizes = (len(tokenizer.vocabulary) for tokenizer in tokenizers)
    return RecurrentTranslator(*sizes, **config.network_arguments())


def train_translator(
    config: TranslatorConfig, corpus: Corpus, folder: Path, reporter: Reporter
) -> tuple[TranslationTask, "Outcome"] | None:
    """Train the model of a configuration in a run folder.

    Returns:
        The task with its trained model and how it went; `None` on all processes but the first.

    Raises:
        Interrupted: by a signal; the folder's checkpoint goes on from there.
    """
    splits = corpus.splits
    task = TranslationTask(
        build_network(config, corpus.tokenizers),
        corpus.tokenizers,
        {"train": splits.train, "valid": splits.valid, "test": splits.test},
        seed=config.seed,
        longest=config.text.longest,
        scheduled_sampling=config.regularisation.scheduled_sampling,
        sampling_epochs=config.regularisation.sampling_epochs,
        max_length=config.decoding.max_length,
        ratio=corpus.ratio,
        batch_tokens=config.batches.batch_tokens,
        choose_by=config.batches.choose_by or fitting_metric(splits.valid),
        checked_pairs=config.batches.checked_pairs,
    )
    outcome = fit_network(task, config, folder, reporter, config.description())
    return None if outcome is None else (task, outcome)


def fitting_metric(valid: ParallelText) -> str:
    """ "bleu", or "chrf" where most references have fewer than four words: their BLEU is 0.

    Example:
        >>> fitting_metric(ParallelText(["a", "b"], ["one two", "three"]))
        'chrf'
    """
    short = sum(len(line.split()) < 4 for line in valid.target)
    return "chrf" if 2 * short > len(valid) else "bleu"
