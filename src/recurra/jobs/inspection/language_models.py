"""The user's run, as instruments need it: its network, and tokens of its own text."""

from pathlib import Path

import torch
from torch import Tensor

from recurra.errors import ArgumentError, DataError
from recurra.jobs.lm.language_model import LanguageModel
from recurra.jobs.loading import load
from recurra.models.language_model import RecurrentLanguageModel


def load_recurrent(run: Path) -> tuple[LanguageModel, RecurrentLanguageModel]:
    """A finished run and its network, in evaluation mode.

    Raises:
        RunFolderError: no finished run.
        ArgumentError: its model has no recurrence to look into.
    """
    trained = load(run)
    if not isinstance(trained, LanguageModel):
        raise ArgumentError(
            f"{run} is the run of a {type(trained).__name__}; this version looks into language "
            "models only"
        )
    network = getattr(trained.predictor, "model", None)
    if not isinstance(network, RecurrentLanguageModel):
        raise ArgumentError(
            f"{run} holds a model of kind {trained.config.model!r}, which has no recurrence to "
            "look into; pass the run of a recurrent model"
        )
    return trained, network.eval()


def windows(trained: LanguageModel, steps: int, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Windows of the run's test text at random places: tokens (steps, rows), and the token after.

    Raises:
        DataError: the text is shorter than a window, or has changed since.
    """
    tokenizer = trained.predictor.tokenizer
    tokens = torch.from_numpy(tokenizer.encode_lines(trained._splits().test)).long()
    if len(tokens) <= steps:
        raise DataError(
            f"the test text has {len(tokens)} tokens, a window needs {steps + 1}; ask for fewer "
            "--lags"
        )
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(len(tokens) - steps, (rows,), generator=generator)
    picked = starts + torch.arange(steps + 1).unsqueeze(1)
    return tokens[picked[:-1]], tokens[picked[-1]]
