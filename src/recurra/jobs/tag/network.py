"""The tagger of a configuration: built and trained."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from recurra.data.lexicon import Lexicon
from recurra.jobs.tag.config import TaggerConfig
from recurra.jobs.tag.corpus import Corpus, allowed, word_vectors
from recurra.jobs.training import fit_network
from recurra.models.tagger import RecurrentTagger
from recurra.tasks.tag.task import TaggingTask
from recurra.training.progress import Reporter

if TYPE_CHECKING:
    from recurra.training.trainer import Outcome  # Lightning takes seconds to import


def build_network(
    config: TaggerConfig, lexicon: Lexicon, vector_size: int | None
) -> RecurrentTagger:
    """The untrained model of a configuration, its weights drawn from the run's seed.

    Args:
        config: of the run.
        lexicon: gives the sizes, and which tag may follow which.
        vector_size: of pretrained vectors, or of the embedding of a run that is read.
    """
    torch.manual_seed(config.seed)
    has_spans = lexicon.scheme is not None
    return RecurrentTagger(
        len(lexicon.words),
        len(lexicon.alphabet),
        len(lexicon.tags),
        allowed=allowed(lexicon),
        **config.network_arguments(has_spans=has_spans, vector_size=vector_size),
    )


def train_tagger(
    config: TaggerConfig, corpus: Corpus, folder: Path, reporter: Reporter
) -> tuple[RecurrentTagger, "Outcome"] | None:
    """Train the model of a configuration in a run folder.

    Returns:
        The trained model and how it went; `None` on all processes but the first.

    Raises:
        Interrupted: by a signal; the folder's checkpoint goes on from there.
    """
    lexicon, vectors = corpus.lexicon, corpus.vectors
    model = build_network(config, lexicon, vectors.numbers.shape[1] if vectors else None)
    if vectors is not None:
        ids, numbers = word_vectors(lexicon, vectors)
        is_trained = not config.text.freeze_vectors
        model.words.set_vectors(torch.tensor(ids), torch.from_numpy(numbers), trained=is_trained)
    splits = corpus.splits
    texts = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    tokens = config.batches.batch_tokens
    task = TaggingTask(model, lexicon, texts, batch_tokens=tokens, seed=config.seed)
    name = config.description(has_spans=lexicon.scheme is not None)
    outcome = fit_network(task, config, folder, reporter, name)
    return None if outcome is None else (model, outcome)
