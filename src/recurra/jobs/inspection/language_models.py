"""Windows of a language model's own text."""

import torch
from torch import Tensor

from recurra.errors import DataError
from recurra.jobs.lm.language_model import LanguageModel


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
